"""Plain convolutional networks: VGGSNN, CIFARNet, Simonyan's VGG and `tiny`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor, nn

from snnsc.model.blocks import Cells, PlainBlock, Stem, pool2x2
from snnsc.model.shortcuts import PooledLinear
from snnsc.recipe.schema import CifarNetSpec, TinySpec, VggSnnSpec, VggSpec


@dataclass(frozen=True)
class VggPlan:
    """What tells one plain network from another."""

    stages: Sequence[Sequence[int]]
    """Output channels of each convolution; a 2x2 average pool stands between the stages."""
    flatten: bool
    """Whether the head pools once more and flattens, or averages over space."""


def vgg_plan(spec: VggSnnSpec | CifarNetSpec | VggSpec | TinySpec) -> VggPlan:
    """The plan of a named architecture."""
    match spec:
        case VggSnnSpec():
            return VggPlan(((64, 128), (256, 256), (512, 512), (512, 512)), flatten=True)
        case CifarNetSpec():
            return VggPlan(((256, 256), (256, 256), (512, 512), (1024, 1024)), flatten=False)
        case VggSpec(arch=arch):
            # Simonyan & Zisserman, ICLR 2015, configurations A and D
            depth = (1, 1, 2, 2, 2) if arch == "vgg11" else (2, 2, 3, 3, 3)
            widths = (64, 128, 256, 512, 512)
            return VggPlan([(width,) * count for width, count in zip(widths, depth, strict=True)], flatten=False)
        case TinySpec(stages=stages):
            return VggPlan(stages, flatten=False)
        case _:
            assert_never(spec)


class FlattenHead(nn.Module):
    """2x2 average pool, flatten, linear: spikes [T, B, C, H, W] -> logits [T, B, K] in the type of its weights."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, spikes_TBCHW: Tensor) -> Tensor:
        """Logits of every time step."""
        with torch.autocast(spikes_TBCHW.device.type, enabled=False):
            return self.linear(pool2x2(spikes_TBCHW.to(self.linear.weight.dtype)).flatten(2))  # type: ignore[no-any-return]


def vgg_parts(
    plan: VggPlan, cells: Cells, channels: int, size: int, classes: int
) -> tuple[nn.Module, list[list[nn.Module]], nn.Module]:
    """Stem (the first convolution), stages of blocks and head for images of `channels` x `size` x `size`."""
    (first, *rest), *later = plan.stages
    stem = Stem(cells, channels, first)
    stages: list[list[nn.Module]] = []
    c_in = first
    for s, widths in enumerate((rest, *later)):
        blocks: list[nn.Module] = []
        for b, width in enumerate(widths):
            blocks.append(PlainBlock(cells, c_in, width, pool=s > 0 and b == 0))
            c_in = width
        stages.append(blocks)
    if not plan.flatten:
        return stem, stages, PooledLinear(c_in, classes)
    side = size // 2 ** len(plan.stages)
    return stem, stages, FlattenHead(c_in * side * side, classes)
