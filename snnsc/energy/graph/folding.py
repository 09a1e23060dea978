"""Normalisations that an exporter could have folded into the weights before them."""

from __future__ import annotations

from collections import Counter

from snnsc.energy.graph.nodes import Graph, Node
from snnsc.energy.graph.ops import RESHAPES

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_KEEPS = RESHAPES | {"Identity", "Transpose"}


def foldable(graph: Graph) -> frozenset[str]:
    """Names of BatchNormalization nodes that read what a convolution or matrix makes for them alone.

    Bodies of loops are not looked into.
    """
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    return frozenset(node.name for node in graph.nodes if _folds(graph, node, readers))


def _folds(graph: Graph, node: Node, readers: Counter[str]) -> bool:
    if node.op != "BatchNormalization" or node.domain:
        return False
    value, scale = node.inputs[0], graph.constant(node.inputs[1])
    before = graph.producers.get(value)
    while before is not None and before.op in _KEEPS and not before.domain and readers[value] == 1:
        value = before.inputs[0]
        before = graph.producers.get(value)
    if before is None or before.op not in _WEIGHTED or before.domain or readers[value] != 1 or scale is None:
        return False
    weight = graph.constant(before.inputs[1])
    # of as many channels: what was flattened in between has a factor for each place, and weights are shared by all
    return weight is not None and weight.ndim > 1 and scale.size in _channels(before, weight.shape)


def _channels(node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What may be the number of output channels."""
    match node.op:
        case "Conv":
            return (shape[0],)
        case "ConvTranspose":
            return (shape[1] * node.integer("group", 1),)
        case _:
            return shape[-2:]
