"""Samples for a graph, from .npz or .npy, in batches that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from snnsc.energy.counting.archive import LABELS, array_names, is_archive, read_arrays
from snnsc.energy.counting.images import check_image
from snnsc.energy.graph.graph import LARGEST_INPUT, LARGEST_OPTION, Graph, GraphInput, initial_states, tells_kind
from snnsc.errors import DataError

_SAMPLES_A_BATCH = 32
_ELEMENTS_A_BATCH = 2**21
"""At most, of so many samples."""
_SMALL_SAMPLES_A_BATCH = 4096
_SMALL_ELEMENTS_A_BATCH = 2**15
"""More samples, where they are so few elements that a network of their size holds no more memory."""


@dataclass(frozen=True)
class Samples:
    """Samples that are no file of arrays, such as the data of a recipe.

    Attributes:
        name: What they are called.
        batches: Gives them all, for a graph, at every call; batches of any size.
    """

    name: str
    batches: Callable[[Graph], Iterable[dict[str, np.ndarray]]]


def load_inputs(path: Path, graph: Graph) -> Iterator[dict[str, np.ndarray]]:
    """Read samples for a graph and yield them in batches.

    The file is checked before the first batch: .npz with one array for each graph input by its name, or with a
    single array, of any name, where the graph has one input, states apart; or one .npy. Axes as the graph declares
    them, any number of samples. States of a model of one time step that are missing have their initial value. For a
    graph that takes the bytes of a file it may be that file, or an array of its bytes. An .npz may also bring the
    graph's options, such as T, and `labels`, which are not read.

    Values are taken as they are: nothing is normalised. They are converted to the declared type where that loses
    nothing but digits beyond its precision. Arrays are mapped, not loaded, but for those of a compressed .npz (up to
    1 GiB); the counting holds one batch.

    Raises:
        DataError: The file is missing or damaged, or an array is missing, is no input of the graph, has another shape
            or element type, holds NaN, infinity or values that the declared type cannot hold, or no sample.
    """
    return _batches(_read(path, graph), graph, path)


def states_at_rest(path: Path, graph: Graph) -> int:
    """How many states of a model of one time step a file lacks, so that they have their initial value."""
    states = initial_states(graph.metadata, graph.source)
    return len(states.keys() - array_names(path)) if states else 0


def load_told(source: Path | Samples, graph: Graph) -> tuple[Graph, Iterator[dict[str, np.ndarray]]]:
    """As `load_inputs`, of other samples too, with the graph.

    Where the graph's file, ONNX or NIR, does not say what its inputs hold, all samples together do.

    Event frames of 0 and 1 are `binary`, whole numbers `integer`; the counting asserts it again, as it does all kinds.

    Raises:
        DataError: As `load_inputs`, here also of values.
    """
    if isinstance(source, Samples):
        read = partial(_in_parts, source, graph)
    else:
        read = partial(_batches, _read(source, graph), graph, source)
    if not tells_kind(graph.metadata):
        kinds = _kinds(graph, read())
        graph = replace(graph, inputs=tuple(replace(i, kind=kinds[i.name]) for i in graph.inputs))
    return graph, read()


def _in_parts(samples: Samples, graph: Graph) -> Iterator[dict[str, np.ndarray]]:
    """The batches of samples, checked, in parts that fit in memory."""
    for batch in samples.batches(graph):
        feeds = check_batch(graph, batch)
        size = _part_size(graph, feeds)
        for start in range(0, batch_size(graph, feeds), size):
            yield take_samples(graph, feeds, slice(start, start + size))


def _part_size(graph: Graph, arrays: dict[str, np.ndarray]) -> int:
    elements = max(sum(arrays[i.name].size for i in graph.inputs) // batch_size(graph, arrays), 1)
    fixed = next((i.fixed_batch for i in graph.inputs if i.fixed_batch is not None), None)
    few = min(_SAMPLES_A_BATCH, _ELEMENTS_A_BATCH // elements)
    return fixed or max(1, few, min(_SMALL_SAMPLES_A_BATCH, _SMALL_ELEMENTS_A_BATCH // elements))


def _kinds(graph: Graph, batches: Iterable[dict[str, np.ndarray]]) -> dict[str, str]:
    """What each input holds in every sample."""
    kinds = {i.name: "binary" for i in graph.inputs}
    for batch in batches:
        for name, kind in kinds.items():
            values = batch[name]
            if kind == "binary" and not ((values == 0) | (values == 1)).all():
                kinds[name] = "integer"
            if kinds[name] == "integer" and not ((values >= 0) & (values == np.rint(values))).all():
                kinds[name] = "real"
        if all(kind == "real" for kind in kinds.values()):
            break
    return kinds


def _read(path: Path, graph: Graph) -> dict[str, np.ndarray]:
    """The arrays of a file that a graph takes, checked but for their values."""
    if len(graph.inputs) == 1 and graph.inputs[0].is_file and not is_archive(path):
        arrays = {graph.inputs[0].name: np.fromfile(path, np.uint8)}
    else:
        chosen = _match(path, array_names(path), graph)
        read = read_arrays(path, chosen.values())
        arrays = {name: array for name, member in chosen.items() if (array := read[member]) is not None}
    arrays |= {i.name: arrays[i.name][None] for i in graph.inputs if i.is_file and arrays[i.name].ndim == 1}
    arrays |= _at_rest(arrays, graph)
    for graph_input in graph.inputs:
        _check_array(f"{path}: array {graph_input.name!r}", arrays[graph_input.name], graph_input)
    _check_equal(f"{path}", arrays, graph)
    return arrays | _options(f"{path}: array", arrays, graph)


def check_batch(graph: Graph, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One batch as onnxruntime takes it: every input present, of the declared shape and type, and finite.

    Raises:
        DataError: It is not.
    """
    unknown = batch.keys() - {i.name for i in graph.inputs} - set(graph.options)
    missing = {i.name for i in graph.inputs} - batch.keys()
    if unknown or missing:
        wanted = ", ".join(f"{i.name} {i.describe()}" for i in graph.inputs)
        msg = f"{graph.source}: a batch has {sorted(batch)}, the graph takes {wanted}"
        raise DataError(msg)
    feeds = {}
    for graph_input in graph.inputs:
        array = _as_array(f"{graph.source}: input {graph_input.name!r}", batch[graph_input.name])
        where = f"{graph.source}: input {graph_input.name!r}"
        _check_array(where, array, graph_input)
        feeds[graph_input.name] = _convert(where, array, graph_input)
        if graph_input.is_file:
            check_image(where, feeds[graph_input.name])
    _check_equal(graph.source, feeds, graph)
    return feeds | _options(f"{graph.source}: input", batch, graph)


def batch_size(graph: Graph, feeds: dict[str, np.ndarray]) -> int:
    """Number of samples in a batch."""
    first = graph.inputs[0]
    return int(feeds[first.name].shape[first.batch_axis])


def take_samples(graph: Graph, feeds: dict[str, np.ndarray], which: slice) -> dict[str, np.ndarray]:
    """Some samples of a batch."""
    taken = {i.name: feeds[i.name][(slice(None),) * i.batch_axis + (which,)] for i in graph.inputs}
    return feeds | taken


def pad_batch(graph: Graph, feeds: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """A batch filled up to `size` by repeating its samples."""
    if batch_size(graph, feeds) >= size:
        return feeds
    repeat = {i.name: np.arange(size) % feeds[i.name].shape[i.batch_axis] for i in graph.inputs}
    return feeds | {i.name: np.take(feeds[i.name], repeat[i.name], axis=i.batch_axis) for i in graph.inputs}


def _match(path: Path, members: list[str], graph: Graph) -> dict[str, str]:
    """Which array of a file is which input or option of the graph."""
    if not graph.inputs:
        msg = f"{graph.source}: the graph takes no input, {path} cannot be used"
        raise DataError(msg)
    names = [i.name for i in graph.inputs]
    known = {*names, *graph.options}
    others = [name for name in members if name not in known and name != LABELS]
    chosen = {name: name for name in known if name in members}
    states = initial_states(graph.metadata, graph.source)
    needed = [name for name in names if name not in states]
    if len(needed) == 1 and needed[0] not in chosen and len(others) == 1:
        return chosen | {needed[0]: others[0]}
    if missing := [i for i in graph.inputs if i.name not in chosen and i.name not in states]:
        wanted = ", ".join(f"{i.name!r} {i.describe()}" for i in missing)
        msg = f"{path}: array {wanted} is missing; the file has {_listed(members) or 'none'}"
        raise DataError(msg)
    if others:
        options = f" and may take {_listed(graph.options)}" if graph.options else ""
        msg = f"{path}: {_listed(others)} is no input of the graph, which takes {_listed(names)}{options}; leave it out"
        raise DataError(msg)
    return chosen


def _at_rest(arrays: dict[str, np.ndarray], graph: Graph) -> dict[str, np.ndarray]:
    """The states of a model of one time step that a file lacks, at their initial values; they take no memory."""
    states = initial_states(graph.metadata, graph.source)
    lacking = [i for i in graph.inputs if i.name in states and i.name not in arrays]
    samples = next((arrays[i.name].shape[i.batch_axis] for i in graph.inputs if i.name in arrays), 0)
    shapes = {i.name: tuple(samples if a == i.batch_axis else n or 1 for a, n in enumerate(i.dims)) for i in lacking}
    return {i.name: np.broadcast_to(i.dtype.type(states[i.name]), shapes[i.name]) for i in lacking}


def _listed(names: Iterable[str]) -> str:
    found = [repr(name[:40]) for name in sorted(names)]
    return ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")


def _check_array(where: str, array: np.ndarray, graph_input: GraphInput) -> None:
    expected = f"{graph_input.dtype} {graph_input.describe()}"
    axis = graph_input.batch_axis
    fits = array.ndim == len(graph_input.dims) and all(
        want is None or have == want or i == axis
        for i, (have, want) in enumerate(zip(array.shape, graph_input.dims, strict=True))
    )
    if not fits:
        msg = f"{where} has shape {list(array.shape)}, expected {expected}"
        raise DataError(msg)
    if array.size == 0:
        msg = f"{where} has shape {list(array.shape)}: no samples, or samples without elements; expected {expected}"
        raise DataError(msg)
    each = prod(n for i, n in enumerate(array.shape) if i != axis)
    if each > LARGEST_INPUT:
        msg = f"{where} has shape {list(array.shape)}: more than {LARGEST_INPUT} elements a sample are not supported"
        raise DataError(msg)
    kinds = {"f": "fiub", "i": "iub", "u": "iub", "b": "b"}[graph_input.dtype.kind]
    if array.dtype.kind not in kinds:
        msg = f"{where} has element type {array.dtype}, expected {expected}"
        raise DataError(msg)


def _options(where: str, arrays: dict[str, np.ndarray], graph: Graph) -> dict[str, np.ndarray]:
    """The options that are given, such as T, in the shape that the graph has them in."""
    options = {}
    for name, shape in graph.options.items():
        if name not in arrays:
            continue
        array = _as_array(f"{where} {name!r}", arrays[name])
        if array.dtype.kind not in "iu" or array.size != 1 or not 1 <= int(array.reshape(-1)[0]) <= LARGEST_OPTION:
            value = " ".join(str(array).split())[:40] if array.size <= 9 else "an array"
            msg = (
                f"{where} {name!r} is {value} ({array.dtype} {list(array.shape)}); expected one integer from 1 to"
                f" {LARGEST_OPTION}, or leave it out for the default of the graph"
            )
            raise DataError(msg)
        options[name] = array.astype(np.int64).reshape(shape)
    return options


def _as_array(where: str, value: object) -> np.ndarray:
    try:
        return np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        msg = f"{where} is not an array of numbers"
        raise DataError(msg) from error


def _check_equal(where: str, arrays: dict[str, np.ndarray], graph: Graph) -> None:
    sizes = {i.name: arrays[i.name].shape[i.batch_axis] for i in graph.inputs}
    if len(set(sizes.values())) > 1:
        msg = f"{where}: arrays have different numbers of samples: {sizes}"
        raise DataError(msg)


def _convert(where: str, array: np.ndarray, graph_input: GraphInput) -> np.ndarray:
    """As the graph takes it; rounding of real numbers is let pass, nothing else that is lost."""
    dtype = graph_input.dtype
    if array.dtype.kind in "iu" and dtype.kind in "iuf":
        limits = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind != "f" else _whole_numbers(dtype)
        if int(array.min()) < limits[0] or int(array.max()) > limits[1]:
            msg = f"{where} holds values that {dtype} cannot hold: it is exact from {limits[0]} to {limits[1]}"
            raise DataError(msg)
    with np.errstate(over="ignore", under="ignore"):
        converted = np.ascontiguousarray(array, dtype=dtype)
    if dtype.kind == "f" and not np.isfinite(converted).all():
        what = "NaN or infinity" if not np.isfinite(array).all() else f"values that are infinity in {dtype}"
        msg = f"{where} holds {what}; only finite values can be counted"
        raise DataError(msg)
    if array.dtype.kind == "f" and array.dtype.itemsize > dtype.itemsize and ((converted == 0) & (array != 0)).any():
        msg = f"{where} holds values so small that {dtype} takes them for 0, which would not be counted; set them to 0"
        raise DataError(msg)
    return converted


def _whole_numbers(dtype: np.dtype) -> tuple[int, int]:
    most = 2 ** (np.finfo(dtype).nmant + 1)
    return -most, most


def _batches(arrays: dict[str, np.ndarray], graph: Graph, path: Path) -> Iterator[dict[str, np.ndarray]]:
    total, size = batch_size(graph, arrays), _part_size(graph, arrays)
    options = {name: arrays[name] for name in graph.options if name in arrays}
    for start in range(0, total, size):
        part = take_samples(graph, {i.name: arrays[i.name] for i in graph.inputs}, slice(start, start + size))
        for graph_input in graph.inputs:
            name = graph_input.name
            part[name] = _convert(f"{path}: array {name!r}", part[name], graph_input)
        yield part | options
