"""A current that is not computed yet: normalised convolutions, and what is added to them.

In training the neuron that reads such a current computes it inside its own kernel (`fused`), forwards and backwards, so
that nothing but the convolutions' outputs is kept; whoever else needs the current takes its `value`.

Legend: T time steps, B batch, C channels, H W space.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from operator import add

import torch
from torch import Tensor

from snnsc.model.norms import Norm


class Pending:
    """norm_1(y_1) + norm_2(y_2) + ... + added.

    Args:
        normalised: (convolution's output y [T, B, C, H, W], its normalisation).
        added: Tensors of that shape.
    """

    def __init__(self, normalised: Sequence[tuple[Tensor, Norm]], added: Sequence[Tensor] = ()) -> None:
        self.normalised, self.added = tuple(normalised), tuple(added)
        self._value: Tensor | None = None

    def __add__(self, other: Pending | Tensor) -> Pending:
        """The sum, still not computed."""
        if isinstance(other, Pending):
            return Pending(self.normalised + other.normalised, self.added + other.added)
        return Pending(self.normalised, (*self.added, other))

    @property
    def shape(self) -> torch.Size:
        """[T, B, C, H, W]."""
        return self.normalised[0][0].shape

    @property
    def device(self) -> torch.device:
        """Where it will be computed."""
        return self.normalised[0][0].device

    @property
    def is_uniform(self) -> bool:
        """Whether all its parts have one shape, and it was not computed yet."""
        shapes = {*(y.shape for y, _ in self.normalised), *(a.shape for a in self.added)}
        return len(shapes) == 1 and self._value is None

    @property
    def value(self) -> Tensor:
        """The current; the running statistics of the normalisations move, once."""
        if self._value is None:
            parts: list[Tensor] = [*(norm(y) for y, norm in self.normalised), *self.added]
            self._value = functools.reduce(add, parts)
        return self._value


def settled(current: Tensor | Pending) -> Tensor:
    """The current itself."""
    return current.value if isinstance(current, Pending) else current
