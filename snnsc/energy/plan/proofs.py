"""Which values can hold nothing else than their kind, whatever the samples: they need no look at the data.

A spike is a comparison cast to a number; moving spikes, adding them up and averaging them keeps them multiples of one
unit. That is looked for in the nodes, those of local functions and of the bodies of their scans included. What is not
proven is asserted on the data instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto, helper

from snnsc.energy.plan.kinds import MOVES, Kind

_COMPARISONS = frozenset(
    {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Not", "And", "Or", "Xor", "IsNaN", "IsInf"}
)
_NUMBERS = frozenset(
    {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
    | {TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8}
)
_KEEPS = MOVES - {"Dropout"}
_ADDS = frozenset({"Add", "Sub", "Sum"})
_AVERAGES = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
_STANDARD = ("", "ai.onnx")
_DEEPEST = 100
_LARGEST = 2**15  # sums up to here, and their shares of at most as many, are off by less than 2^-8 of a unit in float32


def proven(model: onnx.ModelProto, values: Mapping[str, Kind]) -> dict[str, int]:
    """The values that are of their kind by construction, and the largest magnitude of each, in units.

    Args:
        model: The graph.
        values: Values and the kinds that they are to have.
    """
    scope = _Scope(model.graph.node, {(f.domain, f.name): f for f in model.functions})
    found = {value: scope.largest(value, kind) for value, kind in values.items() if kind.unit is not None}
    return {value: most for value, most in found.items() if 0 < most <= _LARGEST}


@dataclass
class _Scope:
    """The nodes in which a name means one value."""

    nodes: Iterable[onnx.NodeProto]
    functions: dict[tuple[str, str], onnx.FunctionProto]
    known: dict[tuple[str, bool], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.producers = {output: node for node in self.nodes for output in node.output if output}

    def largest(self, value: str, kind: Kind) -> int:
        """The largest magnitude of a value of its kind, in units; 0 where that is not proven."""
        if kind.name != "scaled" or kind.unit is None:
            return self.whole(value, sums=kind.name == "integer", depth=0)
        node = self.producers.get(value)
        while node is not None and node.op_type in _KEEPS and node.domain in _STANDARD:
            node = self.producers.get(node.input[0])
        if node is None or node.op_type not in _AVERAGES or node.domain not in _STANDARD or kind.unit.numerator != 1:
            return 0
        return self.whole(node.input[0], sums=False, depth=0) * kind.unit.denominator

    def whole(self, value: str, *, sums: bool, depth: int) -> int:
        """1 if a value is 0 or 1 everywhere; or, with `sums`, the largest of a whole number; 0 if unknown."""
        key = (value, sums)
        if key not in self.known:
            node = self.producers.get(value)
            self.known[key] = 0 if node is None or depth > _DEEPEST else self._made(node, value, sums, depth + 1)
        return self.known[key]

    def _made(self, node: onnx.NodeProto, value: str, sums: bool, depth: int) -> int:
        index = list(node.output).index(value)
        if (function := self.functions.get((node.domain, node.op_type))) is not None:
            inside = _Scope(function.node, self.functions)
            return inside.whole(function.output[index], sums=sums, depth=depth)
        if node.domain not in _STANDARD:
            return 0
        match node.op_type:
            case "Cast":
                return self._cast(node, depth)
            case "Scan":
                return self._scan(node, index, sums, depth)
            case op if op in _KEEPS:
                return self.whole(node.input[0], sums=sums, depth=depth) if index == 0 or op == "Split" else 0
            case "Concat":
                each = [self.whole(name, sums=sums, depth=depth) for name in node.input]
                return max(each) if all(each) else 0
            case op if op in _ADDS and sums:
                each = [self.whole(name, sums=True, depth=depth) for name in node.input]
                return sum(each) if all(each) else 0
            case _:
                return 0

    def _cast(self, node: onnx.NodeProto, depth: int) -> int:
        if _attribute(node, "to") not in _NUMBERS:
            return 0
        source = self.producers.get(node.input[0])
        if source is not None and source.op_type in _COMPARISONS and source.domain in _STANDARD:
            return 1
        return self.whole(node.input[0], sums=False, depth=depth)

    def _scan(self, node: onnx.NodeProto, index: int, sums: bool, depth: int) -> int:
        """A scanned output is made in the body at every step; a state may also be where it started."""
        scanned, body = _attribute(node, "num_scan_inputs"), _attribute(node, "body")
        assert isinstance(scanned, int)
        assert isinstance(body, onnx.GraphProto)
        if not len(node.input) - scanned <= index < len(body.output):
            return 0
        return _Scope(body.node, self.functions).whole(body.output[index].name, sums=sums, depth=depth)


def _attribute(node: onnx.NodeProto, name: str) -> object:
    found = next((a for a in node.attribute if a.name == name and not a.ref_attr_name), None)
    return None if found is None else helper.get_attribute_value(found)
