"""How long, how fast, how precisely: `[train]`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from snnsc.recipe.schema.spec import ImpossibleCombination, NonNegative, Positive, Spec


class AdamWSpec(Spec):
    """AdamW."""

    type: Literal["adamw"]
    """The optimizer."""
    lr: Positive = 0.01
    """Peak learning rate."""
    weight_decay: NonNegative = 0.02
    """Decoupled weight decay, on all weights as in the papers' code; not on constants that neurons learn."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay of the two moments."""


class SgdSpec(Spec):
    """Stochastic gradient descent with momentum."""

    type: Literal["sgd"]
    """The optimizer."""
    lr: Positive = 0.1
    """Peak learning rate."""
    weight_decay: NonNegative = 5e-4
    """Weight decay, on all weights; not on constants that neurons learn."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum."""
    nesterov: bool = False
    """Nesterov's form of momentum."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ImpossibleCombination([("nesterov", "needs a momentum above 0")])
        return self


Memory = Literal["speed", "balanced", "small"]

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
    compile: Literal["neurons", "model", "off"] = "neurons"
    """What torch.compile makes kernels of: each neuron with its normalisation, the whole network (not with
    `method.im_loss`), or nothing."""
    cuda_graphs: bool = False
    """Record a step as CUDA graphs; with compile = 'model', on a GPU."""
    memory: Memory = "speed"
    """What is kept for the backward pass: all (speed), spikes as bits (balanced), or of each block only what it reads,
    as bits, and the block is run again (small). With compile = 'model' the compiler decides: leave it at speed;
    small is not with `method.im_loss`."""
