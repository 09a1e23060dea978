"""How the gradient reaches the shallow layers, and what is minimised: `[method]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from snnsc.recipe.schema.spec import NonNegative, Positive, Spec

Attach = Literal["block", "stage"]
Schedule = Literal["linear", "cosine", "constant"]


class RampSpec(Spec):
    """A straight change of the masking ratio from one epoch to the end of training."""

    start: NonNegative
    """Epochs of training after which the ratio begins to change."""
    ratio: float = Field(ge=0, le=1)
    """The ratio at the end of training."""


class MaskingSpec(Spec):
    """Masked surrogate gradients (MSG): a random part of the gradients is set to 0, and the rest is not rescaled."""

    ratio: float = Field(default=0.5, ge=0, le=1)
    """Probability of each gradient's being masked."""
    placement: Literal["surrogate", "weight"] = "surrogate"
    """Mask ds/du of every neuron, time step and sample, or the gradients of the weights of convolutions and linears."""
    ramp: RampSpec | None = None
    """Change of the ratio over training; default none."""


class WeightingSpec(Spec):
    """Temporally weighted output (TWO): each time step's logits are weighted by its training accuracy."""

    warmup_epochs: int = Field(default=5, ge=0)
    """First epochs, in which every weight stays 1."""
    momentum: float = Field(default=0.7, ge=0, le=1)
    """Share of the old weight that is kept after each later epoch."""


class ImLossSpec(Spec):
    """IM-Loss: neurons' inputs are drawn to where spikes carry most information."""

    weight: Positive = 0.005
    """Factor on the mean over layers of (mean input - 0.5/T)^2."""


class TeacherSpec(Spec):
    """Knowledge distillation from a trained network, such as the ANN twin (`model.neuron.type = "relu"`, T = 1)."""

    checkpoint: str = Field(min_length=1)
    """Checkpoint of the teacher; of the same classes, image size and channels."""
    weight: Positive = 1.0
    """Factor on temperature^2 * KL(teacher, head)."""
    temperature: Positive = 4.0
    """Temperature of both softmaxes."""


class CeSpec(Spec):
    """Cross-entropy of the logits' mean over time."""

    type: Literal["ce"]
    """The loss of an output."""


class TetSpec(Spec):
    """Temporal efficient training: (1 - lamb) * mean over t of CE(o[t]) + lamb * MSE(o, target)."""

    type: Literal["tet"]
    """The loss of an output."""
    lamb: float = Field(default=1e-3, ge=0, le=1)
    """Share of the mean squared distance of all logits from `target`."""
    target: Positive = 1.0
    """What that term draws the logits to."""


LossSpec = Annotated[CeSpec | TetSpec, Field(discriminator="type")]


class MethodBase(Spec):
    """Keys of every method."""

    loss: LossSpec = CeSpec(type="ce")
    """What is minimised of each output."""
    masking: MaskingSpec | None = None
    """Masked surrogate gradients (MSG); default none."""
    weighting: WeightingSpec | None = None
    """Temporally weighted output (TWO); default none."""
    im_loss: ImLossSpec | None = None
    """IM-Loss on top; default none."""
    teacher: TeacherSpec | None = None
    """Knowledge distillation on top; default none."""


class VanillaSpec(MethodBase):
    """No branches: the plain network."""

    mode: Literal["vanilla"]
    """The training method."""


class BranchBase(MethodBase):
    """Keys of the methods that attach shortcut branches."""

    attach: Attach = "block"
    """A branch after every residual block but the last (plain networks: convolution but first and last), or stage."""


class CombineBase(BranchBase):
    """Keys of the methods that weigh branches against the head."""

    combine: Literal["logits", "losses"] = "logits"
    """Weigh and sum the branches' logits before one cross-entropy, or the cross-entropies of each."""


class ShortcutSpec(CombineBase):
    """Shortcut back-propagation: every branch counts fully (weight 1) throughout training."""

    mode: Literal["shortcut"]
    """The training method."""


class EvolutionarySpec(CombineBase):
    """Evolutionary training: the weight of the branches fades from `weight` to 0 over the iterations."""

    mode: Literal["evolutionary"]
    """The training method."""
    weight: NonNegative = 0.25
    """lambda0, the weight of the branches at the first iteration."""
    schedule: Schedule = "linear"
    """How the weight falls from lambda0 to 0 over the iterations, or stays."""


class DistillSpec(BranchBase):
    """Self-distillation: head and branches also learn from the mean of those logits that classify the sample right."""

    mode: Literal["distill"]
    """The training method."""
    weight: NonNegative = 0.25
    """lambda0, the weight of the branches' losses at the first iteration."""
    schedule: Schedule = "linear"
    """How the weight falls from lambda0 to 0 over the iterations, or stays."""
    alpha: Positive = 1.0
    """Factor on temperature^2 * KL(teacher, output) of every output."""
    temperature: Positive = 3.0
    """Temperature of both softmaxes."""


MethodSpec = Annotated[VanillaSpec | ShortcutSpec | EvolutionarySpec | DistillSpec, Field(discriminator="mode")]
