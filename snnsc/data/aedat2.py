"""Read AEDAT 2 recordings of a DVS128 camera (.aedat), such as the original files of CIFAR10-DVS.

    header    lines that start with '#', of which the first is `#!AER-DAT2.0`
    event     32-bit address, then 32-bit time stamp in microseconds, big-endian
    address   bit 0: polarity, 0 is ON; bits 1-7: x; bits 8-14: y; with bit 15 or 31 it is a special event, of no pixel

Source: docs.inivation.com, "AEDAT 2.0"; address: jAER, `DVS128.Extractor`.

Pixel (0, 0) is top left in the picture that jAER and iniVation's software show: x = 127 - bits (jAER: flipx) and
y = 127 - bits (jAER counts y from the bottom), as drivers of this camera that derive from libcaer have it. Whether the
.aedat4 repack of CIFAR10-DVS lies the same way is unverified: it was converted in iniVation's software. SpikingJelly,
which has the same polarity, takes x from y's bits and y from x's: its frames are the transpose of these.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from snnsc.data.samples import Array
from snnsc.errors import DataError

DVS128_SENSOR = (128, 128)
_BYTES = 8
_SPECIAL = 0x8000_8000
_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.bool_)])


def read_aedat2(path: Path) -> Array:
    """Return the pixel events of a file [N] with the fields x, y, t, p (true is ON), in the order of the file.

    The 32-bit time stamps may wrap around: a difference is read as the signed number that it is nearest to.

    Raises:
        DataError: The file is of another version or camera, or is cut off.
        OSError: It cannot be read.
    """
    start = _header_bytes(path)
    size = path.stat().st_size - start
    if size % _BYTES:
        raise DataError(
            f"{path}: {size} bytes after the header are no whole number of {_BYTES}-byte events; "
            "the file is cut off or damaged"
        )
    words_N2 = np.fromfile(path, ">u4", offset=start).astype(np.uint32).reshape(-1, 2)
    address_N, stamp_N = words_N2[:, 0], words_N2[:, 1]
    steps_N = np.diff(stamp_N, prepend=np.uint32(0)).view(np.int32)  # of unsigned numbers: modulo 2^32
    pixel_N = (address_N & _SPECIAL) == 0
    foreign_N = pixel_N & (address_N >> 15 != 0)
    if foreign_N.any():
        first = int(np.argmax(foreign_N))
        raise DataError(
            f"{path}: event {first} has the address {address_N[first]:#x}, which is not one of a DVS128; AEDAT 2 of "
            "other cameras is not read: convert the file to .aedat4 (iniVation's DV does), or it is damaged"
        )
    events = np.empty(int(pixel_N.sum()), _DTYPE)
    address_N = address_N[pixel_N]
    events["x"], events["y"] = 127 - (address_N >> 1 & 127), 127 - (address_N >> 8 & 127)
    events["t"], events["p"] = np.cumsum(steps_N, dtype=np.int64)[pixel_N], address_N & 1 == 0
    return events


def _header_bytes(path: Path) -> int:
    """Return the length of the header; no event of a DVS128 starts with the byte of '#'."""
    with path.open("rb") as file:
        line = file.readline()
        version = re.match(rb"#!AER-DAT(\d+\.\d+)", line)
        if version is None:
            raise DataError(f"{path}: has no AEDAT header: its first line must be #!AER-DAT2.0")
        if version[1] != b"2.0":
            raise DataError(
                f"{path}: is AEDAT {version[1].decode()}, and .aedat is read as AEDAT 2.0; "
                + (
                    "rename it to .aedat4"
                    if version[1].startswith(b"4")
                    else "convert it to .aedat4 (iniVation's DV does)"
                )
            )
        start = 0
        while line.startswith(b"#"):
            start = file.tell()
            line = file.readline()
    return start
