"""From a recipe to its batches: read the data set, take the subsets, make the loaders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import numpy as np

from snnsc.data.augment import FramePipeline, ImagePipeline
from snnsc.data.batches import EvalBatches, TrainBatches
from snnsc.data.cache import versions
from snnsc.data.crops import resized_crops
from snnsc.data.facts import DataFacts
from snnsc.data.frames import CHANNELS
from snnsc.data.mixing import Mixing
from snnsc.data.samples import Array, Crops, DataSet, Indices, Progress, Split
from snnsc.data.splits import TEST_LIMIT, TRAIN_LIMIT, VALIDATION_SPLIT, generator, stratified_split
from snnsc.errors import DataError, RecipeError
from snnsc.recipe.schema import (
    Cifar10DvsSpec,
    Cifar10Spec,
    Cifar100Spec,
    DigitsSpec,
    Dvs128GestureSpec,
    EventAugment,
    EventBase,
    EventFolderSpec,
    ImageFolderSpec,
    ImagenetSpec,
    MnistSpec,
    Ncaltech101Spec,
    NmnistSpec,
    Recipe,
)


@dataclass(frozen=True, eq=False)
class Loaders:
    """What training and evaluation read; `train` and `validation` are None where they were not asked for."""

    train: TrainBatches | None
    validation: EvalBatches | None
    test: EvalBatches
    facts: DataFacts


def resolve_root(recipe: Recipe, override: Path | None) -> Path:
    """Return the data root: `override`, the recipe's data.root, $SNNSC_DATA, or `data`, whichever is set first."""
    if override is not None:
        return override
    return Path(recipe.data.root or os.environ.get("SNNSC_DATA") or "data").expanduser()


def build_loaders(
    recipe: Recipe,
    root: Path,
    *,
    train: bool = True,
    rank: int = 0,
    world_size: int = 1,
    pinned: bool = False,
    progress: Progress | None = None,
) -> Loaders:
    """Read the recipe's data set and return its loaders.

    Args:
        recipe: The experiment.
        root: Folder that holds the data sets.
        train: Whether to read the training samples; without them only `test` and `facts` are filled.
        rank: This process, of `world_size`.
        world_size: Number of processes that train together.
        pinned: Whether batches lie in page-locked memory, for training on a GPU.
        progress: Called with (what, done, total) during downloads, decoding and caching.

    Raises:
        DataError: The data set is missing, damaged, or not what the recipe says.
    """
    data = _read(recipe, root, train, progress)
    pipeline = _pipeline(recipe, data)
    eval_size = recipe.train.eval_batch_size or 2 * recipe.train.batch_size
    per_rank = -(-eval_size // world_size)

    def evaluated(split: Split, chosen_M: Indices) -> EvalBatches:
        return EvalBatches(split.samples, split.labels_N, chosen_M, pipeline, per_rank, rank, world_size, pinned)

    train_batches = validation = None
    if data.train is not None:
        trained, held = _train_subsets(recipe, data.train, len(data.classes))
        _enough(recipe, len(trained), world_size)
        train_batches = TrainBatches(
            data.train.samples, data.train.labels_N, trained, pipeline,
            recipe.seed, recipe.train.batch_size, rank, world_size,
            _crops(recipe, data.train), _mixing(recipe, len(data.classes)), pinned,
        )  # fmt: skip
        validation = evaluated(data.train, held) if len(held) else None
    test = evaluated(data.test, _limited(data.test, recipe.data.test_limit, generator(TEST_LIMIT, recipe.seed)))
    return Loaders(train_batches, validation, test, _facts(recipe, data, train_batches, validation, test))


def _read(recipe: Recipe, root: Path, train: bool, progress: Progress | None) -> DataSet:
    """Read the data set that the recipe names."""
    # Inside, so that importing the package costs torch and nothing more.
    from snnsc.data import event_sets, image_folder, images, tonic_sets

    spec, frames = recipe.data, recipe.model.T
    match spec:
        case DigitsSpec():
            return images.digits(spec, recipe.seed, train)
        case MnistSpec():
            return images.mnist(spec, root, train, progress)
        case Cifar10Spec() | Cifar100Spec():
            return images.cifar(spec, root, train, progress)
        case ImageFolderSpec():
            return image_folder.image_folder(spec, root, train, progress)
        case ImagenetSpec():
            return image_folder.imagenet(spec, root, train, progress)
        case EventFolderSpec():
            return event_sets.event_folder(spec, root, frames, train, progress)
        case NmnistSpec():
            return tonic_sets.nmnist(spec, root, frames, train, progress)
        case Cifar10DvsSpec():
            return tonic_sets.cifar10dvs(spec, root, frames, train, progress)
        case Dvs128GestureSpec():
            return tonic_sets.dvs128gesture(spec, root, frames, train, progress)
        case Ncaltech101Spec():
            return tonic_sets.ncaltech101(spec, root, frames, train, progress)
        case _ as unreachable:
            assert_never(unreachable)


def _pipeline(recipe: Recipe, data: DataSet) -> ImagePipeline | FramePipeline:
    """Return the way from stored samples to tensors."""
    spec = recipe.data
    if isinstance(spec, EventBase):
        return FramePipeline(spec.augment)
    assert data.mean is not None
    assert data.std is not None
    return ImagePipeline(data.mean, data.std, spec.augment)


def _crops(recipe: Recipe, split: Split) -> Crops | None:
    """Return how training reads random crops: of the images on disk, or else of the stored ones."""
    augment = recipe.data.augment
    if isinstance(augment, EventAugment) or not augment.resized_crop:
        return None

    def of_stored(indices_B: Indices, chances_BA4: Array) -> Array:
        return resized_crops(split.samples.read(indices_B), chances_BA4)

    return split.crops or of_stored


def _mixing(recipe: Recipe, classes: int) -> Mixing | None:
    """Return how the samples of a training batch are mixed."""
    augment = recipe.data.augment
    return Mixing(augment.mixup, augment.cutmix, classes) if augment.mixup or augment.cutmix else None


def _train_subsets(recipe: Recipe, split: Split, classes: int) -> tuple[Indices, Indices]:
    """Return (trained on, kept for validation) as places in the split, sorted."""
    spec, labels_N = recipe.data, split.labels_N
    trained, held = np.arange(len(labels_N)), np.zeros(0, np.int64)
    if spec.validation:
        count = round(len(labels_N) * spec.validation)
        if count == 0:
            message = f"data.validation = {spec.validation:g} of {len(labels_N)} training samples is none; raise it"
            raise DataError(message)
        trained, held = stratified_split(labels_N, count, generator(VALIDATION_SPLIT, recipe.seed))
    rest = Split(split.samples, labels_N[trained])
    trained = trained[_limited(rest, spec.train_limit, generator(TRAIN_LIMIT, recipe.seed))]
    found = len(np.unique(labels_N[trained]))
    if found < classes:
        limit = f" with data.train_limit = {spec.train_limit}" if spec.train_limit is not None else ""
        message = (
            f"{spec.type}: {len(trained)} training samples{limit} cover {found} of {classes} classes; "
            "each class needs one at least: add samples, or raise data.train_limit, or lower data.validation"
        )
        raise DataError(message)
    return trained, held


def _limited(split: Split, limit: int | None, rng: np.random.Generator) -> Indices:
    """Return the places of a stratified subset of `limit` samples, or of all."""
    count = len(split.labels_N)
    if limit is None or limit >= count:
        return np.arange(count)
    return stratified_split(split.labels_N, limit, rng)[1]


def _enough(recipe: Recipe, samples: int, world_size: int) -> None:
    """Raise DataError where a batch has no sample for some rank."""
    if recipe.train.batch_size % world_size:
        message = (
            f"train.batch_size = {recipe.train.batch_size} cannot be shared equally by {world_size} processes; "
            "take a multiple of their number"
        )
        raise RecipeError(message)
    batch = min(samples, recipe.train.batch_size)
    if batch < world_size:
        message = (
            f"train.batch_size: a batch of {batch} samples cannot be shared by {world_size} processes; "
            "raise it or start fewer"
        )
        raise DataError(message)


def _facts(
    recipe: Recipe, data: DataSet, train: TrainBatches | None, validation: EvalBatches | None, test: EvalBatches
) -> DataFacts:
    """Return the facts about the data as read."""
    spec = recipe.data
    still = ("grey",) if spec.channels == 1 else ("red", "green", "blue")
    splits = {"train": data.train, "test": data.test}
    return DataFacts(
        type=spec.type,
        classes=data.classes,
        channels=CHANNELS if spec.is_event else still,
        size=spec.size,
        whole_counts=spec.is_event and np.issubdtype(data.test.samples.read(np.zeros(1, np.int64)).dtype, np.integer),
        train_samples=None if train is None else train.samples,
        validation_samples=None if validation is None else validation.samples,
        test_samples=test.samples,
        mean=data.mean,
        std=data.std,
        files_sha256=data.test.files_sha256,
        train_files_sha256=None if data.train is None else data.train.files_sha256,
        split_seed=data.split_seed,
        cache_keys={name: split.cache_key for name, split in splits.items() if split and split.cache_key},
        versions=versions(data.libraries),
        source=data.source,
    )
