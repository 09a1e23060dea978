"""The optimizer of a recipe."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import nn

from snnsc.recipe.schema import AdamWSpec, OptimizerSpec, SgdSpec


def build_optimizer(model: nn.Module, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """The optimizer over all parameters of `model`; its learning rate is set at every step by the loop."""
    match spec:
        case AdamWSpec(lr=lr, weight_decay=weight_decay, betas=betas):
            return torch.optim.AdamW(model.parameters(), lr, betas, weight_decay=weight_decay, fused=True)
        case SgdSpec(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov):
            return torch.optim.SGD(
                model.parameters(), lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True
            )
        case _:
            assert_never(spec)
