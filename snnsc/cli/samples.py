"""The real samples that a checkpoint or model is run on: its own recipe's data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from snnsc.cli.console import data_progress, note
from snnsc.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from snnsc.checkpoint import Checkpoint
    from snnsc.data import Loaders
    from snnsc.recipe.schema import Recipe


def evaluation_data(recipe: Recipe, facts: Mapping[str, object], data_root: Path | None) -> Loaders:
    """The evaluation set of a recipe.

    Args:
        recipe: The experiment.
        facts: About the data that the network was trained on; another file list is said, other classes are refused.
        data_root: As the option says.

    Raises:
        DataError: the data set is missing or damaged, or its classes are others than the network's.
    """
    data = _data(recipe, data_root, train=False)
    now = data.facts.to_dict()
    if facts["classes"] != now["classes"]:
        raise DataError(f"the network was trained on the classes {facts['classes']}, the data has {now['classes']}")
    if facts["files_sha256"] != now["files_sha256"]:
        note("the list of evaluation files is not the one that the network was trained with")
    return data


def evaluation_set(recipe: Recipe, data_root: Path | None) -> Loaders:
    """The evaluation set of a recipe, for a network of which nothing is known.

    Raises:
        DataError: the data set is missing or damaged.
    """
    return _data(recipe, data_root, train=False)


def _data(recipe: Recipe, data_root: Path | None, *, train: bool) -> Loaders:
    from snnsc.data import build_loaders, resolve_root

    with data_progress() as progress:
        return build_loaders(recipe, resolve_root(recipe, data_root), train=train, progress=progress)


def some_samples(source: Checkpoint, data_root: Path | None, count: int) -> tuple[list[tuple[Tensor, Tensor]], str]:
    """Batches of `count` real samples, each class in proportion, or of all there are; and what they are.

    They are of the evaluation set; where it is too small, training samples join it.
    """
    test = evaluation_data(source.recipe, source.facts, data_root).test
    batches = list(test.drawn(count, source.recipe.seed).batches())
    if test.samples >= count:
        return batches, "evaluation set"
    more = training_samples(source, data_root, count - test.samples)
    joined = sum(len(labels) for _, labels in more)
    note(f"the evaluation set has {test.samples} samples; {joined} training samples join it")
    return batches + more, f"evaluation set ({test.samples}) and training set ({joined})"


def training_samples(source: Checkpoint, data_root: Path | None, count: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of `count` training samples, each class in proportion, or of all there are; without augmentation."""
    train = _data(source.recipe, data_root, train=True).train
    assert train is not None
    return list(train.unaugmented().drawn(count, source.recipe.seed).batches())
