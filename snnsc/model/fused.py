"""Normalisation and neuron as one: only the convolutions' outputs are kept for the backward pass.

Two kernels forwards (statistics; then current, membrane and spikes at once) and two backwards (membrane again,
surrogate gradients and the sums that batch normalisation asks for; then the gradient of the convolution's output).

    x[t] = sum_i (scale_i y_i[t] + shift_i) + sum_j added_j[t]
    scale = factor gamma / sqrt(var + eps),  shift = beta - mean scale           (statistics of the batch)
    dy = scale (g - mean(g) - h mean(g h)),  h = (y - mean) / sqrt(var + eps)    (Ioffe & Szegedy, ICML 2015)

Legend: T time steps, P what stands before the channels in memory, C channels, S what stands after them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from itertools import islice
from operator import add
from typing import Any

import torch
from torch import Tensor

from snnsc.model.equations import Slope
from snnsc.model.masking import masked
from snnsc.model.norms import Norm
from snnsc.model.pending import Pending
from snnsc.model.sequence import Equation, State, as_kernel

Tensors = tuple[Tensor, ...]


class FusedKernels:
    """Forward and backward of T steps from rest, of a current that is still to be summed up.

    Args:
        equation: One time step.
        slope: Its surrogate gradient.
        states: Number of tensors in its state.
        timed: Which of its learned constants have one value for each time step, [T, ...].
        T: Number of time steps.
    """

    def __init__(self, equation: Equation, slope: Slope, states: int, timed: tuple[bool, ...], T: int) -> None:
        def run(currents: Tensors, constants: Tensors, slope: Slope | None, mask: Tensor | None) -> Tensors:
            state: State = tuple(torch.zeros_like(currents[0]) for _ in range(states))
            found = []
            for t in range(T):
                x = currents[t if len(currents) > 1 else 0]
                now = tuple(c[t] if timed_ else c for c, timed_ in zip(constants, timed, strict=True))
                s, state = equation(state, x, now, None if slope is None else masked(slope, mask, t, x))
                found.append(s)
            return tuple(found)

        def forward(ys: Tensors, scales: Tensors, shifts: Tensors, added: Tensors, constants: Tensors) -> Tensor:
            spikes = run(_currents(ys, scales, shifts, added), constants, None, None)
            return torch.stack([s.to(ys[0].dtype) for s in spikes])

        def backward(
            sums: tuple[Tensors, Tensors, Tensors, Tensors],
            means: Tensors,
            constants: Tensors,
            mask: Tensor | None,
            grad: Tensor,
        ) -> tuple[Tensor, Tensor, Tensors, Tensors]:
            def spikes(currents: Tensors, constants: Tensors) -> Tensors:
                return run(currents, constants, slope, mask)

            currents, ys = _currents(*sums), sums[0]
            given = tuple(g.to(currents[0].dtype) for g in grad.unbind(0))
            g_T, g_constants = torch.func.vjp(spikes, currents, constants)[1](given)
            # summed over time before the reduction, so that one loop writes g and sums it
            total = functools.reduce(add, g_T).sum((0, 2))
            along = [
                functools.reduce(add, [g * (y[t].to(g.dtype) - mean[:, None]) for t, g in enumerate(g_T)]).sum((0, 2))
                for y, mean in zip(ys, means, strict=True)
            ]
            return torch.stack([g.to(ys[0].dtype) for g in g_T]), total, tuple(along), g_constants

        self.forward, self.backward = as_kernel(forward), as_kernel(backward)


def fused_spikes(kernels: FusedKernels, current: Pending, T: int, constants: Tensors, mask: Tensor | None) -> Tensor:
    """Spikes of a current that is not computed yet.

    Args:
        kernels: The kernels of the neuron for T steps.
        current: Of T steps, or of one that is held; all its parts have one shape.
        T: Number of time steps.
        constants: Learned constants, each to broadcast over [C, 1], those that are timed over [T, C, 1].
        mask: Of the surrogate gradient, see `masking`.

    Returns:
        Spikes [T, B, C, H, W], in the memory order and type of the first convolution's output.
    """
    y = current.normalised[0][0]
    # neurons are elementwise in everything but T: run in memory order, so channels-last needs no copy
    order = [0, *sorted(range(1, y.dim()), key=y.stride, reverse=True)]
    at = order.index(2)

    def flat(x: Tensor) -> Tensor:
        ordered = x.permute(order)
        return ordered.reshape(ordered.shape[0], ordered.shape[1:at].numel(), ordered.shape[at], -1)

    norms = tuple(norm for _, norm in current.normalised)
    spikes: Tensor = _Fused.apply(
        kernels,
        norms,
        len(current.added),
        mask,
        *(flat(y) for y, _ in current.normalised),
        *(flat(a) for a in current.added),
        *(norm.weight for norm in norms),
        *(norm.bias for norm in norms),
        *constants,
    )
    return spikes.view(T, *y.permute(order).shape[1:]).permute([order.index(i) for i in range(y.dim())])


class _Fused(torch.autograd.Function):
    """Spikes [T, P, C, S] of y_i, added_j, gamma_i, beta_i and learned constants, in this order."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        kernels: FusedKernels,
        norms: tuple[Norm, ...],
        added: int,
        mask: Tensor | None,
        *given: Tensor,
    ) -> Tensor:
        moments, _ = _norm_kernels(given[0].dtype)
        ys, others, gammas, betas, constants = _cut(given, len(norms), added, len(norms), len(norms))
        scales, shifts, means, roots = [], [], [], []
        for y, norm, gamma, beta in zip(ys, norms, gammas, betas, strict=True):
            mean, var = moments(y)
            norm.track(mean, var, y.numel() // y.shape[2])
            root = torch.rsqrt(var + norm.eps)
            scale = gamma * norm.factor * root
            scales.append(scale)
            shifts.append(beta - mean * scale)
            means.append(mean)
            roots.append(root)
        ctx.kernels, ctx.norms, ctx.added, ctx.mask = kernels, norms, added, mask
        # as they came, not detached: spikes among them are known to be spikes (`bits`)
        ctx.save_for_backward(*given[: len(norms) + added], *scales, *shifts, *means, *roots, *constants)
        spikes: Tensor = kernels.forward(ys, tuple(scales), tuple(shifts), others, constants)
        return spikes

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        n = len(ctx.norms)
        ys, added, scales, shifts, means, roots, constants = _cut(ctx.saved_tensors, n, ctx.added, n, n, n, n)
        g, total, along, g_constants = ctx.kernels.backward(
            (ys, scales, shifts, added), means, constants, ctx.mask, grad.contiguous().detach()
        )
        _, through_norm = _norm_kernels(grad.dtype)
        g_ys, g_gammas = [], []
        for y, norm, scale, mean, root, gy in zip(ys, ctx.norms, scales, means, roots, along, strict=True):
            size = y.numel() // y.shape[2]
            gh = gy * root
            on_y = -scale * root * gh / size
            g_ys.append(through_norm(g, y, scale, on_y, -scale * total / size - on_y * mean))
            g_gammas.append(gh * norm.factor)
        return None, None, None, None, *g_ys, *[g] * ctx.added, *g_gammas, *[total] * n, *g_constants


def _currents(ys: Tensors, scales: Tensors, shifts: Tensors, added: Tensors) -> Tensors:
    """The current [P, C, S] of every time step."""

    def at(t: int) -> Iterator[Tensor]:
        for y, scale, shift in zip(ys, scales, shifts, strict=True):
            yield y[t].to(scale.dtype) * scale[:, None] + shift[:, None]
        for other in added:
            yield other[t].to(scales[0].dtype)

    return tuple(functools.reduce(add, at(t)) for t in range(ys[0].shape[0]))


@functools.cache
def _norm_kernels(dtype: torch.dtype) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`_moments` and `_through_norm`, of their own for each type, as torch compiles one function a few times only."""
    del dtype
    return as_kernel(_moments), as_kernel(_through_norm)


def _moments(y_TPCS: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, [C]."""
    wide = torch.float64 if y_TPCS.dtype == torch.float64 else torch.float32
    var, mean = torch.var_mean(y_TPCS.to(wide).flatten(0, 1), dim=(0, 2), correction=0)
    return mean, var


def _through_norm(g_TPCS: Tensor, y_TPCS: Tensor, on_g: Tensor, on_y: Tensor, rest: Tensor) -> Tensor:
    """on_g g + on_y y + rest, the last three per channel."""
    wide = on_g.dtype
    return (g_TPCS.to(wide) * on_g[:, None] + y_TPCS.to(wide) * on_y[:, None] + rest[:, None]).to(g_TPCS.dtype)


def _cut(tensors: Tensors, *lengths: int) -> list[Tensors]:
    """Detached tensors in groups of these lengths, and one of the rest."""
    left = (t.detach() for t in tensors)
    return [*(tuple(islice(left, length)) for length in lengths), tuple(left)]
