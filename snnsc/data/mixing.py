"""MixUp and CutMix: each sample of a batch mixed with the one before it, and their labels likewise.

The formulas and the pairing are those of torchvision.transforms.v2; its classes draw from the global random state,
which threads share, so the draws are made here. MixUp: Zhang et al. 2018, arXiv:1710.09412; CutMix: Yun et al. 2019,
arXiv:1905.04899.

Shapes: T time steps, B samples, C channels, H height, W width, K classes. Inputs are images [B, C, H, W] or frames
[T, B, C, H, W]; all frames of a sample are mixed alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn.functional import one_hot

Box = tuple[int, int, int, int]
"""(x1, y1, x2, y2): columns x1 to x2 - 1, rows y1 to y2 - 1."""


@dataclass(frozen=True)
class Mixing:
    """What is done to every batch; with both alphas above 0, one of both is drawn a batch.

    Args:
        mixup: alpha of MixUp's Beta(alpha, alpha); 0 is off.
        cutmix: alpha of CutMix's Beta(alpha, alpha); 0 is off.
        classes: K.
    """

    mixup: float
    cutmix: float
    classes: int

    def __call__(self, inputs: Tensor, labels_B: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the mixed inputs, and the probability of each class float32 [B, K]."""
        labels_BK = one_hot(labels_B, self.classes).float()
        mix_up = rng.random() < 0.5 if self.mixup and self.cutmix else bool(self.mixup)
        alpha = self.mixup if mix_up else self.cutmix
        share = float(rng.beta(alpha, alpha))
        if mix_up:
            return mixup(inputs, labels_BK, share)
        height, width = inputs.shape[-2:]
        centre = int(rng.integers(width)), int(rng.integers(height))
        return cutmix(inputs, labels_BK, cutmix_box(share, centre, width, height))


def mixup(inputs: Tensor, labels_BK: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return ``share * sample + (1 - share) * sample before``, for inputs and labels."""
    return _blended(inputs, share, _batch_axis(inputs)), _blended(labels_BK, share, 0)


def cutmix(inputs: Tensor, labels_BK: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Return the inputs with the box of the sample before pasted in, and the labels blended by its area."""
    x1, y1, x2, y2 = box
    height, width = inputs.shape[-2:]
    out = inputs.clone()
    out[..., y1:y2, x1:x2] = inputs[..., y1:y2, x1:x2].roll(1, _batch_axis(inputs))
    return out, _blended(labels_BK, 1.0 - (x2 - x1) * (y2 - y1) / (width * height), 0)


def cutmix_box(share: float, centre: tuple[int, int], width: int, height: int) -> Box:
    """Return the box of ``1 - share`` of the image around `centre` (x, y), cut off at the borders."""
    half = 0.5 * math.sqrt(1.0 - share)
    (x, y), across, down = centre, int(half * width), int(half * height)
    return max(x - across, 0), max(y - down, 0), min(x + across, width), min(y + down, height)


def _batch_axis(inputs: Tensor) -> int:
    """Return where B stands in images or frames."""
    return inputs.ndim - 4


def _blended(values: Tensor, share: float, axis: int) -> Tensor:
    """Return ``share * values + (1 - share) * values rolled by one``, in torchvision's order of operations."""
    return values.roll(1, axis).mul_(1.0 - share).add_(values.mul(share))
