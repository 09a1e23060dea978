"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder of the data sets; else the recipe's data.root, else $SNNSC_DATA, else ./data."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default the GPU if there is one.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")]
CheckpointFile = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pt file that snnsc wrote.")]
