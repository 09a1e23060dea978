"""IM-Loss: the mean input of every layer of neurons is drawn to where spikes carry most information."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snnsc.model.neurons import Neuron
from snnsc.model.pending import settled


def im_loss(means: list[Tensor], T: int) -> Tensor:
    """Mean over layers of (mean(x_l) - 0.5 / T)^2.

    Args:
        means: Mean input current of each layer, 0-d.
        T: Time steps.

    Source: Guo et al., IM-Loss, NeurIPS 2022, in the simplified form of the authors' code.
    """
    return (torch.stack(means) - 0.5 / T).square().mean()


@contextmanager
def input_means(model: nn.Module, *, wanted: bool = True) -> Iterator[list[Tensor]]:
    """Within the context, the mean input current of every layer of neurons that runs is put into the list, in float32.

    A current that is held for T steps, [1, B, ...], has the mean of its repetition. In a distributed run the means are
    of this process's share of the batch. Where they are not `wanted`, the list stays empty.
    """
    means: list[Tensor] = []

    def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
        means.append(settled(args[0]).mean(dtype=torch.float32))

    handles = [m.register_forward_pre_hook(hook) for m in model.modules() if wanted and isinstance(m, Neuron)]
    try:
        yield means
    finally:
        for handle in handles:
            handle.remove()
