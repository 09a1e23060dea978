"""Which keys, each valid alone, do not go together, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from snnsc.recipe.schema.data import EventAugment, ImageFolderSpec
from snnsc.recipe.schema.method import BranchBase, TetSpec
from snnsc.recipe.schema.model import (
    BnttSpec,
    GlifSpec,
    IfSpec,
    LifSpec,
    MpbnSpec,
    RealSpikeSpec,
    ReluSpec,
    ResNet20Spec,
    ResNetBase,
    ResNetSpec,
    TdbnSpec,
    TebnSpec,
    TinySpec,
)

if TYPE_CHECKING:
    from snnsc.recipe.schema import Recipe

Problems = Iterator[tuple[str, str]]
"""(key path, what is wrong)."""


def impossible_combinations(recipe: Recipe) -> Problems:
    """Yield (key path, what is wrong) for keys that are valid alone but not together."""
    yield from _data(recipe)
    yield from _architecture(recipe)
    yield from _neuron(recipe)
    yield from _method(recipe)
    yield from _train(recipe)


def _data(recipe: Recipe) -> Problems:
    data = recipe.data
    if isinstance(data, ImageFolderSpec):
        for key in ("mean", "std"):
            values = getattr(data, key)
            if values is not None and len(values) != data.channels:
                yield f"data.{key}", f"has {len(values)} values for data.channels = {data.channels}"
    augment = data.augment
    if isinstance(augment, EventAugment):
        if augment.roll >= data.size:
            yield "data.augment.roll", f"{augment.roll} is not smaller than data.size = {data.size}"
        return
    if augment.cutout > data.size:
        yield "data.augment.cutout", f"{augment.cutout} is larger than data.size = {data.size}"
    if augment.autoaugment is not None and data.channels != 3:
        yield "data.augment.autoaugment", f"its policies are for colour images, {data.type} is grey"
    if augment.resized_crop and augment.crop:
        yield "data.augment.crop", "is one way to crop, data.augment.resized_crop another; leave one of both out"


def _architecture(recipe: Recipe) -> Problems:
    data, model = recipe.data, recipe.model
    if data.size < model.min_size:
        yield "data.size", f"{data.size} is too small for {model.arch}, which needs at least {model.min_size}"
    if isinstance(model, ResNetSpec) and model.stem == "imagenet" and data.size < 32:
        yield "data.size", f"{data.size} is too small for model.stem = 'imagenet', which needs at least 32"
    if isinstance(model, ResNet20Spec) and data.size % 16:
        yield "data.size", f"{data.size} is no multiple of 16, and resnet20 halves the image four times by pooling"
    if isinstance(model, TinySpec):
        if not model.stages or not all(model.stages) or sum(map(len, model.stages)) < 2:
            yield "model.stages", "needs two convolutions at least, and one in every stage"
        elif data.size >> (len(model.stages) - 1) == 0:
            yield "model.stages", f"has {len(model.stages) - 1} pools, too many for data.size = {data.size}"
        elif isinstance(recipe.method, BranchBase):
            blocks = [len(model.stages[0]) - 1, *map(len, model.stages[1:])]  # the first convolution is the stem
            if sum(blocks) < 2 or (recipe.method.attach == "stage" and not any(blocks[:-1])):
                yield "model.stages", f"leaves no {recipe.method.attach} before the last for a branch to read"


def _neuron(recipe: Recipe) -> Problems:
    model, neuron, norm = recipe.model, recipe.model.neuron, recipe.model.norm
    if isinstance(neuron, ReluSpec):
        if model.T != 1:
            yield "model.T", "must be 1 with model.neuron.type = 'relu', which has no memory of time"
        if isinstance(norm, TdbnSpec | MpbnSpec):
            yield "model.norm.type", f"{norm.type} is made for a firing threshold, and relu has none; take 'bn'"
    if isinstance(neuron, RealSpikeSpec) and isinstance(model, ResNetBase):
        yield (
            "model.neuron.type",
            f"real-spike needs a layer after every neuron to fold its factors into, and the identity paths of "
            f"{model.arch} add spikes without one; take a plain network or another neuron",
        )
    if isinstance(norm, MpbnSpec) and not isinstance(neuron, LifSpec | IfSpec):
        yield "model.norm.type", f"mpbn normalises the membrane of lif and if, not of {neuron.type}"
    if isinstance(norm, TebnSpec | BnttSpec) and model.T == 1:
        yield "model.norm.type", f"{norm.type} tells time steps apart, and model.T = 1 has one; take 'bn'"
    if isinstance(norm, BnttSpec | MpbnSpec) and recipe.train.batch_size == 1:
        yield "train.batch_size", f"1 leaves {norm.type}, which takes statistics of single time steps, too few values"
    if isinstance(norm, TdbnSpec) and isinstance(neuron, GlifSpec):
        yield "model.norm.type", "tdbn scales by one firing threshold, and glif learns one per channel; take 'bn'"


def _method(recipe: Recipe) -> Problems:
    method, T = recipe.method, recipe.model.T
    if isinstance(recipe.model.neuron, ReluSpec):
        if method.masking is not None and method.masking.placement == "surrogate":
            yield "method.masking", "relu has no surrogate gradient to mask; leave it out or take placement = 'weight'"
        if method.im_loss is not None:
            yield "method.im_loss", "draws inputs to a firing threshold, and relu has none; leave it out"
    if method.weighting is not None:
        if T == 1:
            yield "method.weighting", "weighs time steps, and model.T = 1 has one; leave it out or raise model.T"
        if isinstance(method.loss, TetSpec):
            yield (
                "method.weighting",
                "has no place beside tet, which trains each time step on its own; take one of both",
            )
        if method.weighting.warmup_epochs >= recipe.train.epochs:
            yield (
                "method.weighting.warmup_epochs",
                f"{method.weighting.warmup_epochs} leaves nothing of train.epochs = {recipe.train.epochs}",
            )
    if (
        method.masking is not None
        and method.masking.ramp is not None
        and method.masking.ramp.start >= recipe.train.epochs
    ):
        yield (
            "method.masking.ramp.start",
            f"{method.masking.ramp.start:g} is not before train.epochs = {recipe.train.epochs}",
        )


def _train(recipe: Recipe) -> Problems:
    train = recipe.train
    if train.batch_size == 1 and recipe.model.T == 1:
        yield "train.batch_size", "1 with model.T = 1 leaves the normalisation a single value a channel; raise either"
    if train.cuda_graphs and train.compile != "model":
        yield "train.cuda_graphs", "records a whole network; set train.compile = 'model'"
    if train.compile == "model" and train.memory != "speed":
        yield "train.memory", f"'{train.memory}' is not for train.compile = 'model', where the compiler decides"
    if train.compile == "model" and recipe.method.im_loss is not None:
        yield "train.compile", "'model' shows no inputs of neurons, which method.im_loss reads; take 'neurons'"
    if train.memory == "small" and recipe.method.im_loss is not None:
        yield "train.memory", "'small' keeps no inputs of neurons, which method.im_loss reads; take 'balanced'"
    if train.warmup_epochs >= train.epochs:
        yield "train.warmup_epochs", f"{train.warmup_epochs:g} leaves nothing of train.epochs = {train.epochs}"
