"""The residual blocks: where the shortcut path joins, before the neuron, after it, or among the currents.

Legend: T time steps, B batch, C channels, H W space; LIF stands for the recipe's neuron, BN for its normalisation.

    standard   out = LIF(BN(conv(LIF(BN(conv x)))) + shortcut(x))      spikes
    sew-add    out = LIF(BN(conv(LIF(BN(conv x))))) + shortcut(x)      sums of spikes
    ms         out = BN(conv(LIF(BN(conv(LIF(x)))))) + shortcut(x)     currents

The shortcut is the identity, or where the shape changes a 1x1 convolution with normalisation; in sew-add a neuron
follows it, as only spikes are summed there. With `pooled_downsample` the halving is a 2x2 average pool before a 1x1
convolution of stride 1.

tdBN takes 1/sqrt(2) of its factor on both of two normalised currents that are summed before a neuron. In `standard`
that is the end of the block, in `ms` too: the next block's first neuron reads the sum. There the identity paths of a
stage go on adding currents, each of half the variance; the next stage's shortcut normalises the sum again. In
`sew-add` every normalised current has a neuron of its own, and there is no such factor.
"""

from __future__ import annotations

from typing import Literal, assert_never

from torch import Tensor, nn

from snnsc.model.blocks import Cells, ConvNorm, pool2x2
from snnsc.model.pending import settled

Form = Literal["standard", "sew-add", "ms"]


class StandardBlock(nn.Module):
    """Residual block with binary output: LIF(BN(conv(LIF(BN(conv x)))) + shortcut(x))."""

    def __init__(
        self, cells: Cells, c_in: int, c_out: int, *, stride: int = 1, pooled_downsample: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(cells, c_in, c_out, stride=stride)
        self.neuron1 = cells.neuron(c_out)
        self.conv2 = ConvNorm(cells, c_out, c_out, summands=2)
        self.pooled = pooled_downsample and stride == 2
        self.downsample = _downsample(cells, c_in, c_out, stride, pooled=self.pooled, summands=2)
        self.neuron2 = cells.neuron(c_out)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Spikes."""
        current = self.conv2(self.neuron1(self.conv1(x_TBCHW)))
        around = pool2x2(x_TBCHW) if self.pooled else x_TBCHW
        return self.neuron2(current + (around if self.downsample is None else self.downsample(around)))  # type: ignore[no-any-return]


class SewBlock(nn.Module):
    """Spike-element-wise block: LIF(BN(conv(LIF(BN(conv x))))) + shortcut(x).

    Its output is the number of spikes that arrive at an element, which grows by up to 1 a block within a stage.

    Source: Fang et al., Deep Residual Learning in Spiking Neural Networks, NeurIPS 2021; connect function ADD.
    """

    def __init__(
        self, cells: Cells, c_in: int, c_out: int, *, stride: int = 1, pooled_downsample: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(cells, c_in, c_out, stride=stride)
        self.neuron1 = cells.neuron(c_out)
        self.conv2 = ConvNorm(cells, c_out, c_out)
        self.neuron2 = cells.neuron(c_out)
        self.pooled = pooled_downsample and stride == 2
        self.downsample = _downsample(cells, c_in, c_out, stride, pooled=self.pooled)
        self.downsample_neuron = None if self.downsample is None else cells.neuron(c_out)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Sums of spikes."""
        spikes: Tensor = self.neuron2(self.conv2(self.neuron1(self.conv1(x_TBCHW))))
        around = pool2x2(x_TBCHW) if self.pooled else x_TBCHW
        if self.downsample is not None and self.downsample_neuron is not None:
            around = self.downsample_neuron(self.downsample(around))
        return spikes + around


class MsBlock(nn.Module):
    """Membrane-shortcut block: BN(conv(LIF(BN(conv(LIF(x)))))) + shortcut(x), currents in and out.

    Source: Hu et al., Advancing Spiking Neural Networks Toward Deep Residual Learning, TNNLS 2024 (code
    Ariande1/MS-ResNet, whose last normalisation of a block starts at gamma = 0, where this one's starts at 1).
    """

    def __init__(
        self, cells: Cells, c_in: int, c_out: int, *, stride: int = 1, pooled_downsample: bool = False
    ) -> None:
        super().__init__()
        self.neuron1 = cells.neuron(c_in)
        self.conv1 = ConvNorm(cells, c_in, c_out, stride=stride)
        self.neuron2 = cells.neuron(c_out)
        self.conv2 = ConvNorm(cells, c_out, c_out, summands=2)
        self.pooled = pooled_downsample and stride == 2
        self.downsample = _downsample(cells, c_in, c_out, stride, pooled=self.pooled, summands=2)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Currents."""
        current: Tensor = self.conv2(self.neuron2(self.conv1(self.neuron1(x_TBCHW))))
        around = pool2x2(x_TBCHW) if self.pooled else x_TBCHW
        return settled(current + (around if self.downsample is None else self.downsample(around)))


def residual_block(
    form: Form, cells: Cells, c_in: int, c_out: int, *, stride: int = 1, pooled_downsample: bool = False
) -> nn.Module:
    """A residual block of the form that the recipe names."""
    match form:
        case "standard":
            return StandardBlock(cells, c_in, c_out, stride=stride, pooled_downsample=pooled_downsample)
        case "sew-add":
            return SewBlock(cells, c_in, c_out, stride=stride, pooled_downsample=pooled_downsample)
        case "ms":
            return MsBlock(cells, c_in, c_out, stride=stride, pooled_downsample=pooled_downsample)
        case _:
            assert_never(form)


def _downsample(
    cells: Cells, c_in: int, c_out: int, stride: int, *, pooled: bool, summands: int = 1
) -> ConvNorm | None:
    """What gives the shortcut path the shape of the block's output; None where it has it already."""
    if stride == 1 and c_in == c_out:
        return None
    return ConvNorm(cells, c_in, c_out, kernel=1, stride=1 if pooled else stride, summands=summands)
