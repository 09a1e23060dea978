"""What the training loop tells of: a step that is done, an epoch and its evaluation that are done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from snnsc.training.metrics import Evaluation


@dataclass(frozen=True)
class StepDone:
    """An optimizer step is over. `loss` and `accuracy` are means over the epoch so far; reading them may wait."""

    epoch: int
    step: int
    """Steps of this epoch that are done."""
    steps: int
    branch_weight: float
    lr: float
    samples_per_second: float
    first_step_seconds: float
    """What the first step of this process took: compiling it, where that is not in torch's cache."""
    _sums: Tensor = field(repr=False)

    @property
    def loss(self) -> float:
        """Mean training loss of the epoch so far."""
        return float(self._sums[0] / self._sums[2])

    @property
    def accuracy(self) -> float:
        """Training accuracy of the epoch so far, by the head alone."""
        return float(self._sums[1] / self._sums[2])


@dataclass(frozen=True)
class EpochDone:
    """An epoch and its evaluation are over."""

    epoch: int
    train_loss: float
    train_accuracy: float
    branch_weight: float
    lr: float
    gradient_norm: dict[str, float]
    """Norm of the gradient of each block, mean over sampled steps."""
    first_layer_gradient: dict[str, Any]
    """Signed logarithmic histogram of the first convolution's weight gradient, over the same steps."""
    step_weights: list[float] | None
    """Weight of each time step's logits, where the method weighs them."""
    evaluation: Evaluation
    """On the evaluation set."""
    validation: Evaluation | None
    """On the validation share, where the recipe sets one."""
    is_best: bool
    samples_per_second: float
    seconds: float
    """Of training and evaluation since the very start, resumed runs included."""
