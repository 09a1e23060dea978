"""One run, shown as it goes: what `snnsc train` does once, or once a seed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from snnsc.checkpoint import Checkpoint
from snnsc.cli.console import data_progress, note, shown
from snnsc.cli.train_display import Display
from snnsc.data import build_loaders, resolve_root
from snnsc.recipe.schema import Recipe
from snnsc.training.allocator import keep_freed_memory
from snnsc.training.distributed import Place, any_process, same_everywhere
from snnsc.training.loop import Training
from snnsc.training.run import LAST, Interrupted, record, resume
from snnsc.training.teacher import read_teacher

QUIET = 1e-3
"""Firing rate below which a layer counts as silent."""


@dataclass(frozen=True)
class Outcome:
    """What a run has come to."""

    folder: Path
    accuracy: float
    """Of the last epoch."""
    best_accuracy: float
    epochs: int
    """Epochs that are done."""
    seconds: float
    finished: bool
    stopped: bool = False
    """Whether it was asked to stop, be it in the last epoch."""
    silent: bool = False
    """Whether no layer fires."""
    has_branches: bool = True

    def to_dict(self) -> dict[str, object]:
        """The `--json` contract; keys are only ever added."""
        return {
            "run_dir": str(self.folder),
            "checkpoint": str(self.folder / LAST),
            "best_accuracy": self.best_accuracy,
            "accuracy": self.accuracy,
            "epochs": self.epochs,
            "seconds": self.seconds,
        }


def train_run(
    recipe: Recipe, last: Checkpoint | None, make_folder: Callable[[], Path], data_root: Path | None, place: Place
) -> Outcome:
    """Load the data, train to the end or until a signal, and write the run folder.

    Args:
        recipe: The experiment.
        last: What to go on from, if the run has begun.
        make_folder: Gives the run folder; called by the leading process once the data are there.
        data_root: What `--data-root` says.
        place: Device and process.
    """
    if recipe.method.teacher is not None:
        read_teacher(recipe.method.teacher)  # before data are downloaded for nothing
    if place.device.type == "cpu":
        keep_freed_memory()
    with data_progress() as progress:
        loaders = build_loaders(
            recipe,
            resolve_root(recipe, data_root),
            rank=place.rank,
            world_size=place.world_size,
            pinned=place.device.type == "cuda",
            progress=progress if place.leads else None,
        )
    training = resume(last, loaders, place) if last else Training(recipe, loaders, place)
    folder = same_everywhere(make_folder, place)
    if training.epoch >= recipe.train.epochs and place.leads:
        note(f"{folder}: all {recipe.train.epochs} epochs are done")
    with Display(training, folder, quiet=not place.leads) as display, _stop_signals(place.leads) as stop_asked:
        for event in record(training, folder, stop_asked):
            if isinstance(event, Interrupted):
                display.close()
                if place.leads:
                    note(f"stopped in epoch {event.epoch + 1} after step {event.step}; saved {event.checkpoint}")
            else:
                display.show(event)
        asked_to_stop = any_process(stop_asked(), place)
    return Outcome(
        folder=folder,
        accuracy=training.last_accuracy,
        best_accuracy=training.best_accuracy,
        epochs=training.epoch,
        seconds=training.seconds,
        finished=training.epoch >= recipe.train.epochs,
        stopped=asked_to_stop,
        silent=bool(training.last_layers) and all(layer.firing_rate <= QUIET for layer in training.last_layers),
        has_branches=bool(training.model.shortcuts),
    )


def stopped(folder: Path, data_root: Path | None, place: Place) -> SystemExit:
    """Say how to go on with the run, or the seeds, in `folder`; what to raise to end as interrupted."""
    if place.leads:
        processes = f"torchrun --nproc-per-node {place.world_size} -m " if place.world_size > 1 else ""
        note(f"go on with: {processes}{shown('snnsc', 'train', '--resume', folder, data_root=data_root)}")
    return SystemExit(130)


@contextmanager
def _stop_signals(speak: bool) -> Iterator[Callable[[], bool]]:
    """Within the context the first Ctrl-C (or SIGTERM) asks to stop after the step; a second one stops at once."""
    asked = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        if speak:
            note("stopping after this step; once more to stop at once, without saving")

    before = {which: signal.signal(which, ask) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
