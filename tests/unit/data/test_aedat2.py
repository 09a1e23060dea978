import struct

import numpy as np
import pytest

from snnsc.data.aedat2 import read_aedat2
from snnsc.data.events import read_recording
from snnsc.errors import DataError

from .disk import aedat2_bytes, random_events

HEADER = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Timestamps tick is 1 us\r\n"


def write(path, *words, header=HEADER):
    """A file of (address, time stamp) pairs."""
    path.write_bytes(header + b"".join(struct.pack(">II", *pair) for pair in words))
    return path


def test_an_address_by_hand(tmp_path):
    """jAER's DVS128.Extractor: x flipped, y counted from the bottom, raw polarity 0 is ON."""
    path = write(tmp_path / "a.aedat", (0b0000011_0000101_0, 7), (0b1111111_0000000_1, 9), (0b0000000_1111111_1, 9))
    events = read_aedat2(path)
    assert events["x"].tolist() == [127 - 5, 127, 0]
    assert events["y"].tolist() == [127 - 3, 0, 127]
    assert events["p"].tolist() == [True, False, False]
    assert events["t"].tolist() == [7, 9, 9]


def test_spikingjelly_reads_the_same_transposed(tmp_path):
    origin = pytest.importorskip("spikingjelly.datasets.cifar10_dvs")
    events = random_events(np.random.default_rng(0), 500, 128, 128)
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat2_bytes(events, HEADER))
    ours, theirs = read_aedat2(path), origin._load_origin_data(path)
    assert np.array_equal(ours["t"], theirs["t"])
    assert np.array_equal(ours["p"], theirs["p"])
    assert np.array_equal(ours["x"], theirs["y"])
    assert np.array_equal(ours["y"], theirs["x"])


def test_time_stamps_that_wrap_around(tmp_path):
    stamps = [2**31 - 2, 2**31 + 3, 2**32 - 5, 4]
    path = write(tmp_path / "a.aedat", *((0, stamp) for stamp in stamps[:2]))
    assert read_aedat2(path)["t"].tolist() == stamps[:2]
    path = write(tmp_path / "a.aedat", *((0, stamp) for stamp in stamps[2:]))
    assert read_aedat2(path)["t"].tolist() == [-5, 4]


def test_disorder_is_kept_for_the_reader_to_sort(tmp_path):
    path = write(tmp_path / "a.aedat", (2, 30), (4, 10), (6, 20))
    assert read_aedat2(path)["t"].tolist() == [30, 10, 20]
    assert read_recording(path, None).t_N.tolist() == [10, 20, 30]


def test_special_events_are_no_pixels(tmp_path):
    path = write(tmp_path / "a.aedat", (0x8000, 1), (0x0102, 2), (0x8000_0000, 3), (0x0204, 5))
    events = read_aedat2(path)
    assert events["t"].tolist() == [2, 5]
    assert events["x"].tolist() == [126, 125]


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_a_header_alone_has_no_events(tmp_path, newline):
    assert len(read_recording(write(tmp_path / "a.aedat", header=b"#!AER-DAT2.0" + newline), None)) == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (struct.pack(">II", 2, 3) * 4, "has no AEDAT header: its first line must be #!AER-DAT2.0"),
        (b"# a comment\r\n" + struct.pack(">II", 2, 3), "has no AEDAT header"),
        (b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n" + bytes(28), "is AEDAT 3.1.*convert it to .aedat4"),
        (b"#!AER-DAT4.0\r\n" + bytes(16), "is AEDAT 4.0.*rename it to .aedat4"),
        (b"#!AER-DAT1.0\r\n" + bytes(6), "is AEDAT 1.0"),
        (HEADER + bytes(8 * 3 + 5), "29 bytes after the header are no whole number of 8-byte events.*damaged"),
        (HEADER + struct.pack(">IIII", 2, 3, 0x10_0800, 4), "event 1 has the address 0x100800.*not one of a DVS128"),
        (b"PK\x03\x04" * 9, "has no AEDAT header"),
    ],
)
def test_hostile_files(tmp_path, content, said):
    (tmp_path / "a.aedat").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.aedat: .*{said}"):
        read_recording(tmp_path / "a.aedat", None)
