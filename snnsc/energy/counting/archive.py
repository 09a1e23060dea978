"""Plain number arrays out of .npy and .npz files that may be anything: the header is checked before memory is taken."""

from __future__ import annotations

import io
import lzma
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from snnsc.energy.graph.paths import file_size, reason
from snnsc.errors import DataError

_REMEDY = "give an .npz or .npy with samples, or a recipe"
_LARGEST_ARCHIVE = 2**30  # bytes of compressed arrays held in memory
_LONGEST_HEADER = 2**16
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a member of a zip archive: signature, lengths of name and of extra field
_BLOCK = 2**20
_READERS: dict[tuple[int, int], Callable[[IO[bytes]], tuple[tuple[int, ...], bool, np.dtype]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_DAMAGE = (
    *(OSError, ValueError, EOFError, ArithmeticError, LookupError, SyntaxError, TypeError, AttributeError),
    *(MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError),
)

LABELS = "labels"
"""Array of a file of samples that is no sample."""


def is_archive(path: Path) -> bool:
    """Whether a file is an .npz or an .npy by its first bytes.

    Raises:
        DataError: The file is missing.
    """
    file_size(path, DataError, _REMEDY)
    with _blaming(f"{path}: cannot be read"), path.open("rb") as file:
        return file.read(6).startswith((b"\x93NUMPY", b"PK"))


def array_names(path: Path) -> list[str]:
    """Names of the arrays of an .npz, none of which is read; [""] for .npy.

    Raises:
        DataError: The file is missing or damaged.
    """
    return list(_read(path, None))


def read_arrays(path: Path, wanted: Container[str]) -> dict[str, np.ndarray | None]:
    """The arrays of a file by name; the only one, but for labels, is always read.

    .npy (name "") and the arrays of an .npz that is not compressed are mapped: they take no memory of their own.

    Args:
        path: The file; what it is, is told by its content.
        wanted: Names of the arrays to read; the others come as None.

    Raises:
        DataError: The file is missing, damaged, encrypted, holds objects, or needs more memory than is reasonable.
    """
    return _read(path, wanted)


def _read(path: Path, wanted: Container[str] | None) -> dict[str, np.ndarray | None]:
    """As `read_arrays`; for None, names only."""
    file_size(path, DataError, _REMEDY)
    with _blaming(f"{path}: cannot be read as .npz or .npy with plain arrays"), path.open("rb") as file:
        head = file.read(6)
        file.seek(0)
        if head == b"\x93NUMPY":
            if wanted is None:
                return {"": None}
            _check_header(file, path.stat().st_size)
            return {"": np.lib.format.open_memmap(path, mode="r")}
        if not head.startswith(b"PK"):
            msg = "neither a zip archive nor a numpy array" if head else "the file is empty"
            raise ValueError(msg)
        with zipfile.ZipFile(file) as archive:
            return _read_archive(path, archive, wanted)


def _read_archive(path: Path, archive: zipfile.ZipFile, wanted: Container[str] | None) -> dict[str, np.ndarray | None]:
    members = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist() if not entry.is_dir()}
    arrays: dict[str, np.ndarray | None] = dict.fromkeys(members)
    total = 0
    for name, entry in members.items():
        if wanted is None or (len(members.keys() - {name, LABELS}) > 0 and name not in wanted):
            continue
        with _blaming(f"{path}: array {name[:100]!r} cannot be read"):
            if entry.flag_bits & 1:
                msg = "it is encrypted; write the file without a password"
                raise ValueError(msg)
            with archive.open(entry) as member:
                needed = _check_header(member, entry.file_size)
            if entry.compress_type == zipfile.ZIP_STORED and needed:
                arrays[name] = _map_member(path, archive, entry)
                continue
            total += needed
            if total > _LARGEST_ARCHIVE:
                msg = (
                    f"the arrays need {total / 2**30:.1f} GiB, at most {_LARGEST_ARCHIVE / 2**30:.0f} GiB of a"
                    " compressed .npz are held in memory; save it with numpy.savez, or as .npy, which are not"
                )
                raise ValueError(msg)
            with archive.open(entry) as member:
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays


def _map_member(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """A stored member, mapped (copy on write) where it lies in the archive, once its checksum is known to hold."""
    with archive.open(entry) as member:
        while member.read(_BLOCK):
            pass
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        if signature != b"PK\x03\x04":
            msg = "the archive is damaged"
            raise ValueError(msg)
        file.seek(name + extra, io.SEEK_CUR)
        shape, fortran, dtype = _READERS[np.lib.format.read_magic(file)](file)
        return np.memmap(file, dtype, "c", file.tell(), shape, "F" if fortran else "C")


def _check_header(file: IO[bytes], size: int) -> int:
    """Bytes of the array that a .npy header announces, which the file of that size really holds."""
    start = io.BytesIO(file.read(_LONGEST_HEADER))
    version = np.lib.format.read_magic(start)
    if version not in _READERS:
        msg = f"version {version} of the .npy format is not for plain number arrays"
        raise ValueError(msg)
    shape, _, dtype = _READERS[version](start)
    if any(not 0 <= n < 2**63 for n in shape):
        msg = f"its header has shape {str(list(shape))[:100]}"
        raise ValueError(msg)
    if dtype.hasobject or not dtype.itemsize:
        msg = "it holds Python objects or nothing, not numbers"
        raise ValueError(msg)
    needed = prod(int(n) for n in shape) * dtype.itemsize
    if needed > size - start.tell():
        msg = f"its header has shape {str(list(shape))[:100]} of {dtype}, more than the file holds; it was cut short"
        raise ValueError(msg)
    return needed


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Turn whatever numpy, zipfile and the decompressors raise into one line; numpy's warnings say nothing new."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _DAMAGE as error:
        text = "it needs more memory than there is" if isinstance(error, MemoryError) else reason(error)
        msg = f"{what}: {text}"
        raise DataError(msg) from error
