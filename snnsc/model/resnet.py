"""Residual networks of the SNN literature. Widths, depths and sources: the README's table of architectures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor, nn

from snnsc.model.blocks import Cells, Stem, pool2x2, pool3x3
from snnsc.model.residual import Form, residual_block
from snnsc.model.shortcuts import PooledLinear
from snnsc.recipe.schema import ResNet19Spec, ResNet20Spec, ResNetSpec, ThinResNetSpec


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
    stem_kernel: int = 3
    stem_stride: int = 1
    stem_pool: Callable[[Tensor], Tensor] | None = None
    pooled_downsample: bool = False
    hidden: int | None = None
    """Neurons of a hidden linear layer before the classifier."""


def resnet_plan(spec: ResNetSpec | ResNet20Spec | ResNet19Spec | ThinResNetSpec) -> ResNetPlan:
    """The plan of a named architecture."""
    widths = (64, 128, 256, 512)
    match spec:
        case ResNetSpec():
            blocks = (2, 2, 2, 2) if spec.arch == "resnet18" else (3, 4, 6, 3)
            if spec.stem == "cifar":
                return ResNetPlan(64, blocks, widths)
            return ResNetPlan(64, blocks, widths, stem_kernel=7, stem_stride=2, stem_pool=pool3x3)
        case ResNet20Spec():
            # three 3x3 convolutions and a pool before the stages: the name of the SNN papers, not He's
            return ResNetPlan(64, (2, 2, 2, 2), widths, stem_convs=3, stem_pool=pool2x2, pooled_downsample=True)
        case ResNet19Spec():
            tet = spec.variant == "tet"
            return ResNetPlan(64 if tet else 128, (3, 3, 2), widths[1:], hidden=256 if tet else None)
        case ThinResNetSpec():
            depth = int(spec.arch.removeprefix("resnet").removesuffix("-thin"))
            return ResNetPlan(16, ((depth - 2) // 6,) * 3, (16, 32, 64))
        case _:
            assert_never(spec)


class HiddenHead(nn.Module):
    """Global average pooling, linear, neuron, linear: [T, B, C, H, W] -> logits [T, B, K] in its weights' type."""

    def __init__(self, cells: Cells, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.neuron = cells.neuron(hidden)
        self.linear2 = nn.Linear(hidden, classes)

    def forward(self, spikes_TBCHW: Tensor) -> Tensor:
        """Logits of every time step."""
        with torch.autocast(spikes_TBCHW.device.type, enabled=False):
            pooled_TBC = spikes_TBCHW.mean((-2, -1), dtype=self.linear1.weight.dtype)
            return self.linear2(self.neuron(self.linear1(pooled_TBC)))  # type: ignore[no-any-return]


class FiringHead(nn.Module):
    """Neuron, then a head that reads spikes: [T, B, C, H, W] currents -> logits [T, B, K] in float32."""

    def __init__(self, neuron: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron
        self.head = head

    def forward(self, current_TBCHW: Tensor) -> Tensor:
        """Logits of every time step."""
        return self.head(self.neuron(current_TBCHW))  # type: ignore[no-any-return]


def resnet_parts(
    plan: ResNetPlan, cells: Cells, form: Form, channels: int, classes: int
) -> tuple[nn.Module, list[list[nn.Module]], nn.Module]:
    """Stem, stages of blocks and head for images of `channels` channels.

    In the form `ms` currents run from the stem to the head: the stem's last convolution has no neuron (a pool of the
    stem pools its current), and one stands before the head.
    """
    stem = Stem(
        cells,
        channels,
        plan.stem,
        convs=plan.stem_convs,
        kernel=plan.stem_kernel,
        stride=plan.stem_stride,
        pool=plan.stem_pool,
        fires=form != "ms",
    )
    stages: list[list[nn.Module]] = []
    c_in = plan.stem
    for s, (count, width) in enumerate(zip(plan.blocks, plan.widths, strict=True)):
        blocks: list[nn.Module] = []
        for b in range(count):
            stride, pooled = 2 if b == 0 and s > 0 else 1, plan.pooled_downsample
            blocks.append(residual_block(form, cells, c_in, width, stride=stride, pooled_downsample=pooled))
            c_in = width
        stages.append(blocks)
    head = HiddenHead(cells, c_in, plan.hidden, classes) if plan.hidden else PooledLinear(c_in, classes)
    return stem, stages, FiringHead(cells.neuron(c_in), head) if form == "ms" else head
