"""Follow the batch axis through a graph, whatever its axes are folded into.

A value's layout is one number, `inner`: the element at flat position f belongs to sample `(f // inner) % B`.
[B,C,H,W] has inner = C*H*W, and so have [T,B,C,H,W] and [T*B,C,H,W]; a Reshape never changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from snnsc.energy.graph.nodes import Graph, Node
from snnsc.energy.graph.ops import ELEMENTWISE, KEEP_ORDER, REDUCTIONS, ROWS, SAME_AXES

Shape = tuple[int, ...]


def follow(graph: Graph, shapes: dict[str, Shape], batch: int) -> dict[str, int]:
    """The layout of every value that has one.

    Args:
        graph: The graph.
        shapes: Concrete shape of every value that depends on samples, from one run.
        batch: Number of samples in that run.
    """
    if any(i.is_file for i in graph.inputs):  # one sample, of which every value is a part
        return {name: prod(shape) for name, shape in shapes.items() if prod(shape)}
    inner = {i.name: prod(shapes[i.name][i.batch_axis + 1 :]) for i in graph.inputs}
    for node in graph.nodes:
        sources = graph.data_inputs(node)
        if node.is_neuron:  # the states that it begins with are smaller than what it reads and gives
            sources = [name for name in sources if prod(shapes.get(name, ())) == prod(shapes[node.outputs[0]])]
        if node.op in ("QuantizeLinear", "DequantizeLinear"):  # scale and zero point may be computed from the samples
            sources = sources[:1]
        if not sources:
            continue
        for output in node.outputs:
            if output not in shapes:
                continue
            layouts = {step(graph, node, name, output, inner, shapes, batch) for name in sources}
            layout = layouts.pop()
            if not layouts and layout is not None and prod(shapes[output]) % (batch * layout) == 0:
                inner[output] = layout
    return inner


def step(
    graph: Graph,
    node: Node,
    source: str,
    output: str,
    inner: Mapping[str, int],
    shapes: Mapping[str, Shape],
    batch: int,
) -> int | None:
    """The layout of one output of a node, from that of one of its sources; None where it cannot be followed."""
    if source not in inner:
        return None
    before, after, layout = shapes[source], shapes[output], inner[source]
    if prod(before) == 0 or prod(after) == 0:
        return None
    if node.is_neuron or node.op in KEEP_ORDER:
        return layout if prod(before) == prod(after) else None
    for axis in _batch_axes(before, layout, batch):
        target = _target_axis(graph, node, source, axis, before, after)
        if target is not None and after[target] == before[axis]:
            return layout // prod(before[axis + 1 :]) * prod(after[target + 1 :])
    if node.op in ("Concat", "Split", "Slice") and _in_one_piece(before, after):
        # whole turns of the samples, put one behind the other or taken apart
        return layout if prod(before) % (batch * layout) == 0 == prod(after) % (batch * layout) else None
    return None


def _batch_axes(shape: Shape, inner: int, batch: int) -> list[int]:
    """The axis that holds the samples, alone or folded with others; several only where a batch of 1 leaves it open."""
    alone, folded = [], []
    for axis in reversed(range(len(shape))):
        below = prod(shape[axis + 1 :])
        if inner == below and shape[axis] % batch == 0:
            alone.append(axis)
        elif inner % below == 0 and shape[axis] % (inner // below * batch) == 0:
            folded.append(axis)
    return alone + folded


def _target_axis(graph: Graph, node: Node, source: str, axis: int, before: Shape, after: Shape) -> int | None:
    """Where the axis that holds the samples stands in the output."""
    shift = len(after) - len(before)
    match node.op:
        case "BatchNormalization":
            return axis
        case op if op in ROWS:
            return axis if axis == 0 or _one_wide(graph, node, axis) else None
        case "Gemm":
            return _of_product(axis, node.inputs.index(source), node.integer("transA", 0), node.integer("transB", 0))
        case op if op in ELEMENTWISE:
            return axis + shift
        case op if op in SAME_AXES:
            return axis if shift == 0 else None
        case "MatMul":
            summed = len(before) - 1 if source == node.inputs[0] or len(before) == 1 else len(before) - 2
            return None if axis == summed else axis + max(shift, 0)
        case "Einsum":
            return _of_einsum(node, node.inputs.index(source), axis)
        case "Transpose":
            return node.ints("perm", list(range(len(before)))[::-1]).index(axis)
        case "Gather":
            gathered = node.integer("axis", 0) % len(before)
            return None if gathered == axis else axis + (shift if axis > gathered else 0)
        case op if op in REDUCTIONS:
            axes = reduced_axes(graph, node, len(before))
            if axes is None or axis in axes:
                return None
            return axis if shift == 0 else axis - sum(1 for a in axes if a < axis)
        case _:
            return None


def _one_wide(graph: Graph, node: Node, axis: int) -> bool:
    """Whether a convolution or pool takes each position along a spatial axis on its own."""
    if node.op not in ("Conv", "AveragePool", "MaxPool") or axis < 2:
        return False
    weight = graph.constant(node.inputs[1]) if node.op == "Conv" else None
    kernel = node.ints("kernel_shape", [] if weight is None else list(weight.shape[2:]))
    strides, pads = node.ints("strides", [1] * len(kernel)), node.ints("pads", [0] * 2 * len(kernel))
    at = axis - 2
    return at < len(kernel) and (kernel[at], strides[at], *pads[at :: len(kernel)]) == (1, 1, 0, 0)


def _in_one_piece(before: Shape, after: Shape) -> bool:
    """Whether an operator along one axis keeps the flat order: nothing but ones stands before the axis."""
    if len(before) != len(after):
        return False
    changed = [a for a in range(len(before)) if before[a] != after[a]]
    return len(changed) == 1 and prod(before[: changed[0]]) == 1


def _of_product(axis: int, operand: int, left_turned: int, right_turned: int) -> int | None:
    """Where an axis of one matrix stands in the product; None for the axis that is summed over."""
    if operand == 0:
        return 0 if axis == (1 if left_turned else 0) else None
    if operand == 1:
        return 1 if axis == (0 if right_turned else 1) else None
    return axis


def _of_einsum(node: Node, operand: int, axis: int) -> int | None:
    terms = einsum_terms(node)
    if terms is None or operand >= len(terms) - 1:
        return None
    letter = terms[operand][axis] if axis < len(terms[operand]) else ""
    return terms[-1].index(letter) if letter and letter in terms[-1] else None


def einsum_terms(node: Node) -> list[str] | None:
    """The axes of each operand, then of the result; None where an ellipsis leaves them open."""
    left, arrow, right = node.text("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    if "." in left or len(terms) != len(node.inputs):
        return None
    once = sorted(letter for letter in set(left) - {","} if left.count(letter) == 1)
    return [*terms, right if arrow else "".join(once)]


def sample_axis(shape: Shape, inner: int, batch: int) -> int | None:
    """The axis that holds the samples of a value with that layout, alone or folded with others."""
    found = _batch_axes(shape, inner, batch)
    return found[0] if found else None


def reduced_axes(graph: Graph, node: Node, rank: int) -> set[int] | None:
    """The axes that a Reduce* node sums over; None where they are not known before the run."""
    if "axes" in node.attrs:
        return {a % rank for a in node.ints("axes", [])}
    if len(node.inputs) > 1 and node.inputs[1]:
        value = graph.constant(node.inputs[1])
        if value is None:
            return None
        if value.size:
            return {int(a) % rank for a in value.reshape(-1)}
    return set() if node.integer("noop_with_empty_axes", 0) else set(range(rank))
