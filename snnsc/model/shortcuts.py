"""The shortcut branches: from intermediate blocks straight to the output, in training only.

Each is global average pooling and a linear layer (Guo et al., NeurIPS 2024, arXiv 2401.04486, Eq. 6). All their
parameters stand under the prefix `shortcuts.`; a network without them is the deployed network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor, nn

from snnsc.recipe.schema import DistillSpec, EvolutionarySpec, MethodSpec, ShortcutSpec, VanillaSpec

PREFIX = "shortcuts."


class PooledLinear(nn.Module):
    """Global average pooling, then linear: spikes [T, B, C, H, W] -> logits [T, B, K] in the type of its weights."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, spikes_TBCHW: Tensor) -> Tensor:
        """Logits of every time step."""
        with torch.autocast(spikes_TBCHW.device.type, enabled=False):
            return self.linear(spikes_TBCHW.mean((-2, -1), dtype=self.linear.weight.dtype))  # type: ignore[no-any-return]


def taps(method: MethodSpec, stages: Sequence[int]) -> list[tuple[int, int]]:
    """(stage, block) of every block that a branch reads, for `stages` blocks a stage; the last block is the head's."""
    match method:
        case VanillaSpec():
            return []
        case ShortcutSpec(attach=attach) | EvolutionarySpec(attach=attach) | DistillSpec(attach=attach):
            if attach == "stage":
                return [(s, blocks - 1) for s, blocks in enumerate(stages[:-1]) if blocks]
            return [(s, b) for s, blocks in enumerate(stages) for b in range(blocks)][:-1]
        case _:
            assert_never(method)


def branch_name(stage: int, block: int) -> str:
    """Name of the branch that reads this block, below the prefix; the block itself is `stages.<stage>.<block>`."""
    return f"{stage}_{block}"
