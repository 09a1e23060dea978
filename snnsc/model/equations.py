"""The equations of the spiking neurons, one time step each, as pure functions.

A step takes the state after the last step and the input current x, and gives the spikes s (0 or 1) and the new state;
everything is elementwise. Constants are numbers, or tensors that broadcast over the current where they are learned.
`fire` gives s a derivative in place of its own, which is 0; its value is the same without.
`u > threshold` is strict everywhere; u is the membrane potential before the reset, v the one after it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Constant = float | Tensor
Slope = Callable[[Tensor, Constant], Tensor]
"""A surrogate gradient: (d, threshold) -> ds/du at d = u - threshold."""
Fire = Callable[[Tensor, Tensor, Constant], Tensor]
"""(spikes s, d = u - threshold, threshold) -> s, with a derivative."""
Tensors = tuple[Tensor, ...]
State = Tensors
Equation = Callable[[State, Tensor, Tensors, Fire | None], tuple[Tensor, State]]
"""(state, current x, learned constants at this time step, derivative of spikes or None) -> (spikes s, state')."""


def known(**numbers: float) -> Callable[[], dict[str, float]]:
    """Numbers that a kernel's compiler is to know: to it a number of a closure is any number, a word is itself."""
    words = {name: repr(float(number)) for name, number in numbers.items()}
    return lambda: {name: float(word) for name, word in words.items()}


def spike(u: Tensor, threshold: Constant, fire: Fire | None = None) -> Tensor:
    """1 where u > threshold, else 0, of u's shape and type."""
    s = (u > threshold).to(u.dtype)
    return s if fire is None else fire(s, u - threshold, threshold)


def with_slope(slope: Slope) -> Fire:
    """Spikes whose derivative in d = u - threshold is `slope`."""

    def fire(s: Tensor, d: Tensor, threshold: Constant) -> Tensor:
        at = threshold.detach() if isinstance(threshold, Tensor) else threshold
        return s + (d - d.detach()) * slope(d.detach(), at)  # adds exactly 0

    return fire


def after_reset(u: Tensor, s: Tensor, threshold: Constant, *, soft: bool = False, detach: bool = False) -> Tensor:
    """Membrane potential after the spikes: hard u (1 - s), soft u - threshold s; `detach` takes no gradient in s."""
    s = s.detach() if detach else s
    return u - threshold * s if soft else u * (1 - s)


def lif_step(
    v: Tensor,
    x: Tensor,
    *,
    decay: Constant,
    threshold: Constant,
    gain: Constant | None = None,
    soft: bool = False,
    detach: bool = False,
    norm: Callable[[Tensor], Tensor] | None = None,
    fire: Fire | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of the leaky integrate-and-fire neuron; decay = 1 is the IF neuron.

        u = decay * v + gain * x;   s = 1 if u > threshold else 0;   v' = u (1 - s), or u - threshold * s where soft

    With `norm` it is s = 1 if norm(u) > threshold (MPBN), and u itself that is reset.
    PLIF is decay = 1 - k, gain = k, with k = sigmoid(w) learned; Diet-SNN's neuron has decay and threshold learned.

    Args:
        v: Membrane potential after the last step, any shape, in units of the threshold's.
        x: Input current, the shape of `v`.
        decay: Factor on `v`, in (0, 1].
        threshold: Firing threshold.
        gain: Factor on `x`; None is 1.
        soft: Whether the reset subtracts the threshold.
        detach: Whether no gradient goes through the reset.
        norm: Normalisation of u before it is compared.
        fire: Gives the spikes their derivative, such as `with_slope`; None where no gradient is taken.

    Returns:
        Spikes s and membrane potential v', both the shape and type of `v`.

    Source: Guo et al., NeurIPS 2024 (arXiv 2401.04486), Eq. 1-2; Fang et al., PLIF, ICCV 2021; Rathi & Roy, Diet-SNN,
    TNNLS 2021; Guo et al., Membrane Potential Batch Normalization, ICCV 2023.
    """
    u = decay * v + (x if gain is None else gain * x)
    s = spike(u if norm is None else norm(u), threshold, fire)
    return s, after_reset(u, s, threshold, soft=soft, detach=detach)


def clif_step(
    v: Tensor, m: Tensor, x: Tensor, *, decay: float, threshold: float, fire: Fire | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the complementary LIF neuron.

        u = decay * v + x;   s = 1 if u > threshold else 0
        m' = m * sigmoid((1 - decay) u) + s;   v' = u - s (threshold + sigmoid(m'))

    Args:
        v: Membrane potential after the last step, any shape.
        m: Complementary potential after the last step, the shape of `v`.
        x: Input current, the shape of `v`.
        decay: Factor on `v`, 1 - 1/tau.
        threshold: Firing threshold.
        fire: Gives the spikes their derivative, such as `with_slope`; None where no gradient is taken.

    Returns:
        s, v', m'.

    Source: Huang et al., CLIF, ICML 2024; the authors' code HuuYuLong/Complementary-LIF.
    """
    u = decay * v + x
    s = spike(u, threshold, fire)
    m = m * torch.sigmoid((1 - decay) * u) + s
    return s, u - s * (threshold + torch.sigmoid(m)), m


def glif_step(
    v: Tensor,
    x: Tensor,
    *,
    gain: Tensor,
    leak: Tensor,
    threshold: Tensor,
    decay: Tensor,
    hard: Tensor,
    subtract: Tensor,
    fire: Fire | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of the gated LIF neuron, its gates already multiplied out (`glif_constants`).

        u = v + gain * x - leak;   s = 1 if u > threshold else 0;   v' = decay * u (1 - hard * s) - subtract * s

    Args:
        v: What the last step left, any shape; 0 at first.
        x: Input current, the shape of `v`.
        gain: Of this time step; with the other constants it broadcasts over `x` along channels.
        leak: Linear leak.
        threshold: Firing threshold.
        decay: Exponential leak.
        hard: Gate of the hard reset, in (0, 1).
        subtract: What a spike takes away.
        fire: Gives the spikes their derivative, such as `with_slope`; None where no gradient is taken.

    Returns:
        s, v'.

    Source: Yao et al., GLIF, NeurIPS 2022; the authors' code Ikarosy/Gated-LIF, LIFSpike_CW with soft gates.
    """
    u = v + gain * x - leak
    s = spike(u, threshold, fire)
    return s, decay * u * (1 - hard * s) - subtract * s


def glif_constants(
    alpha: Tensor, beta: Tensor, gamma: Tensor, tau: Tensor, leak: Tensor, reset: Tensor, conduct: Tensor
) -> dict[str, Tensor]:
    """The constants of `glif_step` from the gates and parameters of the paper, all in (0, 1), [C]; conduct [T, C].

    u' = (1 - alpha (1 - tau)) u (1 - gamma s) - (1 - alpha) leak + (1 - beta (1 - conduct[t])) x - (1 - gamma) reset s
    """
    return {
        "gain": 1 - beta * (1 - conduct),
        "leak": (1 - alpha) * leak,
        "decay": 1 - alpha * (1 - tau),
        "hard": gamma,
        "subtract": (1 - gamma) * reset,
    }
