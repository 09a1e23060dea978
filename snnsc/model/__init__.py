"""From a recipe to the network: neurons, surrogates, norms, blocks, architectures, branches."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import nn

from snnsc.model.blocks import Cells
from snnsc.model.network import Logits, SpikingNetwork
from snnsc.model.resnet import resnet_parts, resnet_plan
from snnsc.model.shortcuts import taps
from snnsc.model.vgg import vgg_parts, vgg_plan
from snnsc.recipe.schema import (
    BnttSpec,
    CifarNetSpec,
    GlifSpec,
    MethodSpec,
    Recipe,
    ResNet19Spec,
    ResNet20Spec,
    ResNetSpec,
    TebnSpec,
    ThinResNetSpec,
    TinySpec,
    VggSnnSpec,
    VggSpec,
)

__all__ = ["Logits", "SpikingNetwork", "build_model", "per_step"]


def build_model(recipe: Recipe, *, branches: bool = True, compiled: bool | None = None) -> SpikingNetwork:
    """The network of a recipe, freshly initialised.

    Input: event frames [T, B, C, H, W] or static images [B, C, H, W]. Output in evaluation mode: logits [B, K]; in
    training mode: `Logits` of every time step, of the head and of the branches.

    The weights depend on `recipe.seed` only, and those of the main path not on the method, so that methods start
    from the same network. The global random state is left as it was.

    Args:
        recipe: What to build.
        branches: Whether to attach the shortcut branches of the recipe's method; without is the deployed network.
        compiled: Whether neurons are compiled, which takes seconds at their first run; None is as the recipe says.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        compiled = recipe.train.compile != "off" if compiled is None else compiled
        network = _build(recipe, recipe.method if branches else None, compiled)
    # convolutions are faster so on CPUs and on tensor cores, and neurons run in this order
    return network.to(memory_format=torch.channels_last)


def _build(recipe: Recipe, method: MethodSpec | None, compiled: bool) -> SpikingNetwork:
    spec, data = recipe.model, recipe.data
    cells = Cells(spec.neuron, spec.surrogate, spec.norm, T=spec.T, compiled=compiled)
    stages: list[list[nn.Module]]
    match spec:
        case ResNetSpec() | ResNet20Spec() | ResNet19Spec() | ThinResNetSpec():
            plan = resnet_plan(spec)
            widths = [[width] * count for width, count in zip(plan.widths, plan.blocks, strict=True)]
            stem, stages, head = resnet_parts(plan, cells, spec.residual, data.channels, data.classes)
        case VggSnnSpec() | CifarNetSpec() | VggSpec() | TinySpec():
            plain = vgg_plan(spec)
            widths = [list(plain.stages[0][1:]), *(list(stage) for stage in plain.stages[1:])]
            stem, stages, head = vgg_parts(plain, cells, data.channels, data.size, data.classes)
        case _:
            assert_never(spec)
    read = taps(method, [len(blocks) for blocks in stages]) if method else []
    return SpikingNetwork(
        stem,
        stages,
        head,
        T=spec.T,
        taps=[(s, b, widths[s][b]) for s, b in read],
        classes=data.classes,
        weighted=recipe.method.weighting is not None,
        per_step=per_step(recipe),
        memory=recipe.train.memory,
    )


def per_step(recipe: Recipe) -> tuple[str, ...]:
    """What of the recipe makes the network learn something for each time step alone."""
    neuron, norm, keys = recipe.model.neuron, recipe.model.norm, []
    if isinstance(norm, TebnSpec | BnttSpec):
        keys.append(f"model.norm.type = '{norm.type}'")
    if isinstance(neuron, GlifSpec):
        keys.append(f"model.neuron.type = '{neuron.type}'")
    if recipe.method.weighting is not None:
        keys.append("method.weighting")
    return tuple(keys)
