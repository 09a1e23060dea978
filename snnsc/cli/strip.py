"""`snnsc strip`: checkpoint -> checkpoint without branches, proven equal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnsc.cli.arguments import CheckpointFile, DataRoot, Json
from snnsc.cli.console import log_to_stderr, on_one_line, say, show_json, shown

NAME = "strip"
SAMPLES = 256
"""Real samples on which the outputs must be equal."""


def command(
    checkpoint: CheckpointFile,
    out: Annotated[Path | None, typer.Option(help="File to write; default <name>.stripped.pt beside it.")] = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Remove the shortcut branches, and prove on real samples that the outputs are the same bits."""
    log_to_stderr()

    from snnsc.checkpoint import read
    from snnsc.cli.samples import some_samples
    from snnsc.files import check_output
    from snnsc.strip import branch_weights, parameters, strip

    source = read(checkpoint)
    if not branch_weights(source):
        why = (
            "is stripped already" if source.kind == "stripped" else "has no branches: it was trained with mode vanilla"
        )
        count = parameters(source.build(compiled=False))
        say(f"{checkpoint}: {why}; nothing to remove", quiet=json_)
        if json_:
            show_json(_json(checkpoint, count, count, (), 0))
        return
    output = out or checkpoint.with_name(f"{checkpoint.stem}.stripped.pt")
    check_output("--out", output, suffix=".pt", keep=checkpoint)
    batches, what = some_samples(source, data_root, SAMPLES)
    done = strip(source, batches, output)
    if json_:
        show_json(_json(output, done.parameters_before, done.parameters_after, done.removed, done.samples))
        return
    share = 1 - done.parameters_after / done.parameters_before
    say(f"removed the shortcut branches, {len(done.removed)} tensors: {done.parameters_before:,} -> "
        f"{done.parameters_after:,} parameters ({share:.2%} fewer)")  # fmt: skip
    say(f"outputs are bit-identical (torch.equal) on {done.samples} real samples: {what}")
    say(f"accuracy on them {done.accuracy:.2%} before, {done.accuracy:.2%} after")
    say(on_one_line(f"written: {output}"))
    say(f"next: {shown('snnsc', 'export', output, data_root=data_root)}")


def _json(output: Path, before: int, after: int, removed: tuple[str, ...], samples: int) -> dict[str, object]:
    return {
        "output": str(output),
        "parameters_before": before,
        "parameters_after": after,
        "removed": list(removed),
        "equal": True,
        "samples": samples,
    }
