"""How much compute a node that is not counted may hide: an upper bound, in operations of one sample."""

from __future__ import annotations

from math import prod

from snnsc.energy.graph.nodes import Node
from snnsc.energy.graph.ops import ELEMENTWISE, LINEAR, POOLS, REDUCTIONS, SCALES, SUMS, UNARY
from snnsc.energy.plan.values import Values

_OVER_ELEMENTS = (UNARY | ELEMENTWISE | REDUCTIONS | POOLS | SCALES | SUMS) | {
    *("Softmax", "LogSoftmax", "Hardmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization"),
    *("LpNormalization", "RMSNormalization", "LpPool", "GlobalLpPool", "CumSum", "ArgMax", "ArgMin", "TopK"),
    *("MeanVarianceNormalization", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
}
"""About one operation for each element that is read or made; a transcendental function counts as one."""
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def operations(values: Values, node: Node) -> int | None:
    """Output elements x what is known of the reduction; None where nothing can be said."""
    known = [name for name in node.outputs if name in values.shapes]
    if not known or node.domain or node.refused:
        return None
    made = max(values.per_sample(name) for name in known)
    read = [values.per_sample(name) for name in values.graph.data_inputs(node) if name in values.shapes]
    if node.op in LINEAR:
        return _of_product(values, node, made)
    if node.op == "LRN":
        return made * node.integer("size", 1)
    if node.op in ("Resize", "Upsample"):
        return int(made * 2 ** max(len(values.shapes[known[0]]) - 2, 0))  # linear: two neighbours along each axis
    if node.op in _RECURRENT:
        weights = [values.graph.constant(name) for name in node.inputs[1:3]]
        steps = values.shapes.get(node.inputs[0], (0,))[0]
        return None if any(w is None for w in weights) else steps * sum(w.size for w in weights if w is not None)
    return max([made, *read]) if node.op in _OVER_ELEMENTS else None


def _of_product(values: Values, node: Node, made: int) -> int | None:
    """A product: each output element meets as many weights as a weight has, its own axis left out."""
    constants = [values.graph.constant(name) for name in node.inputs[:2]]
    weight = next((constant for constant in constants if constant is not None and constant.ndim > 1), None)
    left = values.shapes.get(node.inputs[0])
    match node.op:
        case "Conv" if weight is not None:
            return made * int(prod(weight.shape[1:]))
        case "ConvTranspose" if weight is not None and left is not None:
            return values.per_sample(node.inputs[0]) * prod(weight.shape[1:])
        case "MatMul" if left:
            return made * left[-1]
        case "MatMul" | "Gemm" if weight is not None:
            return int(made * max(weight.shape))
        case "Gemm" if left:
            return made * max(left)
        case "Conv" if (kernel := values.shapes.get(node.inputs[1])) is not None:
            return made * int(prod(kernel[1:]))
        case _:
            return None
