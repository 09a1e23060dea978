"""Read back what `snnsc export` wrote: the model, and what its metadata say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from pydantic import ValidationError

from snnsc.checkpoint import REQUIRED_FACTS
from snnsc.errors import ModelFileError
from snnsc.export.metadata import ARTIFACT, EXACT_GRID
from snnsc.file_format import FORMAT_KEY, check_format
from snnsc.files import is_file, what_is
from snnsc.recipe.schema import Recipe


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file that snnsc exported.

    Raises:
        ModelFileError: missing, damaged, without the metadata that snnsc writes, or of a newer snnsc.
    """
    if not is_file(path):
        raise ModelFileError(f"{path}: {what_is(path)}; `snnsc export` writes ONNX files")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, OSError, ValueError) as e:
        raise ModelFileError(f"{path}: is no ONNX model, or is damaged") from e
    told = {p.key: p.value for p in model.metadata_props}.get(FORMAT_KEY)
    if told is None:
        raise ModelFileError(
            f"{path}: was not exported by snnsc (it lacks the metadata {FORMAT_KEY}), so its data is unknown; "
            "`snnsc energy` reads anybody's"
        )
    check_format(told, str(path))
    return model


def recipe_of(model: onnx.ModelProto, path: Path) -> Recipe:
    """The recipe in a model's metadata.

    Raises:
        ModelFileError: it is not one of this snnsc.
    """
    try:
        return Recipe.model_validate_json(json.dumps(_metadata(model, "snnsc.recipe")))
    except (ValidationError, ValueError, RecursionError) as e:
        raise ModelFileError(f"{path}: the recipe in its metadata is not one of this snnsc") from e


def facts_of(model: onnx.ModelProto, path: Path) -> dict[str, object]:
    """The facts about the data in a model's metadata.

    Raises:
        ModelFileError: they are damaged.
    """
    try:
        facts = _metadata(model, "snnsc.facts")
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict) or not facts.keys() >= REQUIRED_FACTS:
        raise ModelFileError(f"{path}: the data facts in its metadata are damaged")
    return facts


def step_weights_of(model: onnx.ModelProto, path: Path) -> list[float] | None:
    """The weight of each time step's logits, which is folded into the model; None where the method set none.

    Raises:
        ModelFileError: the metadata is damaged.
    """
    try:
        weights = _metadata(model, "snnsc.step_weights")
    except (ValueError, RecursionError):
        weights = "damaged"
    if weights is None or (isinstance(weights, list) and all(isinstance(w, int | float) for w in weights)):
        return weights
    raise ModelFileError(f"{path}: the step weights in its metadata are damaged")


def takes_time_steps(model: onnx.ModelProto, *, is_event: bool) -> bool:
    """Whether the model can be run for other numbers of time steps.

    A step can that has no weight for each one, and so do frames of any T, and images with the input T.
    """
    if is_step(model):
        return all(p.key != "snnsc.step_weights" for p in model.metadata_props)
    if not is_event:
        return "T" in {value.name for value in model.graph.input}
    dims = [list(value.type.tensor_type.shape.dim) for value in model.graph.input[:1]]
    return any(bool(sizes) and bool(sizes[0].dim_param) for sizes in dims)


def exact_steps_of(model: onnx.ModelProto) -> int | None:
    """Up to how many time steps the spikes of a model on an exact grid are exact; None without one."""
    try:
        return int(_metadata(model, EXACT_GRID)["T"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def is_step(model: onnx.ModelProto) -> bool:
    """Whether the model is one time step, its states among the inputs."""
    return any(p.key == ARTIFACT and p.value == "step" for p in model.metadata_props)


def _metadata(model: onnx.ModelProto, key: str) -> Any:  # noqa: ANN401
    return json.loads({p.key: p.value for p in model.metadata_props}.get(key, "null"))
