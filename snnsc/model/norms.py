"""Normalisation of the input current of a spiking layer, with statistics over time, batch and space."""

from __future__ import annotations

import math
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnsc.recipe.schema import BnSpec, NormSpec, TdbnSpec


class Norm(nn.BatchNorm2d):
    """Batch normalisation with a fixed factor: y = factor * gamma * (x - mean) / sqrt(var + eps) + beta.

    factor = 1 is plain batch normalisation; factor = alpha * threshold is tdBN (Zheng et al., AAAI 2021).
    Input and output [T*B, C, H, W].
    """

    def __init__(self, channels: int, factor: float = 1.0) -> None:
        super().__init__(channels)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Normalised x; the running statistics move in training mode."""
        if self.factor == 1.0:
            return super().forward(x)
        if self.training:
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight * self.factor,
            self.bias,
            self.training,
            self.momentum or 0.0,
            self.eps,
        )

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Evaluation mode as y = scale * x + shift, both [C]; this is what folds into a convolution."""
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight * self.factor * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    def extra_repr(self) -> str:
        """The constants, as `print(model)` shows them."""
        return f"{self.num_features}, factor={self.factor:g}"


def build_norm(spec: NormSpec, channels: int, threshold: float, summands: int = 1) -> Norm:
    """The normalisation that `spec` names.

    Args:
        spec: Which normalisation.
        channels: Channels of its input.
        threshold: Firing threshold of the neuron it feeds.
        summands: Currents that are added before that neuron: 2 where a residual path joins.
    """
    match spec:
        case BnSpec():
            return Norm(channels)
        case TdbnSpec(alpha=alpha):
            return Norm(channels, alpha * threshold / math.sqrt(summands))
        case _:
            assert_never(spec)
