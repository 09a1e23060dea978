"""`snnsc eval` of a NIR file, on an .npz, on the evaluation set of a recipe, or on that of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from snnsc.errors import DataError, RecipeError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from snnsc.nir.graph import Graph
    from snnsc.nir.run import NirNetwork
    from snnsc.training.metrics import Evaluation

Batches: TypeAlias = "Iterable[tuple[Tensor, Tensor]]"


def evaluate_nir(
    path: Path, inputs: str | None, data_root: Path | None, T: int | None, dt: float | None
) -> tuple[Evaluation, tuple[str, ...], list[float] | None]:
    """What a NIR file makes of samples; the class is that of the largest output summed over time.

    Args:
        path: The file.
        inputs: An .npz with `labels` [N] and one more array, frames [T, N, ...]; or a recipe, a path or a shipped one's
            name, whose evaluation set is taken; default the recipe that our own files carry.
        data_root: Of the recipe's data; as the option says.
        T: Time steps: images are held for them, recordings cut into so many frames; default the recipe's.
        dt: Length of a time step in seconds; default the file's own, or 1e-4.

    Returns:
        What was found, the names of the classes, and None, as NIR has no weights of time steps.

    Raises:
        ModelFileError: the file cannot be read or run.
        DataError: the samples are missing, damaged, or do not fit.
        RecipeError: the recipe is wrong, or none is told.
    """
    from snnsc.export.runtime import evaluate
    from snnsc.nir.read import read_nir
    from snnsc.nir.run import NirNetwork

    graph = read_nir(path)
    network = NirNetwork(graph, dt)
    if inputs is not None and Path(inputs).suffix == ".npz":
        if T is not None:
            raise RecipeError(f"--T {T}: {inputs} has its own number of time steps; leave --T out")
        batches, classes = _arrays(Path(inputs), graph), tuple(str(k) for k in range(network.classes))
    else:
        batches, classes = _recipe(network, path, inputs, data_root, T)
    if len(classes) > network.classes:
        raise DataError(f"{path}: has {network.classes} outputs, the samples have {len(classes)} classes")
    names = (*classes, *(str(k) for k in range(len(classes), network.classes)))
    return evaluate(network, _in_parts(batches, graph), network.classes), names, None


def _recipe(
    network: NirNetwork, path: Path, name: str | None, data_root: Path | None, T: int | None
) -> tuple[Batches, tuple[str, ...]]:
    """Frames of the evaluation set of a recipe, and its classes."""
    from snnsc.checkpoint import with_time_steps
    from snnsc.cli.samples import evaluation_data, evaluation_set
    from snnsc.export.read import facts_of, recipe_of
    from snnsc.recipe.load import load_recipe

    own = name is None
    if own and all(entry.key != "snnsc.recipe" for entry in network.model.metadata_props):
        raise RecipeError(
            f"{path}: does not say which data it is for; give --inputs RECIPE, or --inputs FILE.npz with frames "
            "[T,N,...] and labels [N]"
        )
    recipe = recipe_of(network.model, path) if name is None else load_recipe(name)
    recipe = recipe if T is None else with_time_steps(recipe, T)
    shape = (recipe.data.channels, recipe.data.size, recipe.data.size)
    if network.shape != shape:
        raise DataError(
            f"{path}: takes inputs {list(network.shape)}, those of {name or 'its recipe'} are {list(shape)}"
        )
    data = (
        evaluation_data(recipe, facts_of(network.model, path), data_root) if own else evaluation_set(recipe, data_root)
    )
    batches = data.test.batches()
    held = None if recipe.data.is_event else recipe.model.T
    return ((x if held is None else x.expand(held, *x.shape), y) for x, y in batches), data.facts.classes


def _arrays(path: Path, graph: Graph) -> Batches:
    """The samples of an .npz, as one batch."""
    import torch

    from snnsc.energy.counting.archive import LABELS, read_arrays

    found = read_arrays(path, {LABELS})
    if len(found) != 2 or LABELS not in found:
        have = ", ".join(repr(name[:40]) for name in sorted(found)[:8]) or "none"
        raise DataError(f"{path}: has the arrays {have}; expected are 'labels' [N] and one with frames [T,N,...]")
    labels = found.pop(LABELS)
    ((name, frames),) = found.items()
    assert labels is not None
    assert frames is not None
    shape, classes = graph.input.shape, graph.output.shape[0]
    if (
        frames.ndim != len(shape) + 2
        or frames.shape[2:] != shape
        or 0 in frames.shape
        or frames.dtype.kind not in "fiub"
    ):
        wanted = f"[T,N,{','.join(map(str, shape))}]"
        raise DataError(f"{path}: array {name!r} is {frames.dtype} {list(frames.shape)}, expected are numbers {wanted}")
    if labels.shape != frames.shape[1:2] or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: array 'labels' is {labels.dtype} {list(labels.shape)}, expected int64 [{frames.shape[1]}]"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{path}: labels are {labels.min()} to {labels.max()}, the network has {classes} outputs")
    return [(torch.from_numpy(_float32(path, name, frames)), torch.from_numpy(labels.astype("int64")))]


def _float32(path: Path, name: str, frames: np.ndarray) -> np.ndarray:
    import numpy as np

    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(frames, np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"{path}: array {name!r} holds NaN or infinity")
    return values


def _in_parts(batches: Batches, graph: Graph) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of batches that fit in memory, however many time steps they have."""
    from snnsc.export.runtime import split

    each = sum(prod(node.shape) for node in graph.nodes.values())
    for frames, labels in batches:
        yield from split([(frames, labels)], each * len(frames), axis=1)
