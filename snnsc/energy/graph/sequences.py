"""Lists of tensors, as TorchScript writes `append`, `stack` and `unbind`, in terms of tensors; lists have no shape.

    SequenceEmpty, SequenceInsert ..., SequenceConstruct  ->  their tensors, side by side
    SplitToSequence(x), one element each                  ->  Gather(x, i)
    SequenceAt(list, i), ConcatFromSequence(list)         ->  Identity, Concat

Only where the list is known in full; any other list stays, and is not counted.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

_OPS = frozenset({"SequenceAt", "ConcatFromSequence", "SequenceLength"})


def as_tensors(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the lists that are known in full; the model itself where it has none."""
    if not any(node.op_type in _OPS and not node.domain for node in proto.graph.node):
        return proto
    straight = onnx.ModelProto()
    straight.CopyFrom(proto)
    writer = _Writer(straight.graph, next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0))
    for node in proto.graph.node:
        writer.take(node)
    del straight.graph.node[:]
    straight.graph.node.extend(writer.nodes)
    straight.graph.initializer.extend(writer.initializers)
    return straight


class _Writer:
    """Writes the nodes of a graph once more; knows which lists hold what."""

    def __init__(self, graph: onnx.GraphProto, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.lists: dict[str, list[str]] = {}
        self.split: dict[str, tuple[str, int]] = {}
        self.numbers = {t.name: t for t in graph.initializer if t.data_type == t.INT64 and len(t.dims) < 2}

    def take(self, node: onnx.NodeProto) -> None:
        """One node: what it makes is known from now on, or it is written as it is."""
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant" and isinstance(attrs.get("value"), onnx.TensorProto):
            self.numbers[node.output[0]] = attrs["value"]
        op: str = "" if node.domain else node.op_type
        match op:
            case "Identity" if node.input[0] in self.lists:
                self.lists[node.output[0]] = self.lists[node.input[0]]
            case "Identity" if node.input[0] in self.numbers:
                self.numbers[node.output[0]] = self.numbers[node.input[0]]
            case "SequenceEmpty":
                self.lists[node.output[0]] = []
            case "SequenceConstruct":
                self.lists[node.output[0]] = list(node.input)
            case "SequenceInsert" if node.input[0] in self.lists and len(node.input) == 2:
                self.lists[node.output[0]] = [*self.lists[node.input[0]], node.input[1]]
            case "SplitToSequence" if len(node.input) == 1 and not attrs.get("keepdims", 1):
                self.split[node.output[0]] = node.input[0], int(attrs.get("axis", 0))
            case "SequenceAt" if self._at(node):
                return
            case "ConcatFromSequence" if self.lists.get(node.input[0]):
                self._concat(node, self.lists[node.input[0]], attrs)
                return
            case _:
                pass
        self.nodes.append(node)

    def _at(self, node: onnx.NodeProto) -> bool:
        tensor = self.numbers.get(node.input[1])
        if tensor is None:
            return False
        (index,) = numpy_helper.to_array(tensor).reshape(-1)[:1].tolist() or [0]
        if node.input[0] in self.split:
            source, axis = self.split[node.input[0]]
            self._add("Gather", [source, self._number(index, ())], node.output[0], axis=axis)
            return True
        found = self.lists.get(node.input[0], [])
        if not -len(found) <= index < len(found):
            return False
        self._add("Identity", [found[index]], node.output[0])
        return True

    def _concat(self, node: onnx.NodeProto, parts: list[str], attrs: dict[str, int]) -> None:
        axis = int(attrs["axis"])
        if attrs.get("new_axis", 0):
            tops = [f"{node.output[0]}/{i}" for i in range(len(parts))]
            for part, top in zip(parts, tops, strict=True):
                if self.opset < 13:
                    self._add("Unsqueeze", [part], top, axes=[axis])
                else:
                    self._add("Unsqueeze", [part, self._number(axis, (1,))], top)
            parts = tops
        self._add("Concat", parts, node.output[0], axis=axis)

    def _add(self, op: str, inputs: list[str], output: str, **attrs: object) -> None:
        made = helper.make_node(op, inputs, [output], output)
        made.attribute.extend(helper.make_attribute(key, value) for key, value in attrs.items())
        self.nodes.append(made)

    def _number(self, value: int, shape: tuple[int, ...]) -> str:
        name = f"snnsc.list.{value}.{len(shape)}"
        if all(t.name != name for t in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.full(shape, value, np.int64), name))
        return name
