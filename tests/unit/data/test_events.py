import numpy as np
import pytest

from snnsc.data.events import read_recording
from snnsc.errors import DataError

from .disk import EVENT, bin_bytes, random_events, write_events


@pytest.mark.parametrize("ending", [".bin", ".npy", ".npz", ".aedat", ".aedat4"])
def test_reads_what_was_written(tmp_path, ending):
    events = random_events(np.random.default_rng(0), 500)
    write_events(tmp_path / f"a{ending}", events)
    read = read_recording(tmp_path / f"a{ending}", (34, 34) if ending.startswith(".np") else None)
    assert (read.width, read.height, len(read)) == (*((128, 128) if ending == ".aedat" else (34, 34)), 500)
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


@pytest.mark.parametrize("ending", [".npy", ".npz", ".aedat", ".aedat4"])
def test_a_recording_without_events_is_fine(tmp_path, ending):
    write_events(tmp_path / f"a{ending}", np.zeros(0, EVENT))
    assert len(read_recording(tmp_path / f"a{ending}", (34, 34))) == 0


@pytest.mark.parametrize("ending", [".bin", ".npy", ".npz", ".aedat", ".aedat4"])
def test_zero_bytes(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"a\{ending}: the file has zero bytes"):
        read_recording(path, (34, 34))


@pytest.mark.parametrize("ending", [".bin", ".npy", ".npz", ".aedat", ".aedat4"])
def test_truncated(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    write_events(path, random_events(np.random.default_rng(0), 500))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 1])
    with pytest.raises(DataError, match=rf"a\{ending}: .*damaged"):
        read_recording(path, (34, 34))


@pytest.mark.parametrize("ending", [".bin", ".npy", ".npz", ".aedat", ".aedat4"])
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


def gesture(tmp_path, table):
    np.save(tmp_path / "3.npy", table)
    return read_recording(tmp_path / "3.npy", (128, 128), "gesture")


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.uint64, np.float32, np.float64])
def test_gesture_arrays_are_x_y_p_and_milliseconds(tmp_path, dtype):
    read = gesture(tmp_path, np.array([[127, 0, 1, 0], [5, 6, 0, 40], [7, 8, 1, 41]], dtype))
    assert read.x_N.tolist() == [127, 5, 7]
    assert read.y_N.tolist() == [0, 6, 8]
    assert read.on_N.tolist() == [True, False, True]
    assert read.t_N.tolist() == [0, 40_000, 41_000]
    assert (read.width, read.height) == (128, 128)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (np.zeros(4), r"expected an array \[events, 4\]"),
        (np.zeros((2, 3)), r"it is \[2, 3\] of float64"),
        (np.zeros((2, 4), "U1"), "of <U1"),
        (np.array([[0.5, 0, 0, 0]]), "no whole or no finite number"),
        (np.array([[0, 0, 0, np.nan]]), "no whole or no finite number"),
        (np.array([[0, 0, 2, 0]]), "polarity p must be 0 or 1"),
        (np.array([[0, 128, 1, 0]]), "y = 128 is outside the sensor of 128 x 128"),
    ],
)
def test_no_gesture_arrays(tmp_path, table, said):
    with pytest.raises(DataError, match=rf"3\.npy: .*{said}"):
        gesture(tmp_path, table)


def test_trimmed_to_the_box_of_the_events(tmp_path):
    events = random_events(np.random.default_rng(0), 300, 240, 180)
    events["x"], events["y"] = np.clip(events["x"], 20, 220), np.clip(events["y"], 3, 100)
    events["x"][0], events["x"][1], events["y"][0], events["y"][1] = 20, 220, 3, 100
    write_events(tmp_path / "a.bin", events)
    read = read_recording(tmp_path / "a.bin", None, "trimmed")
    assert (read.width, read.height) == (201, 98)
    assert np.array_equal(read.x_N, events["x"] - 20)
    assert np.array_equal(read.y_N, events["y"] - 3)


def test_a_panic_of_the_decoder_is_an_error(tmp_path, monkeypatch):
    class PanicException(BaseException):
        pass

    def decoder(_path):
        raise PanicException("index out of bounds")

    monkeypatch.setattr("aedat.Decoder", decoder)
    (tmp_path / "a.aedat4").write_bytes(b"x")
    with pytest.raises(DataError, match="index out of bounds"):
        read_recording(tmp_path / "a.aedat4", None)


@pytest.mark.parametrize(
    ("dtype", "first", "last"), [("u8", 2**63, 2**63 + 5), ("i8", -(2**63), 2**63 - 1), ("f8", 0.0, 1e300)], ids=str
)
def test_time_stamps_that_are_no_microseconds(tmp_path, dtype, first, last):
    events = np.zeros(3, [("x", "i2"), ("y", "i2"), ("t", dtype), ("p", "?")])
    events["t"] = np.array([first, first, last], dtype)
    np.save(tmp_path / "a.npy", events)
    with pytest.raises(DataError, match=r"a\.npy: the time stamps go from .* which are no microseconds"):
        read_recording(tmp_path / "a.npy", (34, 34))


def test_a_header_that_promises_more_than_memory(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(1, [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "?")]))
    content = (tmp_path / "a.npy").read_bytes()
    shape = b"(1,), }" + b" " * 13
    assert shape in content
    (tmp_path / "a.npy").write_bytes(content.replace(shape, b"(99999999999999,), }"))
    with pytest.raises(DataError, match=r"a\.npy"):
        read_recording(tmp_path / "a.npy", (34, 34))
