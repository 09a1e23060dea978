"""Arrays that are slow to make, kept on disk as .npy files and memory-mapped.

The name of a file ends in a hash of everything that shapes its content, so a change makes another file and nothing is
ever updated in place. A file is written under a temporary name, flushed to the disk and renamed: under its final name
it is complete, whoever was killed when. Two builders have a temporary file each; the later rename wins, with the same
bytes. A lock spares the second one the work where the file system has locks.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from snnsc.data.samples import Array
from snnsc.errors import DataError
from snnsc.lock import locked

FORMAT = 1
"""Raise it when the code that makes the rows changes what it makes."""


def cache_folder(root: Path) -> Path:
    """Return the folder of cache files: $SNNSC_CACHE, or .snnsc-cache in the data root."""
    chosen = os.environ.get("SNNSC_CACHE")
    return Path(chosen) if chosen else root / ".snnsc-cache"


def versions(libraries: tuple[str, ...]) -> dict[str, str]:
    """Return the installed version of each distribution, without importing it."""
    return {name: importlib.metadata.version(name) for name in libraries}


def cache_key(parts: Mapping[str, object]) -> str:
    """Return the hash of `parts` (JSON values) and of this file format."""
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def cached_array(folder: Path, name: str, key: str, count: int, build: Callable[[Path], None]) -> Array:
    """Return the memory-mapped array `name` of `key`, after `build` has written it to a path where it is missing.

    Raises:
        DataError: The cache cannot be written, or `build` raised it.
    """
    path = folder / f"{name}-{key[:24]}.npy"
    if (found := _open(path, count)) is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")) as alone:
            if (found := _open(path, count)) is not None:
                return found
            if alone:  # then every temporary of this name was left by a builder that is dead
                for left in folder.glob(f"{path.stem}.*.tmp"):
                    left.unlink(missing_ok=True)
            _build(path, build)
    except OSError as error:
        message = (
            f"{folder}: the cache cannot be written ({error.strerror or error}); "
            "set SNNSC_CACHE to a writable folder with enough space"
        )
        raise DataError(message) from error
    if (found := _open(path, count)) is None:
        message = f"{path}: the cache file cannot be read back; set SNNSC_CACHE to a folder on another disk"
        raise DataError(message)
    return found


def _build(path: Path, build: Callable[[Path], None]) -> None:
    """Let `build` write a temporary file, flush it, rename it to `path`."""
    temporary = path.with_name(f"{path.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        build(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Flush the new name itself to the disk, where the system can open folders."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path, count: int) -> Array | None:
    """Return the array at `path`, or None where there is none or it was damaged after it was written."""
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.ndim > 1 and len(array) == count else None
