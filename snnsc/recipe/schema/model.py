"""What to train: `[model]`, with neuron, surrogate gradient and normalisation."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from snnsc.recipe.schema.spec import OpenShare, Positive, Spec


class FiringBase(Spec):
    """Keys of every neuron that integrates, fires and resets."""

    threshold: Positive = 1.0
    """Firing threshold; the comparison is strict."""
    reset: Literal["hard", "soft"] = "hard"
    """After a spike: to 0, or down by the threshold."""
    detach_reset: bool = False
    """Take no gradient through the reset."""


class LifSpec(FiringBase):
    """Leaky integrate-and-fire: u = decay * v + input_gain * x; spike where u > threshold; reset."""

    type: Literal["lif"]
    """The neuron."""
    decay: float = Field(default=0.5, gt=0, le=1)
    """Factor on the membrane potential from one step to the next."""
    input_gain: Positive = 1.0
    """Factor on the input current; 1 - decay is the form of the MSG paper, u = v + (x - v) (1 - decay)."""


class IfSpec(FiringBase):
    """Integrate-and-fire: the LIF neuron without leak."""

    type: Literal["if"]
    """The neuron."""


class PlifSpec(FiringBase):
    """Parametric LIF: u = v + (x - v) * sigmoid(w), w learned per layer."""

    type: Literal["plif"]
    """The neuron."""
    tau: float = Field(default=2.0, gt=1, allow_inf_nan=False)
    """First membrane time constant in steps: sigmoid(w) starts at 1/tau."""


class DietLifSpec(FiringBase):
    """LIF with decay and threshold learned per layer, after Diet-SNN; soft reset unless said."""

    type: Literal["diet-lif"]
    """The neuron."""
    decay: float = Field(default=0.5, gt=0, le=1)
    """First value of the factor on the membrane potential; it stays within 0..1."""
    threshold: Positive = 1.0
    """First value of the firing threshold; it stays above 0."""
    reset: Literal["hard", "soft"] = "soft"
    """After a spike: to 0, or down by the threshold."""


class GlifSpec(Spec):
    """Gated LIF: leak, integration and reset are mixed by gates alpha, beta, gamma, learned per channel."""

    type: Literal["glif"]
    """The neuron."""
    gates: tuple[OpenShare, OpenShare, OpenShare] = (0.6, 0.8, 0.6)
    """First alpha, beta, gamma as the authors give them: the gate itself starts at 0.5 + (value - 0.5) / 2."""
    tau: OpenShare = 0.25
    """First exponential decay factor."""
    threshold: OpenShare = 0.5
    """First firing threshold and soft-reset potential."""
    leak: OpenShare = 0.0625
    """First linear leak."""
    conduct: OpenShare = 0.5
    """First conductance of the input, learned for every time step."""


class ClifSpec(Spec):
    """Complementary LIF: a second state m remembers spikes and deepens the soft reset."""

    type: Literal["clif"]
    """The neuron."""
    decay: float = Field(default=0.5, gt=0, lt=1)
    """Factor on the membrane potential; 1 - 1/tau."""
    threshold: Positive = 1.0
    """Firing threshold; the comparison is strict."""


class RealSpikeSpec(FiringBase):
    """LIF whose spikes are multiplied by a factor learned per channel, which folds into the next layer's weights."""

    type: Literal["real-spike"]
    """The neuron."""
    decay: float = Field(default=0.5, gt=0, le=1)
    """Factor on the membrane potential from one step to the next."""


class ReluSpec(Spec):
    """No neuron but ReLU, with model.T = 1: the ANN twin, as a teacher or for comparison."""

    type: Literal["relu"]
    """The activation."""
    threshold: ClassVar[float] = 1.0


NeuronSpec = Annotated[
    LifSpec | IfSpec | PlifSpec | DietLifSpec | GlifSpec | ClifSpec | RealSpikeSpec | ReluSpec,
    Field(discriminator="type"),
]


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


class TebnSpec(Spec):
    """Temporal effective batch normalisation: bn over all time steps, times a factor learned for each."""

    type: Literal["tebn"]
    """The normalisation."""


class BnttSpec(Spec):
    """Batch normalisation through time: statistics and gamma of each time step's own, no beta."""

    type: Literal["bntt"]
    """The normalisation."""


class MpbnSpec(Spec):
    """bn after the convolutions, and a second one on the membrane potential before it is compared."""

    type: Literal["mpbn"]
    """The normalisation."""


NormSpec = Annotated[BnSpec | TdbnSpec | TebnSpec | BnttSpec | MpbnSpec, Field(discriminator="type")]


class ModelBase(Spec):
    """Keys that every architecture has."""

    T: int = Field(default=4, ge=1, le=1024)
    """Number of time steps."""
    neuron: NeuronSpec = LifSpec(type="lif")
    """The neuron of every spiking layer."""
    surrogate: SurrogateSpec = TriangleSpec(type="triangle")
    """The gradient that stands in for that of the spike."""
    norm: NormSpec = BnSpec(type="bn")
    """The normalisation after every convolution."""


class ResNetBase(ModelBase):
    """Keys of every residual network."""

    residual: Literal["standard", "sew-add", "ms"] = "standard"
    """`standard`: LIF after the sum; `sew-add`: spikes are summed; `ms`: membrane currents are summed."""


class ResNetSpec(ResNetBase):
    """Residual networks of widths 64-128-256-512, with a CIFAR or an ImageNet stem."""

    arch: Literal["resnet18", "resnet34"]
    """The architecture."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """`cifar`: 3x3 of stride 1; `imagenet`: 7x7 of stride 2, then a 3x3 average pool of stride 2."""
    min_size: ClassVar[int] = 8


class ResNet20Spec(ResNetBase):
    """ResNet-20 of the SNN papers: three convolutions and a pool as stem, pooled downsampling."""

    arch: Literal["resnet20"]
    """The architecture."""
    min_size: ClassVar[int] = 16


class ResNet19Spec(ResNetBase):
    """ResNet-19 of the SNN papers: blocks [3, 3, 2], widths 128-256-512."""

    arch: Literal["resnet19"]
    """The architecture."""
    variant: Literal["guo", "tet"] = "guo"
    """`guo`: stem 128 and one linear layer; `tet`: stem 64 and linear layers 512-256-classes."""
    min_size: ClassVar[int] = 4


class ThinResNetSpec(ResNetBase):
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


class CifarNetSpec(ModelBase):
    """CIFARNet: 256-256-AP-256-256-AP-512-512-AP-1024-1024, GAP, linear."""

    arch: Literal["cifarnet"]
    """The architecture."""
    min_size: ClassVar[int] = 8


class VggSpec(ModelBase):
    """Simonyan's VGG-11 and VGG-16 with normalisation, average pools, GAP and one linear layer."""

    arch: Literal["vgg11", "vgg16"]
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
    ResNetSpec | ResNet20Spec | ResNet19Spec | ThinResNetSpec | VggSnnSpec | CifarNetSpec | VggSpec | TinySpec,
    Field(discriminator="arch"),
]
