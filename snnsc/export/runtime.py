"""Run an exported model in onnxruntime and read every layer's spikes.

Legend: T time steps, B batch, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper
from pydantic import ValidationError
from torch import Tensor

from snnsc.checkpoint import REQUIRED_FACTS
from snnsc.errors import ModelFileError
from snnsc.export.onnx import ACTIVATIONS, LOGITS_BY_STEP, SPIKES
from snnsc.files import is_file, what_is
from snnsc.recipe.schema import Recipe
from snnsc.training.metrics import Evaluation, Scores


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file that snnsc exported.

    Raises:
        ModelFileError: missing, damaged, or without the metadata that snnsc writes.
    """
    if not is_file(path):
        raise ModelFileError(f"{path}: {what_is(path)}; `snnsc export` writes ONNX files")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, OSError, ValueError) as e:
        raise ModelFileError(f"{path}: is no ONNX model, or is damaged") from e
    if "snnsc.format" not in {p.key for p in model.metadata_props}:
        raise ModelFileError(
            f"{path}: was not exported by snnsc (it lacks the metadata snnsc.format), so its data is unknown"
        )
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
    """Whether the model can be run for other numbers of time steps: frames of any T, or images with the input T."""
    if not is_event:
        return "T" in {value.name for value in model.graph.input}
    dims = [list(value.type.tensor_type.shape.dim) for value in model.graph.input[:1]]
    return any(bool(sizes) and bool(sizes[0].dim_param) for sizes in dims)


def _metadata(model: onnx.ModelProto, key: str) -> Any:  # noqa: ANN401
    return json.loads({p.key: p.value for p in model.metadata_props}.get(key, "null"))


class OnnxNetwork:
    """An exported model in onnxruntime, with the spikes of every layer and the logits of every step.

    Args:
        model: The model.
        name: What messages call it.

    Raises:
        ModelFileError: onnxruntime cannot load it.
    """

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        self.name = name
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        made = [output for node in model.graph.node for output in node.output]
        self.layers = {
            name.removesuffix(end): name for name in made for end in (SPIKES, ACTIVATIONS) if name.endswith(end)
        }
        self.input_name = model.graph.input[0].name if model.graph.input else ""
        for value in (*self.layers.values(), LOGITS_BY_STEP):
            watched.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            self.session = onnxruntime.InferenceSession(
                watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as e:  # onnxruntime's share no public base class
            raise ModelFileError(f"{name}: onnxruntime cannot load it: {' '.join(str(e).split())[:300]}") from e

    def run(self, inputs: np.ndarray[Any, Any], T: int | None = None) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """Logits of every step [T, B, K], and layer name -> spikes [T, B, ...].

        Args:
            inputs: Frames [T, B, C, H, W] or images [B, C, H, W], float32.
            T: Time steps for which images are held; default the model's own.
        """
        feeds: dict[str, Any] = {self.input_name: inputs}
        if T is not None:
            feeds["T"] = np.array(T, dtype=np.int64)
        names = [LOGITS_BY_STEP, *self.layers.values()]
        try:
            logits_TBK, *spikes = self.session.run(names, feeds)
        except Exception as e:
            what = " ".join(str(e).split())[:300]
            raise ModelFileError(f"{self.name}: cannot run inputs of shape {inputs.shape}: {what}") from e
        return logits_TBK, dict(zip(self.layers, spikes, strict=True))


def evaluate(
    network: OnnxNetwork, batches: Iterable[tuple[Tensor, Tensor]], classes: int, T: int | None = None
) -> Evaluation:
    """What `snnsc.training.evaluate.evaluate` finds, by onnxruntime.

    Args:
        network: The exported model.
        batches: (inputs, labels): frames [T, B, C, H, W] or images [B, C, H, W], labels [B].
        classes: K.
        T: Time steps for which images are held; default the model's own.
    """
    scores = Scores(classes)
    for inputs, labels in batches:
        logits_TBK, spikes = network.run(inputs.numpy(), T)
        scores.add_logits(torch.from_numpy(logits_TBK), labels)
        for layer, spikes_TB in spikes.items():
            scores.add_spikes(layer, torch.from_numpy(spikes_TB))
    return scores.result()
