"""What kind of numbers a value holds, from the graph alone; `counting` asserts it on the data.

binary    0 or 1: spikes of a neuron layer, and what only moves or selects them
integer   sums of spikes
scaled    integers times one unit: average-pooled spikes (unit 1/k^2, foldable into the next weights)
constant  does not depend on the samples
real      everything else; also what no rule knows, so that no addition is ever claimed without a reason
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isfinite, prod
from typing import Literal

import numpy as np

from snnsc.energy.graph.nodes import Graph, Node
from snnsc.energy.graph.ops import COMPARES, RESHAPES
from snnsc.energy.plan.geometry import Unsupported, windows
from snnsc.energy.plan.layout import Shape, reduced_axes

KindName = Literal["real", "binary", "integer", "scaled", "constant"]
MOVES = RESHAPES | {
    *("Identity", "Dropout", "Transpose", "Expand", "Slice", "Split", "Tile", "Gather", "DepthToSpace", "SpaceToDepth")
}
_SELECTS = MOVES | {"Relu", "MaxPool", "GlobalMaxPool", "ReduceMax"}


@dataclass(frozen=True)
class Kind:
    """A kind, and the unit that its values are integer multiples of.

    Attributes:
        name: See the module docstring.
        unit: 1 for binary and integer; None for real and constant.
    """

    name: KindName
    unit: Fraction | None = None

    def scale(self, factor: Fraction) -> Kind:
        """The kind of the values times a constant factor."""
        if self.unit is None or factor == 0:
            return REAL
        return self if factor == 1 else _discrete(self.unit * factor)


REAL = Kind("real")
CONSTANT = Kind("constant")
BINARY = Kind("binary", Fraction(1))
INTEGER = Kind("integer", Fraction(1))


def classify(graph: Graph, shapes: dict[str, Shape]) -> dict[str, Kind]:
    """The kind of every value that depends on samples."""
    declared = {"real": REAL, "binary": BINARY, "integer": INTEGER}
    kinds = {i.name: declared[i.kind] for i in graph.inputs}
    for node in graph.nodes:
        if not graph.data_inputs(node):
            continue
        for index, output in enumerate(node.outputs):
            kinds[output] = _kind_of(graph, node, kinds, shapes) if index == 0 or node.op == "Split" else REAL
    return kinds


def trains(graph: Graph, node: Node) -> bool:
    """Whether a Dropout or BatchNormalization node is in training mode, or may be."""
    if node.op == "Dropout" and len(node.inputs) > 2 and node.inputs[2]:
        value = graph.constant(node.inputs[2])
        return value is None or bool(value.any())
    return node.op == "BatchNormalization" and bool(node.integer("training_mode", 0))


def _discrete(unit: Fraction) -> Kind:
    unit = abs(unit)
    return INTEGER if unit == 1 else Kind("scaled", unit)


def _kind_of(graph: Graph, node: Node, kinds: dict[str, Kind], shapes: dict[str, Shape]) -> Kind:
    if node.is_neuron:
        return BINARY if node.fires else REAL
    if node.domain:
        return REAL
    sources = [kinds.get(name, REAL) for name in graph.data_inputs(node)]
    first = sources[0]
    match node.op:
        case op if op in _SELECTS:
            return first if graph.is_data(node.inputs[0]) and not trains(graph, node) else REAL
        case "Cast":
            return _cast(node, first)
        case "Round":
            return first if first.name in ("binary", "integer") else REAL
        case "Clip":
            return first if _clips_to_multiples(graph, node, first) else REAL
        case "Pad":
            return first if _pads_with_zero(graph, node) else REAL
        case op if op in COMPARES or op in ("Equal", "Not", "And", "Or", "Xor"):
            return BINARY
        case "Concat":
            return join([_operand(graph, name, kinds) for name in node.inputs])
        case "Where":
            return join([_operand(graph, name, kinds) for name in node.inputs[1:]])
        case "Max" | "Min":
            return join([_operand(graph, name, kinds) for name in node.inputs])
        case "Add" | "Sum" | "Sub":
            if len(sources) == 1 and all(
                graph.filled(name) == 0 for name in set(node.inputs) - {*graph.data_inputs(node)}
            ):
                return first
            joined = join(sources) if len(sources) == len(node.inputs) else REAL
            return _discrete(joined.unit) if joined.unit is not None and len(sources) > 1 else joined
        case "QuantizeLinear" | "DequantizeLinear":
            return _code(graph, node, first)
        case "Mul" | "Div":
            return _product(graph, node, sources)
        case "AveragePool":
            return _average(node, first, shapes)
        case "GlobalAveragePool":
            return first.scale(Fraction(1, prod(shapes[node.inputs[0]][2:])))
        case "ReduceMean" | "ReduceSum":
            return _reduced(graph, node, first, shapes)
        case _:
            return REAL


def _operand(graph: Graph, name: str, kinds: dict[str, Kind]) -> Kind:
    """The kind of one operand, constants included: spikes that are padded or chosen with 0 and 1 stay spikes."""
    if graph.is_data(name):
        return kinds.get(name, REAL)
    number = graph.filled(name)
    if number is not None:
        return BINARY if number in (0.0, 1.0) else _discrete(Fraction(number)) if isfinite(number) else REAL
    value = graph.constant(name)
    return BINARY if value is not None and value.size and bool(((value == 0) | (value == 1)).all()) else REAL


def _code(graph: Graph, node: Node, kind: Kind) -> Kind:
    """Between a number and its code of 8 bits, code = number / scale: exact where scale is a part of the unit."""
    scale = graph.constant(node.inputs[1])
    zero = graph.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1)
    if scale is None or zero is None or scale.size != 1 or zero.any() or kind.unit is None:
        return REAL
    step = float(scale.reshape(-1)[0])
    if not isfinite(step) or step <= 0:
        return REAL
    if node.op == "DequantizeLinear":
        return kind.scale(Fraction(step))
    steps = kind.unit / Fraction(step)
    whole = round(steps)
    if abs(steps - whole) > Fraction(1, 10**6):  # float32 holds 1/9 to 10^-8
        return REAL
    return kind if whole == 1 == kind.unit else _discrete(Fraction(whole))


def _cast(node: Node, kind: Kind) -> Kind:
    floats = {1, 10, 11, 16}  # float, float16, double, bfloat16: TensorProto.DataType
    return (
        kind
        if kind.name in ("binary", "integer") or (kind.name == "scaled" and node.integer("to", 0) in floats)
        else REAL
    )


def _clips_to_multiples(graph: Graph, node: Node, kind: Kind) -> bool:
    """Whether the bounds of a Clip are values of its input's kind, so that its output is too."""
    bounds = [graph.constant(name) for name in node.inputs[1:] if name]
    known = [float(bound.reshape(-1)[0]) for bound in bounds if bound is not None and bound.size == 1]
    if kind.unit is None or len(known) < len(bounds) or "min" in node.attrs or "max" in node.attrs:
        return False
    if kind.name == "binary":
        return all(bound in (0.0, 1.0) for bound in known)
    return all(isfinite(bound) and (Fraction(bound) / kind.unit).denominator == 1 for bound in known)


def join(kinds: list[Kind]) -> Kind:
    """The kind that covers all of them: the finest unit, where the others are multiples of it."""
    if any(k.unit is None for k in kinds):
        return REAL
    if all(k.name == "binary" for k in kinds):
        return BINARY
    units = [k.unit for k in kinds if k.unit is not None]
    finest = min(units)
    return _discrete(finest) if all((u / finest).denominator == 1 for u in units) else REAL


def _product(graph: Graph, node: Node, sources: list[Kind]) -> Kind:
    if len(sources) == 2:
        both = all(k.name == "binary" for k in sources)
        return BINARY if both and node.op == "Mul" else REAL
    constant = next((v for n in node.inputs if (v := graph.constant(n)) is not None), None)
    if constant is None or constant.size != 1 or not graph.is_data(node.inputs[0]):
        return REAL
    value = float(constant.reshape(-1)[0])
    if value != value or value in (0.0, float("inf"), float("-inf")):
        return REAL
    return sources[0].scale(Fraction(value) if node.op == "Mul" else 1 / Fraction(value))


def _average(node: Node, kind: Kind, shapes: dict[str, Shape]) -> Kind:
    kernel = tuple(node.ints("kernel_shape", []))
    try:
        geometry = windows(node, kernel, shapes[node.inputs[0]], shapes[node.outputs[0]])
    except Unsupported:
        return REAL
    uniform = not geometry.overhang and (not geometry.padded or bool(node.integer("count_include_pad", 0)))
    # At a border that divides by fewer elements there is no one unit to fold into the weights.
    return kind.scale(Fraction(1, prod(kernel))) if uniform else REAL


def _reduced(graph: Graph, node: Node, kind: Kind, shapes: dict[str, Shape]) -> Kind:
    shape = shapes[node.inputs[0]]
    axes = reduced_axes(graph, node, len(shape))
    if axes is None or kind.unit is None:
        return REAL
    if not axes:
        return kind
    summed = _discrete(kind.unit)
    return summed.scale(Fraction(1, prod(shape[a] for a in axes))) if node.op == "ReduceMean" else summed


def _pads_with_zero(graph: Graph, node: Node) -> bool:
    if node.text("mode", "constant") != "constant":
        return True
    if len(node.inputs) > 2 and node.inputs[2]:
        value = graph.constant(node.inputs[2])
        return value is not None and not value.any()
    return node.number("value", 0.0) == 0.0
