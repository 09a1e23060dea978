"""Masked gradients of weights: the form of masked surrogate gradients (MSG) that the paper's text describes.

A random part of the gradient of every weight of the main path's convolutions and linear layers is 0, the rest is as it
was. The masks are a function of (recipe seed, iteration): the same in all processes, which hold the same averaged
gradients, and nothing to save.

Source: Li et al., Neural Networks 2024 (arXiv 2406.19645).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from snnsc.model.masking import random_key
from snnsc.model.shortcuts import PREFIX


def mask_weight_gradients(model: nn.Module, ratio: float, seed: tuple[int, int]) -> None:
    """Set each element of the gradients of the main path's weights to 0 with probability `ratio`, in place."""
    weights = [w for w in main_weights(model) if w.grad is not None]
    if ratio == 0 or not weights:
        return
    random = torch.Generator(weights[0].device).manual_seed(random_key(*seed))
    for weight in weights:
        gradient = weight.grad
        assert gradient is not None
        gradient *= torch.empty_like(gradient).bernoulli_(1 - ratio, generator=random)


def main_weights(model: nn.Module) -> Iterator[Tensor]:
    """The weights of convolutions and linear layers, but for those of the shortcut branches."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not name.startswith(PREFIX):
            yield module.weight
