"""`snnsc export`: checkpoint -> verified model.onnx and energy.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnsc.cli.arguments import CheckpointFile, DataRoot, Json
from snnsc.cli.console import log_to_stderr, say, show_json, with_root

NAME = "export"


def command(
    checkpoint: CheckpointFile,
    out: Annotated[Path | None, typer.Option(help="File to write; default model.onnx beside the checkpoint.")] = None,
    max_flip_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Largest share of a layer's spikes that may differ from torch's.")
    ] = 1e-3,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Export the main path to ONNX, verified spike by spike on real samples; energy.json is written beside it."""
    log_to_stderr()

    from snnsc.checkpoint import read
    from snnsc.cli.energy import summary, unpriced_neurons
    from snnsc.cli.samples import some_samples
    from snnsc.export.export import MIN_SAMPLES, export
    from snnsc.export.verify import Bounds
    from snnsc.files import check_output

    source = read(checkpoint)
    output = out or checkpoint.with_name("model.onnx")
    check_output("--out", output, suffix=".onnx", keep=checkpoint)
    replaced = output.exists()
    batches, split = some_samples(source, data_root, MIN_SAMPLES)
    done = export(source, batches, split, output, Bounds(max_spike_flip_rate=max_flip_rate))
    found = done.verification
    if json_:
        show_json({"files": [str(done.model), str(done.energy)], "verification": found.to_dict()})
        return
    if done.stripped:
        say(f"left out the shortcut branches, {len(done.stripped)} tensors; the checkpoint is as it was")
    say(f"verified in onnxruntime on {found.samples} real samples: {split}")
    say(f"  same class    {found.argmax_agreement:.2%}")
    say(f"  accuracy      torch {found.accuracy_torch:.2%}, onnxruntime {found.accuracy_onnx:.2%}")
    say(
        f"  spike flips   at most {found.max_spike_flip_rate:.2e} of a layer's; "
        f"{found.neuron_steps:,} neuron-steps compared"
    )
    say(f"energy a sample, {summary(done.report)}")
    if unpriced := unpriced_neurons(done.report):
        say(unpriced)
    say(f"written: {done.model}, {done.energy}{' (in place of earlier ones)' if replaced else ''}")
    say(f"next: snnsc energy {done.model}   or   snnsc eval {done.model}{with_root(data_root)}")
