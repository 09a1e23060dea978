"""`snnsc train`: recipe -> run folder with checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnsc.cli.arguments import DataRoot, Device, Json
from snnsc.cli.console import log_to_stderr, say, show_json, shown
from snnsc.errors import RecipeError

if TYPE_CHECKING:
    from snnsc.cli.train_run import Outcome
    from snnsc.recipe.schema import Recipe

NAME = "train"


def command(
    recipe: Annotated[
        str | None, typer.Argument(help="A TOML recipe, or the name of one that `snnsc recipes` lists.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1,2", help="Train once with each seed; ends with mean and deviation.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run, new or empty; default runs/<name>-<n>.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run, or the seeds, in this folder.")] = None,
    data_root: DataRoot = None,
    device: Device = None,
    json_: Json = False,
) -> None:
    """Train a recipe; Ctrl-C saves after the step and says how to go on.

    Several GPUs or processes: torchrun --nproc-per-node N -m snnsc train RECIPE.
    """
    from snnsc.compare.seeds import is_seeds_folder, parse_seeds, read_seeds
    from snnsc.recipe.load import load_recipe

    if (recipe is None) == (resume is None):
        raise RecipeError("train takes either a RECIPE or --resume DIR; `snnsc recipes` lists recipes")
    if resume is not None and (set_ or out or seeds is not None):
        raise RecipeError("--resume goes on with the run as it was; --set, --seeds and --out would make it another")
    wanted: Sequence[int] | None = None
    loaded: Recipe | None = None
    if recipe is not None:
        wanted = None if seeds is None else parse_seeds(seeds)
        if wanted and any(text.partition("=")[0].strip() == "seed" for text in set_ or []):
            raise RecipeError("--seeds sets the seed, and --set seed does too; leave one of both out")
        loaded = load_recipe(recipe, set_ or [])
    elif resume is not None and is_seeds_folder(resume):
        loaded, wanted = read_seeds(resume)
    log_to_stderr()

    from snnsc.cli.train_run import stopped, train_run
    from snnsc.cli.train_seeds import Seeds, show_seeds
    from snnsc.training.distributed import joined
    from snnsc.training.run import new_folder, read_last

    if wanted is not None:
        assert loaded is not None
        with joined(device) as place:
            outcomes = Seeds(loaded, wanted, folder=resume, out=out).train(data_root, place)
            if place.leads:
                show_seeds(outcomes, loaded, wanted, json_=json_)
        return
    last = read_last(resume) if resume is not None else None
    planned = last.recipe if last else loaded
    assert planned is not None
    with joined(device) as place:
        outcome = train_run(planned, last, lambda: resume or new_folder(out, planned.name), data_root, place)
        if not outcome.finished:
            raise stopped(outcome.folder, data_root, place)
        if place.leads:
            _show(outcome, planned, data_root, json_)


def _show(outcome: Outcome, recipe: Recipe, data_root: Path | None, json_: bool) -> None:
    from snnsc.cli.train_run import QUIET
    from snnsc.training.run import BEST, LAST, chosen_on

    if json_:
        show_json(outcome.to_dict())
        return
    folder = outcome.folder
    say(f"accuracy {outcome.accuracy:.2%} after epoch {recipe.train.epochs}, in {outcome.seconds:.0f} s")
    say(f"best.pt: {outcome.best_accuracy:.2%}, chosen on {chosen_on(recipe)}")
    say(f"checkpoint: {folder / LAST} (last epoch), {folder / BEST}")
    if outcome.silent:
        say(f"warning: no layer fires more than {QUIET:g} of the time; the network is dead, its accuracy means nothing")
    command = "strip" if outcome.has_branches else "export"
    say(f"next: {shown('snnsc', command, folder / LAST, data_root=data_root)}")
