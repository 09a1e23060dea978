"""Normalisation and neuron as one: only the convolutions' outputs are kept for the backward pass.

Two kernels forwards (statistics; then current, membrane and spikes at once) and two backwards (membrane again,
surrogate gradients and the sums that batch normalisation asks for; then the gradient of the convolution's output).

    x[t] = sum_i (scale_i y_i[t] + shift_i) + sum_j added_j[t]
    scale = factor gamma / sqrt(var + eps),  shift = beta - mean scale           (statistics of the batch)
    dy = scale (g - mean(g) - h mean(g h)),  h = (y - mean) / sqrt(var + eps)    (Ioffe & Szegedy, ICML 2015)

Legend: T time steps, C channels. Values are seen in the order of channels-last memory as [T, G, R, W]: a row of W
numbers is a whole number of turns of the channels, so that what belongs to channels is one row too; R rows are summed
up while they are in the cache. R and W are fixed numbers in the kernels, and the same for most layers: one compilation
serves them all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from itertools import islice
from operator import add
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnsc.model.equations import Slope
from snnsc.model.masking import masked
from snnsc.model.norms import Norm
from snnsc.model.pending import Pending
from snnsc.model.sequence import Equation, State, as_kernel, channels_last, channels_third

Tensors = tuple[Tensor, ...]
LONGEST_ROW = 1024
MOST_ROWS = 8


class Tile(NamedTuple):
    """R rows of W numbers."""

    rows: int
    width: int


class Statistics(NamedTuple):
    """Of one convolution's output, and what its normalisation makes of them: [C], and as rows [W]."""

    mean: Tensor
    var: Tensor
    root: Tensor
    """1 / sqrt(var + eps)."""
    scale: Tensor
    scale_row: Tensor
    shift_row: Tensor
    mean_row: Tensor


def tile_of(current: Pending) -> Tile:
    """How a current is seen: the longest row, up to `LONGEST_ROW`, and the most rows that divide it."""
    _, B, C, H, W = current.shape
    places = B * H * W
    turns = next(k for k in range(max(1, LONGEST_ROW // C), 0, -1) if places % k == 0)
    rows = next(r for r in range(MOST_ROWS, 0, -1) if places // turns % r == 0)
    return Tile(rows, turns * C)


def form_of(current: Pending) -> tuple[Hashable, ...]:
    """Equal for sums that one set of kernels computes: as many parts, of the same types, in the same tiles."""
    types = [[x.dtype for x in part] for part in ([y for y, _ in current.normalised], current.added)]
    return (*map(tuple, types), tile_of(current))


class FusedKernels:
    """Forward and backward of T steps from rest, of a current that is still to be summed up.

    Args:
        equation: One time step.
        slope: Its surrogate gradient.
        states: Number of tensors in its state.
        timed: Which of its learned constants have one value for each time step, [T, ...].
        T: Number of time steps.
        tile: See `tile_of`.
    """

    def __init__(
        self, equation: Equation, slope: Slope, states: int, timed: tuple[bool, ...], T: int, tile: Tile
    ) -> None:
        self.tile = tile

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
            _check(tile, *ys, *added)
            spikes = run(_currents(ys, scales, shifts, added), constants, None, None)
            return torch.stack([s.to(ys[0].dtype) for s in spikes])

        def backward(
            ys: Tensors,
            found: tuple[Statistics, ...],
            added: Tensors,
            constants: Tensors,
            mask: Tensor | None,
            grad: Tensor,
        ) -> tuple[Tensor, Tensor, list[Tensors], Tensors]:
            _check(tile, *ys, *added, grad)

            def spikes(currents: Tensors, constants: Tensors) -> Tensors:
                return run(currents, constants, slope, mask)

            currents = _currents(ys, [f.scale_row for f in found], [f.shift_row for f in found], added)
            given = tuple(g.to(currents[0].dtype) for g in grad.unbind(0))
            g_T, g_constants = torch.func.vjp(spikes, currents, constants)[1](given)
            # summed over time first, and stacked: so one loop writes these and g, and nothing else
            sums = [functools.reduce(add, g_T)]
            sums += [
                functools.reduce(add, [g * (y[t].to(g.dtype) - f.mean_row) for t, g in enumerate(g_T)])
                for y, f in zip(ys, found, strict=True)
            ]
            total, *along = _by_channel(torch.stack(sums).sum(2).sum(1), found[0].mean).sum(1).unbind(0)
            size = ys[0].numel() // total.numel()
            g_ys = [_through(f, total, gy, size, tile) for f, gy in zip(found, along, strict=True)]
            return torch.stack([g.to(ys[0].dtype) for g in g_T]), total, g_ys, g_constants

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
        moments, _ = _norm_kernels(given[0].dtype, kernels.tile)
        ys, others, gammas, betas, constants = _cut(given, len(norms), added, len(norms), len(norms))
        found = []
        for y, norm, gamma, beta in zip(ys, norms, gammas, betas, strict=True):
            found.append(moments(y, gamma if norm.factor == 1 else gamma * norm.factor, beta, norm.eps))
            norm.track(found[-1].mean, found[-1].var, y.numel() // len(gamma))
        ctx.kernels, ctx.norms, ctx.added, ctx.mask = kernels, norms, added, mask
        # as they came, not detached: spikes among them are known to be spikes (`bits`)
        ctx.save_for_backward(*given[: len(norms) + added], *(part for f in found for part in f), *constants)
        rows = tuple(f.scale_row for f in found), tuple(f.shift_row for f in found)
        spikes: Tensor = kernels.forward(ys, *rows, others, constants)
        return spikes

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        n, width = len(ctx.norms), len(Statistics._fields)
        ys, added, *parts, constants = _cut(ctx.saved_tensors, n, ctx.added, *[width] * n)
        found = tuple(Statistics(*part) for part in parts)
        g, total, g_norms, g_constants = ctx.kernels.backward(
            ys, found, added, constants, ctx.mask, grad.contiguous().detach()
        )
        _, through_norm = _norm_kernels(grad.dtype, ctx.kernels.tile)
        g_ys = [through_norm(g, y, f.scale_row, *rows) for y, f, (*rows, _) in zip(ys, found, g_norms, strict=True)]
        g_gammas = [gamma * norm.factor for norm, (*_, gamma) in zip(ctx.norms, g_norms, strict=True)]
        return None, None, None, None, *g_ys, *[g] * ctx.added, *g_gammas, *[total] * n, *g_constants


def _currents(ys: Tensors, scales: Any, shifts: Any, added: Tensors) -> Tensors:  # noqa: ANN401
    """The current [G, R, W] of every time step."""

    def at(t: int) -> Iterator[Tensor]:
        for y, scale, shift in zip(ys, scales, shifts, strict=True):
            yield y[t].to(scale.dtype) * scale + shift
        for other in added:
            yield other[t].to(scales[0].dtype)

    return tuple(functools.reduce(add, at(t)) for t in range(ys[0].shape[0]))


def _through(found: Statistics, total_C: Tensor, along_C: Tensor, size: int, tile: Tile) -> Tensors:
    """How g and y give the gradient of y, beside scale g: factor of y and rest, as rows; and the gradient of gamma."""
    gamma_C = along_C * found.root
    on_y_C = -found.scale * found.root * gamma_C / size
    rest_C = -found.scale * total_C / size - on_y_C * found.mean
    return _row(on_y_C, tile), _row(rest_C, tile), gamma_C


@functools.cache
def _norm_kernels(dtype: torch.dtype, tile: Tile) -> tuple[Callable[..., Statistics], Callable[..., Tensor]]:
    """Statistics, and the gradient through them; of their own for each type, as torch compiles each a few times."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def moments(y: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Statistics:
        _check(tile, y)
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
        scale = gamma * root
        return Statistics(mean, var, root, scale, _row(scale, tile), _row(beta - mean * scale, tile), _row(mean, tile))

    def through_norm(g: Tensor, y: Tensor, on_g: Tensor, on_y: Tensor, rest: Tensor) -> Tensor:
        _check(tile, g, y)
        return (g.to(wide) * on_g + y.to(wide) * on_y + rest).to(g.dtype)

    return as_kernel(moments), as_kernel(through_norm)


def _check(tile: Tile, *tensors: Tensor) -> None:
    """Make the sizes of a tile known to the compiler."""
    for x in tensors:
        assert x.shape[-2] == tile.rows
        assert x.shape[-1] == tile.width


def _by_channel(rows: Tensor, like_C: Tensor) -> Tensor:
    """[..., W] as [..., turns, C]."""
    return rows.view(*rows.shape[:-1], -1, like_C.shape[0])


def _row(x_C: Tensor, tile: Tile) -> Tensor:
    """[C] as a row."""
    return x_C.expand(tile.width // x_C.shape[0], x_C.shape[0]).reshape(tile.width)


def _cut(tensors: Tensors, *lengths: int) -> list[Tensors]:
    """Detached tensors in groups of these lengths, and one of the rest."""
    rest = iter(tensors)
    return [tuple(t.detach() for t in islice(rest, n)) for n in (*lengths, None)]
