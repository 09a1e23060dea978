"""A block that is run again in the backward pass: only what it reads is kept.

torch's own `checkpoint` holds what a block reads as it is, or (reentrant) runs the backward pass of its parameters
apart from the rest, which gradients that are averaged over processes do not survive in every case. Here the block is
one function of its input and its parameters; its input is saved as other functions save theirs, as bits where it is
spikes.

Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from snnsc.model.bits import is_marked, mark
from snnsc.model.masking import masks_of, with_masks
from snnsc.model.norms import without_tracking


def recomputed(block: nn.Module, *inputs: Any) -> Tensor:  # noqa: ANN401
    """What a block gives, of whose intermediate values none is kept for the backward pass.

    Args:
        block: Without random numbers; its normalisations move their running statistics once.
        inputs: What it is called with, a tensor first.
    """
    parameters = [p for p in block.parameters() if p.requires_grad]
    kept = _Kept(block, inputs[1:], parameters)
    output: Tensor = _Recomputed.apply(kept, inputs[0], *parameters)
    return mark(output) if kept.gives_spikes else output


class _Kept:
    """What both passes of a block need besides tensors."""

    def __init__(self, block: nn.Module, rest: tuple[Any, ...], parameters: list[nn.Parameter]) -> None:
        self.block, self.rest, self.parameters = block, rest, parameters
        self.gives_spikes = False
        self.masks = masks_of(block)


class _Recomputed(torch.autograd.Function):
    """The output of a block, of its input and its parameters."""

    @staticmethod
    def forward(ctx: Any, kept: _Kept, x: Tensor, *_parameters: Tensor) -> Tensor:  # noqa: ANN401
        kind = x.device.type
        ctx.kept = kept
        ctx.autocast = {"enabled": torch.is_autocast_enabled(kind), "dtype": torch.get_autocast_dtype(kind)}
        ctx.save_for_backward(x)
        output: Tensor = kept.block(x, *kept.rest)
        kept.gives_spikes = is_marked(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        kept: _Kept = ctx.kept
        needs = ctx.needs_input_grad[1]
        x = ctx.saved_tensors[0].detach().requires_grad_(needs)
        precision = torch.autocast(x.device.type, **ctx.autocast)
        with torch.enable_grad(), precision, without_tracking(kept.block), with_masks(kept.masks):
            output = kept.block(x, *kept.rest)
        found = torch.autograd.grad(output, [*([x] if needs else []), *kept.parameters], grad, allow_unused=True)
        return None, *([] if needs else [None]), *found
