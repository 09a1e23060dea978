"""The optimizer of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, assert_never

import torch
from torch import Tensor, nn

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
            return _AdamW(parameters, lr, betas, weight_decay=weight_decay, fused=True)
        case SgdSpec(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov):
            return _Sgd(parameters, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)
        case _:
            assert_never(spec)


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """One group, or two where neurons learn constants."""
    learning = (m for m in model.modules() if isinstance(m, Neuron | RealSpike))
    constants = [p for m in learning for p in m.parameters(recurse=False)]  # a norm within a neuron is none
    of_neurons = set(constants)
    others = {"params": [p for p in model.parameters() if p not in of_neurons]}
    return [others, {"params": constants, "weight_decay": 0.0}] if constants else [others]


class _Stepping(torch.optim.Optimizer):
    """On a CPU torch's fused steps copy every gradient that is not contiguous, there and back: half of their time.

    So they are shown weights [O, I, H, W] in channels-last memory as that memory lies, [O, H, W, I].
    """

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the parameters; the loss that `closure` gives, where there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with _as_memory_lies(self):
            super().step()
        return loss


class _AdamW(_Stepping, torch.optim.AdamW):
    pass


class _Sgd(_Stepping, torch.optim.SGD):
    pass


@contextmanager
def _as_memory_lies(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within the context, weights in channels-last memory with their gradients and state are [O, H, W, I]."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    turned = [(p, p.data, p.grad) for p in parameters if p.grad is not None and _lies_otherwise(p)]
    for p, data, grad in turned:
        p.data, p.grad = data.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
        _turn_state(optimizer, p, 0, 2, 3, 1)
    try:
        yield
    finally:
        for p, data, grad in turned:
            p.data, p.grad = data, grad
            _turn_state(optimizer, p, 0, 3, 1, 2)


def _lies_otherwise(p: Tensor) -> bool:
    if p.device.type != "cpu" or p.dim() != 4 or p.is_contiguous():
        return False
    return p.is_contiguous(memory_format=torch.channels_last)


def _turn_state(optimizer: torch.optim.Optimizer, p: Tensor, *order: int) -> None:
    """The tensors that belong to the weight one by one; the number of steps is 0-d."""
    state = optimizer.state.get(p, {})
    for name, value in state.items():
        if isinstance(value, Tensor) and value.dim() == 4:
            state[name] = value.permute(order)
