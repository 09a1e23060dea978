"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from snnsc.errors import RecipeError, SnnscError
from snnsc.processes import without_interrupts

_LONGEST_STEM = 200
"""Bytes of a file's name that its temporary's name begins with; file systems take 255 in all."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that at every moment `path` is the old file or the new one, whole.

    Raises:
        SnnscError: the file cannot be written (no such folder, no permission, disk full); `path` is as it was.
    """
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes | str], folder: Path | None = None) -> None:
    """Write several files, all or none: each is written whole beside its place before the first takes it.

    Args:
        contents: Path -> content.
        folder: A folder for some of them, which is made if it is missing.

    Raises:
        SnnscError: one of them cannot be written; all are as they were.
    """
    staged: dict[Path, Path] = {}
    path = folder or Path()
    try:
        if folder is not None:
            folder.mkdir(exist_ok=True)
        for path, content in contents.items():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            stem = path.name.encode(errors="ignore")[:_LONGEST_STEM].decode(errors="ignore")
            with without_interrupts():
                handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{stem}.", suffix=".partial")
                staged[path] = Path(temporary)
            with os.fdopen(handle, "wb") as f:
                f.write(content.encode() if isinstance(content, str) else content)
                f.flush()
                os.fsync(f.fileno())
            Path(temporary).chmod(0o666 & ~_umask())
        with without_interrupts():
            for path, part in staged.items():
                part.replace(path)
    except OSError as e:
        raise SnnscError(f"{path}: cannot be written: {e.strerror or e}") from e
    finally:
        for part in staged.values():
            part.unlink(missing_ok=True)
        if folder is not None:
            with suppress(OSError):  # it holds something
                folder.rmdir()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards.

    Raises:
        SnnscError: it cannot be made, or what is done with it raises an OSError: it is full, or not to be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="snnsc-") as name:
            yield Path(name)
    except OSError as e:
        raise SnnscError(
            f"{_temporary_root()}: the temporary folder cannot be used: {e.strerror or e}; make room in it, or set "
            "TMPDIR to another"
        ) from e


def check_output(option: str, path: Path, *, suffix: str | None, keep: Path) -> None:
    """Refuse a place for a new file before any work is done for it.

    Args:
        option: What the user calls it, such as `--out`.
        path: The file to be.
        suffix: The ending that it must have; None for a folder, which may be there already.
        keep: The file that it is made from, which must not be overwritten.

    Raises:
        RecipeError: the ending is another, its folder is missing, its name is too long, it is a folder itself, or it is
            `keep`.
    """
    if suffix is not None and path.suffix != suffix:
        raise RecipeError(f"{option} {path}: must end in {suffix}")
    if not is_folder(path.parent):
        raise RecipeError(f"{option} {path}: there is no folder {path.parent}; make it first")
    if _too_long(path):
        raise RecipeError(f"{option} {path}: the name is too long for the file system; take a shorter one")
    if suffix is not None and is_folder(path):
        raise RecipeError(f"{option} {path}: is a folder; name a file")
    if suffix is None and path.exists() and not is_folder(path):
        raise RecipeError(f"{option} {path}: is a file; name a folder")
    if path.resolve() == keep.resolve():
        raise RecipeError(f"{option} {path}: is the file it would be made from, which is kept as it is; name another")


def is_file(path: Path) -> bool:
    """Whether `path` is a regular file; False too for names that the system cannot take."""
    try:
        return path.is_file()
    except OSError:  # too long
        return False


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; False too for names that the system cannot take."""
    try:
        return path.is_dir()
    except OSError:  # too long
        return False


def what_is(path: Path) -> str:
    """Why `path` is no file to read, in words."""
    if is_folder(path):
        return "is a folder, not a file"
    try:
        return "is no regular file" if path.exists() else "no such file"
    except OSError:
        return "no such file"


def _too_long(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as e:
        return e.errno == errno.ENAMETOOLONG
    return False


def _temporary_root() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # none can be written
        return os.environ.get("TMPDIR", "/tmp")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
