"""`snnsc train`: recipe -> run folder with checkpoints."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snnsc.cli.arguments import DataRoot, Device, Json
from snnsc.cli.console import data_progress, log_to_stderr, note, say, show_json, with_root
from snnsc.errors import RecipeError

if TYPE_CHECKING:
    from snnsc.checkpoint import Checkpoint
    from snnsc.recipe.schema import Recipe
    from snnsc.training.distributed import Place

NAME = "train"
QUIET = 1e-3
"""Firing rate below which a layer counts as silent."""


def command(
    recipe: Annotated[
        str | None, typer.Argument(help="A TOML recipe, or the name of one that `snnsc recipes` lists.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run, new or empty; default runs/<name>-<n>.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder, exactly.")] = None,
    data_root: DataRoot = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Train a recipe; Ctrl-C saves after the step and says how to go on.

    Several GPUs or processes: torchrun --nproc-per-node N -m snnsc train RECIPE.
    """
    from snnsc.recipe.load import load_recipe

    if (recipe is None) == (resume is None):
        raise RecipeError("train takes either a RECIPE or --resume DIR; `snnsc recipes` lists recipes")
    if resume is not None and (set_ or out):
        raise RecipeError("--resume goes on with the run as it was; --set and --out would make it another")
    loaded = load_recipe(recipe, set_ or []) if recipe is not None else None
    log_to_stderr()

    from snnsc.training.distributed import joined
    from snnsc.training.run import read_last

    last = read_last(resume) if resume is not None else None
    with joined(device) as place:
        _train(last.recipe if last else loaded, last, resume or out, data_root, place, json_)  # type: ignore[arg-type]


def _train(
    recipe: Recipe, last: Checkpoint | None, folder: Path | None, data_root: Path | None, place: Place, json_: bool
) -> None:
    from snnsc.cli.train_display import Display
    from snnsc.data import build_loaders, resolve_root
    from snnsc.training.distributed import same_everywhere
    from snnsc.training.loop import EpochDone, Training
    from snnsc.training.run import BEST, LAST, Interrupted, chosen_on, new_folder, record, resume

    with data_progress() as progress:
        loaders = build_loaders(
            recipe,
            resolve_root(recipe, data_root),
            rank=place.rank,
            world_size=place.world_size,
            progress=progress if place.leads else None,
        )
    training = resume(last, loaders, place) if last else Training(recipe, loaders, place)
    if last is None:
        folder = same_everywhere(lambda: new_folder(folder, recipe.name), place)
    assert folder is not None
    if training.epoch >= recipe.train.epochs:
        note(f"{folder}: all {recipe.train.epochs} epochs are done")
    best = training.best_accuracy
    with Display(training, folder, quiet=not place.leads) as display, _stop_signals(place.leads) as stop_asked:
        for event in record(training, folder, stop_asked):
            if isinstance(event, Interrupted):
                display.close()
                if place.leads:
                    processes = f"torchrun --nproc-per-node {place.world_size} -m " if place.world_size > 1 else ""
                    note(f"stopped in epoch {event.epoch + 1} after step {event.step}; saved {event.checkpoint}")
                    note(f"go on with: {processes}snnsc train --resume {folder}{with_root(data_root)}")
                sys.exit(130)
            display.show(event)
            if isinstance(event, EpochDone):
                best = training.best_accuracy
    if not place.leads:
        return
    if json_:
        show_json(_result(folder, best, training))
        return
    final = training.last_accuracy
    say(f"accuracy {final:.2%} after epoch {recipe.train.epochs}, in {training.seconds:.0f} s")
    say(f"best.pt: {best:.2%}, chosen on {chosen_on(recipe)}")
    say(f"checkpoint: {folder / LAST} (last epoch), {folder / BEST}")
    if not any(layer.firing_rate > QUIET for layer in training.last_layers):
        say(f"warning: no layer fires more than {QUIET:g} of the time; the network is dead, its accuracy means nothing")
    command = "strip" if training.model.shortcuts else "export"
    say(f"next: snnsc {command} {folder / LAST}{with_root(data_root)}")


def _result(folder: Path, best: float, training: Any) -> dict[str, object]:  # noqa: ANN401 - typing it would import torch
    from snnsc.training.run import LAST

    return {
        "run_dir": str(folder),
        "checkpoint": str(folder / LAST),
        "best_accuracy": best,
        "accuracy": training.last_accuracy,
        "epochs": training.epoch,
        "seconds": training.seconds,
    }


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
