"""Fold what need not be computed at every step into the weights: normalisations, and the factors of real spikes.

Legend: T time steps, B batch, C channels, H W space, K classes. The folded network gives what the network gives in
evaluation mode, within rounding, with plain convolutions, linear layers and binary spikes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import cast

import torch
from torch import Tensor, nn

from snnsc.errors import CheckError
from snnsc.model import SpikingNetwork
from snnsc.model.blocks import ConvNorm, PlainBlock, Stem
from snnsc.model.neurons import RealSpike
from snnsc.model.norms import Bntt, Norm, Tebn
from snnsc.model.shortcuts import PooledLinear
from snnsc.model.vgg import FlattenHead


class PerStepConv(nn.Module):
    """A convolution with weights of its own for every time step: [T or 1, B, C_in, H, W] -> [T, B, C_out, H', W'].

    Args:
        steps: The convolution of each time step.
    """

    def __init__(self, steps: list[nn.Conv2d]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """The current of every time step; an input of one step is held."""
        held = x_TBCHW.shape[0] == 1
        return torch.stack([step(x_TBCHW[0 if held else t]) for t, step in enumerate(self.steps)])


def fold(network: SpikingNetwork) -> tuple[SpikingNetwork, list[str]]:
    """A copy, on the CPU, in which all is folded that folds.

    Args:
        network: A network without branches, in evaluation mode; it is not changed.

    Returns:
        The folded network, and a line of words for each kind of folding that took place.

    Raises:
        CheckError: factors of real spikes have no one layer to be folded into.
    """
    folded = copy.deepcopy(network).to("cpu")
    with torch.no_grad():
        return folded, [*_fold_norms(folded), *_fold_factors(folded)]


def _fold_norms(network: SpikingNetwork) -> list[str]:
    done = set()
    for name, module in list(network.named_modules()):
        if not isinstance(module, ConvNorm):
            continue
        match module.norm:
            case Norm() as norm:
                module.conv = _folded(module.conv, *norm.scale_and_shift())
                module.norm = nn.Identity()
                done.add("every normalisation into the convolution before it")
            case Tebn() | Bntt() as norm:
                scale_TC, shift_TC = norm.scale_and_shift()
                steps = [_folded(module.conv, *both) for both in zip(scale_TC, shift_TC, strict=True)]
                network.set_submodule(name, PerStepConv(steps))
                done.add("every normalisation into the convolution before it, with weights for each time step")
            case other:
                raise AssertionError(f"{name}.norm is a {type(other).__name__}: folded already?")
    return sorted(done)


def _folded(conv: nn.Conv2d, scale_C: Tensor, shift_C: Tensor) -> nn.Conv2d:
    """A convolution, then scale and shift of its channels, as one convolution: w' = scale w, b' = shift."""
    folded = copy.deepcopy(conv)
    folded.weight = nn.Parameter(conv.weight * scale_C[:, None, None, None])
    folded.bias = nn.Parameter(shift_C.clone())
    return folded


def _fold_factors(network: SpikingNetwork) -> list[str]:
    layers = {name: m for name, m in network.named_modules() if isinstance(m, RealSpike)}
    readers = dict(_readers(network))
    for name, module in layers.items():
        if name not in readers or network.shortcuts:
            raise CheckError(
                f"layer {name}: the factors of its real spikes cannot be folded, because not one convolution or linear "
                "layer alone reads them; take a plain architecture, without branches, or another neuron"
            )
        _scale_inputs(readers[name], module.factor)
        network.set_submodule(name, module.neuron)
    return ["every factor of real spikes into the layer after it"] if layers else []


def _readers(network: SpikingNetwork) -> Iterator[tuple[str, nn.Module]]:
    """(layer of neurons, the one operator that reads its spikes); average pools between them commute with a factor."""
    stages = enumerate(cast(Iterable[nn.ModuleList], network.stages))
    blocks = [(f"stages.{s}.{b}", block) for s, stage in stages for b, block in enumerate(stage)]
    waiting: str | None = None
    for name, part in [("stem", network.stem), *blocks, ("head", network.head)]:
        for operator, neuron in _row(part):
            if waiting is not None and operator is not None:
                yield waiting, operator
            waiting = None if neuron is None else f"{name}.{neuron}"


def _row(part: nn.Module) -> Iterator[tuple[nn.Module | None, str | None]]:
    """(operator, the layer of neurons after it), one after another, of a part without a path around them."""
    match part:
        case Stem(convs=convs, neurons=neurons):
            yield from zip_longest(convs, [f"neurons.{i}" for i in range(len(neurons))])
        case PlainBlock(conv=conv):
            yield conv, "neuron"
        case PooledLinear(linear=linear) | FlattenHead(linear=linear):
            yield linear, None
        case _:
            yield None, None


def _scale_inputs(operator: nn.Module, factor_C: Tensor) -> None:
    """Multiply what an operator reads of each channel by the channel's factor, in its weights."""
    match operator:
        case ConvNorm(conv=conv):
            conv.weight.mul_(factor_C[:, None, None])
        case PerStepConv(steps=steps):
            for step in cast(Iterable[nn.Conv2d], steps):
                step.weight.mul_(factor_C[:, None, None])
        case nn.Linear(weight=weight):
            # a flattened map has all positions of a channel side by side
            weight.mul_(factor_C.repeat_interleave(weight.shape[1] // len(factor_C)))
        case _:
            raise AssertionError(f"{type(operator).__name__} has no weights")
