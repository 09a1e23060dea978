import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from snnsc.data import build_loaders, resolve_root
from snnsc.errors import DataError, RecipeError

from .disk import event_tree, write_mnist


def test_root_override_recipe_environment_default(recipe, monkeypatch):
    monkeypatch.delenv("SNNSC_DATA", raising=False)
    plain, own = recipe(type="digits"), recipe(type="digits", root="/own")
    assert resolve_root(plain, None) == Path("data")
    monkeypatch.setenv("SNNSC_DATA", "/env")
    assert resolve_root(plain, None) == Path("/env")
    assert resolve_root(own, None) == Path("/own")
    assert resolve_root(own, Path("/given")) == Path("/given")


@pytest.fixture
def root(tmp_path):
    write_mnist(tmp_path, train=200, test=50)
    return tmp_path


def test_validation_is_stratified_unaugmented_and_apart(root, recipe):
    loaders = build_loaders(recipe(type="mnist", validation=0.2, augment={"crop": 2}), root)
    assert (loaders.train.samples, loaders.validation.samples) == (160, 40)
    held, trained = loaders.validation.chosen_M, loaders.train.chosen_M
    assert not set(held.tolist()) & set(trained.tolist())
    assert np.bincount(loaders.validation.labels_N[held]).tolist() == [4] * 10
    first = [x for x, _ in loaders.validation.batches()]
    second = [x for x, _ in loaders.validation.batches()]
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))
    assert loaders.facts.validation_samples == 40


def test_limits_are_stratified_and_by_seed(root, recipe):
    loaders = build_loaders(recipe(type="mnist", train_limit=50, test_limit=20), root)
    assert (loaders.train.samples, loaders.test.samples) == (50, 20)
    assert np.bincount(loaders.train.labels_N[loaders.train.chosen_M]).tolist() == [5] * 10
    assert np.bincount(loaders.test.labels_N[loaders.test.chosen_M]).tolist() == [2] * 10
    same = build_loaders(recipe(type="mnist", train_limit=50), root).train.chosen_M
    other = build_loaders(recipe(type="mnist", train_limit=50, seed=1), root).train.chosen_M
    assert np.array_equal(same, loaders.train.chosen_M)
    assert not np.array_equal(other, same)
    assert build_loaders(recipe(type="mnist", train_limit=10**6), root).train.samples == 200


def test_fewer_samples_than_classes(root, recipe):
    with pytest.raises(DataError, match=r"9 training samples with data\.train_limit = 9 cover 9 of 10 classes"):
        build_loaders(recipe(type="mnist", train_limit=9), root)


def test_a_validation_share_of_nothing(root, recipe):
    with pytest.raises(DataError, match=r"data\.validation = 0\.001 of 200 training samples is none"):
        build_loaders(recipe(type="mnist", validation=0.001), root)


@pytest.mark.parametrize("batch_size", [4, 12])
def test_a_batch_that_the_processes_cannot_share_equally(root, recipe, batch_size):
    with pytest.raises(RecipeError, match=rf"train\.batch_size = {batch_size} cannot be shared equally by 8 processes"):
        build_loaders(recipe(type="mnist", batch_size=batch_size), root, world_size=8)


def test_resumed_training_sees_the_same_batches(root, recipe):
    made = recipe(type="mnist", batch_size=16, augment={"crop": 2, "flip": True, "cutout": 4})
    whole = list(build_loaders(made, root).train.batches(3))
    tail = list(build_loaders(made, root).train.batches(3, start=5))
    assert len(tail) == len(whole) - 5
    assert all(a.equal(c) and b.equal(d) for (a, b), (c, d) in zip(tail, whole[5:], strict=True))


@pytest.mark.parametrize("augment", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_mixing_is_of_training_alone(root, recipe, augment):
    loaders = build_loaders(recipe(type="mnist", validation=0.2, augment=augment), root)
    inputs, labels = next(loaders.train.batches(0))
    assert (inputs.shape, labels.shape, labels.dtype) == ((8, 1, 28, 28), (8, 10), torch.float32)
    for batches in (loaders.validation, loaders.test):
        assert next(batches.batches())[1].dtype == torch.int64


def test_mixed_events(tmp_path, recipe):
    event_tree(tmp_path / "ev", ".bin")
    made = recipe(type="event-folder", folder="ev", size=34, classes=2, augment={"mixup": 0.5, "cutmix": 1.0})
    inputs, labels = next(build_loaders(made, tmp_path).train.batches(0))
    assert (inputs.shape, labels.shape) == ((4, 8, 2, 34, 34), (8, 2))


def test_resized_crop_of_images_in_memory(root, recipe):
    plain = build_loaders(recipe(type="mnist"), root)
    cropped = build_loaders(recipe(type="mnist", augment={"resized_crop": True}), root)
    (a, first), (b, second) = next(plain.train.batches(0)), next(cropped.train.batches(0))
    assert a.shape == b.shape
    assert first.equal(second)
    assert not a.equal(b)
    assert next(plain.test.batches())[0].equal(next(cropped.test.batches())[0])


def test_ranks_cover_the_test_set(root, recipe):
    loaders = [build_loaders(recipe(type="mnist"), root, train=False, rank=r, world_size=3).test for r in range(3)]
    assert sum(len(y) for part in loaders for _, y in part.batches()) == 50
    assert {part.samples for part in loaders} == {50}


def test_evaluation_batch_size(root, recipe):
    assert build_loaders(recipe(type="mnist", batch_size=8), root).test.batch_size == 16


def test_facts_are_json(root, recipe):
    facts = build_loaders(recipe(type="mnist"), root).facts.to_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["classes"] == list("0123456789")
    assert facts["files_sha256"] is None
    assert set(facts["versions"]) == {"numpy", "torch", "torchvision"}


def test_importing_the_package_is_light():
    code = (
        "import sys, snnsc.data; print([m for m in ('tonic', 'sklearn', 'torchvision', 'aedat') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
