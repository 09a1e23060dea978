"""Gradients of a run of time steps, one step after the other, backwards in time.

The derivative of a spike stands apart from its value. Each step is differentiated with s + zero in place of s, and with
d = u - threshold among its outputs; what reaches `zero` goes on to d by the surrogate gradient:

    g_fired = what reaches zero in vjp(g_s[t], g_state, 0)
    g_state', g_x[t], g_constants = vjp(g_s[t], g_state, slope(d) g_fired)

So nothing of the surrogate gradient is computed before the way back begins. In s + (d - d.detach()) slope(d), the same
derivative in one go, a compiler has to: kernels of 16 steps, which hold it for all of them, took twice as long.

Legend: T time steps, N neurons of a layer (any shape).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from operator import add
from typing import Any

import torch
from torch import Tensor

from snnsc.model.equations import Constant, Equation, Slope, State, Tensors
from snnsc.model.masking import masked

_WayBack = Callable[[Tensor, State], tuple[State, Tensor, Tensors]]
"""(what reaches the spikes, the state after a step) -> what reaches the state before it, the current, the constants."""


def gradients_of_steps(
    equation: Equation,
    slope: Slope,
    timed: tuple[bool, ...],
    mask: Tensor | None,
    currents: Sequence[Tensor],
    state: State,
    constants: Tensors,
    g_spikes: Sequence[Tensor],
    g_last: State | None = None,
) -> tuple[Tensors, State, Tensors]:
    """Gradients of the spikes (and of the last state) of T steps.

    Args:
        equation: One time step.
        slope: Its surrogate gradient.
        timed: Which of the learned constants have one value for each time step, [T, ...].
        mask: Of the surrogate gradient, see `masking`.
        currents: One [N] a step, or a single one that is held.
        state: State to start from, each [N].
        constants: The learned constants; they broadcast over N.
        g_spikes: What reaches the spikes of each step, T times [N].
        g_last: What reaches the last state; None where nothing does.

    Returns:
        What reaches the currents, as many as there are; the first state; the constants.
    """
    T = len(g_spikes)
    ways_back: list[_WayBack] = []
    for t in range(T):
        x, now = currents[t if len(currents) > 1 else 0], constants_at(constants, timed, t)
        carried = t < T - 1 or g_last is not None
        state, way_back = _differentiated(equation, masked(slope, mask, t, x), state, x, now, carried=carried)
        ways_back.append(way_back)
    g_state: State = g_last or ()
    g_x_T, g_now_T = [], []
    for way_back, g_s in zip(reversed(ways_back), reversed(g_spikes), strict=True):
        g_state, g_x, g_now = way_back(g_s, g_state)
        g_x_T.append(g_x)
        g_now_T.append(g_now)
    g_currents = tuple(reversed(g_x_T)) if len(currents) > 1 else (functools.reduce(add, g_x_T),)
    g_constants = tuple(
        torch.stack(g_T[::-1]) if timed_ else functools.reduce(add, g_T)
        for timed_, g_T in zip(timed, zip(*g_now_T, strict=True), strict=True)
    )
    return g_currents, g_state, g_constants


def constants_at(constants: Tensors, timed: tuple[bool, ...], t: int) -> Tensors:
    """The learned constants of time step t."""
    return tuple(c[t] if timed_ else c for c, timed_ in zip(constants, timed, strict=True))


def _differentiated(
    equation: Equation, slope: Slope, state: State, x: Tensor, now: Tensors, *, carried: bool
) -> tuple[State, _WayBack]:
    """The state after a step, which counts where it is `carried` on, and the way back through the step."""
    fixed: list[float] = []

    def step(state: State, x: Tensor, now: Tensors, zero: Tensor) -> tuple[Tensors, Tensors]:
        distances: list[Tensor] = []
        learned: list[Tensor] = []

        def fire(s: Tensor, d: Tensor, threshold: Constant) -> Tensor:
            distances.append(d)
            if isinstance(threshold, Tensor):
                learned.append(threshold)
            else:
                fixed.append(threshold)
            return s + zero

        s, after = equation(state, x, now, fire)
        return (s, *distances, *(after if carried else ())), (*learned, *after)

    zero = torch.zeros_like(x)
    given: tuple[Tensors, Callable[..., Any], Tensors] = torch.func.vjp(step, state, x, now, zero, has_aux=True)  # type: ignore[assignment]
    (_, d, *_), vjp, found = given
    learned, after = found[: -len(state)], found[-len(state) :]
    threshold = learned[0] if learned else fixed[0]

    def way_back(g_s: Tensor, g_state: State) -> tuple[State, Tensor, Tensors]:
        g_fired = vjp((g_s, zero, *g_state))[3]
        g_before, g_x, g_now, _ = vjp((g_s, slope(d, threshold) * g_fired, *g_state))
        return g_before, g_x, g_now

    return after, way_back
