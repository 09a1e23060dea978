"""Real data, laid out as shared/tools/unpack_data.py does; the folder is in SNNSC_DATA."""

import os
from pathlib import Path

import numpy as np
import pytest

from snnsc.data import build_loaders
from snnsc.data.images import FASHION_NORM, MNIST_NORM

ROOT = Path(os.environ.get("SNNSC_DATA", ""))


def needs(folder):
    return pytest.mark.skipif(
        "SNNSC_DATA" not in os.environ or not (ROOT / folder).is_dir(), reason=f"SNNSC_DATA has no {folder}"
    )


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNSC_CACHE", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        pytest.param("mnist", MNIST_NORM, marks=needs("MNIST")),
        pytest.param("fashion-mnist", FASHION_NORM, marks=needs("FashionMNIST")),
    ],
)
def test_statistics_and_sizes(recipe, name, norm):
    loaders = build_loaders(recipe(type=name), ROOT)
    assert (loaders.train.samples, loaders.test.samples) == (60_000, 10_000)
    pixels = loaders.train.source.array / np.float32(255)
    assert norm == ((pytest.approx(pixels.mean(), abs=1e-4),), (pytest.approx(pixels.std(), abs=1e-4),))


@needs("nmnist")
def test_nmnist(recipe):
    from tonic.io import read_mnist_file

    made = recipe(T=10, type="nmnist")
    loaders = build_loaders(made, ROOT)
    assert (loaders.train.samples, loaders.test.samples) == (1000, 100)
    files = sorted((ROOT / "nmnist" / "Test").rglob("*.bin"))
    frames = loaders.test.source.read(np.arange(100))
    assert frames.sum((1, 2, 3, 4)).tolist() == [path.stat().st_size // 5 for path in files]

    from tonic.functional import to_frame_numpy

    dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
    for path, ours in zip(files[:10], frames, strict=False):
        events = read_mnist_file(str(path), dtype=dtype)
        theirs = to_frame_numpy(events, (34, 34, 2), n_time_bins=10)
        # Their windows are up to 1 us shorter, so by the last one a few events are elsewhere or dropped.
        assert np.abs(ours - theirs.astype(int)).sum() <= 0.01 * len(events)
        assert np.array_equal(ours.sum(0), to_frame_numpy(events, (34, 34, 2), n_event_bins=1)[0])

    again = build_loaders(made, ROOT)
    assert again.facts == loaders.facts
    inputs, labels = next(again.train.batches(0))
    assert inputs.shape == (10, 8, 2, 34, 34)
    assert labels.max() < 10


@needs("imagenette64")
def test_imagenette(recipe):
    spec = {"type": "image-folder", "folder": "imagenette64", "size": 64, "classes": 10}
    loaders = build_loaders(recipe(**spec), ROOT, train=False)
    assert loaders.test.samples == 3925
    inputs, _ = next(loaders.test.batches())
    assert inputs.shape == (16, 3, 64, 64)
    assert abs(float(inputs.mean())) < 1
