"""A Scan over time that is nothing but a layer of neurons: one node, not a loop to be made straight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from snnsc.energy.graph.nodes import NEURON_DOMAIN, Node
from snnsc.energy.graph.ops import COMPARES, ELEMENTWISE, KEEP_ORDER

SPIKE = "spike"
"""Operator of a neuron row that is recognised by what it computes."""
_SIMPLE = KEEP_ORDER | ELEMENTWISE | {"Constant", "ConstantOfShape", "Shape", "Gather", "Concat"}


def as_neuron(node: Node) -> Node | None:
    """The Scan as a neuron layer: its body is element by element, and one of its scan outputs is 0 or 1.

    Returns:
        A node of our domain whose first output is the spikes; None for any other node.
    """
    body = node.attrs.get("body")
    if node.op != "Scan" or node.domain or not isinstance(body, onnx.GraphProto):
        return None
    if any(n.op_type not in _SIMPLE for n in body.node) or not _along_first_axis(node):
        return None
    states = len(body.input) - node.integer("num_scan_inputs", 0)
    binary = binary_values(body)
    spikes = [
        index
        for index, value in enumerate(body.output)
        if index >= states and value.name in binary and index < len(node.outputs) and node.outputs[index]
    ]
    if len(spikes) != 1:
        return None
    first = node.outputs[spikes[0]]
    others = tuple(output for output in node.outputs if output != first)
    return replace(node, op=SPIKE, domain=NEURON_DOMAIN, outputs=(first, *others), written="Scan")


def binary_values(body: onnx.GraphProto) -> set[str]:
    """Numbers of a graph that are 0 or 1 because a comparison makes them so."""
    constants = {t.name: numpy_helper.to_array(t) for t in body.initializer}
    truth: set[str] = set()
    binary: set[str] = set()
    for node in body.node:
        match node.op_type:
            case "Constant":
                constants |= _constant(node)
            case op if op in COMPARES or (op in ("Not", "And", "Or", "Xor", "Identity") and set(node.input) <= truth):
                truth.update(node.output)
            case "Cast" if node.input[0] in truth:
                binary.update(node.output)
            case "Where" if node.input[0] in truth and all(
                name in constants and set(constants[name].flat) <= {0, 1} for name in node.input[1:]
            ):
                binary.update(node.output)
            case "Identity" | "Squeeze" | "Unsqueeze" | "Reshape" if node.input[0] in binary:
                binary.update(node.output)
    return binary


def _constant(node: onnx.NodeProto) -> dict[str, np.ndarray]:
    for attribute in node.attribute:
        if attribute.name == "value":
            return {node.output[0]: numpy_helper.to_array(attribute.t)}
        if attribute.name in ("value_float", "value_int"):
            number = attribute.f if attribute.name == "value_float" else attribute.i
            return {node.output[0]: np.array(number)}
    return {}


def _along_first_axis(node: Node) -> bool:
    keys = ("scan_input_axes", "scan_output_axes", "scan_input_directions", "scan_output_directions")
    return not any(value for key in keys for value in node.ints(key, []))
