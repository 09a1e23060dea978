"""The neuron equations as ONNX model-local functions of the domain `snnsc`, in standard operators.

Each takes the input current [T, ...] and gives the spikes [T, ...]; the body is a Scan over T from rest. Its twin with
the suffix Step is one time step: current [...] and states in, spikes and new states out. The nodes are an equation of
`snnsc.model.equations` once more, because ONNX cannot call Python; a test holds the two equal.

    LIF, IF     decay (LIF), threshold; with a prefix of the name for what is different:
        Gain    the current times gain (PLIF, input_gain)
        Soft    v = u - threshold * s
        Signed  compared as sign * u > bar, both given per channel (MPBN)
    CLIF        decay, rate = 1 - decay, threshold
    GLIF        gain [T, ...], leak, decay, hard, subtract, threshold, all given per channel
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

import onnx
from onnx import TensorProto, helper
from torch import Tensor

from snnsc.errors import CheckError
from snnsc.model.neurons import Neuron
from snnsc.nir.encode import STEP
from snnsc.nir.functions import DOMAIN, OPSET
from snnsc.recipe.schema import (
    ClifSpec,
    DietLifSpec,
    GlifSpec,
    IfSpec,
    LifSpec,
    NeuronSpec,
    PlifSpec,
    RealSpikeSpec,
    ReluSpec,
)


@dataclass(frozen=True)
class Call:
    """A call of a neuron's function.

    Attributes:
        name: The function.
        attributes: Its constants that are numbers.
        inputs: Its constants that are given per channel, [C], or [T, C] where `timed`; in their order.
        timed: Names of the inputs that have a value for each time step.
    """

    name: str
    attributes: dict[str, float]
    inputs: dict[str, Tensor] = field(default_factory=dict, compare=False)
    timed: tuple[str, ...] = ()

    @property
    def states(self) -> tuple[str, ...]:
        """Names of what the neuron remembers from one time step to the next; all are 0 at rest."""
        return ("v", "m") if self.name == "CLIF" else ("v",)


def call(neuron: Neuron, layer: str) -> Call:
    """How a layer of neurons is called, with its learned constants.

    Raises:
        CheckError: a constant cannot be expressed.
    """
    spec = neuron.spec
    learned = {name: value.detach().cpu() for name, value in neuron.constants().items()}
    numbers = {name: float(value) for name, value in learned.items() if value.dim() == 0}
    match spec:
        case LifSpec() | IfSpec() | RealSpikeSpec() | PlifSpec() | DietLifSpec():
            return _leaky(neuron, spec, numbers, layer)
        case ClifSpec(decay=decay, threshold=threshold):
            return Call("CLIF", {"decay": decay, "rate": 1 - decay, "threshold": threshold})
        case GlifSpec():
            return Call("GLIF", {}, learned, timed=("gain",))
        case ReluSpec():
            raise AssertionError("relu is a standard operator")
        case _:
            assert_never(spec)


def _leaky(
    neuron: Neuron,
    spec: LifSpec | IfSpec | RealSpikeSpec | PlifSpec | DietLifSpec,
    learned: dict[str, float],
    layer: str,
) -> Call:
    attributes, prefix = {}, "Soft" if spec.reset == "soft" else ""
    if not isinstance(spec, IfSpec):
        attributes["decay"] = learned.get("decay", getattr(spec, "decay", 0.0))
    gain = learned.get("gain", getattr(spec, "input_gain", 1.0))
    if gain != 1:
        prefix, attributes["gain"] = prefix + "Gain", gain
    inputs = {}
    if neuron.membrane_norm is not None:
        prefix += "Signed"
        dead = (neuron.membrane_norm.weight == 0).nonzero().flatten().tolist()
        if dead:
            raise CheckError(
                f"layer {layer}: gamma of mpbn is 0 in channel {dead[0]}, so its spikes do not depend on its membrane "
                "and no threshold stands for it; train on, or take another model.norm"
            )
        sign, bar = neuron.membrane_norm.threshold(spec.threshold)
        inputs = {"sign": sign.detach().cpu(), "bar": bar.detach().cpu()}
    if not inputs or spec.reset == "soft":
        attributes["threshold"] = learned.get("threshold", spec.threshold)
    return Call(prefix + ("IF" if isinstance(spec, IfSpec) else "LIF"), attributes, inputs)


def equation(spec: NeuronSpec) -> str:
    """The equation of a neuron in words, for the model's metadata."""
    match spec:
        case LifSpec() | IfSpec() | RealSpikeSpec() | PlifSpec() | DietLifSpec():
            leak = "v[t-1]" if isinstance(spec, IfSpec) else "decay * v[t-1]"
            scaled = isinstance(spec, PlifSpec) or (isinstance(spec, LifSpec) and spec.input_gain != 1)
            reset = "u[t] - threshold * s[t]" if spec.reset == "soft" else "u[t] * (1 - s[t])"
            x = "gain * x[t]" if scaled else "x[t]"
            return f"u[t] = {leak} + {x}; s[t] = 1 if u[t] > threshold else 0; v[t] = {reset}; v[-1] = 0"
        case ClifSpec():
            return (
                "u[t] = decay * v[t-1] + x[t]; s[t] = 1 if u[t] > threshold else 0; "
                "m[t] = m[t-1] * sigmoid((1 - decay) * u[t]) + s[t]; v[t] = u[t] - s[t] * (threshold + sigmoid(m[t])); "
                "v[-1] = m[-1] = 0"
            )
        case GlifSpec():
            return (
                "u[t] = v[t-1] + gain[t] * x[t] - leak; s[t] = 1 if u[t] > threshold else 0; "
                "v[t] = decay * u[t] * (1 - hard * s[t]) - subtract * s[t]; v[-1] = 0"
            )
        case ReluSpec():
            return "y = max(0, x)"
        case _:
            assert_never(spec)


def function(made: Call) -> onnx.FunctionProto:
    """The function of a call: current [T, ...], and what is given per channel -> spikes [T, ...]."""
    states = made.states
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
    """One time step of a call: current [...], states, and what is given per channel -> spikes [...], new states."""
    assert not made.timed, "a step does not know which one it is"
    nexts = [f"{state}_next" for state in made.states]
    return _function(made, made.name + STEP, ["x", *made.states], ["s", *nexts], _nodes(made))


def _function(
    made: Call, name: str, inputs: list[str], outputs: list[str], nodes: list[onnx.NodeProto]
) -> onnx.FunctionProto:
    used = {name for node in _nodes(made) for name in node.input}
    numbers = [(key, value) for key, value in (("rest", 0.0), ("one", 1.0)) if key in used]
    constants = [
        *(_attribute_constant(key) for key in made.attributes),
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
        case _:
            return _leaky_steps(made)


def _leaky_steps(made: Call) -> list[onnx.NodeProto]:
    """v, x -> v_next, s of `lif_step`."""
    given = made.attributes
    leak = [helper.make_node("Mul", ["decay", "v"], ["kept"])] if "decay" in given else []
    gain = [helper.make_node("Mul", ["gain", "x"], ["driven"])] if "gain" in given else []
    add = helper.make_node("Add", ["kept" if leak else "v", "driven" if gain else "x"], ["u"])
    if "sign" in made.inputs:
        turn = helper.make_node("Mul", ["sign", "u"], ["turned"])
        compare = [turn, helper.make_node("Greater", ["turned", "bar"], ["fires"])]
    else:
        compare = [helper.make_node("Greater", ["u", "threshold"], ["fires"])]
    if made.name.startswith("Soft"):
        take = helper.make_node("Mul", ["threshold", "s"], ["taken"])
        reset = [take, helper.make_node("Sub", ["u", "taken"], ["v_next"])]
    else:
        reset = [helper.make_node("Where", ["fires", "rest", "u"], ["v_next"])]
    return [*leak, *gain, add, *compare, _cast(), *reset]


def _clif() -> list[onnx.NodeProto]:
    """v, m, x -> v_next, m_next, s of `clif_step`."""
    return [
        helper.make_node("Mul", ["decay", "v"], ["kept"]),
        helper.make_node("Add", ["kept", "x"], ["u"]),
        helper.make_node("Greater", ["u", "threshold"], ["fires"]),
        _cast(),
        helper.make_node("Mul", ["rate", "u"], ["slowed"]),
        helper.make_node("Sigmoid", ["slowed"], ["forgets"]),
        helper.make_node("Mul", ["m", "forgets"], ["m_kept"]),
        helper.make_node("Add", ["m_kept", "s"], ["m_next"]),
        helper.make_node("Sigmoid", ["m_next"], ["deepens"]),
        helper.make_node("Add", ["threshold", "deepens"], ["depth"]),
        helper.make_node("Mul", ["s", "depth"], ["taken"]),
        helper.make_node("Sub", ["u", "taken"], ["v_next"]),
    ]


def _glif() -> list[onnx.NodeProto]:
    """v, x, gain_now -> v_next, s of `glif_step`."""
    return [
        helper.make_node("Mul", ["gain_now", "x"], ["driven"]),
        helper.make_node("Add", ["v", "driven"], ["charged"]),
        helper.make_node("Sub", ["charged", "leak"], ["u"]),
        helper.make_node("Greater", ["u", "threshold"], ["fires"]),
        _cast(),
        helper.make_node("Mul", ["decay", "u"], ["kept"]),
        helper.make_node("Mul", ["hard", "s"], ["closed"]),
        helper.make_node("Sub", ["one", "closed"], ["open"]),
        helper.make_node("Mul", ["kept", "open"], ["left"]),
        helper.make_node("Mul", ["subtract", "s"], ["taken"]),
        helper.make_node("Sub", ["left", "taken"], ["v_next"]),
    ]


def _cast() -> onnx.NodeProto:
    return helper.make_node("Cast", ["fires"], ["s"], to=TensorProto.FLOAT)


def _attribute_constant(name: str) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], [name])
    reference = onnx.AttributeProto(name="value_float", ref_attr_name=name, type=onnx.AttributeProto.FLOAT)
    node.attribute.append(reference)
    return node


def _float(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
