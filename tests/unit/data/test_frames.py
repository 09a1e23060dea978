import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnsc.data.events import Recording
from snnsc.data.frames import FrameRows, count_events, frame_of_event, resize_frames

from .disk import random_events


def recording(events, width=34, height=34):
    return Recording(events["x"], events["y"], events["t"], events["p"], width, height)


def tonic_frames(events, **bins):
    from tonic.functional import to_frame_numpy

    return to_frame_numpy(events, (34, 34, 2), **bins)


@pytest.mark.parametrize("slicing", ["time", "count"])
@pytest.mark.parametrize("frames", [1, 3, 10])
def test_every_event_is_counted_once_at_its_place(slicing, frames):
    events = random_events(np.random.default_rng(0), 1000)
    counts = count_events(recording(events), frames, slicing)
    assert counts.shape == (frames, 2, 34, 34)
    assert counts.sum() == 1000
    place = np.zeros((2, 34, 34), int)
    np.add.at(place, (events["p"].astype(int), events["y"], events["x"]), 1)
    assert np.array_equal(counts.sum(0), place)


@settings(max_examples=60, deadline=None)
@given(
    times=st.lists(st.integers(0, 2**40), max_size=60).map(sorted),
    frames=st.integers(1, 12),
    slicing=st.sampled_from(["time", "count"]),
    kind=st.sampled_from([np.int64, np.float64]),
)
def test_frames_rise_and_stay_in_range(times, frames, slicing, kind):
    frame = frame_of_event(np.array(times, kind), frames, slicing)
    assert len(frame) == len(times)
    assert (np.diff(frame) >= 0).all()
    assert frame.size == 0 or 0 <= frame.min() <= frame.max() < frames
    if slicing == "count" and times:
        sizes = np.bincount(frame, minlength=frames)
        assert sizes.max() - sizes.min() <= 1
    if slicing == "time" and times and times[0] < times[-1]:
        assert frame[0] == 0
        assert frame[-1] == frames - 1


def test_by_hand():
    times = np.array([0, 24, 25, 50, 75, 99, 100])
    assert frame_of_event(times, 4, "time").tolist() == [0, 0, 1, 2, 3, 3, 3]
    assert frame_of_event(times, 2, "count").tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert frame_of_event(np.array([5, 5, 5]), 4, "time").tolist() == [0, 0, 0]


def test_equal_time_is_tonics_where_the_duration_divides():
    events = random_events(np.random.default_rng(1), 2000)
    events["t"][0], events["t"][-1] = 0, 300_000  # 10 windows of 30,000; one event at the very end
    ours = count_events(recording(events), 10, "time")
    theirs = tonic_frames(events, n_time_bins=10)
    assert theirs.sum() == 1999  # tonic drops the events at the last time stamp
    last = events[-1]
    theirs[9, int(last["p"]), last["y"], last["x"]] += 1
    assert np.array_equal(ours, theirs)


def test_equal_time_covers_what_tonic_drops():
    events = random_events(np.random.default_rng(2), 100)
    events["t"] = np.arange(100)  # duration 99 in 10 windows: tonic takes 10 x 9
    assert tonic_frames(events, n_time_bins=10).sum() == 90
    assert count_events(recording(events), 10, "time").sum() == 100


def test_equal_count_is_tonics_where_the_number_divides():
    events = random_events(np.random.default_rng(3), 2000)
    assert np.array_equal(count_events(recording(events), 10, "count"), tonic_frames(events, n_event_bins=10))
    assert count_events(recording(events[:1999]), 10, "count").sum() == 1999
    assert tonic_frames(events[:1999], n_event_bins=10).sum() == 1990


@pytest.mark.parametrize("slicing", ["time", "count"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_events_than_frames(slicing, count):
    events = random_events(np.random.default_rng(4), count)
    assert count_events(recording(events), 10, slicing).sum() == count


def test_off_is_channel_0_and_on_is_channel_1():
    events = random_events(np.random.default_rng(5), 10)
    events["p"] = [True] * 7 + [False] * 3
    assert count_events(recording(events), 1, "time").sum((0, 2, 3)).tolist() == [3, 7]


def test_resize_is_torchs_antialiased_bilinear():
    counts = np.random.default_rng(6).integers(0, 9, (3, 2, 64, 48))
    resized = resize_frames(counts, 20)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(counts).float(), (20, 20), mode="bilinear", antialias=True, align_corners=False
    )
    assert resized.dtype == np.float32
    assert np.array_equal(resized, expected.numpy())
    assert resize_frames(np.full((1, 2, 10, 10), 3), 5) == pytest.approx(3)


def test_no_resize_keeps_the_counts():
    counts = np.ones((1, 2, 8, 8), np.int64)
    assert resize_frames(counts, 8) is counts


@pytest.mark.parametrize(
    ("ending", "sensor", "size", "first"),
    [
        (".bin", None, 34, np.uint8),
        (".bin", None, 28, np.float16),
        (".npy", (40, 40), 40, np.uint8),
        (".npy", (40, 30), 40, np.float16),
        (".aedat4", None, 34, np.float16),
        (".aedat", None, 128, np.uint8),
        (".aedat", None, 48, np.float16),
    ],
)
def test_dtype_is_exact_where_counts_are_stored(tmp_path, ending, sensor, size, first):
    rows = FrameRows((tmp_path / f"a{ending}",), sensor, 4, "time", size)
    assert rows.dtypes()[0] == first
    assert rows.dtypes()[-1] == np.float32


def test_dtype_of_trimmed_recordings_is_that_of_means(tmp_path):
    assert FrameRows((tmp_path / "a.bin",), None, 4, "time", 34, "trimmed").dtypes()[0] == np.float16
