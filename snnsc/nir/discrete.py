"""NIR's differential equations, stepped: which function of `snnsc.neuron_functions` a node is, with which constants.

With a step of dt (forward Euler, as Norse, snnTorch and SpikingJelly do it):

    LIF      tau dv/dt = v_leak - v + R I               decay = 1 - dt/tau, gain = R dt/tau, leak = v_leak dt/tau
    LI       the same, without a threshold
    IF       dv/dt = R I                                gain = R dt
    CubaLIF  tau_syn di/dt = w_in I - i, then LIF on i  decay_syn = 1 - dt/tau_syn, weight = w_in dt/tau_syn

An IF whose R is 1 takes its input as a jump a step, whatever dt is: so Sinabs, Norse and snnTorch write and read it.
CubaLIF's membrane is driven by the current of the same step, as in those three and SpikingJelly (the NIR paper's
debugging script takes that of the step before). All states start at 0.

Sinabs steps LIF exactly, without the factor dt/tau: decay = exp(-dt/tau), gain = 1; its files count time in steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from snnsc.errors import RecipeError
from snnsc.neuron_functions import Call
from snnsc.nir.graph import Node
from snnsc.nir.hdf5 import Array
from snnsc.nir.nodes import Malformed

Stepping: TypeAlias = Literal["euler", "sinabs"]


def stepped(node: Node, dt: float, stepping: Stepping) -> Call:
    """The function of a layer of neurons.

    Raises:
        RecipeError: dt is longer than a time constant.
        Malformed: a constant is too large for float32.
    """
    given = {name: np.asarray(value, np.float64) for name, value in node.parameters.items()}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what is too large is found in the constants
        return _stepped(node, given, dt, stepping)


def _stepped(node: Node, given: Mapping[str, Array], dt: float, stepping: Stepping) -> Call:
    match node.kind:
        case "IF":
            unit = bool((given["r"] == 1).all())
            constants = {"gain": given["r"] if unit else given["r"] * dt, **_firing(given)}
            return _plainest("IF", constants)
        case "LIF":
            return _plainest("LIF", {**_leaky(node, given, dt, stepping), **_firing(given)})
        case "LI":
            return _general("LI", _leaky(node, given, dt, stepping))
        case "CubaLIF":
            rate = _rate(node, "tau_syn", given["tau_syn"], dt)
            synapse = {"decay_syn": 1 - rate, "weight": given["w_in"] * rate}
            return _general("CubaLIF", {**synapse, **_leaky(node, given, dt, "euler", "tau_mem"), **_firing(given)})
        case _:
            assert node.kind == "Threshold", node.kind
            return _general("Threshold", {"threshold": given["threshold"]})


def _leaky(node: Node, given: Mapping[str, Array], dt: float, stepping: Stepping, tau: str = "tau") -> dict[str, Array]:
    if stepping == "sinabs":
        return {"decay": np.exp(-dt / given[tau]), "gain": given["r"], "leak": given["v_leak"]}
    rate = _rate(node, tau, given[tau], dt)
    return {"decay": 1 - rate, "gain": given["r"] * rate, "leak": given["v_leak"] * rate}


def _rate(node: Node, name: str, tau: Array, dt: float) -> Array:
    rate = dt / tau
    if rate.max() > 1 + 1e-6:
        what = (
            f"node {node.name[:60]!r} ({node.kind}): {name} is {tau.min():g} s, shorter than the time step of {dt:g} s"
        )
        raise RecipeError(f"{what}, so that it would overshoot; give a smaller --dt")
    return np.minimum(rate, 1)


def _firing(given: Mapping[str, Array]) -> dict[str, Array]:
    return {"threshold": given["v_threshold"], "reset": given["v_reset"]}


def _plainest(kind: str, constants: Mapping[str, Array]) -> Call:
    """LIF or IF with numbers where all neurons have the same and rest at 0; else with arrays."""
    single = {name: np.float32(value.flat[0]) for name, value in constants.items() if (value == value.flat[0]).all()}
    zero = all(single.get(name, 1) == 0 for name in ("leak", "reset") if name in constants)
    names = [name for name in ("decay", "gain", "threshold") if name in constants]
    if not zero or any(name not in single for name in names) or not np.isfinite([single[name] for name in names]).all():
        return _general(f"Any{kind}", constants)
    attributes = {name: float(single[name]) for name in names}
    if attributes["gain"] == 1:
        del attributes["gain"]
    return Call(("Gain" if "gain" in attributes else "") + kind, attributes)


def _general(function: str, constants: Mapping[str, Array]) -> Call:
    with np.errstate(over="ignore"):
        inputs = {name: value.astype(np.float32) for name, value in constants.items()}
    for name, value in inputs.items():
        if not np.isfinite(value).all():
            raise Malformed(f"its {name} at this time step is too large for float32")
    return Call(function, {}, {name: _shared(value) for name, value in inputs.items()})


def _shared(value: Array) -> Array:
    """One element for all neurons where they have the same."""
    first = value.reshape(-1)[:1]
    return first if (value == first).all() else value
