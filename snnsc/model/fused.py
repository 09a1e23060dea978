"""Normalisation and neuron as one: only the convolutions' outputs are kept for the backward pass.

Two loops forwards (statistics; then current, membrane and spikes at once) and two backwards (membrane again, surrogate
gradients and the sums that batch normalisation asks for; then the gradient of the convolution's output).

    x[t] = sum_i (scale_i (y_i[t] - mean_i) + beta_i) + sum_j added_j[t]
    scale = factor gamma / sqrt(var + eps)                                       (statistics of the batch)
    dy = scale (g - mean(g) - h mean(g h)),  h = (y - mean) / sqrt(var + eps)    (Ioffe & Szegedy, ICML 2015)

Legend: T time steps, C channels. Values are seen in the order of channels-last memory as [T, G, R, W]: a row of W
numbers is a whole number of turns of the channels, so that what belongs to channels is one row too; R rows are summed
up while they are in the cache. R and W are fixed numbers in the kernels, and the same for most layers: one compilation
serves them all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from itertools import islice
from operator import add
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snnsc.model.adjoint import gradients_of_steps
from snnsc.model.equations import Equation, Slope, State, Tensors, known
from snnsc.model.norms import Norm
from snnsc.model.pending import Pending
from snnsc.model.sequence import (
    as_kernel,
    channels_last,
    channels_third,
    step_of,
    wide_type,
)

LONGEST_ROW = 1024
MOST_ROWS = 8


class Tile(NamedTuple):
    """R rows of W numbers."""

    rows: int
    width: int


class Statistics(NamedTuple):
    """Of one convolution's output, and what its normalisation makes of them."""

    channels: Tensor
    """[4, C]: mean, var, 1 / sqrt(var + eps), scale."""
    rows: Tensor
    """[3, W]: mean, scale, beta."""


def tile_of(current: Pending) -> Tile:
    """How a current is seen: the longest row, up to `LONGEST_ROW`, and the most rows that divide it."""
    _, B, C, H, W = current.shape
    places = B * H * W
    turns = next(k for k in range(max(1, LONGEST_ROW // C), 0, -1) if places % k == 0)
    rows = next(r for r in range(MOST_ROWS, 0, -1) if places // turns % r == 0)
    return Tile(rows, turns * C)


class NormConstants(NamedTuple):
    """Of a `Norm`."""

    eps: float
    factor: float


class Form(NamedTuple):
    """Equal for sums that one set of kernels computes: as many parts, of the same types, in the same tiles."""

    types: tuple[torch.dtype, ...]
    norms: tuple[NormConstants, ...]
    tile: Tile


def form_of(current: Pending) -> Form:
    """The form of a current."""
    types = (*(y.dtype for y, _ in current.normalised), *(x.dtype for x in current.added))
    norms = tuple(NormConstants(norm.eps, norm.factor) for _, norm in current.normalised)
    return Form(types, norms, tile_of(current))


class FusedKernels:
    """Forward and backward of T steps from rest, of a current that is still to be summed up.

    Args:
        equation: One time step.
        slope: Its surrogate gradient.
        states: Number of tensors in its state.
        timed: Which of its learned constants have one value for each time step, [T, ...].
        T: Number of time steps.
        form: Of the current.
    """

    def __init__(
        self, equation: Equation, slope: Slope, states: int, timed: tuple[bool, ...], T: int, form: Form
    ) -> None:
        self.tile = form.tile
        sizes = known(**form.tile._asdict())
        norms = tuple(known(**norm._asdict()) for norm in form.norms)

        def at_rest(currents: Tensors) -> State:
            return tuple(torch.zeros_like(currents[0]) for _ in range(states))

        def forward(
            ys: Tensors, gammas: Tensors, betas: Tensors, added: Tensors, constants: Tensors
        ) -> tuple[Tensor, tuple[Statistics, ...]]:
            tile = _fixed_tile(sizes, *ys, *added)
            found = tuple(
                _statistics(y, gamma, beta, tile, **norm())
                for y, gamma, beta, norm in zip(ys, gammas, betas, norms, strict=True)
            )
            currents, step = _currents(ys, found, added), step_of(equation, constants, timed)
            state, spikes = at_rest(currents), []
            for t in range(T):
                s, state = step(state, currents[t if len(currents) > 1 else 0], t)
                spikes.append(s.to(ys[0].dtype))
            return torch.stack(spikes), found

        def backward(
            ys: Tensors,
            found: tuple[Statistics, ...],
            added: Tensors,
            constants: Tensors,
            mask: Tensor | None,
            grad: Tensor,
        ) -> tuple[Tensor, Tensors, Tensors, Tensor, Tensors]:
            tile = _fixed_tile(sizes, *ys, *added, grad)
            currents = _currents(ys, found, added)
            given = tuple(g.to(currents[0].dtype) for g in grad.unbind(0))
            g_T, _, g_constants = gradients_of_steps(
                equation, slope, timed, mask, currents, at_rest(currents), constants, given
            )
            # summed over time first, and stacked: so one loop writes these and g, and nothing else
            sums = [functools.reduce(add, g_T)]
            sums += [
                functools.reduce(add, [g * (y[t].to(g.dtype) - f.rows[0]) for t, g in enumerate(g_T)])
                for y, f in zip(ys, found, strict=True)
            ]
            total, *along = _by_channel(torch.stack(sums).sum(2).sum(1), found[0].channels).sum(1).unbind(0)
            g = _stored(torch.stack([g.to(ys[0].dtype) for g in g_T]))
            g_ys, g_gammas = [], []
            for y, f, norm, gy in zip(ys, found, norms, along, strict=True):
                _, _, root, scale = f.channels.unbind(0)
                mean_row, scale_row, _ = f.rows.unbind(0)
                g_scaled, mean_share = gy * root, scale / (y.numel() // total.numel())
                on_y, rest = _row(-mean_share * root * g_scaled, tile), _row(-mean_share * total, tile)
                wide = g.to(on_y.dtype) * scale_row + (y.to(on_y.dtype) - mean_row) * on_y + rest
                g_ys.append(wide.to(y.dtype))
                g_gammas.append(g_scaled * norm()["factor"])
            return g, tuple(g_ys), tuple(g_gammas), total, g_constants

        self.forward, self.backward = as_kernel(forward), as_kernel(backward)


def fused_spikes(kernels: FusedKernels, current: Pending, T: int, constants: Tensors, mask: Tensor | None) -> Tensor:
    """Spikes of a current that is not computed yet.

    Args:
        kernels: The kernels of the neuron for T steps and this form of a current.
        current: Of T steps, or of one that is held; all its parts have one shape.
        T: Number of time steps.
        constants: Learned constants: 0-d, or [C], those that are timed [T, C].
        mask: Of the surrogate gradient, see `masking`.

    Returns:
        Spikes [T, B, C, H, W], of the first convolution's type, in channels-last order.
    """
    steps, B, C, H, W = current.shape
    tile = kernels.tile

    def tiled(x: Tensor) -> Tensor:
        return channels_last(x).reshape(steps, -1, *tile)

    norms = tuple(norm for _, norm in current.normalised)
    spikes: Tensor = _Fused.apply(
        kernels,
        norms,
        len(current.added),
        mask,
        *(tiled(y) for y, _ in current.normalised),
        *(tiled(a) for a in current.added),
        *(norm.weight for norm in norms),
        *(norm.bias for norm in norms),
        *(c.repeat(*[1] * (c.dim() - 1), tile.width // C) if c.dim() else c for c in constants),
    )
    return channels_third(spikes.view(T, B, H, W, C))


class _Fused(torch.autograd.Function):
    """Spikes [T, G, R, W] of y_i, added_j, gamma_i, beta_i and learned constants, in this order."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        kernels: FusedKernels,
        norms: tuple[Norm, ...],
        added: int,
        mask: Tensor | None,
        *given: Tensor,
    ) -> Tensor:
        ys, others, gammas, betas, constants = _cut(given, len(norms), added, len(norms), len(norms))
        spikes, found = kernels.forward(ys, gammas, betas, others, constants)
        for norm, f in zip(norms, found, strict=True):
            mean, var, _, _ = f.channels.unbind(0)
            norm.track(mean, var, ys[0].numel() // len(mean))
        ctx.kernels, ctx.norms, ctx.added, ctx.mask = kernels, norms, added, mask
        # as they came, not detached: spikes among them are known to be spikes (`bits`)
        ctx.save_for_backward(*given[: len(norms) + added], *(part for f in found for part in f), *constants)
        return spikes  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        n, width = len(ctx.norms), len(Statistics._fields)
        ys, added, *parts, constants = _cut(ctx.saved_tensors, n, ctx.added, *[width] * n)
        found = tuple(Statistics(*part) for part in parts)
        g, g_ys, g_gammas, total, g_constants = ctx.kernels.backward(
            ys, found, added, constants, ctx.mask, grad.contiguous().detach()
        )
        return None, None, None, None, *g_ys, *[g] * ctx.added, *g_gammas, *[total] * n, *g_constants


def _currents(ys: Tensors, found: tuple[Statistics, ...], added: Tensors) -> Tensors:
    """The current [G, R, W] of every time step."""

    def at(t: int) -> Iterator[Tensor]:
        for y, f in zip(ys, found, strict=True):
            mean, scale, beta = f.rows.unbind(0)
            yield (y[t].to(scale.dtype) - mean) * scale + beta
        for other in added:
            yield other[t].to(found[0].rows.dtype)

    return tuple(functools.reduce(add, at(t)) for t in range(ys[0].shape[0]))


def _statistics(y: Tensor, gamma: Tensor, beta: Tensor, tile: Tile, eps: float, factor: float) -> Statistics:
    wide = wide_type(y)
    # around a first row, so that large means lose no digits
    first = y[0, 0, 0].to(wide)
    d_T = [y[t].to(wide) - first for t in range(y.shape[0])]
    size = y.numel() // tile.width
    mean_W = functools.reduce(add, d_T).sum(1).sum(0) / size
    square_W = functools.reduce(add, [d * d for d in d_T]).sum(1).sum(0) / size
    means = _by_channel(mean_W + first, gamma)
    mean = means.mean(0)
    var = (_by_channel(square_W - mean_W * mean_W, gamma) + (means - mean) ** 2).mean(0)
    root = torch.rsqrt(var + eps)
    scale = gamma * factor * root
    return Statistics(torch.stack([mean, var, root, scale]), _row(torch.stack([mean, scale, beta]), tile))


def _fixed_tile(sizes: Callable[[], dict[str, float]], *tensors: Tensor) -> Tile:
    """The tile of all these, known to the compiler."""
    tile = Tile(*(int(size) for size in sizes().values()))
    for x in tensors:
        assert x.shape[-2] == tile.rows
        assert x.shape[-1] == tile.width
    return tile


def _by_channel(rows: Tensor, like_C: Tensor) -> Tensor:
    """[..., W] as [..., turns, C]."""
    return rows.view(*rows.shape[:-1], -1, like_C.shape[-1])


def _row(x_C: Tensor, tile: Tile) -> Tensor:
    """[..., C] as rows [..., W]."""
    *outer, C = x_C.shape
    return _stored(x_C[..., None, :].expand(*outer, tile.width // C, C).contiguous()).view(*outer, tile.width)


def _stored(x: Tensor) -> Tensor:
    """x; the compiler stores it and does not compute it anew, element by element, where it is used."""
    return x.as_strided(x.shape, x.stride())


def _cut(tensors: Tensors, *lengths: int) -> list[Tensors]:
    """Detached tensors in groups of these lengths, and one of the rest."""
    rest = iter(tensors)
    return [tuple(t.detach() for t in islice(rest, n)) for n in (*lengths, None)]
