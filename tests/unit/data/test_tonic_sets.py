"""The public event sets in the folders and formats that tonic downloads."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from snnsc.data import build_loaders
from snnsc.data.events import read_recording
from snnsc.data.tonic_sets import DVS_CLASSES, GESTURES
from snnsc.errors import DataError

from .disk import event_tree, random_events, write_events

DIGITS = tuple("0123456789")


def stored(batches):
    return batches.source.read(np.arange(len(batches.source)))


@pytest.mark.parametrize("name", ["NMNIST", "nmnist", "N-MNIST"])
def test_nmnist_as_tonic_unpacks_it(tmp_path, recipe, name):
    event_tree(tmp_path / name, ".bin", classes=DIGITS)
    (tmp_path / name / "train").rename(tmp_path / name / "Train")
    (tmp_path / name / "test").rename(tmp_path / name / "Test")
    loaders = build_loaders(recipe(T=3, type="nmnist"), tmp_path)
    assert (loaders.train.samples, loaders.test.samples) == (40, 20)
    assert loaders.facts.classes == DIGITS
    assert loaders.facts.channels == ("OFF", "ON")
    assert loaders.facts.mean is None
    assert loaders.test.labels_N.tolist() == sorted(list(range(10)) * 2)


def test_nmnist_with_a_digit_missing(tmp_path, recipe):
    event_tree(tmp_path / "NMNIST", ".bin", classes=DIGITS[:9])
    with pytest.raises(DataError, match="missing: 9"):
        build_loaders(recipe(type="nmnist"), tmp_path)


@pytest.fixture
def dvs(tmp_path):
    """20 recordings a class; the split needs no decoding, so the frames are made in a test of their own."""
    rng = np.random.default_rng(0)
    write_events(tmp_path / "one.aedat4", random_events(rng, 300, 128, 128), (128, 128))
    for name in DVS_CLASSES:
        folder = tmp_path / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for index in rng.permutation(20):
            (folder / f"cifar10_{name}_{index}.aedat4").write_bytes((tmp_path / "one.aedat4").read_bytes())
        (tmp_path / "CIFAR10DVS" / f"{name}.zip").write_bytes(b"as tonic leaves it")
    return tmp_path


def test_cifar10dvs(dvs, recipe, monkeypatch):
    loaders = build_loaders(recipe(T=2, type="cifar10dvs", size=128), dvs)
    assert (loaders.train.samples, loaders.test.samples) == (180, 20)
    assert np.bincount(loaders.test.labels_N).tolist() == [2] * 10
    assert loaders.facts.split_seed == 0
    assert loaders.facts.source == "aedat4"
    frames = stored(loaders.test)
    assert frames.dtype == np.uint8
    assert (frames.sum((1, 2, 3, 4)) == 300).all()

    monkeypatch.setattr("snnsc.data.event_sets.write_rows", _zeros)
    again = build_loaders(recipe(T=2, type="cifar10dvs", seed=5, size=16), dvs)
    other = build_loaders(recipe(T=2, type="cifar10dvs", split_seed=1, size=16), dvs)
    assert again.facts.files_sha256 == loaders.facts.files_sha256
    assert other.facts.files_sha256 != loaders.facts.files_sha256
    assert other.facts.split_seed == 1


def _zeros(target, rows, dtype, *_):
    with target.open("wb") as file:
        np.save(file, np.zeros((len(rows.paths), *rows.shape), dtype))


def test_cifar10dvs_too_small_to_split(tmp_path, recipe):
    for name in DVS_CLASSES:
        (tmp_path / "CIFAR10DVS" / name).mkdir(parents=True)
        (tmp_path / "CIFAR10DVS" / name / "a.aedat4").write_bytes(b"x")
    with pytest.raises(DataError, match=r"10 recordings are too few"):
        build_loaders(recipe(type="cifar10dvs"), tmp_path)


@pytest.fixture
def original(tmp_path):
    """20 recordings a class in the original format; recording i of a class has 100 + i events."""
    rng = np.random.default_rng(0)
    for name in DVS_CLASSES:
        for index in range(20):
            path = tmp_path / "CIFAR10DVS" / name / f"cifar10_{name}_{index}.aedat"
            write_events(path, random_events(rng, 100 + index, 128, 128))
    return tmp_path


def test_cifar10dvs_in_the_original_format(original, recipe):
    loaders = build_loaders(recipe(T=2, type="cifar10dvs", size=128, workers=1), original)
    assert (loaders.train.samples, loaders.test.samples) == (180, 20)
    assert loaders.facts.source == loaders.facts.to_dict()["source"] == "aedat"
    frames = stored(loaders.train)
    assert frames.dtype == np.uint8
    assert set(frames.sum((1, 2, 3, 4)).tolist()) <= set(range(100, 120))


def test_both_formats_are_the_same_frames_and_split(original, recipe):
    data = {"T": 2, "type": "cifar10dvs", "size": 128, "workers": 1}
    aedat = build_loaders(recipe(**data), original, train=False)
    rng = np.random.default_rng(0)
    for name in DVS_CLASSES:
        for index in range(20):
            path = original / "CIFAR10DVS" / name / f"cifar10_{name}_{index}.aedat"
            path.unlink()
            write_events(path.with_suffix(".aedat4"), random_events(rng, 100 + index, 128, 128), (128, 128))
    aedat4 = build_loaders(recipe(**data), original, train=False)
    assert (aedat.facts.source, aedat4.facts.source) == ("aedat", "aedat4")
    assert np.array_equal(stored(aedat.test), stored(aedat4.test))
    assert np.array_equal(aedat.test.labels_N, aedat4.test.labels_N)
    assert aedat.facts.files_sha256 != aedat4.facts.files_sha256


def test_cifar10dvs_in_two_formats_at_once(original, recipe):
    (original / "CIFAR10DVS" / "dog" / "a.aedat4").write_bytes(b"x")
    with pytest.raises(DataError, match=r"CIFAR10DVS: has recordings as \.aedat and as \.aedat4; keep those of one"):
        build_loaders(recipe(type="cifar10dvs"), original)


@pytest.fixture
def gestures(tmp_path):
    """Two users a split, one of whom made gesture 10 alone."""
    rng = np.random.default_rng(0)
    for split, users in (
        ("ibmGestureTrain", ("user01_led", "user02_lab")),
        ("ibmGestureTest", ("user24_fluorescent",)),
    ):
        for user in users:
            folder = tmp_path / "DVSGesture" / split / user
            folder.mkdir(parents=True)
            (folder / "labels.csv").write_text("as others unpack it")
            for label in (10,) if user == "user02_lab" else range(11):
                events = random_events(rng, 50 + label, 128, 128)
                columns = [events["x"], events["y"], events["p"], events["t"] // 1000]
                np.save(folder / f"{label}.npy", np.stack(columns, 1).astype(np.float64))
    return tmp_path


def test_dvs128gesture(gestures, recipe):
    loaders = build_loaders(recipe(T=3, type="dvs128gesture", size=128), gestures)
    assert (loaders.train.samples, loaders.test.samples) == (12, 11)
    assert loaders.facts.classes == GESTURES
    assert loaders.facts.split_seed is None
    assert loaders.train.labels_N.tolist() == [*range(11), 10]
    assert stored(loaders.train).sum((1, 2, 3, 4)).tolist() == [*range(50, 61), 60]
    inputs, _ = next(build_loaders(recipe(T=3, type="dvs128gesture"), gestures).train.batches(0))
    assert inputs.shape == (3, 8, 2, 48, 48)
    limited = build_loaders(recipe(type="dvs128gesture", train_limit=11, test_limit=5), gestures)
    assert (limited.train.samples, limited.test.samples) == (11, 5)


def test_dvs128gesture_as_tonic_reads_it(gestures, monkeypatch):
    from tonic.datasets import DVSGesture

    monkeypatch.setattr(DVSGesture, "_check_exists", lambda _self: True)
    for train, split in ((True, "ibmGestureTrain"), (False, "ibmGestureTest")):
        theirs = DVSGesture(str(gestures), train=train)
        assert theirs.folder_name == split
        for index, path in enumerate(theirs.data):
            events, label = theirs[index]
            ours = read_recording(Path(path), None, "gesture")
            order = np.argsort(events["t"], kind="stable")
            assert label == int(Path(path).stem)
            assert np.array_equal(ours.t_N, events["t"][order])
            assert np.array_equal(ours.x_N, events["x"][order])
            assert np.array_equal(ours.y_N, events["y"][order])
            assert np.array_equal(ours.on_N, events["p"][order])
    assert tuple(DVSGesture.classes) == GESTURES


def test_a_gesture_of_no_label(gestures, recipe):
    path = gestures / "DVSGesture" / "ibmGestureTest" / "user24_fluorescent" / "3.npy"
    path.rename(path.with_name("11.npy"))
    with pytest.raises(DataError, match=r"11\.npy: is not named after a label, 0 to 10"):
        build_loaders(recipe(type="dvs128gesture"), gestures)


def test_gestures_without_a_split(gestures, recipe):
    (gestures / "DVSGesture" / "ibmGestureTrain").rename(gestures / "elsewhere")
    assert build_loaders(recipe(type="dvs128gesture"), gestures, train=False).test.samples == 11
    with pytest.raises(DataError, match=r"ibmGestureTrain: no files <user>_<light>/<label>\.npy"):
        build_loaders(recipe(type="dvs128gesture"), gestures)


@pytest.fixture
def caltech(tmp_path, monkeypatch):
    """Four classes of 10 recordings in place of 101, of sizes of their own."""
    from snnsc.recipe.schema import Ncaltech101Spec

    monkeypatch.setattr(Ncaltech101Spec, "classes", 4)
    rng = np.random.default_rng(0)
    for name in ("BACKGROUND_Google", "Faces_easy", "ant", "yin_yang"):
        for index in range(10):
            path = tmp_path / "NCALTECH101" / "Caltech101" / name / f"image_{index:04}.bin"
            write_events(path, random_events(rng, 300, 100 + 10 * index, 180 - 10 * index))
    return tmp_path


def test_ncaltech101(caltech, recipe):
    loaders = build_loaders(recipe(T=2, type="ncaltech101", size=32), caltech)
    assert (loaders.train.samples, loaders.test.samples) == (36, 4)
    assert loaders.facts.classes == ("BACKGROUND_Google", "Faces_easy", "ant", "yin_yang")
    assert np.bincount(loaders.test.labels_N).tolist() == [1] * 4
    assert (loaders.facts.split_seed, loaders.facts.whole_counts) == (0, False)
    assert stored(loaders.test).shape == (4, 2, 2, 32, 32)
    other = build_loaders(recipe(T=2, type="ncaltech101", size=32, split_seed=1), caltech)
    assert other.facts.files_sha256 != loaders.facts.files_sha256


def test_ncaltech101_frames_are_tonics_resized(caltech, recipe):
    from tonic.functional import to_frame_numpy
    from tonic.io import read_mnist_file

    from snnsc.data.frames import resize_frames

    loaders = build_loaders(recipe(T=1, type="ncaltech101", size=32), caltech)
    files = sorted((caltech / "NCALTECH101").rglob("*.bin"))
    expected = []
    for path in files:
        events = read_mnist_file(str(path), dtype=np.dtype([("x", int), ("y", int), ("t", int), ("p", int)]))
        events["x"] -= events["x"].min()
        events["y"] -= events["y"].min()
        sensor = (events["x"].max() + 1, events["y"].max() + 1, 2)
        expected.append(resize_frames(to_frame_numpy(events, sensor, n_event_bins=1), 32))
    ours = np.concatenate([stored(loaders.train), stored(loaders.test)])
    for frame in ours:
        assert min(np.abs(frame.astype(np.float32) - other).max() for other in expected) < 1e-2
    assert len(ours) == len(expected)


def test_ncaltech101_with_classes_missing(caltech, recipe, monkeypatch):
    from snnsc.recipe.schema import Ncaltech101Spec

    monkeypatch.setattr(Ncaltech101Spec, "classes", 101)
    with pytest.raises(DataError, match=r"Caltech101: 4 class folders .* the recipe says 101 classes"):
        build_loaders(recipe(type="ncaltech101"), caltech)


def test_an_archive_within_the_archive_is_unpacked(caltech, recipe, monkeypatch):
    import tonic

    packed = shutil.make_archive(str(caltech / "Caltech101"), "zip", caltech / "NCALTECH101", "Caltech101")
    shutil.rmtree(caltech / "NCALTECH101")

    def download(folder):
        (Path(folder) / "NCALTECH101" / "N-Caltech101-archive").mkdir(parents=True)
        shutil.move(packed, Path(folder) / "NCALTECH101" / "N-Caltech101-archive" / "Caltech101.zip")

    monkeypatch.setattr(tonic.datasets, "NCALTECH101", download)
    assert build_loaders(recipe(type="ncaltech101"), caltech, train=False).test.samples == 4
    assert (caltech / "NCALTECH101" / "Caltech101" / "ant").is_dir()
