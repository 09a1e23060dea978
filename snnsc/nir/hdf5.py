"""HDF5 files as plain arrays by path, and back.

On some damaged files the HDF5 library ends the process or never returns, so files of others are read by a process of
their own, which leaves what it read in a temporary folder.
"""

from __future__ import annotations

import errno
import importlib.util
import io
import json
import os
import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from snnsc.errors import ModelFileError, RecipeError
from snnsc.files import is_file, temporary_folder, what_is
from snnsc.processes import run_to_end

Array: TypeAlias = np.ndarray[Any, Any]
Tree: TypeAlias = dict[str, Array]
"""Path in the file, such as `node/nodes/0/weight`, -> numbers, or text."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LARGEST = 2**31
"""Bytes of a file, and of all its arrays together."""
_DEFLATE = 1100
"""No byte of a compressed array stands for more bytes; zlib reaches 1032."""
_MOST = 200_000
"""Groups and arrays in a file."""
_DEEPEST = 12
_SECONDS = 60
_REMEDY = "export it again"
_UNSAVED = 100
"""Added to the error number, the exit status of a process that could not save what it read."""


def need_h5py() -> None:
    """Raise RecipeError where h5py is not installed."""
    if importlib.util.find_spec("h5py") is None:
        raise RecipeError("NIR files need h5py, which is not installed: pip install 'snnsc[nir]'")


def read_file(path: Path) -> Tree:
    """Read a file that may be anything.

    Raises:
        ModelFileError: it is missing, no HDF5, damaged, or claims more than it holds.
        SnnscError: the temporary folder is full.
    """
    need_h5py()
    if not is_file(path):
        raise ModelFileError(f"{path}: {what_is(path)}; give a .nir file")
    try:
        with path.open("rb") as file:
            head = file.read(len(_SIGNATURE))
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be opened: {e.strerror or e}; give a .nir file") from e
    if not head:
        raise ModelFileError(f"{path}: the file is empty; {_REMEDY}")
    if head != _SIGNATURE:
        raise ModelFileError(f"{path}: is no HDF5 file, which a NIR file is; {_REMEDY}")
    if path.stat().st_size > _LARGEST:
        raise ModelFileError(f"{path}: has {path.stat().st_size} bytes, at most {_LARGEST} are read")
    with temporary_folder() as folder:
        return _read_apart(path, folder)


def read_bytes(content: bytes, source: str) -> Tree:
    """Read what this process wrote.

    Raises:
        ModelFileError: it is damaged.
    """
    need_h5py()
    return _read(io.BytesIO(content), source)


def to_bytes(tree: Mapping[str, Array | str]) -> bytes:
    """The content of a file that holds these arrays, the same for the same tree; groups keep the tree's order."""
    need_h5py()
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v108", "v108"), track_order=True) as file:
        for path, value in tree.items():
            group = file
            *parents, name = path.split("/")
            for parent in parents:
                group = group[parent] if parent in group else group.create_group(parent, track_order=True)
            if isinstance(value, str) or value.dtype.kind == "U":
                text = value if isinstance(value, str) else value.astype(object)
                group.create_dataset(name, data=text, dtype=h5py.string_dtype())
            elif value.ndim == 0:
                group.create_dataset(name, data=value)
            else:
                group.create_dataset(name, data=value, compression="gzip")
    return buffer.getvalue()


def _read_apart(path: Path, folder: Path) -> Tree:
    program = "from snnsc.nir.hdf5 import _leave; import sys; _leave(*sys.argv[1:])"
    try:
        status, _, _ = run_to_end(
            [sys.executable, "-c", program, str(path), str(folder)],
            _SECONDS,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
    except TimeoutExpired as e:
        raise ModelFileError(f"{path}: is damaged: HDF5 cannot finish reading it; {_REMEDY}") from e
    if status > _UNSAVED:
        number = status - _UNSAVED
        raise OSError(number, os.strerror(number))
    said = folder / "error"
    if said.exists():
        raise ModelFileError(said.read_text(encoding="utf-8"))
    if status != 0:
        raise ModelFileError(f"{path}: is damaged: HDF5 fails on it (status {status}); {_REMEDY}")
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        names = json.loads((folder / "names").read_text(encoding="utf-8"))
        return {name: arrays[str(i)] for i, name in enumerate(names)}


def _leave(path: str, folder: str) -> None:
    """What the process does that reads a file."""
    try:
        _save(path, Path(folder))
    except OSError as e:
        raise SystemExit(_UNSAVED + (e.errno or errno.EIO)) from e


def _save(path: str, folder: Path) -> None:
    try:
        tree = _read(path, path)
    except ModelFileError as e:
        (folder / "error").write_text(str(e), encoding="utf-8", errors="backslashreplace")
        return
    np.savez(folder / "arrays.npz", **{str(i): value for i, value in enumerate(tree.values())})  # type: ignore[arg-type]
    (folder / "names").write_text(json.dumps(list(tree)), encoding="utf-8")


def _read(file: str | BinaryIO, source: str) -> Tree:
    import h5py

    reader = _Reader(source)
    try:
        with h5py.File(file, "r") as opened:
            reader.walk(opened, "", 0)
    except ModelFileError:
        raise
    except Exception as e:  # h5py's share no base class
        what = " ".join(str(e).split())[:200] or type(e).__name__
        raise ModelFileError(f"{source}: is damaged, or no HDF5 file: {what}; {_REMEDY}") from e
    return reader.tree


def _is_left_out(name: str, depth: int) -> bool:
    """Whether a group is the metadata of the file or of a single node; groups of even depth hold nodes by name."""
    return name == "metadata" and (depth == 0 or (depth > 1 and depth % 2 == 1))


class _Reader:
    """Reads all arrays, after a look at what they claim to be."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tree: Tree = {}
        self.bytes = self.items = 0

    def walk(self, group: Any, path: str, depth: int) -> None:  # noqa: ANN401 - h5py has no types
        """Read a group and all below it; metadata of single nodes are left out, nothing here depends on them."""
        import h5py

        if depth > _DEEPEST:
            raise ModelFileError(f"{self.source}: groups are nested deeper than {_DEEPEST} at {path[:80]!r}; {_REMEDY}")
        for name in group:
            self.items += 1
            where = f"{path}/{name}" if path else name
            if self.items > _MOST:
                raise ModelFileError(f"{self.source}: has more than {_MOST} groups and arrays; {_REMEDY}")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ModelFileError(f"{self.source}: {where[:80]!r} is a link to elsewhere; {_REMEDY}")
            item = group[name]
            if isinstance(item, h5py.Group) and not _is_left_out(name, depth):
                self.walk(item, where, depth + 1)
            elif isinstance(item, h5py.Dataset):
                self._read(item, where)

    def _read(self, item: Any, where: str) -> None:  # noqa: ANN401
        import h5py

        what = f"{self.source}: {where[:80]!r}"
        text = h5py.check_string_dtype(item.dtype) is not None
        if item.shape is None or not (text or item.dtype.kind in "fiub"):
            raise ModelFileError(f"{what} has the type {item.dtype}; numbers or text are expected; {_REMEDY}")
        if item.is_virtual or item.external:
            raise ModelFileError(f"{what} stands in another file; {_REMEDY}")
        claimed, held = prod(item.shape) * item.dtype.itemsize, item.id.get_storage_size()
        if claimed > _DEFLATE * held + 4096:
            raise ModelFileError(f"{what} claims {claimed} bytes, of which the file holds {held}; {_REMEDY}")
        self.bytes += max(claimed, prod(item.chunks or (1,)) * item.dtype.itemsize)
        if self.bytes > _LARGEST:
            raise ModelFileError(f"{self.source}: its arrays need more than {_LARGEST} bytes; {_REMEDY}")
        self.tree[where] = np.asarray(item.asstr()[()], dtype=np.str_) if text else np.asarray(item[()])
