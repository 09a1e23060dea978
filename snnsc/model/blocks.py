"""The parts that every architecture is built of.

Legend: T time steps, B batch, C channels, H W space. Every part takes and gives [T, B, ...]; linear operators run on
T*B at once. A `T` of 1 with more steps asked for is a static image: it is convolved once and held at the first neuron,
or at the first normalisation that tells the steps apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnsc.model.neurons import build_neuron
from snnsc.model.norms import Norm, build_norm, over_time
from snnsc.model.pending import Pending, settled
from snnsc.recipe.schema import MpbnSpec, NeuronSpec, NormSpec, SurrogateSpec


@dataclass(frozen=True)
class Cells:
    """What all layers of a network share: how a neuron and a normalisation are made."""

    neuron_spec: NeuronSpec
    surrogate_spec: SurrogateSpec
    norm_spec: NormSpec
    T: int
    compiled: bool = True

    def neuron(self, channels: int) -> nn.Module:
        """A new layer of neurons of `channels` channels."""
        return build_neuron(
            self.neuron_spec,
            self.surrogate_spec,
            channels=channels,
            T=self.T,
            membrane_norm=isinstance(self.norm_spec, MpbnSpec),
            compiled=self.compiled,
        )

    def norm(self, channels: int, summands: int = 1) -> nn.Module:
        """A new normalisation of `channels` channels."""
        return build_norm(self.norm_spec, channels, threshold=self.neuron_spec.threshold, T=self.T, summands=summands)


class ConvNorm(nn.Module):
    """Convolution without bias, then normalisation: [T, B, C_in, H, W] -> [T, B, C_out, H', W']."""

    def __init__(
        self, cells: Cells, c_in: int, c_out: int, *, kernel: int = 3, stride: int = 1, summands: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = cells.norm(c_out, summands)

    def forward(self, x_TBCHW: Tensor) -> Tensor | Pending:
        """The current into the next neuron; of one step, held, as long as the normalisation is the same for all.

        In training, plain batch normalisation is left to that neuron.
        """
        y_TBCHW = over_time(self.conv(x_TBCHW.flatten(0, 1)), x_TBCHW)
        if (
            isinstance(self.norm, Norm)
            and self.norm.training
            and self.norm.momentum is not None
            and not torch.compiler.is_compiling()
        ):
            return Pending([(y_TBCHW, self.norm)])
        return self.norm(y_TBCHW)  # type: ignore[no-any-return]


class Stem(nn.Module):
    """The first layers: convolution, normalisation, neuron; `convs` times, then perhaps a pool.

    With `fires` False the last convolution has no neuron: the stem gives its current, [T, B, C, H, W] too.
    """

    def __init__(
        self,
        cells: Cells,
        c_in: int,
        c_out: int,
        *,
        convs: int = 1,
        kernel: int = 3,
        stride: int = 1,
        pool: Callable[[Tensor], Tensor] | None = None,
        fires: bool = True,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            ConvNorm(cells, c_in if i == 0 else c_out, c_out, kernel=kernel, stride=stride) for i in range(convs)
        )
        self.neurons = nn.ModuleList(cells.neuron(c_out) for _ in range(convs if fires else convs - 1))
        self.pool = pool
        self.fires = fires

    def forward(self, x_TBCHW: Tensor, T: int) -> Tensor:
        """Spikes or current of T steps, from an input of T steps or of one that is held."""
        for conv, neuron in zip_longest(self.convs, self.neurons):
            x_TBCHW = settled(conv(x_TBCHW)) if neuron is None else neuron(conv(x_TBCHW), T)
        x_TBCHW = x_TBCHW if self.pool is None else self.pool(x_TBCHW)
        return x_TBCHW if self.fires else x_TBCHW.expand(T, *x_TBCHW.shape[1:])


class PlainBlock(nn.Module):
    """A layer of a plain network: perhaps a 2x2 average pool, convolution, normalisation, neuron."""

    def __init__(self, cells: Cells, c_in: int, c_out: int, *, pool: bool = False) -> None:
        super().__init__()
        self.pool = pool
        self.conv = ConvNorm(cells, c_in, c_out)
        self.neuron = cells.neuron(c_out)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Spikes."""
        return self.neuron(self.conv(pool2x2(x_TBCHW) if self.pool else x_TBCHW))  # type: ignore[no-any-return]


def pool2x2(x_TBCHW: Tensor) -> Tensor:
    """2x2 average pool: multiples of 1/4 from spikes. An odd last row or column is left out."""
    return over_time(F.avg_pool2d(x_TBCHW.flatten(0, 1), 2), x_TBCHW)


def pool3x3(x_TBCHW: Tensor) -> Tensor:
    """3x3 average pool of stride 2: multiples of 1/9 from spikes, at the border too, where the padding counts as 0."""
    return over_time(F.avg_pool2d(x_TBCHW.flatten(0, 1), 3, stride=2, padding=1), x_TBCHW)
