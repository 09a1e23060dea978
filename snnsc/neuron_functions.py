"""The neuron equations as ONNX model-local functions of the domain `snnsc`, in standard operators.

Each takes the input current [T, ...] and gives the spikes [T, ...]; the body is a Scan over T from rest. Its twin with
the suffix Step is one time step: current [...] and states in, spikes and new states out. Constants are numbers, or
values that broadcast to one time step.

    LIF, IF     u = decay v + x (IF: decay 1); s = u > threshold; v = 0 where s, else u
                with a prefix of the name for what is different:
        Gain    u = decay v + gain x (PLIF, input_gain)
        Soft    v = u - threshold * s
        Signed  s = sign * u > bar, both given per channel (MPBN)
        Any     u = decay v + gain x + leak (IF: no leak); v = reset where s; all constants given as values (NIR)
    CLIF        decay, rate = 1 - decay, threshold
    GLIF        gain [T, ...], leak, decay, hard, subtract, threshold, all given per channel
    CubaLIF     i = decay_syn i + weight x, then AnyLIF on i
    LI          v = decay v + gain x + leak, which is what it gives
    Threshold   s = x > threshold, without memory

The first ones are equations of `snnsc.model.equations` once more, because ONNX cannot call Python; a test holds the two
equal. Never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper

Array: TypeAlias = np.ndarray[Any, Any]

DOMAIN = "snnsc"
DOMAIN_VERSION = 1
OPSET = 18
STEP = "Step"
"""Ends the names of functions of one time step."""

_STATES = {"CLIF": ("v", "m"), "CubaLIF": ("i", "v"), "Threshold": ()}
"""Function -> what the neuron remembers, where that is not its membrane potential v alone."""


@dataclass(frozen=True)
class Call:
    """A call of a neuron's function.

    Attributes:
        name: The function.
        attributes: Its constants that are numbers.
        inputs: Its constants that are values, float32, in the function's order: given per channel, [C], or [T, C] where
            `timed`, or as they broadcast to one time step.
        timed: Names of the inputs that have a value for each time step.
    """

    name: str
    attributes: Mapping[str, float]
    inputs: Mapping[str, Array] = field(default_factory=dict, compare=False)
    timed: tuple[str, ...] = ()

    @property
    def states(self) -> tuple[str, ...]:
        """Names of what the neuron remembers from one time step to the next; all are 0 at rest."""
        return _STATES.get(self.name, ("v",))


def functions(calls: Iterable[Call]) -> list[onnx.FunctionProto]:
    """The functions of these calls, each once, in the order of their first use."""
    return [function(made) for made in {made.name: made for made in calls}.values()]


def function(made: Call) -> onnx.FunctionProto:
    """The function of a call: current [T, ...], and constants that are values -> spikes [T, ...]."""
    states = made.states
    if not states:
        compare = [_node("Greater", "current threshold", "fires"), _cast("spikes")]
        return _function(made, made.name, ["current"], ["spikes"], compare)
    body = helper.make_graph(
        _nodes(made),
        "step",
        [_float(name) for name in (*states, "x", *(f"{name}_now" for name in made.timed))],
        [_float(name) for name in (*(f"{state}_next" for state in states), "s")],
    )
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    firsts, lasts = [f"{state}_first" for state in states], [f"{state}_last" for state in states]
    scan = helper.make_node(
        "Scan", [*firsts, "current", *made.timed], [*lasts, "spikes"], num_scan_inputs=1 + len(made.timed), body=body
    )
    rest = [helper.make_node("ConstantOfShape", ["shape"], [first], value=zero) for first in firsts]
    shape = helper.make_node("Shape", ["current"], ["shape"], start=1)
    return _function(made, made.name, ["current"], ["spikes"], [shape, *rest, scan])


def step_function(made: Call) -> onnx.FunctionProto:
    """One time step of a call: current [...], states, and constants that are values -> spikes [...], new states."""
    assert not made.timed, "a step does not know which one it is"
    nexts = [f"{state}_next" for state in made.states]
    return _function(made, made.name + STEP, ["x", *made.states], ["s", *nexts], _nodes(made))


def _function(
    made: Call, name: str, inputs: list[str], outputs: list[str], nodes: list[onnx.NodeProto]
) -> onnx.FunctionProto:
    used = {name for node in _nodes(made) for name in node.input}
    numbers = [(key, value) for key, value in (("rest", 0.0), ("one", 1.0)) if key in used]
    constants = [
        *(_attribute(key) for key in made.attributes),
        *(helper.make_node("Constant", [], [key], value_float=value) for key, value in numbers),
    ]
    return helper.make_function(
        DOMAIN,
        name,
        [*inputs, *made.inputs],
        outputs,
        [*constants, *nodes],
        [helper.make_opsetid("", OPSET)],
        list(made.attributes),
    )


def _nodes(made: Call) -> list[onnx.NodeProto]:
    """One time step: states, x -> new states, s."""
    match made.name:
        case "CLIF":
            return _clif()
        case "GLIF":
            return _glif()
        case "CubaLIF":
            synapse = [
                _node("Mul", "decay_syn i", "i_kept"),
                _node("Mul", "weight x", "weighted"),
                _node("Add", "i_kept weighted", "i_next"),
            ]
            return [*synapse, *_charge(made, "i_next", "u"), *_fire(made)]
        case "LI":
            return [*_charge(made, "x", "v_next"), _node("Identity", "v_next", "s")]
        case "Threshold":
            return []
        case _:
            return [*_charge(made, "x", "u"), *_fire(made)]


def _charge(made: Call, current: str, charged: str) -> list[onnx.NodeProto]:
    """[decay] v + [gain] current [+ leak]."""
    given = {*made.attributes, *made.inputs}
    decay = [_node("Mul", "decay v", "kept")] if "decay" in given else []
    gain = [_node("Mul", f"gain {current}", "driven")] if "gain" in given else []
    summands = f"{'kept' if decay else 'v'} {'driven' if gain else current}"
    if "leak" in given:
        return [*decay, *gain, _node("Add", summands, "charged"), _node("Add", "charged leak", charged)]
    return [*decay, *gain, _node("Add", summands, charged)]


def _fire(made: Call) -> list[onnx.NodeProto]:
    """U -> s, v_next."""
    if "sign" in made.inputs:
        compare = [_node("Mul", "sign u", "turned"), _node("Greater", "turned bar", "fires")]
    else:
        compare = [_node("Greater", "u threshold", "fires")]
    if made.name.startswith("Soft"):
        reset = [_node("Mul", "threshold s", "taken"), _node("Sub", "u taken", "v_next")]
    else:
        reset = [_node("Where", f"fires {'reset' if 'reset' in made.inputs else 'rest'} u", "v_next")]
    return [*compare, _cast("s"), *reset]


def _clif() -> list[onnx.NodeProto]:
    """v, m, x -> v_next, m_next, s of `clif_step`."""
    return [
        _node("Mul", "decay v", "kept"),
        _node("Add", "kept x", "u"),
        _node("Greater", "u threshold", "fires"),
        _cast("s"),
        _node("Mul", "rate u", "slowed"),
        _node("Sigmoid", "slowed", "forgets"),
        _node("Mul", "m forgets", "m_kept"),
        _node("Add", "m_kept s", "m_next"),
        _node("Sigmoid", "m_next", "deepens"),
        _node("Add", "threshold deepens", "depth"),
        _node("Mul", "s depth", "taken"),
        _node("Sub", "u taken", "v_next"),
    ]


def _glif() -> list[onnx.NodeProto]:
    """v, x, gain_now -> v_next, s of `glif_step`."""
    return [
        _node("Mul", "gain_now x", "driven"),
        _node("Add", "v driven", "charged"),
        _node("Sub", "charged leak", "u"),
        _node("Greater", "u threshold", "fires"),
        _cast("s"),
        _node("Mul", "decay u", "kept"),
        _node("Mul", "hard s", "closed"),
        _node("Sub", "one closed", "open"),
        _node("Mul", "kept open", "left"),
        _node("Mul", "subtract s", "taken"),
        _node("Sub", "left taken", "v_next"),
    ]


def _node(op: str, inputs: str, output: str) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output])


def _cast(output: str) -> onnx.NodeProto:
    return helper.make_node("Cast", ["fires"], [output], to=TensorProto.FLOAT)


def _attribute(name: str) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], [name])
    reference = onnx.AttributeProto(name="value_float", ref_attr_name=name, type=onnx.AttributeProto.FLOAT)
    node.attribute.append(reference)
    return node


def _float(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
