"""What to count in a graph at one input size, what to assert, and what cannot be counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from snnsc.energy.geometry import Unsupported
from snnsc.energy.graph import Graph
from snnsc.energy.kinds import Kind, classify
from snnsc.energy.layers import Layer, Rows
from snnsc.energy.layout import Shape, follow


@dataclass(frozen=True)
class Missing:
    """A compute-bearing node that is not counted, and why."""

    name: str
    op: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """Everything to measure in one graph at one input size.

    Attributes:
        layers: The rows.
        missing: What is not counted.
        roots: Value whose kind is asserted on the data -> that kind, for every value a row measures.
        dtypes: onnxruntime's element type of each value.
    """

    layers: tuple[Layer, ...]
    missing: tuple[Missing, ...]
    roots: dict[str, Kind]
    dtypes: dict[str, str]


def make_plan(graph: Graph, shapes: dict[str, Shape], dtypes: dict[str, str], batch: int) -> Plan:
    """Decide for every live node whether it is a row, free, or not counted.

    Args:
        graph: The graph.
        shapes: Concrete shape of each value that depends on samples, from a run.
        dtypes: Element type of each such value.
        batch: Samples in that run.
    """
    rows = Rows(graph, shapes, follow(graph, shapes, batch), classify(graph, shapes), batch)
    layers: list[Layer] = []
    missing: list[Missing] = []
    for node in graph.nodes:
        if not graph.data_inputs(node):
            continue
        try:
            layer = rows.row(node)
        except Unsupported as reason:
            missing.append(Missing(node.name, node.op, str(reason)))
        else:
            layers += [layer] if layer else []
    layers = [replace(layer, tensor=rows.unfold(layer.tensor)) for layer in layers]
    return Plan(tuple(layers), tuple(missing), rows.roots(layers), dtypes)


def group_missing(missing: Iterable[Missing]) -> list[dict[str, object]]:
    """`not_counted` of the report: one entry for each operator and reason."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in missing:
        groups[item.op, item.reason].append(item.name)
    return [{"op": op, "reason": reason, "count": len(n), "nodes": n} for (op, reason), n in groups.items()]
