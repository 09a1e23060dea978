"""The shipped CIFAR10-DVS recipe on a small set in the true on-disk format: loader, split, cache, one epoch."""

import json
import subprocess
import sys

import numpy as np
import pytest

from snnsc.checkpoint import read
from snnsc.data import build_loaders

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BRIEF = ["train.epochs=1", "train.compile=off", "train.batch_size=5", "data.train_limit=10", "data.test_limit=10"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    faery = pytest.importorskip("faery")
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in CLASSES:
        folder = root / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for i in range(10):
            events = np.empty(3000, faery.EVENTS_DTYPE)
            events["t"] = np.sort(rng.integers(0, 1_200_000, len(events)))
            events["x"], events["y"] = rng.integers(0, 128, len(events)), rng.integers(0, 128, len(events))
            events["on"] = rng.random(len(events)) < 0.5
            faery.events_stream_from_array(events, (128, 128)).to_file(folder / f"cifar10_{name}_{i}.aedat4")
    return root


def train(root, cwd, out):
    settings = [part for setting in BRIEF for part in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "snnsc", "train", "cifar10dvs", *settings, "--data-root", root, "--out", out, "--json"],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_the_shipped_recipe_trains_an_epoch(root, tmp_path):
    result, said = train(root, tmp_path, "first")
    assert result["epochs"] == 1
    assert "events to frames" in said
    source = read(tmp_path / "first/last.pt")
    recipe, facts = source.recipe, source.facts
    assert (recipe.model.arch, recipe.model.T, recipe.data.size) == ("resnet18", 10, 48)
    assert facts["split_seed"] == 0
    assert facts["source"] == "aedat4"
    assert len(str(facts["files_sha256"])) == 64
    assert facts["classes"] == list(CLASSES)
    assert len([name for name in source.model if name.startswith("shortcuts.")]) == 2 * 7  # every block but the last

    seen: list[str] = []
    again = build_loaders(recipe, root, progress=lambda what, _done, _total: seen.append(what))
    assert seen == []  # the cache answers
    assert again.facts.files_sha256 == facts["files_sha256"]
    inputs, labels = next(again.train.batches(0))
    assert inputs.shape == (10, 5, 2, 48, 48)
    assert len(labels) == 5
