"""Small graphs as the exporter writes them, made by hand: layers of dense weights and neurons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from snnsc.neuron_functions import DOMAIN

value = helper.make_tensor_value_info


def dense_graph(
    weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], kind: str = "LIF", **attributes: float
) -> onnx.ModelProto:
    """x [T, B, N] -> (MatMul, Add, neurons) of each layer; weights [out, in]. Layers are fc0, fc1; neurons n0, n1."""
    nodes, constants, read = [], [], "x"
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        constants += [tensor(w.T, f"w{i}"), tensor(b, f"b{i}")]
        nodes += [
            helper.make_node("MatMul", [read, f"w{i}"], [f"p{i}"], f"fc{i}"),
            helper.make_node("Add", [f"p{i}", f"b{i}"], [f"c{i}"], f"add{i}"),
            helper.make_node(kind, [f"c{i}"], [f"s{i}"], f"n{i}", domain=DOMAIN, **attributes),
        ]
        read = f"s{i}"
    return graph_of(nodes, constants, read)


def graph_of(
    nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], output: str, size: int = 7
) -> onnx.ModelProto:
    given, made = value("x", TensorProto.FLOAT, ["B", 1, size, size]), value(output, TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "g", [given], [made], constants))


def tensor(array: np.ndarray, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array, np.float32), name)
