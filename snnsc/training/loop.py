"""The training loop: a generator of events. Printing, logging and saving stand outside it.

    for event in training.events(): ...      StepDone after every optimizer step, EpochDone after every evaluation

Between two events `training.state()` is the whole state: a `Training` made from it goes on with the very same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from snnsc.data import Loaders
from snnsc.errors import CheckError, RecipeError
from snnsc.model import Logits, SpikingNetwork, build_model
from snnsc.model.masking import set_masks
from snnsc.recipe.schema import Recipe
from snnsc.training.compiled import check_graphs, compiled_whole
from snnsc.training.device import autocast, pick_precision
from snnsc.training.distributed import Place, add_up, share_buffers, share_model
from snnsc.training.evaluate import evaluate
from snnsc.training.events import EpochDone, StepDone
from snnsc.training.gradients import GradientSums
from snnsc.training.im_loss import im_loss, input_means
from snnsc.training.losses import build_loss
from snnsc.training.metrics import LayerActivity, class_labels
from snnsc.training.optim import build_optimizer
from snnsc.training.schedules import branch_weight, learning_rate, masking_ratio
from snnsc.training.teacher import Teacher, load_teacher
from snnsc.training.weight_masks import mask_weight_gradients
from snnsc.training.weighting import updated_step_weights

__all__ = ["EpochDone", "StepDone", "Training"]

FINITE_CHECK_EVERY = 50
"""Steps between looks at the loss on an accelerator, where each look waits for it."""
GRADIENTS_AN_EPOCH = 32
"""How many steps of an epoch, evenly spaced, the gradients are measured in; fewer where it has few steps."""
GRADIENTS_EVERY = 4
"""Steps from one measurement of the gradients to the next, at least."""


class Training:
    """One training run.

    Args:
        recipe: The experiment.
        loaders: Its data; training and evaluation batches.
        place: Device and process.
        state: What `state()` gave, to go on from there.

    Raises:
        RecipeError: the recipe asks for what the device does not have.
    """

    def __init__(self, recipe: Recipe, loaders: Loaders, place: Place, state: dict[str, Any] | None = None) -> None:
        assert loaders.train is not None
        check_graphs(recipe.train, place.device)
        self.recipe, self.loaders, self.place = recipe, loaders, place
        self.train_batches = loaders.train
        self.model: SpikingNetwork = build_model(recipe).to(place.device)
        self.optimizer = build_optimizer(self.model, recipe.train.optimizer)
        self.precision = pick_precision(recipe.train.precision, place.device)
        self.loss = build_loss(recipe.method, recipe.train.label_smoothing)
        self.teacher: Teacher | None = None
        if recipe.method.teacher is not None:
            self.teacher = load_teacher(recipe.method.teacher, recipe, loaders.facts.to_dict(), place.device)
        self.epoch = 0
        self.step = 0
        self.seconds = 0.0
        self.first_step_seconds: float | None = None
        """Of this process's first step, which compiles."""
        self.best_accuracy = -1.0
        self.last_accuracy = float("nan")
        self.last_layers: list[LayerActivity] = []
        self._sums, self._gradients = self._no_sums()
        torch.manual_seed(recipe.seed + 1)  # what is drawn in training does not repeat what drew the weights
        if state is not None:
            self._restore(state)

    def events(self) -> Iterator[StepDone | EpochDone]:
        """Train to the end of the recipe, from where the state stands."""
        forward = compiled_whole(share_model(self.model, self.place), self.recipe.train, self.place.device)
        while self.epoch < self.recipe.train.epochs:
            yield from self._epoch(forward)

    def gather(self) -> None:
        """Bring to the leader what each process counted for itself, before the leader's state is saved; all call."""
        add_up(self._sums, self.place)
        if not self.place.leads:
            self._sums.zero_()

    def state(self) -> dict[str, Any]:
        """Everything that `Training` needs to go on; tensors, numbers and strings only."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "best_accuracy": self.best_accuracy,
            "last_accuracy": self.last_accuracy,
            "precision": self.precision,
            "steps_per_epoch": len(self.train_batches),
            "world_size": self.place.world_size,
            "teacher_sha256": None if self.teacher is None else self.teacher.sha256,
            "optimizer": self.optimizer.state_dict(),
            "sums": self._sums.cpu(),
            **self._gradients.state(),
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state(self.place.device) if self.place.device.type == "cuda" else None,
            "model": self.model.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if self.teacher is not None and state["teacher_sha256"] != self.teacher.sha256:
            raise RecipeError(
                f"method.teacher.checkpoint: {self.teacher.path}: is not the file that the run began with (other "
                "SHA-256); put that one back"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step = int(state["epoch"]), int(state["step"])
        if not (0 <= self.epoch <= self.recipe.train.epochs and 0 <= self.step <= len(self.train_batches)):
            raise ValueError(f"epoch {self.epoch}, step {self.step} is not in the recipe")
        if state["steps_per_epoch"] != len(self.train_batches) or state["precision"] not in ("fp32", "bf16"):
            raise ValueError("steps_per_epoch or precision is not the run's")
        if state["sums"].shape != self._sums.shape:
            raise ValueError("sums are not the run's")
        self.seconds, self.best_accuracy = state["seconds"], state["best_accuracy"]
        self.last_accuracy = state["last_accuracy"]
        self.precision = state["precision"]
        if self.place.leads:  # its sums are those of all
            self._sums = state["sums"].to(self.place.device)
        self._gradients.restore(state)
        torch.set_rng_state(state["rng_cpu"])
        if state["rng_cuda"] is not None and self.place.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng_cuda"], self.place.device)

    def _no_sums(self) -> tuple[Tensor, GradientSums]:
        # loss, correct, samples; with method.weighting also the correct ones of each time step alone
        count = 3 if self.recipe.method.weighting is None else 3 + self.recipe.model.T
        sums = torch.zeros(count, dtype=torch.float64, device=self.place.device)
        return sums, GradientSums(self.place.device)

    def _epoch(self, forward: Callable[[Tensor], Any]) -> Iterator[StepDone | EpochDone]:
        started, seconds_before = time.perf_counter(), self.seconds
        counted, counted_from = started, self.step  # for the rate
        steps = len(self.train_batches)
        sampled = max(GRADIENTS_EVERY, steps // GRADIENTS_AN_EPOCH)
        rate = 0.0
        self.model.train()
        for inputs, labels in self.train_batches.batches(self.epoch, self.step):
            weight, lr = self._schedules(self.step)
            self._train_step(forward, inputs, labels, weight, lr, measure=self.step % sampled == 0)
            self.step += 1
            if self.place.device.type == "cpu" or self.step % FINITE_CHECK_EVERY == 0 or self.step == steps:
                self._check_finite()
            now = time.perf_counter()
            self.seconds = seconds_before + now - started
            rate = (self.step - counted_from) * self._batch_samples / max(1e-9, now - counted)
            if self.first_step_seconds is None:
                self.first_step_seconds = now - started
                counted, counted_from = now, self.step  # compiling is no part of the rate
            yield StepDone(self.epoch, self.step, steps, weight, lr, rate, self.first_step_seconds, self._sums)
        done = self._evaluate(*self._schedules(steps - 1), rate)
        self.seconds = seconds_before + time.perf_counter() - started
        self.epoch, self.step = self.epoch + 1, 0
        self._sums, self._gradients = self._no_sums()
        yield done

    def _schedules(self, step: int) -> tuple[float, float]:
        """Weight of the branches and learning rate at a step of this epoch."""
        steps, iteration = len(self.train_batches), self._iteration(step)
        weight = branch_weight(self.recipe.method, iteration, self.recipe.train.epochs * steps)
        return weight, learning_rate(self.recipe.train, iteration, steps)

    def _train_step(
        self, forward: Callable[[Tensor], Any], inputs: Tensor, labels: Tensor, weight: float, lr: float, measure: bool
    ) -> None:
        device, masking = self.place.device, self.recipe.method.masking
        inputs, labels = inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        iteration, ratio = self._iteration(self.step), 0.0
        if masking is not None:
            ratio = masking_ratio(masking, iteration, len(self.train_batches), self.recipe.train.epochs)
        if masking is not None and masking.placement == "surrogate":
            set_masks(self.model, ratio, (self.recipe.seed, iteration, self.place.rank))
        logits, loss = self._loss(forward, inputs, labels, weight)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if masking is not None and masking.placement == "weight":
            mask_weight_gradients(self.model, ratio, (self.recipe.seed, iteration))
        if measure:  # what the method lets through, before the clipping that belongs to the optimizer
            self._gradients.add(self.model)
        if self.recipe.train.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.train.clip_norm)
        self.optimizer.step()
        self._count(logits.main_TBK, labels, loss)

    def _iteration(self, step: int) -> int:
        """Optimizer steps since the very start before this one of this epoch."""
        return self.epoch * len(self.train_batches) + step

    def _loss(
        self, forward: Callable[[Tensor], Any], inputs: Tensor, labels: Tensor, weight: float
    ) -> tuple[Logits, Tensor]:
        """Outputs, and all that is minimised: the method's loss and what the recipe puts on top."""
        im, teacher = self.recipe.method.im_loss, self.teacher
        with autocast(self.precision, self.place.device), input_means(self.model, wanted=im is not None) as means:
            logits: Logits = forward(inputs)
            taught_BK = None if teacher is None else teacher.logits(inputs)
        loss = self.loss(logits, labels, weight)
        if im is not None:
            loss = loss + im.weight * im_loss(means, self.recipe.model.T)
        if teacher is not None and taught_BK is not None:
            loss = loss + teacher.loss(taught_BK, logits.main_TBK.mean(0))
        return logits, loss

    @torch.no_grad()
    def _count(self, main_TBK: Tensor, labels: Tensor, loss: Tensor) -> None:
        classes = class_labels(labels)
        correct = (main_TBK.mean(0).argmax(-1) == classes).sum()
        samples = torch.full_like(correct, len(labels))
        self._sums[:3] += torch.stack([loss.detach().double() * len(labels), correct, samples])
        if self.recipe.method.weighting is not None:
            self._sums[3:] += (main_TBK.argmax(-1) == classes).sum(1)
        self._batch_samples = len(labels) * self.place.world_size

    def _check_finite(self) -> None:
        """Look at the sum of the losses: one that is not finite leaves its mark there."""
        if not math.isfinite(float(self._sums[0])):
            at = "step" if self.place.device.type == "cpu" else "by step"  # it is looked at now and then
            raise CheckError(
                f"the loss is not finite in epoch {self.epoch + 1}, {at} {self.step} of {len(self.train_batches)}; "
                "lower train.optimizer.lr, raise train.warmup_epochs or set train.clip_norm"
            )

    def _weigh_steps(self) -> None:
        """Weigh the time steps by their accuracy over this epoch; the same in all processes, as the sums are."""
        weighting = self.recipe.method.weighting
        if weighting is None or self.epoch < weighting.warmup_epochs:
            return
        weights_T = self.model.get_buffer("step_weights")
        weights_T.copy_(updated_step_weights(weights_T, self._sums[3:] / self._sums[2], weighting.momentum))

    def _evaluate(self, weight: float, lr: float, rate: float) -> EpochDone:
        share_buffers(self.model, self.place)
        add_up(self._sums, self.place)
        self._weigh_steps()
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
            gradient_norm=self._gradients.norm(),
            first_layer_gradient=self._gradients.first_layer(),
            step_weights=None
            if self.recipe.method.weighting is None
            else self.model.get_buffer("step_weights").tolist(),
            evaluation=evaluation,
            validation=validation,
            is_best=is_best,
            samples_per_second=rate,
            seconds=self.seconds,
        )
