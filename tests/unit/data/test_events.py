import numpy as np
import pytest

from snnsc.data.events import read_recording
from snnsc.errors import DataError

from .disk import EVENT, bin_bytes, random_events, write_events


@pytest.mark.parametrize("ending", [".bin", ".npy", ".npz", ".aedat4"])
def test_reads_what_was_written(tmp_path, ending):
    events = random_events(np.random.default_rng(0), 500)
    write_events(tmp_path / f"a{ending}", events)
    read = read_recording(tmp_path / f"a{ending}", (34, 34) if ending.startswith(".np") else None)
    assert (read.width, read.height, len(read)) == (34, 34, 500)
    assert np.array_equal(read.t_N, events["t"])
    assert np.array_equal(read.x_N, events["x"])
    assert np.array_equal(read.y_N, events["y"])
    assert np.array_equal(read.on_N, events["p"])


def test_bin_time_stamp_overflow_events(tmp_path):
    first, second = random_events(np.random.default_rng(0), 2)
    one, two = np.array([first], EVENT), np.array([second], EVENT)
    one["t"], two["t"] = 8000, 100
    path = tmp_path / "a.bin"
    path.write_bytes(bin_bytes(one) + bytes((0, 240, 0, 0, 0)) + bin_bytes(two))
    assert read_recording(path, None).t_N.tolist() == [8000, 100 + 2**13]


def test_aedat4_takes_the_sensor_of_the_file(tmp_path):
    write_events(tmp_path / "a.aedat4", random_events(np.random.default_rng(0), 50, 40, 20), (40, 20))
    read = read_recording(tmp_path / "a.aedat4", None)
    assert (read.width, read.height) == (40, 20)


def test_unordered_time_stamps_are_sorted_stably(tmp_path):
    events = np.zeros(4, EVENT)
    events["t"], events["x"] = [3, 1, 3, 1], [0, 1, 2, 3]
    np.save(tmp_path / "a.npy", events)
    read = read_recording(tmp_path / "a.npy", (4, 4))
    assert read.t_N.tolist() == [1, 1, 3, 3]
    assert read.x_N.tolist() == [1, 3, 0, 2]


def test_polarity_of_minus_one_and_one(tmp_path):
    events = np.zeros(2, [("x", "i2"), ("y", "i2"), ("t", "f8"), ("p", "i1")])
    events["p"], events["t"] = [-1, 1], [0.25, 0.5]
    np.save(tmp_path / "a.npy", events)
    read = read_recording(tmp_path / "a.npy", (1, 1))
    assert read.on_N.tolist() == [False, True]
    assert read.t_N.tolist() == [0.25, 0.5]


@pytest.mark.parametrize("ending", [".npy", ".npz", ".aedat4"])
def test_a_recording_without_events_is_fine(tmp_path, ending):
    write_events(tmp_path / f"a{ending}", np.zeros(0, EVENT))
    assert len(read_recording(tmp_path / f"a{ending}", (34, 34))) == 0


@pytest.mark.parametrize("ending", [".bin", ".npy", ".npz", ".aedat4"])
def test_zero_bytes(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"a\{ending}: the file has zero bytes"):
        read_recording(path, (34, 34))


@pytest.mark.parametrize("ending", [".bin", ".npy", ".npz", ".aedat4"])
def test_truncated(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    write_events(path, random_events(np.random.default_rng(0), 500))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 1])
    with pytest.raises(DataError, match=rf"a\{ending}: .*damaged"):
        read_recording(path, (34, 34))


@pytest.mark.parametrize("ending", [".bin", ".npy", ".npz", ".aedat4"])
def test_text_under_a_recordings_name(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_text("not a recording, but a line of text" * 10)
    with pytest.raises(DataError, match=rf"a\{ending}: "):
        read_recording(path, (34, 34))


def test_pickled_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"t": 1}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy: cannot be read"):
        read_recording(tmp_path / "a.npy", (4, 4))


def test_npz_without_events(tmp_path):
    np.savez(tmp_path / "a.npz", frames=np.zeros(3))
    with pytest.raises(DataError, match=r"a\.npz: no array named `events`; it has frames"):
        read_recording(tmp_path / "a.npz", (4, 4))


def test_missing_field(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3, [("x", "i2"), ("t", "i8"), ("p", "?")]))
    with pytest.raises(DataError, match=r"a\.npy: .*missing: y"):
        read_recording(tmp_path / "a.npy", (4, 4))


def test_plain_array(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    with pytest.raises(DataError, match="structured array with the fields x, y, t, p"):
        read_recording(tmp_path / "a.npy", (4, 4))


def test_two_dimensions(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 2), EVENT))
    with pytest.raises(DataError, match="it has 2 dimensions"):
        read_recording(tmp_path / "a.npy", (4, 4))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("x", 34, "x = 34"), ("y", 99, "y = 99"), ("x", -1, "x = -1")],
)
def test_outside_the_sensor(tmp_path, field, value, said):
    events = random_events(np.random.default_rng(0), 9).astype([("t", "i8"), ("x", "i4"), ("y", "i4"), ("p", "?")])
    events[field][5] = value
    np.save(tmp_path / "a.npy", events)
    with pytest.raises(DataError, match=rf"event 5 at .*{said}.*34 x 34.*data\.sensor"):
        read_recording(tmp_path / "a.npy", (34, 34))


@pytest.mark.parametrize(
    ("dtype", "fill", "said"),
    [
        ([("x", "f4"), ("y", "i2"), ("t", "i8"), ("p", "?")], 0, "field x has the type float32"),
        ([("x", "i2"), ("y", "i2"), ("t", "U3"), ("p", "?")], "a", "field t has the type"),
        ([("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "i8")], 2, "polarity p must be 0 or 1"),
        ([("x", "i2"), ("y", "i2"), ("t", "f8"), ("p", "?")], np.nan, "not a finite number"),
    ],
)
def test_impossible_values(tmp_path, dtype, fill, said):
    events = np.zeros(3, dtype)
    field = {"x": "x", "p": "p"}.get(said.split()[1], "t")
    events[field] = fill
    np.save(tmp_path / "a.npy", events)
    with pytest.raises(DataError, match=said):
        read_recording(tmp_path / "a.npy", (4, 4))


def test_arrays_need_a_sensor(tmp_path):
    write_events(tmp_path / "a.npy", random_events(np.random.default_rng(0), 9))
    with pytest.raises(DataError, match=r"a\.npy: .*data\.sensor = \[width, height\]"):
        read_recording(tmp_path / "a.npy", None)


def test_unknown_ending_and_missing_file(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"unknown file ending '\.txt'"):
        read_recording(tmp_path / "a.txt", (4, 4))
    with pytest.raises(DataError, match=r"b\.bin: "):
        read_recording(tmp_path / "b.bin", (4, 4))


def test_a_panic_of_the_decoder_is_an_error(tmp_path, monkeypatch):
    class PanicException(BaseException):
        pass

    def decoder(_path):
        raise PanicException("index out of bounds")

    monkeypatch.setattr("aedat.Decoder", decoder)
    (tmp_path / "a.aedat4").write_bytes(b"x")
    with pytest.raises(DataError, match="index out of bounds"):
        read_recording(tmp_path / "a.aedat4", None)
