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

from snnsc.energy.counts import Counts, LayerCount, Stat, merge_layers
from snnsc.energy.graph import LARGEST_INPUT, Graph
from snnsc.energy.inputs import batch_size, check_batch, pad_batch, take_samples
from snnsc.energy.instrument import Instrumented, instrument
from snnsc.energy.layers import Layer
from snnsc.energy.plan import Plan, group_missing, make_plan
from snnsc.energy.runtime import open_session, run_session
from snnsc.errors import DataError, ModelFileError, SnnscError

_PROBE_SAMPLES = 2


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
    counters: dict[tuple[tuple[int, ...], ...], _Counter] = {}
    rows: tuple[LayerCount, ...] = ()
    samples = 0
    for batch in batches:
        for feeds, real in _in_chunks(graph, check_batch(graph, batch)):
            key = tuple(_open_shape(graph, feeds))
            if key not in counters:
                counters[key] = _Counter(graph, feeds, samples)
            rows = merge_layers([rows, counters[key].run(feeds, real)]) if rows else counters[key].run(feeds, real)
            samples += real
    if not samples:
        msg = f"{graph.source}: no samples to count on; give at least one"
        raise DataError(msg)
    first = next(iter(counters.values()))
    violations = tuple(v for counter in counters.values() for v in counter.violations())
    return Counts(samples, rows, split, tuple(group_missing(first.plan.missing)), violations, graph.digest)


def dense(graph: Graph, *, batch: int = _PROBE_SAMPLES) -> Counts:
    """The rows of a graph without samples: dense counts and upper bounds, no rates.

    Raises:
        ModelFileError: The graph leaves a size open that only samples can tell, or does not run.
    """
    plan = plan_without_samples(graph, batch=batch)
    rows = tuple(_row(layer, {}, 1) for layer in plan.layers)
    return Counts(0, rows, "", tuple(group_missing(plan.missing)), (), graph.digest)


def plan_without_samples(graph: Graph, *, batch: int = _PROBE_SAMPLES) -> Plan:
    """The plan of a graph at the sizes and the number of steps that it declares.

    Raises:
        ModelFileError: As `dense`.
    """
    feeds = {i.name: np.zeros(_zero_shape(graph, i.name, batch), i.dtype) for i in graph.inputs}
    return probe(graph, feeds, blame=ModelFileError)


def probe(graph: Graph, feeds: dict[str, np.ndarray], *, blame: type[SnnscError] = DataError) -> Plan:
    """Learn every shape and element type from one run, and plan the counting."""
    values = [o for n in graph.nodes for o in n.outputs if graph.is_data(o)]
    values = list(dict.fromkeys([*(i.name for i in graph.inputs), *values]))
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


def _open_shape(graph: Graph, feeds: dict[str, np.ndarray]) -> Iterable[tuple[int, ...]]:
    """What a plan depends on: every size but the number of samples, and overridden options."""
    for graph_input in graph.inputs:
        shape = feeds[graph_input.name].shape
        yield shape[: graph_input.batch_axis] + shape[graph_input.batch_axis + 1 :]
    yield tuple(int(feeds[name].reshape(-1)[0]) if name in feeds else -1 for name in graph.options)


def _zero_shape(graph: Graph, name: str, batch: int) -> tuple[int, ...]:
    graph_input = next(i for i in graph.inputs if i.name == name)
    dims = list(graph_input.dims)
    if dims[graph_input.batch_axis] is None:
        dims[graph_input.batch_axis] = batch
    if graph_input.batch_axis == 1 and dims[0] is None:
        dims[0] = graph.steps
    if any(d is None for d in dims):
        msg = f"{graph.source}: input {name!r} {graph_input.describe()} leaves sizes open; give --inputs with samples"
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
    seen: int
    plan: Plan = field(init=False)
    broken: dict[str, int] = field(init=False, default_factory=dict)
    broken_samples: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        fixed = any(i.fixed_batch is not None for i in self.graph.inputs)
        few = self.feeds if fixed else take_samples(self.graph, self.feeds, slice(0, _PROBE_SAMPLES))
        self.plan = probe(self.graph, few if fixed else pad_batch(self.graph, few, _PROBE_SAMPLES))
        self._fast = self._open(trust=True)
        self._careful: tuple[Instrumented, ort.InferenceSession] | None = None

    def _open(self, *, trust: bool) -> tuple[Instrumented, ort.InferenceSession]:
        counted = instrument(self.graph.model, self.plan, self.graph.opset, trust=trust)
        return counted, open_session(counted.model, self.graph.source)

    def run(self, feeds: dict[str, np.ndarray], real: int) -> tuple[LayerCount, ...]:
        """Count one batch of which the first `real` samples are to be counted."""
        results, misfits = self._run(self._fast, feeds)
        if any(value != 0 for value in misfits.values()):
            self._careful = self._careful or self._open(trust=False)
            results, misfits = self._run(self._careful, feeds)
            for value, number in misfits.items():
                if number != 0:
                    self.broken[value] = self.broken.get(value, 0) + int(number)
            self.broken_samples += real
        per_layer: list[dict[str, np.ndarray]] = [{} for _ in self.plan.layers]
        for (index, quantity), values in results.items():
            per_layer[index][quantity] = values.reshape(-1)[:real]
        return tuple(_row(layer, found, real) for layer, found in zip(self.plan.layers, per_layer, strict=True))

    def _run(
        self, opened: tuple[Instrumented, ort.InferenceSession], feeds: dict[str, np.ndarray]
    ) -> tuple[dict[tuple[int, str], np.ndarray], dict[str, float]]:
        counted, session = opened
        names = list(dict.fromkeys([*counted.outputs.values(), *counted.checks.values()]))
        if not names:
            return {}, {}
        found = dict(zip(names, run_session(session, names, feeds, self.graph.source, blame=DataError), strict=True))
        checks = {value: float(found[name]) for value, name in counted.checks.items()}
        return {key: found[name] for key, name in counted.outputs.items()}, checks

    def violations(self) -> list[dict[str, object]]:
        """Values that held something else than their kind, as the report lists them."""
        return [
            {"value": value, "kind": self.plan.roots[value].name, "elements": number, "samples": self.broken_samples}
            for value, number in self.broken.items()
        ]


def _row(layer: Layer, found: dict[str, np.ndarray], samples: int) -> LayerCount:
    """Static counts and measured ones of one row over some samples."""
    static = dict(layer.static)
    weights, repeats = static.pop("weights", 0), static.pop("repeats", 0)
    stats = {key: Stat(value * samples, value, value) for key, value in static.items()}
    measured = dict(found)
    if "events" in measured:
        events = measured["events"]
        measured.setdefault("acs", events if layer.kind.name == "binary" else np.zeros_like(events))
        measured.setdefault("event_magnitude", events)
        if repeats:
            measured["events_every_step"] = events * repeats
    stats |= {key: Stat.of(values) for key, values in measured.items()}
    unit = None if layer.kind.unit is None else float(layer.kind.unit)
    return LayerCount(layer.name, layer.op, layer.kind.name, unit, weights, stats)
