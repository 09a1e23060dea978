"""A shipped recipe as a benchmark runs it: its training, and the bare step that stands beside it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from snnsc.data import build_loaders, resolve_root
from snnsc.recipe.load import load_recipe
from snnsc.recipe.schema import Recipe
from snnsc.training.allocator import keep_freed_memory
from snnsc.training.device import autocast
from snnsc.training.distributed import Place
from snnsc.training.loop import Training


def make_training(name: str, overrides: Sequence[str], data_root: Path | None, device: torch.device) -> Training:
    """The training of a shipped recipe at its start, in a process like that of `snnsc train`; the data are cached."""
    if device.type == "cpu":
        keep_freed_memory()
    recipe: Recipe = load_recipe(name, overrides)
    training = Training(recipe, build_loaders(recipe, resolve_root(recipe, data_root)), Place(device))
    training.model.train()
    return training


@dataclass(frozen=True, eq=False)
class BareStep:
    """Forward pass, loss, backward pass and optimizer on one batch that is on the device already.

    It is of the network, loss and optimizer of a training, and so differs from a step of its loop by nothing but what
    the loop adds. The branches' weight is 1 and the learning rate 0: the weights stay as the loop leaves them.
    """

    training: Training
    inputs: Tensor
    labels: Tensor

    def __call__(self) -> None:
        """Run it, and wait for the device."""
        training = self.training
        for group in training.optimizer.param_groups:
            group["lr"] = 0.0
        with autocast(training.precision, training.place.device):
            logits = training.model(self.inputs)
        loss = training.loss(logits, self.labels, 1.0)
        training.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        training.optimizer.step()
        if training.place.device.type == "cuda":
            torch.cuda.synchronize(training.place.device)


def bare_step(training: Training) -> BareStep:
    """The bare step on the first batch of the training, compiled and warm."""
    inputs, labels = next(training.train_batches.batches(0))
    step = BareStep(training, inputs.to(training.place.device), labels.to(training.place.device))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch, about what it finds to compile with
        for _ in range(3):
            step()
    return step
