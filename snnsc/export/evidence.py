"""`verification.json`: for every artifact of a folder, what was checked when it was written, with which versions."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import snnsc
from snnsc.errors import ModelFileError, RecipeError
from snnsc.export.form import Form
from snnsc.export.verify import Bounds, Verification
from snnsc.files import is_file, write_together
from snnsc.lock import locked_folder

EVIDENCE = "verification.json"
ENERGY = "energy.json"
"""The energy estimate of a plain ONNX model, beside it."""
_OF_ENERGY = frozenset({"samples", "layers", "totals", "energy"})
"""Keys by which such a report is known."""
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy", "h5py", "emx-onnx-cgen")


def evidence(
    form: Form,
    found: Verification,
    split: str,
    bounds: Bounds,
    files: Mapping[Path, bytes | str],
    also: Mapping[str, Verification],
) -> dict[str, object]:
    """The entry of one artifact: what it is, what was found, what was allowed, with what it was made.

    Args:
        form: The artifact's form.
        found: What its verification found.
        split: What the samples were.
        bounds: What was allowed.
        files: Path -> content of all that is written for it.
        also: What else ran it -> what that found.
    """
    return {
        **asdict(form),
        "files": {path.name: hashlib.sha256(_bytes(content)).hexdigest() for path, content in files.items()},
        "split": split,
        **found.to_dict(),
        "also": {name: other.to_dict() for name, other in also.items()},
        "bounds": asdict(bounds),
        "versions": {"snnsc": snnsc.__version__, "python": platform.python_version(), **dict(_versions())},
    }


def write_with_evidence(
    output: Path, files: Mapping[Path, bytes | str], entry: Mapping[str, object], *, folder: Path | None = None
) -> Path:
    """Write an artifact with its entry in `verification.json`, all or none; exports into one folder take turns.

    Args:
        output: The artifact.
        files: Path -> content of all that is written for it.
        entry: What `evidence` gave.
        folder: As in `write_together`.

    Returns:
        Where the evidence is.

    Raises:
        RecipeError: a file is in the way that snnsc export did not write.
        ModelFileError: the `verification.json` that is there is not one of ours.
        SnnscError: a file cannot be written.
    """
    record = output.with_name(EVIDENCE)
    with locked_folder(record.parent):
        refuse_others(output, files)
        write_together({**files, record: _with_entry(record, output.name, entry)}, folder=folder)
    return record


def refuse_others(output: Path, files: Iterable[Path]) -> None:
    """Raise RecipeError where one of an artifact's files besides itself is there, and snnsc export did not write it.

    Raises:
        ModelFileError: the `verification.json` that is there is not one of ours.
    """
    written = _entries(output.with_name(EVIDENCE))
    for path in files:
        if path.parent == output and path.exists() and output.name not in written:
            raise RecipeError(
                f"--out {output}: holds {path.name}, which snnsc export did not write; name another folder"
            )
        if path.name == ENERGY and path.exists() and not _is_energy_report(path):
            raise RecipeError(
                f"--out {output}: {path} would be replaced, which snnsc export did not write; name another folder"
            )


def _with_entry(record: Path, artifact: str, entry: Mapping[str, object]) -> str:
    """The content of `verification.json` with this artifact's entry, and those of the other artifacts in its folder."""
    kept = {name: e for name, e in _entries(record).items() if (record.parent / name).exists()}
    return json.dumps(kept | {artifact: entry}, indent=2) + "\n"


def _is_energy_report(path: Path) -> bool:
    found = _json(path)
    return isinstance(found, dict) and found.keys() >= _OF_ENERGY


def _entries(path: Path) -> dict[str, object]:
    entries = _json(path) if path.exists() else {}
    if not isinstance(entries, dict):
        raise ModelFileError(f"{path}: is not a verification.json of snnsc; move it away")
    return entries


def _json(path: Path) -> object:
    """What a file holds; None where it is no JSON."""
    try:
        found: object = json.loads(path.read_text(encoding="utf-8")) if is_file(path) else None
    except (OSError, ValueError, RecursionError):
        return None
    return found


def _versions() -> list[tuple[str, str]]:
    found = []
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content
