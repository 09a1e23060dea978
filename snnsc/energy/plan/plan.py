"""What to count in a graph at one input size, what to assert, and what cannot be counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from snnsc.energy.graph.graph import Graph
from snnsc.energy.graph.neurons import Neurons, find_neurons
from snnsc.energy.graph.steps import places
from snnsc.energy.plan.bounds import operations
from snnsc.energy.plan.geometry import Unsupported
from snnsc.energy.plan.kinds import Kind, classify
from snnsc.energy.plan.layer import Layer
from snnsc.energy.plan.layers import Rows
from snnsc.energy.plan.layout import Shape, follow
from snnsc.energy.plan.times import find_times
from snnsc.energy.plan.values import Values


@dataclass(frozen=True)
class Missing:
    """A compute-bearing node that is not counted.

    Attributes:
        name: Its name.
        op: Its operator.
        reason: Why it is not counted.
        share: Upper bound of its share of the network's operations: those that it may hide (see `bounds`), of these
            and the dense multiply-accumulates that are counted; None where nothing can be said.
    """

    name: str
    op: str
    reason: str
    share: float | None = None


@dataclass(frozen=True)
class Plan:
    """Everything to measure in one graph at one input size.

    Attributes:
        layers: The rows; those of one `group` are one layer at several time steps.
        missing: What is not counted.
        roots: Value whose kind is asserted on the data -> that kind, for every value a row measures.
        dtypes: onnxruntime's element type of each value.
        shapes: Shape of each value, from the run that the plan was made of.
    """

    layers: tuple[Layer, ...]
    missing: tuple[Missing, ...]
    roots: dict[str, Kind]
    dtypes: dict[str, str]
    shapes: dict[str, Shape]


def make_plan(graph: Graph, shapes: dict[str, Shape], dtypes: dict[str, str], batch: int) -> Plan:
    """Decide for every live node whether it is a row, free, part of a neuron, or not counted.

    Args:
        graph: The straight graph, see `flatten`.
        shapes: Concrete shape of each value that depends on samples, from a run.
        dtypes: Element type of each such value.
        batch: Samples in that run.
    """
    kinds = classify(graph, shapes)
    neurons = find_neurons(graph, kinds)
    inner = follow(graph, shapes, batch)
    times = find_times(graph, shapes, inner, batch, neurons.moments)
    values = Values(graph, shapes, inner, kinds, batch, times)
    own_steps = max((values.steps_of(node.outputs[0]) for node in graph.nodes if node.is_neuron), default=1)
    rows = Rows(values, neurons, places(graph, neurons, shapes, own_steps))
    layers: list[Layer] = []
    missing: list[Missing] = []
    hidden: list[int | None] = []
    for node in graph.nodes:
        if not graph.data_inputs(node):
            continue
        try:
            layer = rows.row(node)
        except Unsupported as reason:
            missing.append(Missing(node.name, node.written or node.op, str(reason)))
            hidden.append(operations(values, node))
        else:
            layers += [layer] if layer else []
    dense = sum(layer.static.get("dense_macs", 0) for layer in layers)
    missing = [_with_share(item, n, dense) for item, n in zip(missing, hidden, strict=True)]
    layers = _with_sources(graph, neurons, layers)
    layers = [replace(layer, tensor=rows.unfold(layer.tensor)) if layer.role != "pairs" else layer for layer in layers]
    return Plan(tuple(layers), tuple(missing), rows.roots(layers), dtypes, shapes)


def group_missing(missing: Iterable[Missing]) -> list[dict[str, object]]:
    """`not_counted` of the report: one entry for each operator and reason; `share` is that of its nodes together."""
    groups: dict[tuple[str, str], list[Missing]] = defaultdict(list)
    for item in missing:
        groups[item.op, item.reason].append(item)
    return [
        {"op": op, "reason": reason, "count": len(items), "nodes": [i.name for i in items], "share": _together(items)}
        for (op, reason), items in groups.items()
    ]


def _with_share(item: Missing, hidden: int | None, dense: int) -> Missing:
    return item if hidden is None else replace(item, share=hidden / (dense + hidden) if hidden else 0.0)


def _together(items: Sequence[Missing]) -> float | None:
    """The share of several, from that of each: hidden / dense is share / (1 - share), and adds up."""
    shares = [item.share for item in items]
    if any(share is None for share in shares):
        return None
    parts = [share / (1 - share) if share < 1 else float("inf") for share in shares if share is not None]
    return 1.0 if sum(parts) == float("inf") else sum(parts) / (1 + sum(parts))


def _with_sources(graph: Graph, neurons: Neurons, layers: Sequence[Layer]) -> list[Layer]:
    """Each row with the names of those whose output it reads, through all that has no row of its own."""
    groups = {layer.name: layer.group for layer in layers}
    behind: dict[str, frozenset[str]] = {}
    found: dict[str, frozenset[str]] = {}
    nothing: frozenset[str] = frozenset()
    for node in graph.nodes:
        neuron = neurons.at.get(node.name)
        reads = nothing.union(*(behind.get(name, nothing) for name in (neuron.reads if neuron else node.inputs)))
        group = groups.get(node.name)
        if group is not None:
            found[node.name] = reads - {group}
        made = reads if group is None else frozenset({group})
        behind.update(dict.fromkeys(node.outputs, made))
    return [replace(layer, facts=replace(layer.facts, sources=tuple(sorted(found[layer.name])))) for layer in layers]
