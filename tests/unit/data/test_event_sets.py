import numpy as np
import pytest

from snnsc.data import build_loaders
from snnsc.data.events import read_recording
from snnsc.errors import DataError

from .disk import EVENT, event_tree, random_events, write_events

FOLDER = {"type": "event-folder", "folder": "ev", "size": 34, "classes": 2}


def stored(batches):
    return batches.source.read(np.arange(len(batches.source)))


@pytest.fixture
def reads(monkeypatch):
    calls = []
    monkeypatch.setattr("snnsc.data.frames.read_recording", lambda *a: calls.append(a) or read_recording(*a))
    return calls


@pytest.mark.parametrize("slicing", ["time", "count"])
@pytest.mark.parametrize(
    ("ending", "sensor"), [(".bin", None), (".npy", (34, 34)), (".npz", (34, 34)), (".aedat", (34, 34))]
)
def test_frame_sums_are_numbers_of_events(tmp_path, recipe, ending, sensor, slicing):
    written = event_tree(tmp_path / "ev", ending)
    keys = {"sensor": sensor} if sensor else {}
    loaders = build_loaders(recipe(slicing=slicing, **keys, **FOLDER), tmp_path)
    frames = stored(loaders.train)
    assert frames.dtype == np.uint8
    assert frames.shape == (8, 4, 2, 34, 34)
    names = sorted(name for name in written if name.startswith("train"))
    assert frames.sum((1, 2, 3, 4)).tolist() == [len(written[name]) for name in names]
    inputs, _ = next(loaders.test.batches())
    assert inputs.shape == (4, 4, 2, 34, 34)
    assert inputs.sum() == sum(len(events) for name, events in written.items() if name.startswith("test"))


def test_aedat4_of_two_sensor_sizes(tmp_path, recipe):
    event_tree(tmp_path / "ev", ".aedat4")
    large = random_events(np.random.default_rng(0), 100, 60, 50)
    write_events(tmp_path / "ev" / "test" / "b" / "1.aedat4", large, (60, 50))
    loaders = build_loaders(recipe(**FOLDER), tmp_path)
    assert stored(loaders.train).sum((1, 2, 3, 4)).tolist() == [200, 210, 220, 230] * 2
    sums = stored(loaders.test).astype(np.float64).sum((1, 2, 3, 4))
    assert sums[:3].tolist() == [200, 210, 200]
    assert sums[3] == pytest.approx(100 * 34 * 34 / 60 / 50, rel=0.1)


def test_counts_above_255_are_stored_exactly(tmp_path, recipe):
    event_tree(tmp_path / "ev", ".npy")
    events = np.zeros(70_300, EVENT)
    events["t"] = np.arange(70_300)
    events["x"][-300:] = 3
    np.save(tmp_path / "ev" / "test" / "a" / "0.npy", events)
    np.save(tmp_path / "ev" / "train" / "a" / "0.npy", events[-300:])
    loaders = build_loaders(recipe(T=1, sensor=(34, 34), **FOLDER), tmp_path)
    assert stored(loaders.train).dtype == np.uint16
    assert stored(loaders.train)[0, 0, 0, 0, 3] == 300
    assert stored(loaders.test).dtype == np.float32
    assert stored(loaders.test)[0, 0, 0, 0].tolist()[:4] == [70_000, 0, 0, 300]


def test_empty_recordings_are_empty_frames(tmp_path, recipe):
    event_tree(tmp_path / "ev", ".npy")
    np.save(tmp_path / "ev" / "test" / "a" / "0.npy", np.zeros(0, EVENT))
    np.save(tmp_path / "ev" / "test" / "a" / "1.npy", np.zeros(1, EVENT))
    frames = stored(build_loaders(recipe(sensor=(34, 34), **FOLDER), tmp_path).test)
    assert frames.sum((1, 2, 3, 4)).tolist()[:2] == [0, 1]


def test_second_run_reads_no_recording(tmp_path, recipe, reads):
    event_tree(tmp_path / "ev", ".bin")
    first = build_loaders(recipe(**FOLDER), tmp_path)
    assert len(reads) == 12
    second = build_loaders(recipe(seed=1, batch_size=2, augment={"roll": 2}, **FOLDER), tmp_path)
    assert len(reads) == 12
    assert np.array_equal(stored(first.train), stored(second.train))


@pytest.mark.parametrize("change", [{"T": 5}, {"size": 20}, {"slicing": "count"}, {"sensor": (40, 34)}])
def test_what_shapes_the_frames_makes_another_cache(tmp_path, recipe, reads, change):
    event_tree(tmp_path / "ev", ".bin")
    before = build_loaders(recipe(**FOLDER), tmp_path).facts.cache_keys
    after = build_loaders(recipe(**{**FOLDER, **change}), tmp_path).facts.cache_keys
    assert len(reads) == 24
    assert not set(before.values()) & set(after.values())


@pytest.mark.parametrize("change", ["add", "remove", "rewrite"])
def test_changed_files_make_another_cache(tmp_path, recipe, reads, change):
    event_tree(tmp_path / "ev", ".bin")
    before = build_loaders(recipe(**FOLDER), tmp_path).facts
    path = tmp_path / "ev" / "test" / "a" / "1.bin"
    if change == "remove":
        path.unlink()
    else:
        new = path if change == "rewrite" else path.with_name("2.bin")
        write_events(new, random_events(np.random.default_rng(9), 210))
    after = build_loaders(recipe(**FOLDER), tmp_path).facts
    assert after.cache_keys["test"] != before.cache_keys["test"]
    assert after.cache_keys["train"] == before.cache_keys["train"]
    assert (after.files_sha256 == before.files_sha256) == (change == "rewrite")
    assert len(reads) == 12 + {"add": 5, "remove": 3, "rewrite": 4}[change]


def test_a_library_of_another_version_makes_another_cache(tmp_path, recipe, reads, monkeypatch):
    event_tree(tmp_path / "ev", ".bin")
    build_loaders(recipe(**FOLDER), tmp_path)
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "0.0")
    build_loaders(recipe(**FOLDER), tmp_path)
    assert len(reads) == 24


def test_an_interrupted_build_is_made_again(tmp_path, recipe):
    event_tree(tmp_path / "ev", ".bin")

    def interrupt(what, done, _total):
        if what == "ev/train: events to frames" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_loaders(recipe(**FOLDER), tmp_path, progress=interrupt)
    cache = tmp_path / ".snnsc-cache"
    assert not list(cache.glob("*.tmp"))
    assert not list(cache.glob("*train*.npy"))
    assert stored(build_loaders(recipe(**FOLDER), tmp_path).train).sum() == 1720


def test_by_processes_is_the_same(tmp_path, recipe, monkeypatch):
    event_tree(tmp_path / "ev", ".bin", train=40)
    alone = stored(build_loaders(recipe(**{**FOLDER, "size": 20, "workers": 1}), tmp_path).train)
    monkeypatch.setenv("SNNSC_CACHE", str(tmp_path / "other"))
    several = stored(build_loaders(recipe(**{**FOLDER, "size": 20, "workers": 2}), tmp_path).train)
    assert alone.dtype == np.float16
    assert np.array_equal(alone, several)


@pytest.mark.parametrize("ending", [".bin", ".aedat", ".aedat4"])
def test_a_damaged_recording_is_named(tmp_path, recipe, ending, capfd):
    event_tree(tmp_path / "ev", ending)
    path = tmp_path / "ev" / "train" / "b" / f"2{ending}"
    path.write_bytes(path.read_bytes()[:333])
    with pytest.raises(DataError, match=rf"train/b/2\{ending}: .*damaged"):
        build_loaders(recipe(**FOLDER), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_arrays_without_a_sensor(tmp_path, recipe):
    event_tree(tmp_path / "ev", ".npy")
    with pytest.raises(DataError, match=r"data\.sensor"):
        build_loaders(recipe(**FOLDER), tmp_path)
