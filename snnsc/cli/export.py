"""`snnsc export`: checkpoint -> a verified model in one of the formats its users load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from snnsc.cli.arguments import CheckpointFile, DataRoot, Json
from snnsc.cli.console import log_to_stderr, on_one_line, say, show_json, shown

if TYPE_CHECKING:
    from snnsc.export.export import Exported

NAME = "export"


def command(
    checkpoint: CheckpointFile,
    out: Annotated[
        Path | None, typer.Option(help="File to write (c: folder); default model.onnx, ... beside the checkpoint.")
    ] = None,
    format_: Annotated[
        Literal["onnx", "step", "nir", "c"],
        typer.Option("--format", help="onnx: the whole sequence; step: one time step, states in and out; nir; c."),
    ] = "onnx",
    inline: Annotated[
        bool, typer.Option("--inline", help="onnx, step: standard operators only, no functions.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="onnx: 8-bit weights and activations, calibrated on training samples.")
    ] = False,
    exact_grid: Annotated[
        bool, typer.Option("--exact-grid", help="Round weights so that every runtime gives the very same spikes.")
    ] = False,
    encoding: Annotated[
        Literal["r", "folded", "sinabs"] | None,
        typer.Option(help="nir: how the neurons' leak is said, see the README; default r."),
    ] = None,
    dt: Annotated[float | None, typer.Option(help="nir: length of a time step in seconds; default 1e-4.")] = None,
    max_flip_rate: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Largest share of a layer's spikes that may differ from torch's.  [default: "
            "0.001; int8: 0.2; exact-grid: 0]",
            show_default=False,
        ),
    ] = None,
    max_accuracy_drop: Annotated[
        float, typer.Option(min=0, max=1, help="Most that the accuracy on the checked samples may be below torch's.")
    ] = 0.02,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Export the main path, verified spike by spike on real samples; verification.json is written beside it."""
    log_to_stderr()

    from snnsc.export.form import Form

    form = Form(format_, inline=inline, int8=int8, exact_grid=exact_grid, encoding=encoding, dt=dt)

    from snnsc.checkpoint import read
    from snnsc.cli.samples import some_samples, training_samples
    from snnsc.export.export import MIN_SAMPLES, MIN_SAMPLES_INT8, export
    from snnsc.export.place import checked_place
    from snnsc.export.possible import check_possible
    from snnsc.export.verify import Bounds

    source = read(checkpoint)
    check_possible(source, form)
    output = checked_place(out, form, checkpoint)
    replaced = output.exists()
    batches, split = some_samples(source, data_root, MIN_SAMPLES_INT8 if int8 else MIN_SAMPLES)
    bounds = Bounds.of(form, max_flip_rate, max_accuracy_drop)
    calibration = training_samples(source, data_root, MIN_SAMPLES) if form.int8 else ()
    done = export(source, batches, split, output, bounds, form, calibration)
    if json_:
        files = [str(path) for path in done.files]
        show_json({"files": files, "verification": done.verification.to_dict(), **done.facts})
        return
    _show(done, split, replaced)
    evaluate = shown("snnsc", "eval", output, data_root=data_root)
    if form.format == "c":
        say(f"next: {shown('make', '-C', output)}")
    elif done.report is not None and not inline:
        say(f"next: {shown('snnsc', 'energy', output)}   or   {evaluate}")
    else:
        say(f"next: {evaluate}")


def _show(done: Exported, split: str, replaced: bool) -> None:
    from snnsc.cli.energy import summary, unpriced_neurons

    found = done.verification
    if done.stripped:
        say(f"left out the shortcut branches, {len(done.stripped)} tensors; the checkpoint is as it was")
    of = "the step model that it is made from was " if "c" in done.facts else ""
    say(f"{of}verified on {found.samples} real samples: {split}")
    say(f"  same class    {found.argmax_agreement:.2%}")
    say(f"  accuracy      torch {found.accuracy_torch:.2%}, exported {found.accuracy_onnx:.2%}")
    say(
        f"  spike flips   at most {found.max_spike_flip_rate:.2e} of a layer's; "
        f"{found.neuron_steps:,} neuron-steps compared"
    )
    for name, other in done.also.items():
        say(f"  {name}, {other.samples} samples: spike flips at most {other.max_spike_flip_rate:.2e} of a layer's")
    _show_facts(done.facts)
    if done.report is not None:
        say(f"energy a sample, {summary(done.report)}")
        if unpriced := unpriced_neurons(done.report):
            say(unpriced)
    written = f"written: {', '.join(map(str, done.files))}{' (in place of earlier ones)' if replaced else ''}"
    say(on_one_line(written))


def _show_facts(facts: Mapping[str, Any]) -> None:
    if "exact_grid" in facts:
        proof = facts["exact_grid"]
        say(
            f"  exact grid    0 flips in {proof['neuron_steps']:,} neuron-steps: torch, float64, onnxruntime at every "
            f"optimisation level with 1 and 2 threads; proven for every input, T <= {proof['grid']['T']}"
        )
        say(f"  its cost      accuracy {proof['accuracy_before']:.2%} -> {proof['accuracy_after']:.2%}")
    if "bytes" in facts:
        sizes = facts["bytes"]
        say(f"  size          {sizes['float32']:,} -> {sizes['int8']:,} bytes")
    if "c" in facts:
        ran = facts["c"]
        if ran is None:
            say("  no C compiler was found: the program is written, and was not compiled")
        else:
            say(
                f"  compiled and run on {ran['samples']} samples: same class {ran['argmax_agreement']:.2%}, logits at "
                f"most {ran['max_logit_difference']:.1e} apart ({ran['compiler']})"
            )
