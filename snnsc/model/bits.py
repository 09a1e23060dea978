"""Spikes kept as bits between the forward and the backward pass: a bit where bfloat16 takes sixteen."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import add

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from snnsc.model.sequence import as_kernel, can_compile

_MARK = "_snnsc_spikes"


@dataclass(frozen=True)
class Bits:
    """What was 0 or 1.

    Attributes:
        words: uint8 [n / 8]; bit k of word j is element k n / 8 + j in memory order.
        dtype: Type of the spikes.
        size: Shape of the tensor that was saved.
        stride: Its strides.
    """

    words: Tensor
    dtype: torch.dtype
    size: torch.Size
    stride: tuple[int, ...]


def mark(spikes: Tensor) -> Tensor:
    """Say of a tensor, all of whose elements are 0 or 1, that it may be kept as bits."""
    setattr(_owner(spikes), _MARK, True)
    return spikes


def is_marked(tensor: Tensor) -> bool:
    """Whether `mark` was called for a tensor, or for one that it is a view of."""
    return hasattr(_owner(tensor), _MARK)


@contextmanager
def spikes_as_bits(*, wanted: bool = True) -> Iterator[None]:
    """Within the context, marked tensors are saved for the backward pass as bits."""
    if not wanted:
        yield
        return
    with saved_tensors_hooks(_pack, _unpack):
        yield


def _owner(tensor: Tensor) -> Tensor:
    return tensor if tensor._base is None else tensor._base


def _pack(tensor: Tensor) -> Tensor | Bits:
    owner = _owner(tensor)
    found = getattr(owner, _MARK, None)
    if found is None or tensor.numel() != owner.numel() or owner.numel() % 8:
        return tensor
    if found is True:  # packed once, whoever saves it
        whole = owner.detach()
        found = _kernels(tensor.device.type)[0](whole.as_strided((8, whole.numel() // 8), (whole.numel() // 8, 1)))
        setattr(owner, _MARK, found)
    return Bits(found, tensor.dtype, tensor.shape, tensor.stride())


def _unpack(saved: Tensor | Bits) -> Tensor:
    if isinstance(saved, Tensor):
        return saved
    whole: Tensor = _kernels(saved.words.device.type)[1](saved.words, saved.dtype)
    return whole.as_strided(saved.size, saved.stride)


@functools.cache
def _kernels(device_type: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, torch.dtype], Tensor]]:
    def pack(spikes: Tensor) -> Tensor:
        # in float32, exact below 256: compilers make vector code of it, and none of shifted bytes
        return functools.reduce(add, [spikes[k].float() * (1 << k) for k in range(8)]).to(torch.uint8)

    def unpack(words: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.stack([((words >> k) & 1).to(dtype) for k in range(8)])

    return (as_kernel(pack), as_kernel(unpack)) if can_compile(device_type) else (pack, unpack)
