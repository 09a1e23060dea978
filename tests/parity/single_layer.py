"""A graph of one linear layer on frames [T, B, C, ...], of which our metadata tell what they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from snnsc.energy import LayerCount, count, read_graph


def count_layer(op: str, weight: np.ndarray, frames: np.ndarray, kind: str, **attrs: Any) -> LayerCount:
    """The row of a Conv or Gemm.

    Args:
        op: The operator.
        weight: As the operator takes it.
        frames: [T, B, C, ...].
        kind: What they hold: binary or integer.
        attrs: Attributes of the operator.
    """
    shape = list(frames.shape[2:])
    nodes = [
        helper.make_node("Reshape", ["x", "folded"], ["rows"]),
        helper.make_node(op, ["rows", "w"], ["y"], "layer", **attrs),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * (len(shape) + 1))],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([-1, *shape]), "folded")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model.metadata_props.add(key="snnsc.input", value='{"layout": "TBCHW", "kind": "' + kind + '"}')
    onnx.checker.check_model(model)
    (row,) = (x for x in count(read_graph(model), [{"x": frames}]).layers if x.op == op)
    return row
