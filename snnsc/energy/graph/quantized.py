"""Operators on 8-bit numbers, told as the ones they stand for.

The graph that runs keeps its nodes. Beside them it gets a DequantizeLinear for each quantized operand, run only where
it is measured, and in the list of nodes that are counted QLinearConv reads Conv of those: zero is the zero point, the
weight is constant, and every rule for Conv holds. Graphs of QuantizeLinear and DequantizeLinear pairs need none of it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

_MICROSOFT = "com.microsoft"
_FUSED = {"FusedConv": "Conv", "FusedGemm": "Gemm"}  # with an activation after it
_POOLS = {"QLinearAveragePool": "AveragePool", "QLinearGlobalAveragePool": "GlobalAveragePool"}
_PAIRS = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
_SAME_CODE = frozenset({"MaxPool", "GlobalMaxPool", "ReduceMax"})
_MOVES = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather", "Relu"})
_ONE = "snnsc.one"


def describe(proto: onnx.ModelProto, opset: int) -> tuple[onnx.ModelProto, onnx.GraphProto, dict[str, str]]:
    """What runs, what is counted, and how the file calls what is counted under another name.

    Args:
        proto: The model; it is not changed.
        opset: Version of its standard operators.

    Returns:
        The model with dequantized operands beside its nodes; its graph with standard operators in place of quantized
        and fused ones; first output of each such node -> its operator in the file.
    """
    matrices = {t.name for t in proto.graph.initializer if len(t.dims) == 2}
    teller = _Teller(opset, matrices)
    told = [list(teller.tell(node)) for node in proto.graph.node]
    if not teller.written and not teller.beside:
        return proto, proto.graph, {}
    runs, counted = onnx.ModelProto(), onnx.GraphProto()
    runs.CopyFrom(proto)
    del runs.graph.node[:]
    for node, pieces in zip(proto.graph.node, told, strict=True):
        runs.graph.node.extend([*pieces[:-1], node])
        counted.node.extend(pieces)
    if any(_ONE in key for key in teller.beside):
        runs.graph.initializer.append(numpy_helper.from_array(np.ones((), np.float32), _ONE))
    for field in ("initializer", "sparse_initializer", "input", "output"):
        getattr(counted, field).extend(getattr(runs.graph, field))
    return runs, counted, teller.written


class _Teller:
    """Tells of each node what it stands for; remembers the scale and zero point of every quantized value."""

    def __init__(self, opset: int, matrices: set[str]) -> None:
        self.opset, self.matrices = opset, matrices
        self.codes: dict[str, tuple[str, str]] = {}
        self.written: dict[str, str] = {}
        self.beside: dict[tuple[str, ...], str] = {}

    def tell(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The dequantized operands that it needs and nobody has made yet, then the node itself or its meaning."""
        at = [*node.input, *[""] * (12 - len(node.input))]
        match node.domain, node.op_type:
            case ("", "QuantizeLinear"):
                self.codes[node.output[0]] = at[1], at[2]
                yield node
            case ("", op) if op in _MOVES and at[0] in self.codes:
                self.codes[node.output[0]] = self.codes[at[0]]
                yield node
            case ("", op) if op in _SAME_CODE and at[0] in self.codes:
                self.codes[node.output[0]] = self.codes[at[0]]
                x = yield from self._real([at[0], *self.codes[at[0]]])
                yield self._as(node, op, [x, *node.input[1:]])
            case ("", "DynamicQuantizeLinear"):
                self.codes[node.output[0]] = node.output[1], node.output[2]
                yield node
            case ("", "QLinearConv"):
                x = yield from self._real(at[:3])
                w = yield from self._real(at[3:6], axis=0)
                self.codes[node.output[0]] = at[6], at[7]
                yield self._as(node, "Conv", [x, w, at[8]])
            case ("", "QLinearMatMul"):
                x = yield from self._real(at[:3])
                w = yield from self._real(at[3:6])
                self.codes[node.output[0]] = at[6], at[7]
                yield self._as(node, "MatMul", [x, w])
            case ("", "ConvInteger" | "MatMulInteger" as op):
                x = yield from self._real([at[0], _ONE, at[2]])
                w = yield from self._real([at[1], _ONE, at[3]])
                yield self._as(node, op.removesuffix("Integer"), [x, w])
            case (domain, "QGemm") if domain == _MICROSOFT:
                x = yield from self._real(at[:3])
                w = yield from self._real(at[3:6])
                self.codes[node.output[0]] = at[7], at[8]
                yield self._as(node, "Gemm", [x, w, at[6]])
            case (domain, op) if domain == _MICROSOFT and op in _PAIRS:
                x = yield from self._real(at[:3])
                y = yield from self._real(at[3:6])
                self.codes[node.output[0]] = at[6], at[7]
                yield self._as(node, _PAIRS[op], [x, y])
            case (domain, op) if domain == _MICROSOFT and op in _POOLS and not _channels_last(node):
                x = yield from self._real(at[:3])
                self.codes[node.output[0]] = at[3], at[4]
                yield self._as(node, _POOLS[op], [x])
            case (domain, op) if domain == _MICROSOFT and op in _FUSED and not at[3]:
                yield self._as(node, _FUSED[op], list(node.input))
            case (domain, "FusedMatMul") if domain == _MICROSOFT:
                yield from self._fused_product(node)
            case _:
                yield node

    def _as(self, node: onnx.NodeProto, op: str, inputs: list[str]) -> onnx.NodeProto:
        while inputs and not inputs[-1]:
            inputs.pop()
        self.written[node.output[0]] = node.op_type
        told = helper.make_node(op, inputs, list(node.output), node.name)
        told.attribute.extend(node.attribute)
        return told

    def _real(self, operand: list[str], axis: int = 1) -> Generator[onnx.NodeProto, None, str]:
        """The name of the value less its zero point, times its scale; yields the node where there is none yet."""
        key = value, scale, zero = operand[0], operand[1], operand[2]
        if key not in self.beside:
            self.beside[key] = f"snnsc.real.{len(self.beside)}"
            inputs = [value, scale, zero] if zero else [value, scale]
            made = helper.make_node("DequantizeLinear", inputs, [self.beside[key]], self.beside[key])
            if self.opset >= 13:
                made.attribute.append(helper.make_attribute("axis", axis))
            yield made
        return self.beside[key]

    def _fused_product(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        left, right = node.input
        reverses = bool(attrs.get("transB"))
        if any(attrs.get(key) for key in ("transBatchA", "transBatchB", "transA")) or (
            reverses and right not in self.matrices
        ):
            yield node
            return
        if reverses:
            key = (right, "transposed")
            if key not in self.beside:
                self.beside[key] = f"snnsc.real.{len(self.beside)}"
                yield helper.make_node("Transpose", [right], [self.beside[key]], self.beside[key])
            right = self.beside[key]
        self.written[node.output[0]] = node.op_type
        yield helper.make_node("MatMul", [left, right], list(node.output), node.name)


def _channels_last(node: onnx.NodeProto) -> bool:
    return any(a.name == "channels_last" and a.i for a in node.attribute)
