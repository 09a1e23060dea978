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
from snnsc.files import is_file

EVIDENCE = "verification.json"
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


def with_entry(path: Path, artifact: str, entry: Mapping[str, object]) -> str:
    """The content of `verification.json` with this artifact's entry, and those of the other artifacts in its folder.

    Raises:
        ModelFileError: the file that is there is not one of ours.
    """
    entries = _entries(path) if path.exists() else {}
    kept = {name: e for name, e in entries.items() if (path.parent / name).exists()}
    return json.dumps(kept | {artifact: entry}, indent=2) + "\n"


def refuse_others(record: Path, folder: Path, files: Iterable[Path]) -> None:
    """Raise RecipeError where a folder holds a file of these names that snnsc did not write."""
    taken = [path.name for path in files if path.parent == folder and path.exists()]
    if taken and folder.name not in (_entries(record) if record.exists() else {}):
        raise RecipeError(f"--out {folder}: holds {taken[0]}, which snnsc export did not write; name another folder")


def _entries(path: Path) -> dict[str, object]:
    try:
        entries = json.loads(path.read_text()) if is_file(path) else None
    except (OSError, ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise ModelFileError(f"{path}: is not a verification.json of snnsc; move it away")
    return entries


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
