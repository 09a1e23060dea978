"""The optimizer of a recipe."""

from __future__ import annotations

from typing import Any, assert_never

import torch
from torch import nn

from snnsc.model.neurons import Neuron, RealSpike
from snnsc.recipe.schema import AdamWSpec, OptimizerSpec, SgdSpec


def build_optimizer(model: nn.Module, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """The optimizer over all parameters of `model`; its learning rate is set at every step by the loop.

    Constants that neurons learn (leak, threshold, gates, spike factor) do not decay, as in the codes of PLIF and GLIF:
    0 is no rest position of theirs.
    """
    parameters = _groups(model)
    match spec:
        case AdamWSpec(lr=lr, weight_decay=weight_decay, betas=betas):
            return torch.optim.AdamW(parameters, lr, betas, weight_decay=weight_decay, fused=True)
        case SgdSpec(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov):
            return torch.optim.SGD(parameters, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)
        case _:
            assert_never(spec)


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """One group, or two where neurons learn constants."""
    learning = (m for m in model.modules() if isinstance(m, Neuron | RealSpike))
    constants = [p for m in learning for p in m.parameters(recurse=False)]  # a norm within a neuron is none
    of_neurons = set(constants)
    others = {"params": [p for p in model.parameters() if p not in of_neurons]}
    return [others, {"params": constants, "weight_decay": 0.0}] if constants else [others]
