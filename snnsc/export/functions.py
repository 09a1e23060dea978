"""Which ONNX function a layer of neurons is (see `snnsc.neuron_functions`), with its learned constants."""

from __future__ import annotations

from typing import assert_never

from snnsc.errors import CheckError
from snnsc.model.neurons import Neuron
from snnsc.neuron_functions import Call
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
            return Call("GLIF", {}, {name: value.numpy() for name, value in learned.items()}, timed=("gain",))
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
        inputs = {"sign": sign.detach().cpu().numpy(), "bar": bar.detach().cpu().numpy()}
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
