"""Spiking neurons: the equation once, as a pure step function, and the layer that runs it over time.

Legend: T time steps, B batch, C H W; N = B*C*H*W neurons of a layer. Current in, spikes out.

The layer keeps no state: a sequence starts from v = 0 inside forward. Its backward pass saves the input current only
and computes the membrane again, in one kernel with its own gradient, so a layer costs about what a ReLU costs.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnsc.model.surrogates import Surrogate, build_surrogate
from snnsc.recipe.schema import NeuronSpec, SurrogateSpec

logger = logging.getLogger(__name__)

UNROLLED_STEPS = 16
"""Longest run of time steps in one compiled kernel; longer sequences are run in parts, to bound compile time."""

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(v, x) -> (s, v'): one time step."""


def lif_step(
    v: Tensor, x: Tensor, *, decay: float, threshold: float, surrogate: Surrogate | None = None
) -> tuple[Tensor, Tensor]:
    """One step of the leaky integrate-and-fire neuron with hard reset; decay = 1 is the IF neuron.

        u = decay * v + x;   s = 1 if u > threshold else 0;   v' = u * (1 - s)

    Args:
        v: Membrane potential after the last step, any shape, in units of the threshold's.
        x: Input current, the shape of `v`; not rescaled.
        decay: Factor on `v`, in (0, 1].
        threshold: Firing threshold; the comparison is strict.
        surrogate: Gradient of s in u. None where no gradient is taken: s and v' are the same.

    Returns:
        Spikes s (0 or 1) and membrane potential v', both the shape and type of `v`.

    Source: Guo et al., NeurIPS 2024 (arXiv 2401.04486), Eq. 1-2.
    """
    u = decay * v + x
    s = (u > threshold).to(u.dtype)
    if surrogate is not None:
        d = u - threshold
        s = s + (d - d.detach()) * surrogate(d.detach(), threshold)  # adds exactly 0; its derivative is the surrogate
    return s, u * (1 - s)


def run_steps(step: Step, current_TN: Tensor, T: int, v_N: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Run a step function over time.

    Args:
        step: The step function.
        current_TN: Input current [T, N], or [1, N] for a current that is the same at every step.
        T: Number of time steps.
        v_N: Membrane potential to start from, [N] float32; None is 0.

    Returns:
        Spikes [T, N] of the current's type, and the last membrane potential [N] in float32.
    """
    currents = current_TN.unbind(0)
    # widened once, so that its gradients of all steps are summed in float32
    held = currents[0].float() if len(currents) == 1 else None
    v = torch.zeros_like(currents[0], dtype=torch.float32) if v_N is None else v_N
    spikes = []
    for t in range(T):
        # the membrane accumulates in float32 whatever the precision of the current
        s, v = step(v, currents[t].float() if held is None else held)
        spikes.append(s.to(current_TN.dtype))
    return torch.stack(spikes), v


class Neuron(nn.Module):
    """A layer of LIF or IF neurons.

    Args:
        spec: Which neuron, with its constants.
        surrogate: Its surrogate gradient.
        compiled: Run as compiled kernels where a compiler is found, else eagerly; the results are the same.
    """

    def __init__(self, spec: NeuronSpec, surrogate: SurrogateSpec, *, compiled: bool = True) -> None:
        super().__init__()
        self.spec = spec
        self.surrogate = surrogate
        self.compiled = compiled

    def forward(self, current: Tensor, T: int | None = None) -> Tensor:
        """Spikes of a sequence that starts at rest.

        Args:
            current: [T, B, ...], or [1, B, ...] with `T` given: a current that is the same at every step.
            T: Number of time steps; default the current's.

        Returns:
            Spikes [T, B, ...], 0 or 1, in the type and memory order of `current`.
        """
        T = current.shape[0] if T is None else T
        # neurons are elementwise in everything but T: run in memory order, so channels-last needs no copy
        order = [0, *sorted(range(1, current.dim()), key=current.stride, reverse=True)]
        ordered = current.permute(order)
        spikes_TN = run_sequence(self.spec, self.surrogate, ordered.reshape(current.shape[0], -1), T, self.compiled)
        spikes = spikes_TN.view(T, *ordered.shape[1:])
        return spikes.permute([order.index(i) for i in range(current.dim())])

    def extra_repr(self) -> str:
        """The constants, as `print(model)` shows them."""
        return f"{self.spec!r}, {self.surrogate!r}"


def run_sequence(spec: NeuronSpec, surrogate: SurrogateSpec, current_TN: Tensor, T: int, compiled: bool) -> Tensor:
    """Spikes [T, N] from rest for currents [T, N] or [1, N]; compiled where asked for and possible."""
    compiled = compiled and can_compile(current_TN.device.type)
    if T <= UNROLLED_STEPS:
        spikes: Tensor = _Sequence.apply(_kernels(spec, surrogate, T, compiled), current_TN)
        return spikes
    parts, v = [], torch.zeros_like(current_TN[0], dtype=torch.float32)
    for start in range(0, T, UNROLLED_STEPS):
        steps = min(UNROLLED_STEPS, T - start)
        part = current_TN if current_TN.shape[0] == 1 else current_TN[start : start + steps]
        s, v = _SequenceFrom.apply(_kernels(spec, surrogate, steps, compiled), part, v)
        parts.append(s)
    return torch.cat(parts)


class _Kernels:
    """Forward and backward of a run of T steps, from rest or from a given potential."""

    def __init__(self, spec: NeuronSpec, surrogate: SurrogateSpec, T: int, compiled: bool) -> None:
        step = functools.partial(lif_step, decay=spec.decay, threshold=spec.threshold)
        step_with_gradient = functools.partial(step, surrogate=build_surrogate(surrogate))

        def forward(current: Tensor) -> Tensor:
            return run_steps(step, current, T)[0]

        def backward(current: Tensor, grad: Tensor) -> Tensor:
            pull_back = torch.func.vjp(lambda x: run_steps(step_with_gradient, x, T)[0], current)[1]
            return pull_back(grad)[0]  # type: ignore[no-any-return]

        def forward_from(current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            return run_steps(step, current, T, v)

        def backward_from(current: Tensor, v: Tensor, grad: Tensor, grad_v: Tensor) -> tuple[Tensor, Tensor]:
            pull_back = torch.func.vjp(lambda x, v: run_steps(step_with_gradient, x, T, v), current, v)[1]
            return pull_back((grad, grad_v))  # type: ignore[no-any-return]

        self.forward, self.backward = _maybe_compile(forward, compiled), _maybe_compile(backward, compiled)
        self.forward_from = _maybe_compile(forward_from, compiled)
        self.backward_from = _maybe_compile(backward_from, compiled)


@functools.cache
def _kernels(spec: NeuronSpec, surrogate: SurrogateSpec, T: int, compiled: bool) -> _Kernels:
    return _Kernels(spec, surrogate, T, compiled)


def _maybe_compile(function: Callable[..., Any], compiled: bool) -> Callable[..., Any]:
    if not compiled:
        return function
    compile_: Any = torch.compile
    options: dict[str, bool] = {"dynamic": True}  # one compilation for all layer sizes
    if "isolate_recompiles" in inspect.signature(compile_).parameters:
        options["isolate_recompiles"] = True  # kernels of other constants do not count against its limit
    kernel: Callable[..., Any] = compile_(function, **options)
    return kernel


class _Sequence(torch.autograd.Function):
    """A run from rest. Saves the current; the membrane is computed again in the backward kernel."""

    @staticmethod
    def forward(ctx: Any, kernels: _Kernels, current: Tensor) -> Tensor:  # noqa: ANN401
        ctx.kernels = kernels
        ctx.save_for_backward(current)
        spikes: Tensor = kernels.forward(current.detach())  # a kernel has no use for the graph behind its input
        return spikes

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:  # noqa: ANN401
        (current,) = ctx.saved_tensors
        return None, ctx.kernels.backward(current.detach(), grad.contiguous())


class _SequenceFrom(torch.autograd.Function):
    """A run from a given membrane potential, for sequences longer than one kernel."""

    @staticmethod
    def forward(ctx: Any, kernels: _Kernels, current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        ctx.kernels = kernels
        ctx.save_for_backward(current, v)
        spikes, v_last = kernels.forward_from(current.detach(), v.detach())
        return spikes, v_last

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_v: Tensor) -> tuple[None, Tensor, Tensor]:  # noqa: ANN401
        current, v = ctx.saved_tensors
        grad_current, grad_start = ctx.kernels.backward_from(
            current.detach(), v.detach(), grad.contiguous(), grad_v.contiguous()
        )
        return None, grad_current, grad_start


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
