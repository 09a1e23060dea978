"""Put a folded network onto a grid on which all its spikes are exact (see `grid`).

folded network -> traced, planned -> weights rounded, real inputs of convolutions rounded in the network itself
               -> traced again, and proven from the graph alone
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterable, Mapping
from typing import cast

import onnx
import torch
from torch import Tensor, nn

from snnsc.export.grid.exact import Graph, check
from snnsc.export.grid.plan import Grid, Linear, Reads, plan
from snnsc.export.onnx import to_onnx
from snnsc.model import SpikingNetwork
from snnsc.model.blocks import ConvNorm
from snnsc.model.neurons import MembraneNorm, Neuron
from snnsc.recipe.schema import Recipe

FIRST = "stem.convs.0"
"""The layer that reads the network's input, or what the names of its time steps begin with."""


def exact_grid(
    folded: SpikingNetwork, recipe: Recipe, facts: Mapping[str, object], batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[SpikingNetwork, onnx.ModelProto, Grid]:
    """The network on the finest grid that makes all its spikes exact, its graph, and the grid.

    Args:
        folded: A folded network (see `fold`); it is not changed.
        recipe: What it was built from.
        facts: About the data, as a checkpoint has them.
        batches: Real samples: (frames [T, B, C, H, W] or images [B, C, H, W], labels [B]).

    Raises:
        CheckError: there is no such grid; the layer and the condition it breaks are named.
    """
    T, model = recipe.model.T, to_onnx(folded, recipe)
    grid = plan(model, T, _reads(folded, Graph(model, T).real_readers(), facts, batches))
    snapped = snap(folded, grid)
    model = to_onnx(snapped, recipe)
    check(model, T)
    return snapped, model, grid


def _reads(
    folded: SpikingNetwork,
    layers: Iterable[str],
    facts: Mapping[str, object],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> dict[str, Reads]:
    """What the layers that read real numbers are to read.

    Normalised images: what pixels of 0..1 become. Event counts and currents: up to a power of two that none of the
    samples exceeds.
    """
    mean, std = cast(list[float] | None, facts["mean"]), cast(list[float] | None, facts["std"])
    found = {}
    for name, (low, high) in _extremes(folded, layers, batches).items():
        reads_input = name.startswith(FIRST)
        if reads_input and mean is not None and std is not None:
            ends = [(pixel - m) / s for m, s in zip(mean, std, strict=True) for pixel in (0.0, 1.0)]
            found[name] = Reads(min(*ends, 0.0), max(*ends, 0.0), whole=False)
            continue
        largest = max(-low, high)
        bound = 2.0 ** math.ceil(math.log2(largest)) if largest > 0 else 1.0
        found[name] = Reads(-bound if low < 0 else 0.0, bound, whole=reads_input and bool(facts["whole_counts"]))
    return found


def _extremes(
    network: SpikingNetwork, layers: Iterable[str], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, tuple[float, float]]:
    """The smallest and the largest number that each layer reads."""
    found = dict.fromkeys(layers, (math.inf, -math.inf))

    def observe(name: str, _module: nn.Module, given: tuple[Tensor, ...]) -> None:
        low, high = found[name]
        found[name] = min(low, float(given[0].min())), max(high, float(given[0].max()))

    hooks = [network.get_submodule(n).register_forward_pre_hook(functools.partial(observe, n)) for n in found]
    with torch.inference_mode():
        for inputs, _ in batches:
            network(inputs)
    for hook in hooks:
        hook.remove()
    return found


def snap(folded: SpikingNetwork, grid: Grid) -> SpikingNetwork:
    """A copy of a folded network on a grid."""
    network = copy.deepcopy(folded)
    with torch.no_grad():
        for name, on in grid.linear.items():
            _snap_linear(network, name, on)
    for module in network.modules():
        if isinstance(module, Neuron) and module.membrane_norm is not None:
            module.membrane_norm = Bar(module.membrane_norm, module.spec.threshold)
    return network.eval()


def _snap_linear(network: SpikingNetwork, name: str, on: Linear) -> None:
    owner = network.get_submodule(name)
    if isinstance(owner, ConvNorm):
        name, owner = f"{name}.conv", owner.conv
    assert isinstance(owner, nn.Conv2d | nn.Linear)
    _round(owner.weight, on.a)
    if owner.bias is not None:
        _round(owner.bias, on.a + on.b)
    if on.clamp is not None:
        assert isinstance(owner, nn.Conv2d), "linear layers read spikes"
        network.set_submodule(name, RoundingConv(owner, on.b, on.clamp))


def _round(x: Tensor, e: int) -> None:
    """To the nearest multiples of 2^-e, ties to even, in place."""
    x.mul_(2.0**e).round_().mul_(2.0**-e)


class RoundingConv(nn.Conv2d):
    """A convolution that clamps its input, and rounds it to multiples of 2^-b.

    Args:
        conv: The convolution; its parameters are taken.
        b: Of the grid.
        clamp: To what the input is clamped.
    """

    def __init__(self, conv: nn.Conv2d, b: int, clamp: tuple[float, float]) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            bias=conv.bias is not None,
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.b, self.clamp = b, clamp

    def forward(self, x: Tensor) -> Tensor:
        """Of the rounded input."""
        x = x.clamp(*self.clamp)
        if self.b == 0:
            return super().forward(x.round())
        return super().forward((x * 2.0**self.b).round() * 2.0**-self.b)


class Bar(MembraneNorm):
    """A normalisation of the membrane potential as the comparison that it amounts to: no arithmetic, no rounding.

    Args:
        norm: The normalisation.
        threshold: What its output is compared with.
    """

    sign: Tensor
    bar: Tensor

    def __init__(self, norm: MembraneNorm, threshold: float) -> None:
        super().__init__(norm.num_features)
        self.fires = 2 * threshold
        sign, bar = norm.threshold(threshold)
        self.register_buffer("sign", sign.detach())
        self.register_buffer("bar", bar.detach())
        self.weight = norm.weight

    def forward(self, u: Tensor) -> Tensor:
        """Of a membrane potential [B, C, ...]: twice the threshold where the neuron fires, else 0."""
        shape = [-1, *[1] * (u.dim() - 2)]
        return (self.sign.view(shape) * u > self.bar.view(shape)).to(u.dtype) * self.fires

    def threshold(self, threshold: float) -> tuple[Tensor, Tensor]:  # noqa: ARG002 it was given once
        """As `MembraneNorm.threshold`."""
        return self.sign, self.bar
