"""`snnsc eval`: checkpoint, ONNX model or NIR file -> accuracy, firing rates, confusion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnsc.cli.arguments import DataRoot, Device, Json
from snnsc.cli.console import log_to_stderr, note, say, show_json, show_whole, shown, table, tell
from snnsc.errors import RecipeError

if TYPE_CHECKING:
    from snnsc.recipe.schema import Recipe
    from snnsc.training.metrics import Evaluation

NAME = "eval"
COMPILE_FROM = 5000
"""Samples from which compiling the neurons saves more time than it takes."""
STEPS_SHOWN = 20
"""Time steps of which the accuracy is printed; of more, some; --json has them all."""
CONFUSION_SHOWN = 20
"""Classes up to which the confusion matrix is printed; --json has it always."""


def command(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A .pt checkpoint, an .onnx file from snnsc export, or a .nir file.")
    ],
    data_root: DataRoot = None,
    device: Device = None,
    T: Annotated[
        int | None,
        typer.Option("--T", min=1, metavar="N", help="Hold images for N time steps, or cut recordings into N frames."),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="NPZ|RECIPE",
            help="nir: frames [T,N,...] and labels [N] in an .npz, or a recipe, whose evaluation set is taken.",
        ),
    ] = None,
    dt: Annotated[
        float | None, typer.Option(help="nir: length of a time step in seconds; default the file's own, or 1e-4.")
    ] = None,
    json_: Json = False,
) -> None:
    """Evaluate: accuracy, by time step too, loss, firing rates, dead neurons, confusion matrix."""
    log_to_stderr()
    if model.suffix in (".onnx", ".nir") and device not in (None, "cpu"):
        raise RecipeError(f"--device {device}: {model.suffix} files are run by onnxruntime on the CPU")
    for option, value in (("--inputs", inputs), ("--dt", dt)):
        if value is not None and model.suffix != ".nir":
            raise RecipeError(f"{option} {value}: is for .nir files alone; {_own(model, option, value)}")
    if model.suffix == ".nir":
        from snnsc.cli.eval_nir import evaluate_nir

        found, classes, step_weights = evaluate_nir(model, inputs, data_root, T, dt)
    elif model.suffix == ".onnx":
        found, classes, step_weights = _onnx(model, data_root, T)
    else:
        found, classes, step_weights = _checkpoint(model, data_root, device, T)
    if json_:
        show_json({**asdict(found), "step_weights": step_weights})
    else:
        _show(found, classes, step_weights)


def _own(model: Path, option: str, value: object) -> str:
    """Why a file takes no samples or time step from outside."""
    if model.suffix != ".onnx":
        return f"{model} is a checkpoint, which names data and time steps of its own"
    told = "an .onnx of `snnsc export` names data and time steps of its own"
    counts = shown("snnsc", "energy", model, option, str(value))
    return f"{told}; `{counts}` counts on samples" if option == "--inputs" else told


Found = tuple["Evaluation", tuple[str, ...], list[float] | None]
"""What was found, the classes, and the weight of each time step's logits where the method set them."""


def _checkpoint(path: Path, data_root: Path | None, device: str | None, T: int | None) -> Found:
    from snnsc.checkpoint import read
    from snnsc.cli.samples import evaluation_data
    from snnsc.training.device import pick_device
    from snnsc.training.evaluate import evaluate

    source = read(path)
    if T is not None:
        source = replace(source, recipe=_with_time_steps(source.recipe, T, path))
    place = pick_device(device)
    data = evaluation_data(source.recipe, source.facts, data_root)
    compiled = None if data.test.samples >= COMPILE_FROM else False
    network = source.build(compiled=compiled).to(place)
    found = evaluate(network, data.test.batches(), source.recipe.data.classes, place)
    weights_T = source.model.get("step_weights")
    return found, data.facts.classes, None if weights_T is None else weights_T.tolist()


def _onnx(path: Path, data_root: Path | None, T: int | None) -> Found:
    from snnsc.cli.samples import evaluation_data
    from snnsc.export.read import exact_steps_of, facts_of, read_onnx, recipe_of, step_weights_of, takes_time_steps
    from snnsc.export.runtime import evaluate, in_parts, load

    model = read_onnx(path)
    recipe = recipe_of(model, path)
    held = None
    if T is not None and T != recipe.model.T:
        recipe = _with_time_steps(recipe, T, path)
        if not takes_time_steps(model, is_event=recipe.data.is_event):
            raise RecipeError(f"--T {T}: {path} runs its own number of time steps alone; evaluate its checkpoint")
        held = None if recipe.data.is_event else T
    if T is not None and (exact := exact_steps_of(model)) is not None and exact < T:
        note(f"the spikes of {path} are proven exact up to T = {exact}, not {T}")
    network = load(model, str(path))
    data = evaluation_data(recipe, facts_of(model, path), data_root)
    found = evaluate(network, in_parts(network, data.test.batches(), held), recipe.data.classes, held)
    return found, data.facts.classes, step_weights_of(model, path)


def _with_time_steps(recipe: Recipe, T: int, path: Path) -> Recipe:
    from snnsc.checkpoint import with_time_steps

    try:
        return with_time_steps(recipe, T)
    except RecipeError as e:
        raise RecipeError(*(f"{path}: {line}" for line in e.args)) from e


def _show(found: Evaluation, classes: tuple[str, ...], step_weights: list[float] | None) -> None:
    say(f"accuracy {found.accuracy:.2%}, loss {found.loss:.4f}, {found.samples} samples")
    every = -(-len(found.accuracy_by_timestep) // STEPS_SHOWN)
    steps = list(enumerate(found.accuracy_by_timestep, 1))[every - 1 :: every]
    _row("accuracy by the first t steps", ((t, f"{a:.2%}") for t, a in steps))
    if step_weights is not None:
        _row("step weights", ((t, f"{w:.2f}") for t, w in enumerate(step_weights, 1)))
    if found.branch_accuracy:
        _row("accuracy of the branches", ((n, f"{a:.2%}") for n, a in found.branch_accuracy.items()))
    layers = table("layers of neurons", ["layer", "firing rate", "dead"])
    for layer in found.layers:
        layers.add_row(layer.name, f"{layer.firing_rate:.4f}", f"{layer.dead:.2%}")
    show_whole(layers)
    if len(classes) <= CONFUSION_SHOWN:
        confusion = table("confusion (row: true)", ["", *classes])
        for name, row in zip(classes, found.confusion, strict=True):
            confusion.add_row(name, *(str(n) if n else "." for n in row))
        show_whole(confusion)
    else:
        say(f"{len(classes)} classes: the confusion matrix is in --json")


def _row(head: str, values: Iterable[tuple[object, str]]) -> None:
    """Print several values on a line, each with what it belongs to; folded between them on a terminal."""
    tell([f"{head:<32}" + "  ".join(f"{name}:\u00a0{value}" for name, value in values)])
