"""Models that take a whole image file as its bytes: one sample, without an axis of samples."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from snnsc.sessions import EXTENSIONS

SUFFIX = "/whole"
_SQUEEZE_WITH_INPUT = 13  # opset from which on the axes of Squeeze are an input


def with_sample_axis(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model with `[1, bytes]` in place of each input `[bytes]` that an image is decoded from; else as it is.

    Any other input of one axis is an axis of samples.
    """
    decoders = [node for node in proto.graph.node if (node.domain, node.op_type) == (EXTENSIONS, "DecodeImage")]
    readers = {name for node in decoders for name in node.input}
    files = [i for i in proto.graph.input if i.name in readers and _is_bytes(i)]
    if not files:
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    names = {value.name: value.name + SUFFIX for value in files}
    for node in made.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    for value in made.graph.input:
        if value.name in names:
            value.type.tensor_type.shape.dim.insert(0, onnx.TensorShapeProto.Dimension(dim_value=1))
    for name, bare in reversed(names.items()):
        if opset < _SQUEEZE_WITH_INPUT:
            squeeze = helper.make_node("Squeeze", [name], [bare], axes=[0])
        else:
            axes = f"{bare}/axes"
            made.graph.initializer.append(helper.make_tensor(axes, TensorProto.INT64, [1], [0]))
            squeeze = helper.make_node("Squeeze", [name, axes], [bare])
        made.graph.node.insert(0, squeeze)
    return made


def _is_bytes(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.elem_type == TensorProto.UINT8 and tensor.HasField("shape") and len(tensor.shape.dim) == 1
