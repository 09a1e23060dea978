"""Masked surrogate gradients (MSG): in every backward pass a random part of all ds/du is 0, and the rest as it was.

The mask of a neuron, time step and sample is a hash of its place and of a key, computed inside the neuron's kernel:
it takes no memory, and is the same eagerly, compiled and after a resume. A layer's `mask` is int64 [2]: key and bar.

Source: Li et al., Neural Networks 2024 (arXiv 2406.19645); authors' code Brain-Cog-Lab/msg (no rescaling by 1/(1-p)).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from snnsc.model.equations import Slope

if TYPE_CHECKING:
    from snnsc.model.neurons import Neuron

WORD = 1 << 32


def masks_of(model: nn.Module) -> list[tuple[Neuron, Tensor | None]]:
    """Every layer of neurons with its mask."""
    from snnsc.model.neurons import Neuron

    return [(m, m.mask) for m in model.modules() if isinstance(m, Neuron)]


@contextmanager
def with_masks(masks: Iterable[tuple[Neuron, Tensor | None]]) -> Iterator[None]:
    """Within the context, layers of neurons have these masks."""
    given = list(masks)
    before = [(layer, layer.mask) for layer, _ in given]
    for layer, mask in given:
        layer.mask = mask
    try:
        yield
    finally:
        for layer, mask in before:
            layer.mask = mask


def set_masks(model: nn.Module, ratio: float, seed: tuple[int, ...]) -> None:
    """Give every layer of neurons of `model` its mask for the next backward pass.

    Args:
        model: A network.
        ratio: Probability of each surrogate gradient's being masked; 0 masks nothing.
        seed: What the masks are a function of, such as (recipe seed, iteration, rank).
    """
    layers = [layer for layer, _ in masks_of(model)]
    bar = round(ratio * WORD)
    device = next(model.parameters()).device
    masks = torch.tensor([[random_key(*seed, i), bar] for i in range(len(layers))]).to(device, non_blocking=True)
    for layer, mask in zip(layers, masks, strict=True):
        layer.mask = mask if bar else None


def masked(slope: Slope, mask: Tensor | None, t: int, like_N: Tensor) -> Slope:
    """The surrogate gradient of time step t with what `mask` says of it 0; as it is without a mask."""
    if mask is None:
        return slope
    keep_N = kept(mask, t, like_N)
    return lambda d, threshold: slope(d, threshold) * keep_N


def kept(mask: Tensor, t: int, like_N: Tensor) -> Tensor:
    """1 where the surrogate gradient of time step t is kept, 0 where it is masked; the shape and type of `like_N`."""
    count = like_N.numel()
    place = torch.arange(count, device=like_N.device).view(like_N.shape) + t * count
    mixed = _mix(_mix((place & (WORD - 1)) ^ (mask[0] & (WORD - 1))) ^ (mask[0] >> 32))
    return (mixed >= mask[1]).to(like_N.dtype)


def _mix(word: Tensor) -> Tensor:
    """A bijection of 32-bit words, in int64, that spreads every bit; no product leaves 63 bits."""
    for _ in range(2):
        word = ((word >> 16) ^ word) * 0x45D9F3B & (WORD - 1)
    return (word >> 16) ^ word


def random_key(*parts: int) -> int:
    """63 bits that are a hash of `parts`, as torch's generator on a CPU looks at 32 bits of its seed only."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
