"""The parts that every architecture is built of.

Legend: T time steps, B batch, C channels, H W space. Every part takes and gives [T, B, ...]; linear operators run on
T*B at once. A `T` of 1 with more steps asked for is a static image: it is convolved once and held at the first neuron.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from snnsc.model.neurons import Neuron
from snnsc.model.norms import build_norm
from snnsc.recipe.schema import NeuronSpec, NormSpec, SurrogateSpec


@dataclass(frozen=True)
class Cells:
    """What all layers of a network share: how a neuron and a normalisation are made."""

    neuron_spec: NeuronSpec
    surrogate_spec: SurrogateSpec
    norm_spec: NormSpec
    compiled: bool = True

    def neuron(self) -> Neuron:
        """A new layer of neurons."""
        return Neuron(self.neuron_spec, self.surrogate_spec, compiled=self.compiled)

    def norm(self, channels: int, summands: int = 1) -> nn.Module:
        """A new normalisation of `channels` channels."""
        return build_norm(self.norm_spec, channels, self.neuron_spec.threshold, summands)


class ConvNorm(nn.Module):
    """Convolution without bias, then normalisation: [T, B, C_in, H, W] -> [T, B, C_out, H', W']."""

    def __init__(
        self, cells: Cells, c_in: int, c_out: int, *, kernel: int = 3, stride: int = 1, summands: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = cells.norm(c_out, summands)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """The current into the next neuron."""
        y = self.norm(self.conv(x_TBCHW.flatten(0, 1)))
        return over_time(y, x_TBCHW)


class Stem(nn.Module):
    """The first layers: convolution, normalisation, neuron; `convs` times, then perhaps a 2x2 average pool."""

    def __init__(self, cells: Cells, c_in: int, c_out: int, *, convs: int = 1, pool: bool = False) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvNorm(cells, c_in if i == 0 else c_out, c_out) for i in range(convs))
        self.neurons = nn.ModuleList(cells.neuron() for _ in range(convs))
        self.pool = pool

    def forward(self, x_TBCHW: Tensor, T: int) -> Tensor:
        """Spikes [T, B, C, H, W] from an input of T steps or of one that is held."""
        for conv, neuron in zip(self.convs, self.neurons, strict=True):
            x_TBCHW = neuron(conv(x_TBCHW), T)
        return pool2x2(x_TBCHW) if self.pool else x_TBCHW


class PlainBlock(nn.Module):
    """A layer of a plain network: perhaps a 2x2 average pool, convolution, normalisation, neuron."""

    def __init__(self, cells: Cells, c_in: int, c_out: int, *, pool: bool = False) -> None:
        super().__init__()
        self.pool = pool
        self.conv = ConvNorm(cells, c_in, c_out)
        self.neuron = cells.neuron()

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Spikes."""
        return self.neuron(self.conv(pool2x2(x_TBCHW) if self.pool else x_TBCHW))  # type: ignore[no-any-return]


class StandardBlock(nn.Module):
    """Residual block with binary output: LIF(BN(conv(LIF(BN(conv x)))) + shortcut(x)).

    The shortcut is the identity, or a 1x1 convolution with normalisation where the shape changes; with
    `pooled_downsample` the halving is a 2x2 average pool before a 1x1 convolution of stride 1.
    """

    def __init__(
        self, cells: Cells, c_in: int, c_out: int, *, stride: int = 1, pooled_downsample: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = ConvNorm(cells, c_in, c_out, stride=stride)
        self.neuron1 = cells.neuron()
        self.conv2 = ConvNorm(cells, c_out, c_out, summands=2)
        self.pooled = pooled_downsample and stride == 2
        self.downsample: ConvNorm | None = None
        if stride != 1 or c_in != c_out:
            step = 1 if self.pooled else stride
            self.downsample = ConvNorm(cells, c_in, c_out, kernel=1, stride=step, summands=2)
        self.neuron2 = cells.neuron()

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Spikes."""
        current = self.conv2(self.neuron1(self.conv1(x_TBCHW)))
        around = pool2x2(x_TBCHW) if self.pooled else x_TBCHW
        return self.neuron2(current + (around if self.downsample is None else self.downsample(around)))  # type: ignore[no-any-return]


def pool2x2(x_TBCHW: Tensor) -> Tensor:
    """2x2 average pool: multiples of 1/4 from spikes. An odd last row or column is left out."""
    return over_time(F.avg_pool2d(x_TBCHW.flatten(0, 1), 2), x_TBCHW)


def over_time(y: Tensor, like_TB: Tensor) -> Tensor:
    """[T*B, ...] as [T, B, ...], with the T and B of `like_TB`."""
    return y.view(like_TB.shape[0], like_TB.shape[1], *y.shape[1:])
