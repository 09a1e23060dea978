"""Run samples through a graph and count, in onnxruntime, batch by batch.

probe     one small run that tells every shape           -> plan.make_plan
count     the instrumented model on every batch          -> counts.Counts
dense     the same rows without samples: bounds only     -> counts.Counts
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx
import onnxruntime as ort

from snnsc.energy.counting.counts import Counts, LayerCount, Network, merge_layers
from snnsc.energy.counting.inputs import batch_size, check_batch, pad_batch, take_samples
from snnsc.energy.counting.instrument import Instrumented, instrument
from snnsc.energy.graph.flatten import Flattener
from snnsc.energy.graph.graph import LARGEST_INPUT, Graph
from snnsc.energy.plan.groups import count_rows, make_rows
from snnsc.energy.plan.plan import Plan, group_missing, make_plan
from snnsc.energy.plan.proofs import proven
from snnsc.errors import DataError, ModelFileError, SnnscError
from snnsc.sessions import open_session, run_session

_PROBE_SAMPLES = 2
_LARGEST_OPTIMISED = 5000  # nodes; onnxruntime's passes over a graph take minutes for ten times as many
Key = tuple[tuple[int, ...], ...]


def count(graph: Graph, batches: Iterable[dict[str, np.ndarray]], *, split: str = "") -> Counts:
    """Count every operation of a graph on real samples.

    Args:
        graph: The graph.
        batches: Arrays by input name, samples on the batch axis of each input; of any size, also where the graph
            fixes its own. Memory is that of one batch.
        split: Name of the data split, kept with the counts.

    Returns:
        Exact counts: per layer the sum, the smallest and the largest of the samples.

    Raises:
        DataError: No samples, or arrays that the graph does not take.
        ModelFileError: onnxruntime cannot run the model.
    """
    flattener = Flattener(graph)
    counters: dict[Key, _Counter] = {}
    rows: tuple[LayerCount, ...] = ()
    network = Network()
    samples = 0
    for batch in batches:
        for feeds, real in _in_chunks(graph, check_batch(graph, batch)):
            special, key = _specialise(flattener, feeds)
            if key not in counters:
                counters[key] = _Counter(special, feeds)
            layers, together = counters[key].run(feeds, real)
            rows = merge_layers([(samples, rows), (real, layers)])
            network = network.merge(together, samples, real) if samples else together
            samples += real
    if not samples:
        msg = f"{graph.source}: no samples to count on; give at least one"
        raise DataError(msg)
    violations = tuple(v for counter in counters.values() for v in counter.violations())
    missing = {item.name: item for counter in counters.values() for item in counter.plan.missing}
    told = tuple(group_missing(missing.values()))
    return Counts(samples, rows, split, told, violations, graph.digest, network)


def dense(graph: Graph, *, batch: int = _PROBE_SAMPLES) -> Counts:
    """The rows of a graph without samples: dense counts and upper bounds, no rates.

    Raises:
        ModelFileError: The graph leaves a size open that only samples can tell, or does not run.
    """
    plan = plan_without_samples(graph, batch=batch)
    rows = tuple(row.empty(1) for row in make_rows(plan.layers))
    return Counts(0, rows, "", tuple(group_missing(plan.missing)), (), graph.digest)


def plan_without_samples(graph: Graph, *, batch: int = _PROBE_SAMPLES) -> Plan:
    """The plan of a graph at the sizes and the number of steps that it declares.

    Raises:
        ModelFileError: As `dense`.
    """
    feeds = {i.name: np.zeros(_zero_shape(graph, i.name, batch), i.dtype) for i in graph.inputs}
    return probe(Flattener(graph).straight(feeds)[0], feeds, blame=ModelFileError)


def probe(graph: Graph, feeds: dict[str, np.ndarray], *, blame: type[SnnscError] = DataError) -> Plan:
    """Learn every shape and element type from one run, and plan the counting."""
    values = graph.tensors
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    names = {value: f"snnsc.shape.{index}" for index, value in enumerate(values)}
    produced = {o for n in model.graph.node for o in n.output}
    del model.graph.output[:]
    model.graph.node.extend(onnx.helper.make_node("Shape", [value], [name]) for value, name in names.items())
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names.values())
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in values if value in produced)
    session = open_session(model, graph.source, optimise=False)
    dtypes = {o.name: o.type for o in session.get_outputs()} | {i.name: i.type for i in session.get_inputs()}
    results = run_session(session, list(names.values()), feeds, graph.source, blame=blame)
    shapes = {value: tuple(int(d) for d in result) for value, result in zip(values, results, strict=True)}
    return make_plan(graph, shapes, dtypes, batch_size(graph, feeds))


def _in_chunks(graph: Graph, batch: dict[str, np.ndarray]) -> Iterable[tuple[dict[str, np.ndarray], int]]:
    """A batch as it is, or cut (and the last one filled up) to the size that the graph fixes."""
    fixed = next((i.fixed_batch for i in graph.inputs if i.fixed_batch is not None), None)
    total = batch_size(graph, batch)
    if fixed is None:
        yield batch, total
        return
    for start in range(0, total, fixed):
        part = take_samples(graph, batch, slice(start, start + fixed))
        yield pad_batch(graph, part, fixed), min(fixed, total - start)


def _specialise(flattener: Flattener, feeds: dict[str, np.ndarray]) -> tuple[Graph, Key]:
    """The graph as it is counted on these inputs, and what that and its plan depend on.

    That is every size but the number of samples, overridden options, and how its loops and branches run.
    """
    graph, key = flattener.graph, []
    for graph_input in graph.inputs:
        shape = feeds[graph_input.name].shape
        key.append(shape[: graph_input.batch_axis] + shape[graph_input.batch_axis + 1 :])
        if graph_input.is_file:  # what is in it decides on every other size
            key.append((hash(feeds[graph_input.name].tobytes()),))
    key.append(tuple(int(feeds[name].reshape(-1)[0]) if name in feeds else -1 for name in graph.options))
    straight, taken = flattener.straight(feeds)
    return straight, (*key, *taken)


def _zero_shape(graph: Graph, name: str, batch: int) -> tuple[int, ...]:
    graph_input = next(i for i in graph.inputs if i.name == name)
    dims = list(graph_input.dims)
    if dims[graph_input.batch_axis] is None:
        dims[graph_input.batch_axis] = batch
    if graph_input.batch_axis == 1 and dims[0] is None:
        dims[0] = graph.steps
    if any(d is None for d in dims):
        told = f"{graph.source}: input {name!r} {graph_input.describe()} leaves sizes open"
        told += ", T is the number of time steps" if graph_input.batch_axis == 1 and dims[0] is None else ""
        msg = f"{told}; give --inputs with samples, or a recipe"
        raise ModelFileError(msg)
    shape = tuple(d for d in dims if d is not None)
    if prod(shape) > LARGEST_INPUT:
        msg = f"{graph.source}: input {name!r} of shape {list(shape)} is larger than {LARGEST_INPUT} elements"
        raise ModelFileError(msg)
    return shape


@dataclass
class _Counter:
    """Counts batches of one input size; the slower session for broken promises is opened only when one is broken."""

    graph: Graph
    feeds: dict[str, np.ndarray]
    plan: Plan = field(init=False)
    broken: dict[str, tuple[int, int]] = field(init=False, default_factory=dict)
    """Value -> elements that are not of its kind, and samples of the batches in which that was so."""

    def __post_init__(self) -> None:
        fixed = any(i.fixed_batch is not None for i in self.graph.inputs)
        few = self.feeds if fixed else take_samples(self.graph, self.feeds, slice(0, _PROBE_SAMPLES))
        self.plan = probe(self.graph, few if fixed else pad_batch(self.graph, few, _PROBE_SAMPLES))
        self._rows = make_rows(self.plan.layers)
        # of the values of one row at several time steps, the first is named
        firsts = {layer.tensor: row.first.tensor for row in self._rows for layer in row.layers}
        self._speaks = {value: first for value, first in firsts.items() if first in self.plan.roots}
        tensors = {layer.tensor: layer.kind for layer in self.plan.layers if layer.role in ("events", "spikes", "pool")}
        self._proven = proven(self.graph.model, tensors | self.plan.roots)
        self._fast = self._open(trust=True)
        self._careful: tuple[Instrumented, ort.InferenceSession] | None = None

    def _open(self, *, trust: bool) -> tuple[Instrumented, ort.InferenceSession]:
        counted = instrument(self.graph.model, self.plan, self.graph.opset, trust=trust, proven=self._proven)
        optimise = len(counted.model.graph.node) <= _LARGEST_OPTIMISED
        return counted, open_session(counted.model, self.graph.source, optimise=optimise)

    def run(self, feeds: dict[str, np.ndarray], real: int) -> tuple[tuple[LayerCount, ...], Network]:
        """Count one batch of which the first `real` samples are to be counted."""
        found, misfits = self._run(self._fast, feeds)
        if any(value != 0 for value in misfits.values()):
            self._careful = self._careful or self._open(trust=False)
            found, misfits = self._run(self._careful, feeds)
            here: dict[str, int] = {}
            for value, number in misfits.items():
                if number != 0:
                    first = self._speaks.get(value, value)
                    here[first] = here.get(first, 0) + int(number)
            for value, elements in here.items():
                before, samples = self.broken.get(value, (0, 0))
                self.broken[value] = (before + elements, samples + real)
        measured = [{quantity: values[:, :real] for quantity, values in each.items()} for each in found]
        return count_rows(self._rows, measured, real)

    def _run(
        self, opened: tuple[Instrumented, ort.InferenceSession], feeds: dict[str, np.ndarray]
    ) -> tuple[list[dict[str, np.ndarray]], dict[str, float]]:
        counted, session = opened
        per_layer: list[dict[str, np.ndarray]] = [{} for _ in self.plan.layers]
        if not counted.outputs:
            return per_layer, {}
        feeds = feeds | counted.weights
        results = run_session(session, counted.outputs, feeds, self.graph.source, blame=DataError)
        found = dict(zip(counted.outputs, results, strict=True))
        for (index, quantity), reading in counted.readings.items():
            per_layer[index][quantity] = reading.of(found)
        return per_layer, {value: float(found[name]) for value, name in counted.checks.items()}

    def violations(self) -> list[dict[str, object]]:
        """Values that held something else than their kind, as the report lists them."""
        return [
            {"value": value, "kind": self.plan.roots[value].name, "elements": elements, "samples": samples}
            for value, (elements, samples) in self.broken.items()
        ]
