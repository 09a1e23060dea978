"""The training loop: a generator of events. Printing, logging and saving stand outside it.

    for event in training.events(): ...      StepDone after every optimizer step, EpochDone after every evaluation

Between two events `training.state()` is the whole state: a `Training` made from it goes on with the very same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from snnsc.data import Loaders
from snnsc.errors import CheckError
from snnsc.model import Logits, SpikingNetwork, build_model
from snnsc.recipe.schema import Recipe
from snnsc.training.device import autocast, pick_precision
from snnsc.training.distributed import Place, add_up, share_buffers, share_model
from snnsc.training.evaluate import evaluate
from snnsc.training.losses import build_loss
from snnsc.training.metrics import Evaluation, LayerActivity
from snnsc.training.optim import build_optimizer
from snnsc.training.schedules import branch_weight, learning_rate

FINITE_CHECK_EVERY = 50
"""Steps between looks at the loss on an accelerator, where each look waits for it."""
GRADIENT_NORMS_AN_EPOCH = 32
"""How many steps of an epoch, evenly spaced, the gradient norms are averaged over."""


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
    evaluation: Evaluation
    """On the evaluation set."""
    validation: Evaluation | None
    """On the validation share, where the recipe sets one."""
    is_best: bool
    samples_per_second: float
    seconds: float
    """Of training and evaluation since the very start, resumed runs included."""


class Training:
    """One training run.

    Args:
        recipe: The experiment.
        loaders: Its data; training and evaluation batches.
        place: Device and process.
        state: What `state()` gave, to go on from there.
    """

    def __init__(self, recipe: Recipe, loaders: Loaders, place: Place, state: dict[str, Any] | None = None) -> None:
        assert loaders.train is not None
        self.recipe, self.loaders, self.place = recipe, loaders, place
        self.train_batches = loaders.train
        self.model: SpikingNetwork = build_model(recipe).to(place.device)
        self.optimizer = build_optimizer(self.model, recipe.train.optimizer)
        self.precision = pick_precision(recipe.train.precision, place.device)
        self.loss = build_loss(recipe.method, recipe.train.label_smoothing)
        self.epoch = 0
        self.step = 0
        self.seconds = 0.0
        self.best_accuracy = -1.0
        self.last_accuracy = float("nan")
        self.last_layers: list[LayerActivity] = []
        self._gradient_norms: dict[str, Tensor] = {}
        self._clear_sums()
        self._first_bad_step = torch.tensor(-1, device=place.device)
        torch.manual_seed(recipe.seed + 1)  # what is drawn in training does not repeat what drew the weights
        if state is not None:
            self._restore(state)

    def events(self) -> Iterator[StepDone | EpochDone]:
        """Train to the end of the recipe, from where the state stands."""
        forward = share_model(self.model, self.place)
        while self.epoch < self.recipe.train.epochs:
            yield from self._epoch(forward)

    def state(self) -> dict[str, Any]:
        """Everything that `Training` needs to go on, but the weights; tensors, numbers and strings only."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "best_accuracy": self.best_accuracy,
            "last_accuracy": self.last_accuracy,
            "precision": self.precision,
            "steps_per_epoch": len(self.train_batches),
            "world_size": self.place.world_size,
            "optimizer": self.optimizer.state_dict(),
            "sums": self._sums.cpu(),
            "gradient_norms": {name: norm.cpu() for name, norm in self._gradient_norms.items()},
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state(self.place.device) if self.place.device.type == "cuda" else None,
            "model": self.model.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step = int(state["epoch"]), int(state["step"])
        if not (0 <= self.epoch <= self.recipe.train.epochs and 0 <= self.step <= len(self.train_batches)):
            raise ValueError(f"epoch {self.epoch}, step {self.step} is not in the recipe")
        if state["steps_per_epoch"] != len(self.train_batches) or state["precision"] not in ("fp32", "bf16"):
            raise ValueError("steps_per_epoch or precision is not the run's")
        self.seconds, self.best_accuracy = state["seconds"], state["best_accuracy"]
        self.last_accuracy = state["last_accuracy"]
        self.precision = state["precision"]
        self._sums = state["sums"].to(self.place.device)
        self._gradient_norms = {name: norm.to(self.place.device) for name, norm in state["gradient_norms"].items()}
        torch.set_rng_state(state["rng_cpu"])
        if state["rng_cuda"] is not None and self.place.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng_cuda"], self.place.device)

    def _clear_sums(self) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64, device=self.place.device)  # loss, correct, samples
        self._gradient_norms = {}

    def _epoch(self, forward: nn.Module) -> Iterator[StepDone | EpochDone]:
        started, seconds_before, steps_before = time.perf_counter(), self.seconds, self.step
        steps = len(self.train_batches)
        sampled = max(1, steps // GRADIENT_NORMS_AN_EPOCH)
        rate = 0.0
        self.model.train()
        for inputs, labels in self.train_batches.batches(self.epoch, self.step):
            weight, lr = self._schedules(self.step)
            self._train_step(forward, inputs, labels, weight, lr, measure=self.step % sampled == 0)
            self.step += 1
            if self.place.device.type == "cpu" or self.step % FINITE_CHECK_EVERY == 0 or self.step == steps:
                self._check_finite()
            self.seconds = seconds_before + time.perf_counter() - started
            rate = (self.step - steps_before) * self._batch_samples / max(1e-9, self.seconds - seconds_before)
            yield StepDone(self.epoch, self.step, steps, weight, lr, rate, self._sums)
        done = self._evaluate(*self._schedules(steps - 1), rate)
        self.seconds = seconds_before + time.perf_counter() - started
        self.epoch, self.step = self.epoch + 1, 0
        self._clear_sums()
        yield done

    def _schedules(self, step: int) -> tuple[float, float]:
        """Weight of the branches and learning rate at a step of this epoch."""
        steps = len(self.train_batches)
        iteration = self.epoch * steps + step
        weight = branch_weight(self.recipe.method, iteration, self.recipe.train.epochs * steps)
        return weight, learning_rate(self.recipe.train, iteration, steps)

    def _train_step(
        self, forward: nn.Module, inputs: Tensor, labels: Tensor, weight: float, lr: float, measure: bool
    ) -> None:
        device = self.place.device
        inputs, labels = inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with autocast(self.precision, device):
            logits: Logits = forward(inputs)
        loss = self.loss(logits, labels, weight)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if measure:
            self._measure_gradients()
        if self.recipe.train.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.train.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            bad_now = ~torch.isfinite(loss) & (self._first_bad_step < 0)
            self._first_bad_step = torch.where(bad_now, self.step, self._first_bad_step)
            correct = (logits.main_TBK.mean(0).argmax(-1) == labels).sum()
            samples = torch.full_like(correct, len(labels))
            self._sums += torch.stack([loss.detach().double() * len(labels), correct, samples])
        self._batch_samples = len(labels) * self.place.world_size

    def _check_finite(self) -> None:
        if (step := int(self._first_bad_step)) >= 0:
            raise CheckError(
                f"the loss is not finite in epoch {self.epoch + 1}, step {step + 1} of {len(self.train_batches)}; "
                "lower train.optimizer.lr, raise train.warmup_epochs or set train.clip_norm"
            )

    def _measure_gradients(self) -> None:
        for name, block in gradient_blocks(self.model):
            norm = nn.utils.get_total_norm([p.grad for p in block.parameters() if p.grad is not None])
            total = torch.stack([norm.detach().double(), torch.ones_like(norm, dtype=torch.float64)])
            self._gradient_norms[name] = self._gradient_norms.get(name, torch.zeros_like(total)) + total

    def _evaluate(self, weight: float, lr: float, rate: float) -> EpochDone:
        share_buffers(self.model, self.place)
        add_up(self._sums, self.place)
        classes, device = self.recipe.data.classes, self.place.device
        validation = None
        if self.loaders.validation is not None:
            validation = evaluate(self.model, self.loaders.validation.batches(), classes, device)
        evaluation = evaluate(self.model, self.loaders.test.batches(), classes, device)
        if not math.isfinite(evaluation.loss):
            raise CheckError(
                f"the evaluation loss is not finite after epoch {self.epoch + 1}, so the last steps diverged; "
                "lower train.optimizer.lr, raise train.warmup_epochs or set train.clip_norm"
            )
        self.last_accuracy = evaluation.accuracy
        self.last_layers = evaluation.layers
        chooses = validation or evaluation
        is_best = chooses.accuracy > self.best_accuracy
        self.best_accuracy = max(self.best_accuracy, chooses.accuracy)
        return EpochDone(
            epoch=self.epoch,
            train_loss=float(self._sums[0] / self._sums[2]),
            train_accuracy=float(self._sums[1] / self._sums[2]),
            branch_weight=weight,
            lr=lr,
            gradient_norm={name: float(total[0] / total[1]) for name, total in self._gradient_norms.items()},
            evaluation=evaluation,
            validation=validation,
            is_best=is_best,
            samples_per_second=rate,
            seconds=self.seconds,
        )


def gradient_blocks(model: SpikingNetwork) -> Iterator[tuple[str, nn.Module]]:
    """The parts of a network whose gradient norms are told apart: first convolution, stem, every block, head."""
    yield "stem.convs.0.conv", model.get_submodule("stem.convs.0.conv")
    yield "stem", model.stem
    for s, blocks in enumerate(model.stages):
        for b, block in enumerate(blocks.children()):
            yield f"stages.{s}.{b}", block
    yield "head", model.head
