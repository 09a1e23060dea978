"""Events to frames: which event counts in which frame, and how frames change their size.

Shapes: N events, T frames, 2 polarities (channel 0 is OFF, channel 1 is ON, as tonic orders them), H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from snnsc.data.events import OWN_SENSORS, Layout, Recording, read_recording
from snnsc.data.samples import Array

CHANNELS = ("OFF", "ON")


def frame_of_event(t_N: Array, frames: int, slicing: Literal["time", "count"]) -> Array:
    """Return the frame [N] of each event, in 0..frames-1; every event has exactly one.

    `time`: the recording from its first to its last event is cut into windows of equal duration,
    ``floor(T (t - t_first) / (t_last - t_first))``, the last window closed on both sides; events that all
    have one time stamp are in frame 0. `count`: event k is in frame ``floor(k T / N)``, so sizes differ by one at most.

    tonic's ToFrame agrees where the duration (the number of events) is a multiple of T, but for the events at t_last,
    which it drops; elsewhere it also drops the rest of that division.

    Args:
        t_N: Rising time stamps.
        frames: T.
        slicing: Equal time or equal count.
    """
    count = len(t_N)
    if count == 0:
        return np.zeros(0, np.int64)
    if slicing == "count":
        return np.arange(count, dtype=np.int64) * frames // count
    duration = t_N[-1] - t_N[0]
    if duration == 0:
        return np.zeros(count, np.int64)
    if t_N.dtype.kind == "f":
        frame_N: Array = np.floor((t_N.astype(np.float64) - t_N[0]) / duration * frames).astype(np.int64)
    else:
        frame_N = (t_N.astype(np.int64) - int(t_N[0])) * frames // int(duration)
    return np.minimum(frame_N, frames - 1)


def count_events(recording: Recording, frames: int, slicing: Literal["time", "count"]) -> Array:
    """Return the number of events per frame, polarity and pixel, [T, 2, H, W] as int64; its sum is N."""
    shape = (frames, 2, recording.height, recording.width)
    place_N = frame_of_event(recording.t_N, frames, slicing)
    for values, factor in ((recording.on_N, 2), (recording.y_N, recording.height), (recording.x_N, recording.width)):
        place_N = place_N * factor + values
    return np.bincount(place_N, minlength=int(np.prod(shape))).reshape(shape)


def resize_frames(counts_TCHW: Array, size: int) -> Array:
    """Return frames [T, 2, size, size]: the counts as they are where they have that size, else resized as float32.

    Resizing is bilinear with antialiasing (torch's `interpolate`): a pixel becomes a weighted mean of the pixels it
    covers, so the sum over a frame shrinks with its area. A sensor that is not square loses its aspect ratio.
    """
    if counts_TCHW.shape[-2:] == (size, size):
        return counts_TCHW
    import torch
    from torch.nn.functional import interpolate

    with torch.inference_mode():
        resized = interpolate(
            torch.from_numpy(counts_TCHW.astype(np.float32)),
            size=(size, size), mode="bilinear", align_corners=False, antialias=True,
        )  # fmt: skip
        return np.asarray(resized.numpy())


@dataclass(frozen=True)
class FrameRows:
    """The frames of each recording; what the processes that build the cache receive."""

    paths: tuple[Path, ...]
    sensor: tuple[int, int] | None
    frames: int
    slicing: Literal["time", "count"]
    size: int
    layout: Layout = "plain"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape [T, 2, H, W] of a row."""
        return self.frames, 2, self.size, self.size

    @property
    def risky(self) -> bool:
        """Whether reading may end the process: the .aedat4 decoder aborts on some damaged files."""
        return any(path.suffix.lower() == ".aedat4" for path in self.paths)

    def row(self, index: int) -> Array:
        """Return the frames of recording `index`."""
        recording = read_recording(self.paths[index], self.sensor, self.layout)
        return resize_frames(count_events(recording, self.frames, self.slicing), self.size)

    def dtypes(self) -> tuple[np.dtype[np.generic], ...]:
        """Return the dtypes to try, the narrowest first.

        Counts are stored exactly: almost always they fit uint8. Resized counts are means, stored as float16: half the
        disk and memory traffic of float32, and its error of 2^-11 is far below the noise of a count (and equal to or
        below what bf16 training keeps). A recording whose values do not fit makes the whole file one step wider.
        """
        sensors = {self.sensor or OWN_SENSORS.get(path.suffix.lower()) for path in self.paths}
        if sensors == {(self.size, self.size)} and self.layout != "trimmed":
            return np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32)
        return np.dtype(np.float16), np.dtype(np.float32)
