"""Read one recording of an event camera: .bin of N-MNIST and N-Caltech101, .aedat, .aedat4, .npy, .npz.

Shapes: N events. ON is an event of rising brightness: bit 23 of a .bin event, the polarity of .aedat4, its opposite in
.aedat, p > 0 in arrays.
Events are returned in the order of their time stamps; where a file has them in another order they are sorted (stably),
since small disorder is common in real recordings and neither way of slicing could otherwise be right.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, assert_never

import numpy as np

from snnsc.data.aedat2 import DVS128_SENSOR, read_aedat2
from snnsc.data.samples import Array
from snnsc.errors import DataError

ENDINGS = (".bin", ".aedat", ".aedat4", ".npy", ".npz")
NMNIST_SENSOR = (34, 34)
OWN_SENSORS = {".bin": NMNIST_SENSOR, ".aedat": DVS128_SENSOR}
"""Sensors that a file format stands for, unless another one is given."""
_BYTE_SENSOR = (256, 256)  # all that the coordinates of a .bin event can say
_FIELDS = ("x", "y", "t", "p")

Layout: TypeAlias = Literal["plain", "gesture", "trimmed"]
"""`plain`: as the file's ending says; `gesture`: tonic's array of DVS128 Gesture, with the columns x, y, p and t in
milliseconds; `trimmed`: a .bin whose sensor is the box around its events, as tonic reads N-Caltech101."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Events of one recording: pixel `x_N`, `y_N`, time stamp `t_N` (rising), `on_N`; and the sensor in pixels."""

    x_N: Array
    y_N: Array
    t_N: Array
    on_N: Array
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.t_N)


def read_recording(path: Path, sensor: tuple[int, int] | None, layout: Layout = "plain") -> Recording:
    """Read a recording.

    Args:
        path: The file.
        sensor: Width and height; None takes them from the file (.aedat4) or its format (.bin is N-MNIST's 34 x 34,
            .aedat the DVS128's 128 x 128).
        layout: Of the file.

    Raises:
        DataError: The file is missing, damaged or not of its format, or has events outside the sensor.
    """
    try:
        if path.stat().st_size == 0:
            message = f"{path}: the file has zero bytes; copy or download it again, or remove it"
            raise DataError(message)
        match layout:
            case "plain":
                return _read_plain(path, sensor)
            case "gesture":
                return _checked(path, _read_gesture(path), sensor or DVS128_SENSOR)
            case "trimmed":
                return _trimmed(_checked(path, _read_bin(path), _BYTE_SENSOR))
            case _ as unreachable:
                assert_never(unreachable)
    except OSError as error:
        raise _damaged(path, error) from error


LONGEST = 2**53
"""Span of time stamps, in microseconds, from which a recording (of 285 years) is not believed."""


def _read_plain(path: Path, sensor: tuple[int, int] | None) -> Recording:
    """Read a file as its ending says."""
    ending = path.suffix.lower()
    sensor = sensor or OWN_SENSORS.get(ending)
    match ending:
        case ".bin":
            events = _read_bin(path)
        case ".aedat":
            events = read_aedat2(path)
        case ".aedat4":
            events, own = _read_aedat4(path)
            sensor = sensor or own
        case ".npy" | ".npz":
            events = _read_array(path)
            if sensor is None:
                message = f"{path}: the file does not say how large the sensor is; set data.sensor = [width, height]"
                raise DataError(message)
        case _:
            message = f"{path}: unknown file ending {ending!r}; expected {', '.join(ENDINGS)}"
            raise DataError(message)
    assert sensor is not None
    return _checked(path, events, sensor)


def _trimmed(recording: Recording) -> Recording:
    """Return the recording on a sensor that is the box around its events."""
    if not len(recording):
        return recording
    x_N, y_N = recording.x_N - recording.x_N.min(), recording.y_N - recording.y_N.min()
    return replace(recording, x_N=x_N, y_N=y_N, width=int(x_N.max()) + 1, height=int(y_N.max()) + 1)


def _checked(path: Path, events: Array, sensor: tuple[int, int]) -> Recording:
    """Return the events sorted by time, after a look at their fields and coordinates."""
    missing = [name for name in _FIELDS if name not in (events.dtype.names or ())]
    if missing or events.ndim != 1:
        message = f"{path}: expected a one-dimensional structured array with the fields x, y, t, p; " + (
            f"missing: {', '.join(missing)}" if missing else f"it has {events.ndim} dimensions"
        )
        raise DataError(message)
    x_N, y_N, t_N, p_N = (np.asarray(events[name]) for name in _FIELDS)
    for name, values, kinds in (("x", x_N, "iu"), ("y", y_N, "iu"), ("t", t_N, "iuf"), ("p", p_N, "biu")):
        if values.dtype.kind not in kinds or values.ndim != 1:
            message = f"{path}: the field {name} has the type {values.dtype}, which is not a number that it can be"
            raise DataError(message)
    if len(t_N):
        outside = (x_N < 0) | (x_N >= sensor[0]) | (y_N < 0) | (y_N >= sensor[1])
        if outside.any():
            first = int(np.argmax(outside))
            message = (
                f"{path}: event {first} at x = {x_N[first]}, y = {y_N[first]} is outside the sensor of "
                f"{sensor[0]} x {sensor[1]} pixels; set data.sensor to the true size, or the file is damaged"
            )
            raise DataError(message)
        if p_N.dtype.kind != "b" and not (np.isin(p_N, (0, 1)).all() or np.isin(p_N, (-1, 1)).all()):
            message = f"{path}: the polarity p must be 0 or 1, or -1 or 1; it goes from {p_N.min()} to {p_N.max()}"
            raise DataError(message)
        if not np.isfinite(t_N).all():
            message = f"{path}: a time stamp is not a finite number"
            raise DataError(message)
        if int(t_N.max()) - int(t_N.min()) >= LONGEST or int(t_N.max()) >= 2**63:
            message = f"{path}: the time stamps go from {t_N.min()} to {t_N.max()}, which are no microseconds"
            raise DataError(message)
        if t_N.dtype.kind == "u":
            t_N = t_N.astype(np.int64)  # differences of unsigned numbers wrap around
        if (t_N[1:] < t_N[:-1]).any():
            order = np.argsort(t_N, kind="stable")
            x_N, y_N, t_N, p_N = x_N[order], y_N[order], t_N[order], p_N[order]
    return Recording(x_N, y_N, t_N, p_N > 0, *sensor)


def _read_bin(path: Path) -> Array:
    """Read the 40-bit events of N-MNIST: x, y, then a bit of polarity and 23 bits of time in microseconds."""
    from tonic.io import read_mnist_file

    size = path.stat().st_size
    if size % 5:
        message = f"{path}: {size} bytes are no whole number of 5-byte events; the file is cut off or damaged"
        raise DataError(message)
    dtype = np.dtype([("x", np.int32), ("y", np.int32), ("t", np.int64), ("p", np.int8)])
    events: Array = read_mnist_file(str(path), dtype=dtype)
    return events


def _read_aedat4(path: Path) -> tuple[Array, tuple[int, int]]:
    """Read the events of the first event stream, and that stream's width and height.

    The decoder raises RuntimeError on most damage and panics on some, which may end the process: see
    `snnsc.data.parallel`.
    """
    import aedat

    try:
        decoder = aedat.Decoder(str(path))
        streams = {number: s for number, s in decoder.id_to_stream().items() if s["type"] == "events"}
        if not streams:
            message = f"{path}: the file has no stream of events"
            raise DataError(message)
        first = min(streams)
        packets = [packet["events"] for packet in decoder if packet["stream_id"] == first]
    except (RuntimeError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's, which is no Exception and cannot be imported
            raise
        raise _damaged(path, error) from None
    own = (int(streams[first]["width"]), int(streams[first]["height"]))
    dtype = np.dtype([("t", np.uint64), ("x", np.uint16), ("y", np.uint16), ("p", np.bool_)])
    if not packets:
        return np.zeros(0, dtype), own
    joined = np.concatenate(packets)
    events = np.empty(len(joined), dtype)
    for name, source in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
        events[name] = joined[source]
    return events, own


def _read_gesture(path: Path) -> Array:
    """Read tonic's DVS128 Gesture: an array [N, 4] of x, y, polarity 0 or 1, and time in milliseconds."""
    table_N4 = _read_array(path)
    if table_N4.ndim != 2 or table_N4.shape[1] != 4 or table_N4.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: expected an array [events, 4] of x, y, p, t as tonic stores DVS128 Gesture; "
            f"it is {list(table_N4.shape)} of {table_N4.dtype}; download or copy it again"
        )
    x_N, y_N, p_N, t_N = values_4N = table_N4.T.astype(np.float64)
    if not np.isfinite(values_4N).all() or (values_4N[:3] % 1).any():
        raise DataError(f"{path}: a value of an event is no whole or no finite number; the file is damaged")
    events = np.empty(len(table_N4), [(name, np.int64) for name in _FIELDS])
    events["x"], events["y"], events["t"], events["p"] = x_N, y_N, t_N * 1000, p_N
    return events


def _read_array(path: Path) -> Array:
    """Read a structured array; in .npz it is the array named `events`. Pickled objects are refused."""
    try:
        with path.open("rb") as file:  # opened here: numpy leaves a damaged .npz open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                if "events" not in loaded.files:
                    message = f"{path}: no array named `events`; it has {', '.join(loaded.files) or 'none'}"
                    raise DataError(message)
                return np.asarray(loaded["events"])
    except (
        OSError, ValueError, EOFError, KeyError, SyntaxError, MemoryError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> DataError:
    """Return the error for a file that its reader refused."""
    reason = " ".join(str(error).split())
    return DataError(f"{path}: cannot be read as a recording ({reason}); the file is damaged or of another format")
