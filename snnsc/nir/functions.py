"""NIR's neurons as ONNX model-local functions of the domain `snnsc`, in standard operators.

Each takes the input current [T, ...] and gives [T, ...]; the body is a Scan over T from 0. Constants of LIF and IF are
numbers, those of the others are values that broadcast to one time step.

    LIF, IF          u = decay v + x;                 s = u > threshold; v = 0 where s, else u     (IF: decay 1)
    GainLIF, GainIF  u = decay v + gain x;            as above
    AnyLIF, AnyIF    u = decay v + gain x + leak;     s = u > threshold; v = reset where s, else u (IF: no leak)
    CubaLIF          i = decay_syn i + weight x; u = decay v + gain i + leak; as AnyLIF
    LI               v = decay v + gain x + leak, which is what it gives
    Threshold        s = x > threshold, without memory

The first four are those of `snnsc.export.functions`, node by node, which cannot be imported here as it needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

DOMAIN = "snnsc"
DOMAIN_VERSION = 1
OPSET = 18

ATTRIBUTES = {
    "LIF": ("decay", "threshold"),
    "IF": ("threshold",),
    "GainLIF": ("decay", "gain", "threshold"),
    "GainIF": ("gain", "threshold"),
}
"""Function -> its constants that are numbers."""
INPUTS = {
    "AnyLIF": ("decay", "gain", "leak", "threshold", "reset"),
    "AnyIF": ("gain", "threshold", "reset"),
    "CubaLIF": ("decay_syn", "weight", "decay", "gain", "leak", "threshold", "reset"),
    "LI": ("decay", "gain", "leak"),
    "Threshold": ("threshold",),
}
"""Function -> its constants that are values, in the order of its inputs."""


def function(name: str) -> onnx.FunctionProto:
    """The function of that name."""
    attributes, inputs = ATTRIBUTES.get(name, ()), INPUTS.get(name, ())
    constants = [_attribute(key) for key in attributes]
    if name == "Threshold":
        body = [_node("Greater", "current threshold", "fires"), _cast("spikes")]
    else:
        body = [*constants, *_scan(name)]
    return helper.make_function(
        DOMAIN, name, ["current", *inputs], ["spikes"], body, [helper.make_opsetid("", OPSET)], list(attributes)
    )


def _scan(name: str) -> list[onnx.NodeProto]:
    states = ["i", "v"] if name == "CubaLIF" else ["v"]
    step = helper.make_graph(
        _step(name),
        "step",
        [_float(value) for value in (*states, "x")],
        [_float(value) for value in (*(f"{state}_next" for state in states), "s")],
    )
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    firsts, lasts = [f"{state}_first" for state in states], [f"{state}_last" for state in states]
    return [
        helper.make_node("Constant", [], ["rest"], value_float=0.0),
        helper.make_node("Shape", ["current"], ["shape"], start=1),
        *(helper.make_node("ConstantOfShape", ["shape"], [first], value=zero) for first in firsts),
        helper.make_node("Scan", [*firsts, "current"], [*lasts, "spikes"], num_scan_inputs=1, body=step),
    ]


def _step(name: str) -> list[onnx.NodeProto]:
    """States and x -> next states and s."""
    fires = [_node("Greater", "u threshold", "fires"), _cast("s")]
    match name:
        case "LIF" | "IF" | "GainLIF" | "GainIF":
            end = [*fires, _node("Where", "fires rest u", "v_next")]
            return [*_charge("decay" in ATTRIBUTES[name], "gain" in ATTRIBUTES[name], "u"), *end]
        case "AnyIF":
            return [*_charge(False, True, "u"), *fires, _node("Where", "fires reset u", "v_next")]
        case "AnyLIF":
            leak = _node("Add", "charged leak", "u")
            return [*_charge(True, True, "charged"), leak, *fires, _node("Where", "fires reset u", "v_next")]
        case "CubaLIF":
            return [
                _node("Mul", "decay_syn i", "i_kept"),
                _node("Mul", "weight x", "weighted"),
                _node("Add", "i_kept weighted", "i_next"),
                *_charge(True, True, "charged", current="i_next"),
                _node("Add", "charged leak", "u"),
                *fires,
                _node("Where", "fires reset u", "v_next"),
            ]
        case _:
            assert name == "LI", name
            end = [_node("Add", "charged leak", "v_next"), _node("Identity", "v_next", "s")]
            return [*_charge(True, True, "charged"), *end]


def _charge(leaky: bool, scaled: bool, charged: str, current: str = "x") -> list[onnx.NodeProto]:
    """[decay] v + [gain] current."""
    leak = [_node("Mul", "decay v", "kept")] if leaky else []
    gain = [_node("Mul", f"gain {current}", "driven")] if scaled else []
    return [*leak, *gain, _node("Add", f"{'kept' if leaky else 'v'} {'driven' if scaled else current}", charged)]


def _node(op: str, inputs: str, output: str) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output])


def _cast(output: str) -> onnx.NodeProto:
    return helper.make_node("Cast", ["fires"], [output], to=TensorProto.FLOAT)


def _attribute(name: str) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], [name])
    node.attribute.append(onnx.AttributeProto(name="value_float", ref_attr_name=name, type=onnx.AttributeProto.FLOAT))
    return node


def _float(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def functions(names: Sequence[str]) -> list[onnx.FunctionProto]:
    """The functions of these names, each once, in the order of their first use."""
    return [function(name) for name in dict.fromkeys(names)]
