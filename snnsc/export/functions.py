"""The neuron equations as ONNX model-local functions of the domain `snnsc`, in standard operators.

Each takes the input current [T, ...] and gives the spikes [T, ...]; the body is a Scan over T from v = 0. It is the
equation of `snnsc.model.neurons.lif_step` once more, because ONNX cannot call Python; a test holds the two equal.
"""

from __future__ import annotations

from typing import assert_never

import onnx
from onnx import TensorProto, helper

from snnsc.recipe.schema import IfSpec, LifSpec, NeuronSpec

DOMAIN = "snnsc"
DOMAIN_VERSION = 1
OPSET = 18


def operator(spec: NeuronSpec) -> tuple[str, dict[str, float]]:
    """Name of the function of a neuron, and its attributes."""
    match spec:
        case LifSpec(decay=decay, threshold=threshold):
            return "LIF", {"decay": decay, "threshold": threshold}
        case IfSpec(threshold=threshold):
            return "IF", {"threshold": threshold}
        case _:
            assert_never(spec)


def equation(spec: NeuronSpec) -> str:
    """The equation of a neuron in words, for the model's metadata."""
    leak = "decay * v[t-1]" if isinstance(spec, LifSpec) else "v[t-1]"
    return f"u[t] = {leak} + x[t]; s[t] = 1 if u[t] > threshold else 0; v[t] = u[t] * (1 - s[t]); v[-1] = 0"


def function(spec: NeuronSpec) -> onnx.FunctionProto:
    """The function of a neuron: current [T, ...] -> spikes [T, ...]."""
    name, attributes = operator(spec)
    constants = [_attribute_constant(key) for key in attributes]
    leak = [helper.make_node("Mul", ["decay", "v"], ["kept"])] if "decay" in attributes else []
    body = helper.make_graph(
        [
            *leak,
            helper.make_node("Add", ["kept" if leak else "v", "x"], ["u"]),
            helper.make_node("Greater", ["u", "threshold"], ["fires"]),
            helper.make_node("Cast", ["fires"], ["s"], to=TensorProto.FLOAT),
            helper.make_node("Where", ["fires", "rest", "u"], ["v_next"]),
        ],
        "step",
        [_float("v"), _float("x")],
        [_float("v_next"), _float("s")],
    )
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    return helper.make_function(
        DOMAIN,
        name,
        ["current"],
        ["spikes"],
        [
            *constants,
            helper.make_node("Constant", [], ["rest"], value_float=0.0),
            helper.make_node("Shape", ["current"], ["shape"], start=1),
            helper.make_node("ConstantOfShape", ["shape"], ["v_first"], value=zero),
            helper.make_node("Scan", ["v_first", "current"], ["v_last", "spikes"], num_scan_inputs=1, body=body),
        ],
        [helper.make_opsetid("", OPSET)],
        list(attributes),
        doc_string=equation(spec),
    )


def _attribute_constant(name: str) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], [name])
    reference = onnx.AttributeProto(name="value_float", ref_attr_name=name, type=onnx.AttributeProto.FLOAT)
    node.attribute.append(reference)
    return node


def _float(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
