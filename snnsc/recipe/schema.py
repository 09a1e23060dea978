"""What a recipe may say: every key, its type, its bound and one line about it.

A recipe is one experiment. Each choice (data set, architecture, neuron, surrogate, norm, method, optimizer) is a
discriminated union, so a key that does not belong to the chosen member is an error. Everything is frozen and strict.
This file imports neither torch nor numpy: a recipe error must be instant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)]
Size = Annotated[int, Field(ge=4, le=1024)]
FolderName = Annotated[str, Field(min_length=1)]


class ImpossibleCombination(ValueError):
    """Keys that are each valid but not together; `problems` holds (key path, what is wrong) pairs."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{key}: {what}" for key, what in problems))


class Spec(BaseModel):
    """Base of every table of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


# ---------------------------------------------------------------------------------------------------------- data


class ImageAugment(Spec):
    """Training-only changes of an image, applied in this order: AutoAugment, crop, flip, cutout."""

    autoaugment: Literal["cifar10", "imagenet", "svhn"] | None = None
    """torchvision's AutoAugment policy learned on that data set."""
    crop: int = Field(default=0, ge=0, le=64)
    """Zero padding in pixels on each side before a random crop back to `size`; 0 is off."""
    flip: bool = False
    """Mirror left-right with probability 1/2."""
    cutout: int = Field(default=0, ge=0, le=512)
    """Side in pixels of a random square set to the mean; 0 is off."""


class EventAugment(Spec):
    """Training-only changes of an event sample, the same for all of its T frames."""

    flip: bool = False
    """Mirror left-right with probability 1/2."""
    roll: int = Field(default=0, ge=0, le=64)
    """Random wrap-around shift of up to this many pixels along each axis; 0 is off."""


class DataBase(Spec):
    """Keys that every data set has."""

    is_event: ClassVar[bool]

    root: str | None = None
    """Folder that holds the data sets; `--data-root` goes before it, `SNNSC_DATA` and then `data` come after it."""
    validation: Share = 0.0
    """Share of the training samples, stratified by class, kept apart to choose `best.pt`; 0 is none."""
    train_limit: int | None = Field(default=None, ge=1)
    """Train on this many samples only, stratified by class and drawn by `seed`."""
    test_limit: int | None = Field(default=None, ge=1)
    """Evaluate on this many samples only, stratified by class and drawn by `seed`."""
    workers: int = Field(default=0, ge=0, le=64)
    """Processes that decode images too many to hold in memory, or build a frame cache; 0 picks by processor count."""


class ImageBase(DataBase):
    """Keys that every set of static images has; an image is fed at every time step."""

    is_event: ClassVar[bool] = False

    augment: ImageAugment = ImageAugment()
    """Training-only changes of the images."""


class DigitsSpec(ImageBase):
    """scikit-learn's 1,797 8x8 digits; they come with the package and need no folder."""

    type: Literal["digits"]
    """The data set."""
    size: Size = 8
    """Side of the square image in pixels; other sizes are resized."""
    channels: ClassVar[int] = 1
    classes: ClassVar[int] = 10


class MnistSpec(ImageBase):
    """MNIST or Fashion-MNIST, downloaded on first use by torchvision."""

    type: Literal["mnist", "fashion-mnist"]
    """The data set."""
    size: Size = 28
    """Side of the square image in pixels; other sizes are resized."""
    channels: ClassVar[int] = 1
    classes: ClassVar[int] = 10


class Cifar10Spec(ImageBase):
    """CIFAR-10, downloaded on first use by torchvision."""

    type: Literal["cifar10"]
    """The data set."""
    size: Size = 32
    """Side of the square image in pixels; other sizes are resized."""
    channels: ClassVar[int] = 3
    classes: ClassVar[int] = 10


class Cifar100Spec(ImageBase):
    """CIFAR-100, downloaded on first use by torchvision."""

    type: Literal["cifar100"]
    """The data set."""
    size: Size = 32
    """Side of the square image in pixels; other sizes are resized."""
    channels: ClassVar[int] = 3
    classes: ClassVar[int] = 100


class ImageFolderSpec(ImageBase):
    """Images in `folder`/train/<class>/ and `folder`/test/<class>/ (or val/)."""

    type: Literal["image-folder"]
    """The data set."""
    folder: FolderName
    """Folder under the data root."""
    size: Size
    """Side of the square image in pixels; others are resized (shorter side) and cropped at the centre."""
    classes: int = Field(ge=2, le=100_000)
    """Number of class folders."""
    channels: Literal[1, 3] = 3
    """1 reads the images as grey, 3 as RGB."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel for pixel values in 0..1; default ImageNet's."""
    std: tuple[Positive, ...] | None = None
    """Standard deviation of each channel for pixel values in 0..1; default ImageNet's."""


class EventBase(DataBase):
    """Keys that every set of event recordings has; a recording becomes model.T frames [T, 2, size, size]."""

    is_event: ClassVar[bool] = True
    channels: ClassVar[int] = 2

    slicing: Literal["time", "count"] = "time"
    """Cut a recording into T parts of equal duration or of equal number of events."""
    augment: EventAugment = EventAugment()
    """Training-only changes of the frames."""


class EventFolderSpec(EventBase):
    """Recordings in `folder`/train/<class>/ and `folder`/test/<class>/ (or val/): .bin, .aedat4, .npy, .npz."""

    type: Literal["event-folder"]
    """The data set."""
    folder: FolderName
    """Folder under the data root."""
    size: Size
    """Side of the square frame in pixels; other sensor sizes are resized."""
    classes: int = Field(ge=2, le=100_000)
    """Number of class folders."""
    sensor: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]] | None = None
    """Sensor width and height in pixels; needed for .npy and .npz, else taken from the file format."""


class NmnistSpec(EventBase):
    """N-MNIST, 34x34, downloaded on first use by tonic."""

    type: Literal["nmnist"]
    """The data set."""
    size: Size = 34
    """Side of the square frame in pixels; other sizes are resized."""
    classes: ClassVar[int] = 10


class Cifar10DvsSpec(EventBase):
    """CIFAR10-DVS, 128x128, tonic's aedat4 repack, downloaded on first use; 9,000 to train and 1,000 to test."""

    type: Literal["cifar10dvs"]
    """The data set."""
    size: Size = 48
    """Side of the square frame in pixels."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of the stratified 9:1 split into training and test recordings."""
    classes: ClassVar[int] = 10


DataSpec = Annotated[
    DigitsSpec
    | MnistSpec
    | Cifar10Spec
    | Cifar100Spec
    | ImageFolderSpec
    | EventFolderSpec
    | NmnistSpec
    | Cifar10DvsSpec,
    Field(discriminator="type"),
]

# --------------------------------------------------------------------------------------------------------- model


class LifSpec(Spec):
    """Leaky integrate-and-fire: u = decay * v + x; spike where u > threshold; hard reset to 0."""

    type: Literal["lif"]
    """The neuron."""
    decay: float = Field(default=0.5, gt=0, le=1)
    """Factor on the membrane potential from one step to the next."""
    threshold: Positive = 1.0
    """Firing threshold."""


class IfSpec(Spec):
    """Integrate-and-fire: the LIF neuron without leak."""

    type: Literal["if"]
    """The neuron."""
    threshold: Positive = 1.0
    """Firing threshold."""
    decay: ClassVar[float] = 1.0


NeuronSpec = Annotated[LifSpec | IfSpec, Field(discriminator="type")]


class TriangleSpec(Spec):
    """ds/du = gamma * max(0, 1 - |d| / threshold)."""

    type: Literal["triangle"]
    """The surrogate gradient."""
    gamma: Positive = 1.0
    """Height of the peak."""


class RectangleSpec(Spec):
    """ds/du = 1/a where |d| < a/2."""

    type: Literal["rectangle"]
    """The surrogate gradient."""
    a: Positive = 1.0
    """Width."""


class TanhSpec(Spec):
    """ds/du = k * (1 - tanh(d)^2)."""

    type: Literal["tanh"]
    """The surrogate gradient."""
    k: Positive = 1.0
    """Height of the peak."""


class SigmoidSpec(Spec):
    """ds/du = alpha * sig(alpha d) * (1 - sig(alpha d))."""

    type: Literal["sigmoid"]
    """The surrogate gradient."""
    alpha: Positive = 4.0
    """Steepness."""


class DspikeSpec(Spec):
    """ds/du = b (1 - tanh(b d)^2) / (2 tanh(b/2)) for |d| <= 1/2, else 0."""

    type: Literal["dspike"]
    """The surrogate gradient."""
    b: Positive = 3.0
    """Temperature: the larger, the narrower."""


class AtanSpec(Spec):
    """ds/du = alpha / (2 (1 + (pi/2 alpha d)^2))."""

    type: Literal["atan"]
    """The surrogate gradient."""
    alpha: Positive = 2.0
    """Steepness."""


class PiecewiseLinearSpec(Spec):
    """ds/du = max(0, alpha - alpha^2 |d|)."""

    type: Literal["piecewise-linear"]
    """The surrogate gradient."""
    alpha: Positive = 2.0
    """Height of the peak; half the width is 1/alpha."""


SurrogateSpec = Annotated[
    TriangleSpec | RectangleSpec | TanhSpec | SigmoidSpec | DspikeSpec | AtanSpec | PiecewiseLinearSpec,
    Field(discriminator="type"),
]


class BnSpec(Spec):
    """Batch normalisation with statistics over time, batch and space."""

    type: Literal["bn"]
    """The normalisation."""


class TdbnSpec(Spec):
    """Threshold-dependent batch normalisation: gamma * alpha * threshold * norm(x) + beta."""

    type: Literal["tdbn"]
    """The normalisation."""
    alpha: Positive = 1.0
    """Factor; 1/sqrt(2) of it is taken on the two summands of a residual block."""


NormSpec = Annotated[BnSpec | TdbnSpec, Field(discriminator="type")]


class ModelBase(Spec):
    """Keys that every architecture has."""

    T: int = Field(default=4, ge=1, le=256)
    """Number of time steps."""
    neuron: NeuronSpec = LifSpec(type="lif")
    """The neuron of every spiking layer."""
    surrogate: SurrogateSpec = TriangleSpec(type="triangle")
    """The gradient that stands in for that of the spike."""
    norm: NormSpec = BnSpec(type="bn")
    """The normalisation after every convolution."""


class ResNetSpec(ModelBase):
    """Residual networks with a 3x3 CIFAR stem and standard (LIF after the sum) blocks."""

    arch: Literal["resnet18", "resnet34", "resnet20"]
    """The architecture."""
    min_size: ClassVar[int] = 8


class ResNet19Spec(ModelBase):
    """ResNet-19 of the SNN papers: blocks [3, 3, 2], widths 128-256-512."""

    arch: Literal["resnet19"]
    """The architecture."""
    variant: Literal["guo", "tet"] = "guo"
    """`guo`: stem 128 and one linear layer; `tet`: stem 64 and linear layers 512-256-classes."""
    min_size: ClassVar[int] = 4


class ThinResNetSpec(ModelBase):
    """He's CIFAR networks: stem 16, three stages of (N-2)/6 blocks, widths 16-32-64."""

    arch: Literal[
        "resnet20-thin", "resnet32-thin", "resnet44-thin", "resnet56-thin", "resnet110-thin", "resnet152-thin"
    ]
    """The architecture."""
    min_size: ClassVar[int] = 4


class VggSnnSpec(ModelBase):
    """VGGSNN: 64-128-AP-256-256-AP-512-512-AP-512-512-AP, linear."""

    arch: Literal["vggsnn"]
    """The architecture."""
    min_size: ClassVar[int] = 16


class TinySpec(ModelBase):
    """Plain convolutions, GAP, linear; as it comes conv 16 - conv 32 - pool - conv 64: seconds on a CPU."""

    arch: Literal["tiny"]
    """The architecture."""
    stages: tuple[tuple[Annotated[int, Field(ge=1, le=4096)], ...], ...] = ((16, 32), (64,))
    """Channels of each 3x3 convolution; a 2x2 average pool stands between the stages."""
    min_size: ClassVar[int] = 4


ModelSpec = Annotated[
    ResNetSpec | ResNet19Spec | ThinResNetSpec | VggSnnSpec | TinySpec,
    Field(discriminator="arch"),
]

# -------------------------------------------------------------------------------------------------------- method


class VanillaSpec(Spec):
    """No branches: the plain network."""

    mode: Literal["vanilla"]
    """The training method."""


class BranchBase(Spec):
    """Keys of the methods that attach shortcut branches."""

    attach: Literal["block", "stage"] = "block"
    """A branch after every residual block but the last (plain networks: convolution but first and last), or stage."""
    combine: Literal["logits", "losses"] = "logits"
    """Weigh and sum the branches' logits before one cross-entropy, or the cross-entropies of each."""


class ShortcutSpec(BranchBase):
    """Shortcut back-propagation: every branch counts fully (weight 1) throughout training."""

    mode: Literal["shortcut"]
    """The training method."""


class EvolutionarySpec(BranchBase):
    """Evolutionary training: the weight of the branches fades from `weight` to 0 over the iterations."""

    mode: Literal["evolutionary"]
    """The training method."""
    weight: NonNegative = 0.25
    """lambda0, the weight of the branches at the first iteration."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the weight falls from lambda0 to 0 over the iterations, or stays."""


MethodSpec = Annotated[VanillaSpec | ShortcutSpec | EvolutionarySpec, Field(discriminator="mode")]

# --------------------------------------------------------------------------------------------------------- train


class AdamWSpec(Spec):
    """AdamW."""

    type: Literal["adamw"]
    """The optimizer."""
    lr: Positive = 0.01
    """Peak learning rate."""
    weight_decay: NonNegative = 0.02
    """Decoupled weight decay, on all parameters as in the papers' code."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay of the two moments."""


class SgdSpec(Spec):
    """Stochastic gradient descent with momentum."""

    type: Literal["sgd"]
    """The optimizer."""
    lr: Positive = 0.1
    """Peak learning rate."""
    weight_decay: NonNegative = 5e-4
    """Weight decay, on all parameters."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum."""
    nesterov: bool = False
    """Nesterov's form of momentum."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ImpossibleCombination([("nesterov", "needs a momentum above 0")])
        return self


OptimizerSpec = Annotated[AdamWSpec | SgdSpec, Field(discriminator="type")]


class TrainSpec(Spec):
    """How long, how fast, how precisely."""

    epochs: int = Field(ge=1, le=100_000)
    """Passes over the training samples."""
    batch_size: int = Field(default=128, ge=1, le=65_536)
    """Samples a step, over all processes."""
    eval_batch_size: int | None = Field(default=None, ge=1, le=65_536)
    """Samples a step in evaluation; default twice `batch_size`."""
    optimizer: OptimizerSpec = AdamWSpec(type="adamw")
    """The optimizer."""
    lr_schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after warm-up: falling to 0 along a cosine, or constant."""
    warmup_epochs: NonNegative = 0.0
    """Epochs (or a fraction of one) over which the learning rate rises linearly from 0."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing of the cross-entropy."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; longer ones are scaled down."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """Convolutions and normalisation in this format, membranes in fp32; `auto` takes bf16 where it is native."""
    compile: Literal["neurons", "off"] = "neurons"
    """Compile the neurons with torch.compile, or run them eagerly."""


# -------------------------------------------------------------------------------------------------------- recipe


class Recipe(Spec):
    """One experiment, whole."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Name of the run folder: letters, digits, dot, dash and underscore."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the weights, the splits, the order of the samples and their augmentation."""
    data: DataSpec
    """What to train on."""
    model: ModelSpec
    """What to train."""
    method: MethodSpec = EvolutionarySpec(mode="evolutionary")
    """How the gradient reaches the shallow layers."""
    train: TrainSpec
    """How to train it."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if problems := list(impossible_combinations(self)):
            raise ImpossibleCombination(problems)
        return self


def impossible_combinations(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield (key path, what is wrong) for keys that are valid alone but not together."""
    data, model, train = recipe.data, recipe.model, recipe.train
    if data.size < model.min_size:
        yield "data.size", f"{data.size} is too small for {model.arch}, which needs at least {model.min_size}"
    if isinstance(model, TinySpec):
        if not model.stages or not all(model.stages) or sum(map(len, model.stages)) < 2:
            yield "model.stages", "needs two convolutions at least, and one in every stage"
        elif data.size >> (len(model.stages) - 1) == 0:
            yield "model.stages", f"has {len(model.stages) - 1} pools, too many for data.size = {data.size}"
        elif isinstance(recipe.method, BranchBase):
            blocks = [len(model.stages[0]) - 1, *map(len, model.stages[1:])]  # the first convolution is the stem
            if sum(blocks) < 2 or (recipe.method.attach == "stage" and not any(blocks[:-1])):
                yield "model.stages", f"leaves no {recipe.method.attach} before the last for a branch to read"
    if model.arch == "resnet20" and data.size % 16:
        yield "data.size", f"{data.size} is no multiple of 16, and resnet20 halves the image four times by pooling"
    if train.batch_size == 1 and model.T == 1:
        yield "train.batch_size", "1 with model.T = 1 leaves the normalisation a single value a channel; raise either"
    if train.warmup_epochs >= train.epochs:
        yield "train.warmup_epochs", f"{train.warmup_epochs:g} leaves nothing of train.epochs = {train.epochs}"
    if isinstance(data, ImageFolderSpec):
        for key in ("mean", "std"):
            values = getattr(data, key)
            if values is not None and len(values) != data.channels:
                yield f"data.{key}", f"has {len(values)} values for data.channels = {data.channels}"
    if not data.is_event and isinstance(data.augment, ImageAugment):
        if data.augment.cutout > data.size:
            yield "data.augment.cutout", f"{data.augment.cutout} is larger than data.size = {data.size}"
        if data.augment.autoaugment is not None and data.channels != 3:
            yield "data.augment.autoaugment", f"its policies are for colour images, {data.type} is grey"
    if isinstance(data.augment, EventAugment) and data.augment.roll >= data.size:
        yield "data.augment.roll", f"{data.augment.roll} is not smaller than data.size = {data.size}"
