"""How a layer of neurons of ours is said in NIR, which has differential equations, no time step and no soft reset.

From u = decay v + gain x, fired where u > threshold, with a time step of dt. Scaling a membrane that rests at 0 scales
its threshold and nothing else, so that the gain, and in `folded` the factor 1 - decay, go into the threshold; weights
stay as they are.

    encoding   for                              tau                R              v_threshold
    r          snnTorch, SpikingJelly           dt / (1 - decay)   1 / (1-decay)  threshold / gain
    folded     Norse, which ignores R, and both dt / (1 - decay)   1              threshold (1 - decay) / gain
    sinabs     Sinabs, which counts in steps    -1 / ln decay      1              threshold / gain

IF has R = 1/dt. Sinabs takes LIF with parameters of one element, and with reset_fn = MembraneReset() and spike_fn =
SingleSpike set after its import; its IF never falls below -threshold, which ours does, so `sinabs` has no IF. Norse 1.1
and Sinabs 3.1 mistake paths that join, so both are for networks without residual paths.
"""

from __future__ import annotations

import numpy as np

from snnsc.nir.hdf5 import Array
from snnsc.nir.limits import Encoding, check_neurons
from snnsc.nir.nodes import Shape


def neuron(
    layer: str, function: str, constants: dict[str, float], scale: float, shape: Shape, encoding: Encoding, dt: float
) -> tuple[str, dict[str, Array]]:
    """The kind of NIR node, and its parameters.

    Args:
        layer: Name of the layer, for messages.
        function: That of the step graph, such as `LIFStep`.
        constants: Its attributes.
        scale: What its input is to be multiplied by.
        shape: Of the layer for one sample.
        encoding: See above.
        dt: Time step in seconds.

    Raises:
        RecipeError: NIR, or the reader that the encoding is for, cannot say it.
    """
    check_neurons(layer, function, constants, encoding)
    gain, decay = constants.get("gain", 1.0) * scale, constants.get("decay", 1.0)
    threshold = constants["threshold"] / gain
    if decay == 1:
        return "IF", _filled(shape, r=1 / dt, v_threshold=threshold, v_reset=0.0)
    match encoding:
        case "r":
            tau, r = dt / (1 - decay), 1 / (1 - decay)
        case "folded":
            tau, r, threshold = dt / (1 - decay), 1.0, threshold * (1 - decay)
        case "sinabs":
            tau, r, shape = -1 / np.log(decay), 1.0, (1,)
    return "LIF", _filled(shape, tau=tau, r=r, v_leak=0.0, v_threshold=threshold, v_reset=0.0)


def _filled(shape: Shape, **values: float) -> dict[str, Array]:
    return {name: np.full(shape, value, np.float64) for name, value in values.items()}
