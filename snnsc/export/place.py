"""Where an export may be written: what can be told before any work is done for it."""

from __future__ import annotations

import os
from pathlib import Path

from snnsc.errors import RecipeError
from snnsc.export.c import FILES
from snnsc.export.evidence import ENERGY, EVIDENCE, refuse_others
from snnsc.export.form import Form
from snnsc.files import check_output

_WRITES = {".onnx": "an ONNX model take --format onnx", ".nir": "a NIR file take --format nir"}


def checked_place(out: Path | None, form: Form, checkpoint: Path) -> Path:
    """The file, or for C the folder, that an export is to write.

    Args:
        out: What the user said; default beside the checkpoint.
        form: What is written.
        checkpoint: What it is made from.

    Raises:
        RecipeError: it cannot be written there, or what snnsc did not write would be overwritten.
        ModelFileError: the `verification.json` beside it is not one of ours.
    """
    output = out or form.beside(checkpoint)
    suffix = Path(form.file_name).suffix
    if output.name in (EVIDENCE, ENERGY):
        raise RecipeError(f"--out {output}: is the name of a file that goes beside what is exported; take another")
    if output.suffix != suffix and output.suffix in _WRITES:
        wanted = f"must end in {suffix}" if suffix else f"--format {form.format} writes a folder"
        raise RecipeError(f"--out {output}: {wanted}; for {_WRITES[output.suffix]}")
    check_output("--out", output, suffix=suffix or None, keep=checkpoint)
    if form.format != "c":
        refuse_others(output, [output.with_name(ENERGY)] if form.is_plain else [])
        return output
    whole = output.resolve()
    if Path.cwd().is_relative_to(whole):
        raise RecipeError(f"--out {output}: is the folder that you are in, or one around it; name one for the C files")
    if not output.is_absolute():
        whole = Path(os.path.relpath(whole))  # messages name files as the user does
    refuse_others(whole, [whole / name for name in FILES])
    return whole
