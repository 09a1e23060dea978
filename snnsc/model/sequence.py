"""Run a neuron over time: forward, and a backward pass that computes the membrane again.

Legend: T time steps, N neurons of a layer (any shape). Only the input current is saved for the backward pass, which is
`torch.func.vjp` of the same steps, compiled into one kernel: a layer costs about what a ReLU costs.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnsc.model.adjoint import constants_at, gradients_of_steps
from snnsc.model.equations import Equation, Slope, State, Tensors, with_slope
from snnsc.model.masking import masked

logger = logging.getLogger(__name__)

UNROLLED_STEPS = 16
"""Longest run of time steps in one compiled kernel; longer sequences are run in parts, to bound compile time."""

Step = Callable[[State, Tensor, int], tuple[Tensor, State]]
"""(state, current x, time step t) -> (spikes s, state')."""


def run_steps(step: Step, current_TN: Tensor, T: int, state: State) -> tuple[Tensor, State]:
    """Run a step function over time.

    Args:
        step: The step function.
        current_TN: Input current [T, N], or [1, N] for a current that is the same at every step.
        T: Number of time steps.
        state: State to start from, each [N] in float32, or in float64 where the current is.

    Returns:
        Spikes [T, N] of the current's type, and the last state in the type of the first.
    """
    currents, wide = current_TN.unbind(0), wide_type(current_TN)
    # widened once, so that its gradients of all steps are summed in float32
    held = currents[0].to(wide) if len(currents) == 1 else None
    spikes = []
    for t in range(T):
        # the membrane accumulates in float32 at least, whatever the precision of the current
        s, state = step(state, currents[t].to(wide) if held is None else held, t)
        spikes.append(s.to(current_TN.dtype))
    return torch.stack(spikes), state


def step_of(
    equation: Equation,
    constants: tuple[Tensor, ...],
    timed: tuple[bool, ...],
    slope: Slope | None = None,
    mask: Tensor | None = None,
) -> Step:
    """An equation with its learned constants, those that are timed at their time step, and its masked slope."""

    def step(state: State, x: Tensor, t: int) -> tuple[Tensor, State]:
        fire = None if slope is None else with_slope(masked(slope, mask, t, x))
        return equation(state, x, constants_at(constants, timed, t), fire)

    return step


def at_rest(current_TN: Tensor, states: int) -> State:
    """The state of a sequence that begins: `states` times zeros [N], in float32 at least."""
    return tuple(torch.zeros_like(current_TN[0], dtype=wide_type(current_TN)) for _ in range(states))


def wide_type(current: Tensor) -> torch.dtype:
    """What membranes and sums are computed in: float32, or float64 where the current is."""
    return torch.float64 if current.dtype == torch.float64 else torch.float32


class Kernels:
    """Forward and backward of a run of T steps, from rest or from a given state.

    Args:
        equation: One time step.
        slope: Its surrogate gradient.
        states: Number of tensors in its state.
        timed: Which of its learned constants have one value for each time step, [T, ...].
        T: Number of time steps.
        compiled: Whether to compile.
    """

    def __init__(
        self, equation: Equation, slope: Slope, states: int, timed: tuple[bool, ...], T: int, *, compiled: bool
    ) -> None:
        self.states, self.timed = states, timed

        def forward(current: Tensor, constants: Tensors) -> Tensor:
            return forward_from(current, at_rest(current, states), constants)[0]

        def forward_from(current: Tensor, state: State, constants: Tensors) -> tuple[Tensor, State]:
            return run_steps(step_of(equation, constants, timed), current, T, state)

        def backward(current: Tensor, constants: Tensors, mask: Tensor | None, grad: Tensor) -> Tensors:
            g_current, _, g_constants = gradients(current, at_rest(current, states), constants, mask, grad, None)
            return g_current, *g_constants

        def backward_from(
            current: Tensor, state: State, constants: Tensors, mask: Tensor | None, grads: tuple[Tensor, State]
        ) -> Tensors:
            g_current, g_state, g_constants = gradients(current, state, constants, mask, *grads)
            return g_current, *g_state, *g_constants

        def gradients(
            current: Tensor, state: State, constants: Tensors, mask: Tensor | None, grad: Tensor, g_last: State | None
        ) -> tuple[Tensor, State, Tensors]:
            wide = wide_type(current)
            currents, given = ([x.to(wide) for x in whole.unbind(0)] for whole in (current, grad))
            g_T, g_state, g_constants = gradients_of_steps(
                equation, slope, timed, mask, currents, state, constants, given, g_last
            )
            return torch.stack([g.to(current.dtype) for g in g_T]), g_state, g_constants

        made: Callable[..., Any] = as_kernel if compiled else lambda function: function
        self.forward, self.backward = made(forward), made(backward)
        self.forward_from, self.backward_from = made(forward_from), made(backward_from)


def run_sequence(
    kernels: Callable[[int], Kernels],
    current_TN: Tensor,
    T: int,
    constants: tuple[Tensor, ...] = (),
    mask: Tensor | None = None,
) -> Tensor:
    """Spikes [T, N] of a sequence that begins at rest.

    Args:
        kernels: The kernels for a number of steps.
        current_TN: Input current [T, N], or [1, N] for a current that is the same at every step.
        T: Number of time steps.
        constants: Learned constants; they broadcast over N, those that are timed over [T, N].
        mask: Of the surrogate gradient, see `masking`.
    """
    if T <= UNROLLED_STEPS:
        spikes: Tensor = _FromRest.apply(kernels(T), mask, current_TN, *constants)
        return spikes
    parts, state = [], at_rest(current_TN, kernels(UNROLLED_STEPS).states)
    for start in range(0, T, UNROLLED_STEPS):
        steps = min(UNROLLED_STEPS, T - start)
        kernel = kernels(steps)
        part = current_TN if current_TN.shape[0] == 1 else current_TN[start : start + steps]
        now = [c[start : start + steps] if timed else c for c, timed in zip(constants, kernel.timed, strict=True)]
        other = None if mask is None else mask ^ mask.new_tensor([start << 32, 0])  # a key of its own for each part
        s, *state = _FromState.apply(kernel, other, part, *state, *now)
        parts.append(s)
    return torch.cat(parts)


class _FromRest(torch.autograd.Function):
    """A run from rest. Saves the current; the membrane is computed again in the backward kernel."""

    @staticmethod
    def forward(ctx: Any, kernels: Kernels, mask: Tensor | None, current: Tensor, *constants: Tensor) -> Tensor:  # noqa: ANN401
        ctx.kernels, ctx.mask = kernels, mask
        ctx.save_for_backward(current, *constants)
        # a kernel has no use for the graph behind its input
        spikes: Tensor = kernels.forward(current.detach(), _detached(constants))
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        current, *constants = _detached(ctx.saved_tensors)
        return None, None, *ctx.kernels.backward(current, tuple(constants), ctx.mask, grad.contiguous())


class _FromState(torch.autograd.Function):
    """A run from a given state, for sequences longer than one kernel."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        kernels: Kernels,
        mask: Tensor | None,
        current: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.kernels, ctx.mask = kernels, mask
        ctx.save_for_backward(current, *tensors)
        state, constants = _detached(tensors[: kernels.states]), _detached(tensors[kernels.states :])
        spikes, last = kernels.forward_from(current.detach(), state, constants)
        return spikes, *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *grad_state: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        current, *tensors = _detached(ctx.saved_tensors)
        states = ctx.kernels.states
        grads = grad.contiguous(), tuple(g.contiguous() for g in grad_state)
        found = ctx.kernels.backward_from(current, tuple(tensors[:states]), tuple(tensors[states:]), ctx.mask, grads)
        return None, None, *found


def _detached(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(t.detach() for t in tensors)


def channels_last(x: Tensor) -> Tensor:
    """[T, B, C, ...] as [T, B, ..., C], the order in which neurons run: the memory order, where that is channels-last.

    One order for all, so that masks, which depend on the place, are the same however a layer is run.
    """
    return x.movedim(2, -1) if x.dim() > 3 else x


def channels_third(x: Tensor) -> Tensor:
    """[T, B, ..., C] as [T, B, C, ...]."""
    return x.movedim(-1, 2) if x.dim() > 3 else x


def as_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled, for tensors of all sizes."""
    compile_: Any = torch.compile
    options: dict[str, Any] = {"dynamic": True}  # one compilation for all layer sizes
    if "isolate_recompiles" in inspect.signature(compile_).parameters:
        # kernels of other constants do not count against its limit, and are not mistaken for it:
        # what surrounds the function never changes, and is not compared at every call
        options |= {"isolate_recompiles": True, "options": {"guard_filter_fn": _of_arguments(function)}}
    kernel: Callable[..., Any] = compile_(function, **options)
    return kernel


def _of_arguments(function: Callable[..., Any]) -> Callable[[Sequence[Any]], list[bool]]:
    """Which guards torch is to check: all but those on the closure of the function and on globals."""
    closure = function.__code__.co_freevars

    def checked(guards: Sequence[Any]) -> list[bool]:
        return [not g.is_global and re.split(r"\W", g.name, maxsplit=1)[0] not in closure for g in guards]

    return checked


@functools.cache
def can_compile(device_type: str) -> bool:
    """Whether torch.compile works for this kind of device; the reason why not is logged, once."""
    try:
        probe = torch.compile(lambda x: x * 2 + 1)
        probe(torch.zeros(4, device=device_type))
    except (RuntimeError, OSError, ImportError) as e:  # no C++ compiler, or no Triton
        lines = [line.strip() for line in str(e).splitlines() if line.strip() and not line.strip().endswith("raised:")]
        reason = lines[0] if lines else type(e).__name__
        logger.warning("no compiler for %s, neurons run eagerly (slower): %s", device_type, reason)
        return False
    return True
