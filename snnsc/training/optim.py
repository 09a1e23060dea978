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
    """torch's fused steps on a CPU, which want contiguous tensors.

    They copy a channels-last weight's gradient there and back, half of their time; and where weight, gradient and state
    do not lie alike they take one for the other. So weights [O, I, H, W] in channels-last memory are shown as that
    memory lies, [O, H, W, I], and what belongs to them in the same order.
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
    """Within the context, weights on a CPU with their gradients and state are contiguous."""
    before = []
    try:
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            if p.grad is None or p.device.type != "cpu":
                continue
            state, last = optimizer.state.get(p, {}), _is_channels_last(p)
            if not last and all(x.is_contiguous() for x in (p.grad, *_with_axes(state).values())):
                continue
            before.append((p, p.data, p.grad, last))
            state.update({name: _turned(x, last).contiguous() for name, x in _with_axes(state).items()})
            p.data, p.grad = _turned(p.data, last), _turned(p.grad, last).contiguous()
        yield
    finally:
        for p, data, grad, last in before:
            p.data, p.grad = data, grad
            state = optimizer.state.get(p, {})
            state.update({name: x.permute(0, 3, 1, 2) for name, x in _with_axes(state).items() if last})


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _turned(x: Tensor, last: bool) -> Tensor:
    return x.permute(0, 2, 3, 1) if last else x


def _with_axes(state: dict[str, Any]) -> dict[str, Tensor]:
    """What an optimizer holds of a weight number by number; the count of its steps is 0-d."""
    return {name: x for name, x in state.items() if isinstance(x, Tensor) and x.dim()}
