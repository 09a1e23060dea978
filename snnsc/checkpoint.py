"""One self-describing file: format version, kind, recipe, data facts, weights, and for training all the rest of it.

    kind "train"      every weight, branches included; with `training`, the state to go on from (last.pt)
    kind "stripped"   the main path alone

Files are written whole or not at all, and read with `weights_only=True`: loading one runs none of its code.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor

import snnsc
from snnsc.errors import ModelFileError, RecipeError
from snnsc.files import is_file, what_is, write_atomically
from snnsc.model import SpikingNetwork, build_model, per_step
from snnsc.model.shortcuts import PREFIX
from snnsc.recipe.load import override, validate
from snnsc.recipe.schema import Recipe

FORMAT = "snnsc-checkpoint"
VERSION = 1
REQUIRED_FACTS = frozenset({"classes", "mean", "std", "whole_counts", "files_sha256", "train_samples"})
"""What the other commands read of a checkpoint's facts."""
UNREADABLE = (
    OSError, RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, MemoryError,
    RecursionError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zipfile and torch.load raise on damaged or foreign files, as seen."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    kind: Literal["train", "stripped"]
    recipe: Recipe
    facts: dict[str, object]
    """About the data it was trained on: class names, sample counts, split seed, hash of the file list."""
    model: dict[str, Tensor]
    result: dict[str, Any] = field(default_factory=dict)
    """Epoch and accuracy of these weights, and on which samples they were measured."""
    training: dict[str, Any] | None = None
    """What `Training.state` gave, without the weights."""
    path: Path = field(default=Path("checkpoint"), compare=False)
    """Where it was read, for messages."""

    def build(self, *, branches: bool = True, compiled: bool | None = None) -> SpikingNetwork:
        """The network with these weights, in evaluation mode; without `branches`, its main path alone.

        `compiled` is as in `build_model`; eager neurons give the same spikes and start at once.

        Raises:
            ModelFileError: the weights are not those of the recipe.
        """
        model = build_model(self.recipe, branches=branches and self.kind == "train", compiled=compiled)
        weights = self.model if branches else main_path(self.model)
        try:
            model.load_state_dict(weights, strict=True)
        except RuntimeError as e:
            what = " ".join(str(e).split())
            raise ModelFileError(f"{self.path}: its weights do not fit the recipe in it: {what[:300]}") from e
        return model.eval()


def with_time_steps(recipe: Recipe, T: int) -> Recipe:
    """The recipe with another number of time steps: images are held for T steps, recordings cut into T frames.

    Raises:
        RecipeError: weights belong to time steps, or a network of this kind cannot run T of them.
    """
    if recipe.model.T == T:
        return recipe
    check_time_steps(recipe, T)
    tables = recipe.model_dump(mode="json", exclude_none=True)
    return validate(override(tables, [f"model.T={T}"]), f"T = {T}")


def check_time_steps(recipe: Recipe, T: int) -> None:
    """Raise RecipeError where a recipe's network has weights for each time step, and T is not their number."""
    keys = per_step(recipe)
    if keys and recipe.model.T != T:
        raise RecipeError(
            f"T = {T}: the network has weights for each of its {recipe.model.T} time steps ({', '.join(keys)}) and "
            "runs no others"
        )


def main_path(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without those of the shortcut branches."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(PREFIX)}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        SnnscError: the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "kind": checkpoint.kind,
        "recipe": checkpoint.recipe.model_dump_json(),
        "facts": json.dumps(checkpoint.facts),
        "result": json.dumps(checkpoint.result),
        "model": checkpoint.model,
        "training": checkpoint.training,
        "written_by": {"snnsc": snnsc.__version__, "torch": str(torch.__version__)},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def read(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ModelFileError: missing, damaged, foreign, or written by a newer snnsc.
    """
    if not is_file(path):
        raise ModelFileError(f"{path}: {what_is(path)}; `snnsc train` writes checkpoints into runs/")
    try:
        with zipfile.ZipFile(path) as z:
            damaged = z.testzip()  # torch.load does not look at the checksums
        if damaged is not None:
            raise ModelFileError(f"{path}: is damaged: wrong checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as e:
        raise ModelFileError(f"{path}: is no checkpoint of snnsc, or is damaged") from e
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelFileError(f"{path}: is no checkpoint of snnsc")
    version = content.get("version")
    if isinstance(version, int) and version > VERSION:
        raise ModelFileError(
            f"{path}: has checkpoint version {version}, this snnsc reads version {VERSION}; update snnsc"
        )
    if version != VERSION:
        raise ModelFileError(f"{path}: is a damaged checkpoint: its version is {version!r}")
    try:
        source = Checkpoint(
            kind=content["kind"],
            recipe=Recipe.model_validate_json(content["recipe"]),
            facts=json.loads(content["facts"]),
            model=content["model"],
            result=json.loads(content["result"]),
            training=content["training"],
            path=path,
        )
        _check(source)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ModelFileError(f"{path}: its recipe is not one of this snnsc: {key}: {first['msg']}") from e
    except (KeyError, TypeError, ValueError, RecursionError) as e:
        raise ModelFileError(f"{path}: is a damaged checkpoint: {e}") from e
    return source


def _check(source: Checkpoint) -> None:
    """Raise ValueError where a value is not what its type says, as an edited file may have it."""
    weights: Any = source.model
    facts: Any = source.facts
    state: Any = source.training
    if source.kind not in ("train", "stripped"):
        raise ValueError(f"its kind is {source.kind!r}")
    if not (isinstance(facts, dict) and facts.keys() >= REQUIRED_FACTS):
        raise ValueError("the facts about its data are missing")
    if not (isinstance(weights, dict) and all(_is_weight(*item) for item in weights.items())):
        raise ValueError("its weights are no named real tensors")
    if source.kind == "stripped" and len(main_path(weights)) < len(weights):
        raise ValueError("it is marked as stripped, but has branches")
    if not isinstance(state, dict | None):
        raise ValueError("its training state is no table")


def _is_weight(name: object, tensor: object) -> bool:
    return isinstance(name, str) and isinstance(tensor, Tensor) and not tensor.is_complex()


def load(path: str | Path) -> SpikingNetwork:
    """The network of a checkpoint file, in evaluation mode.

    Input: event frames [T, B, C, H, W] or static images [B, C, H, W]; output: logits [B, K].

    Raises:
        ModelFileError: the file is missing, damaged or no checkpoint.
    """
    return read(Path(path)).build()
