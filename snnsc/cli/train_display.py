"""What `snnsc train` shows while it runs: a live line on a terminal, a plain line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from snnsc.cli.console import note
from snnsc.training.loop import EpochDone, StepDone, Training

REFRESH_SECONDS = 0.5
"""Between looks at the loss, as each waits for the device and draws the line."""


LONG = 2.0
"""Seconds from which a first step is told of."""


class Display:
    """Shows the events of a training; prints to standard error.

    Args:
        training: The run.
        folder: Where it is written.
        quiet: Show nothing, as in the other processes of a distributed run.
    """

    def __init__(self, training: Training, folder: Path, *, quiet: bool) -> None:
        self.training, self.folder, self.quiet = training, folder, quiet
        self.epochs = training.recipe.train.epochs
        self.firing_rate: float | None = None
        self.shown = 0.0
        self.first: tuple[float, int] | None = None
        """When the first step was done, and steps of the run then: what is left is told from there on."""
        self.bar: Progress | None = None

    def __enter__(self) -> Self:
        """Print what is about to be trained."""
        if self.quiet:
            return self
        training = self.training
        recipe, facts = training.recipe, training.loaders.facts
        weights = sum(p.numel() for p in training.model.parameters())
        branches = len(training.model.shortcuts)
        note(
            f"{recipe.name}: {recipe.model.arch}, T = {recipe.model.T}, {weights:,} parameters, {branches} "
            f"branch{'' if branches == 1 else 'es'}"
        )
        note(
            f"{recipe.data.type}: {facts.train_samples} to train, {facts.test_samples} to evaluate; "
            f"{training.place.device}, {training.precision}"
        )
        note(f"run folder: {self.folder}")
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(8), TextColumn("{task.fields[status]}"))
            first = {"neurons": "compiling neurons ...", "model": "compiling the network ...", "off": ""}
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
            self.task = self.bar.add_task(
                "epoch", status=first[recipe.train.compile], total=len(training.train_batches)
            )
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the live line away."""
        self.close()

    def close(self) -> None:
        """Take the live line away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def show(self, event: StepDone | EpochDone) -> None:
        """Show an event."""
        if self.quiet:
            return
        if isinstance(event, StepDone):
            self._step(event)
        else:
            self._epoch(event)

    def _step(self, event: StepDone) -> None:
        now = time.perf_counter()
        if self.first is None:
            self.first = now, event.epoch * event.steps + event.step
            if event.first_step_seconds >= LONG and self.training.recipe.train.compile != "off":
                self._tell(f"the first step took {event.first_step_seconds:.0f} s, compiling included")
        if self.bar is None or (now - self.shown < REFRESH_SECONDS and event.step < event.steps):
            return
        self.shown = now
        status = (
            f"loss {event.loss:.3f} train {event.accuracy:.1%} lambda {event.branch_weight:.2f} lr {event.lr:.0e} "
            f"firing {_rate(self.firing_rate)} {self._pace(event, now)}"
        )
        description = f"{event.epoch + 1}/{self.epochs}"
        self.bar.update(
            self.task, description=description, completed=event.step, total=event.steps, status=status, refresh=True
        )

    def _pace(self, event: StepDone, now: float) -> str:
        """Samples a second and time left, neither of which is known of the first step."""
        assert self.first is not None
        since, before = self.first
        done = event.epoch * event.steps + event.step
        if done == before:
            return ""
        seconds = (now - since) / (done - before) * (self.epochs * event.steps - done)
        left = f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{int(seconds % 60):02d}"
        return f"{event.samples_per_second:.0f}/s {left} left"

    def _epoch(self, event: EpochDone) -> None:
        self.firing_rate = event.evaluation.firing_rate
        validation = f"  validation {event.validation.accuracy:.2%}" if event.validation else ""
        line = (
            f"epoch {event.epoch + 1}/{self.epochs}  loss {event.train_loss:.4f}  train {event.train_accuracy:.2%}"
            f"{validation}  eval {event.evaluation.accuracy:.2%}{'  best' if event.is_best else ''}  "
            f"lambda {event.branch_weight:.3f}  lr {event.lr:.2e}  firing {_rate(self.firing_rate)}  "
            f"{event.samples_per_second:.0f} samples/s  {event.seconds:.0f} s"
        )
        self._tell(line)

    def _tell(self, line: str) -> None:
        if self.bar is not None:
            self.bar.console.print(line, highlight=False, soft_wrap=True)
        else:
            note(line)


def _rate(firing_rate: float | None) -> str:
    return "-" if firing_rate is None else f"{firing_rate:.3f}"
