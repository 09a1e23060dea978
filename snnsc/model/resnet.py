"""Residual networks of the SNN literature. Widths, depths and sources: the README's table of architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snnsc.model.blocks import Cells, StandardBlock, Stem
from snnsc.model.shortcuts import PooledLinear
from snnsc.recipe.schema import ResNet19Spec, ResNetSpec, ThinResNetSpec


@dataclass(frozen=True)
class ResNetPlan:
    """What tells one residual network from another."""

    stem: int
    """Channels of the stem."""
    blocks: Sequence[int]
    """Blocks of each stage; every stage but the first halves the image in its first block."""
    widths: Sequence[int]
    """Channels of each stage."""
    stem_convs: int = 1
    stem_pool: bool = False
    pooled_downsample: bool = False
    hidden: int | None = None
    """Neurons of a hidden linear layer before the classifier."""


def resnet_plan(spec: ResNetSpec | ResNet19Spec | ThinResNetSpec) -> ResNetPlan:
    """The plan of a named architecture."""
    widths = (64, 128, 256, 512)
    match spec.arch:
        case "resnet18":
            return ResNetPlan(64, (2, 2, 2, 2), widths)
        case "resnet34":
            return ResNetPlan(64, (3, 4, 6, 3), widths)
        case "resnet20":
            # three 3x3 convolutions and a pool before the stages: the name of the SNN papers, not He's
            return ResNetPlan(64, (2, 2, 2, 2), widths, stem_convs=3, stem_pool=True, pooled_downsample=True)
        case "resnet19":
            tet = spec.variant == "tet"
            return ResNetPlan(64 if tet else 128, (3, 3, 2), widths[1:], hidden=256 if tet else None)
        case _:
            depth = int(spec.arch.removeprefix("resnet").removesuffix("-thin"))
            return ResNetPlan(16, ((depth - 2) // 6,) * 3, (16, 32, 64))


class HiddenHead(nn.Module):
    """Global average pooling, linear, neuron, linear: [T, B, C, H, W] -> logits [T, B, K] in float32."""

    def __init__(self, cells: Cells, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.neuron = cells.neuron()
        self.linear2 = nn.Linear(hidden, classes)

    def forward(self, spikes_TBCHW: Tensor) -> Tensor:
        """Logits of every time step."""
        with torch.autocast(spikes_TBCHW.device.type, enabled=False):
            pooled_TBC = spikes_TBCHW.mean((-2, -1), dtype=torch.float32)
            return self.linear2(self.neuron(self.linear1(pooled_TBC)))  # type: ignore[no-any-return]


def resnet_parts(
    plan: ResNetPlan, cells: Cells, channels: int, classes: int
) -> tuple[nn.Module, list[list[nn.Module]], nn.Module]:
    """Stem, stages of blocks and head for images of `channels` channels."""
    stem = Stem(cells, channels, plan.stem, convs=plan.stem_convs, pool=plan.stem_pool)
    stages: list[list[nn.Module]] = []
    c_in = plan.stem
    for s, (count, width) in enumerate(zip(plan.blocks, plan.widths, strict=True)):
        blocks: list[nn.Module] = []
        for b in range(count):
            stride = 2 if b == 0 and s > 0 else 1
            blocks.append(StandardBlock(cells, c_in, width, stride=stride, pooled_downsample=plan.pooled_downsample))
            c_in = width
        stages.append(blocks)
    head = HiddenHead(cells, c_in, plan.hidden, classes) if plan.hidden else PooledLinear(c_in, classes)
    return stem, stages, head
