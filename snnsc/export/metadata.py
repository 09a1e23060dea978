"""What an exported model says of itself."""

from __future__ import annotations

import json

import onnx
from onnx import helper

import snnsc
from snnsc.checkpoint import Checkpoint
from snnsc.export.functions import equation
from snnsc.export.trace import NEXT, dims_of
from snnsc.file_format import FORMAT, FORMAT_KEY
from snnsc.model import SpikingNetwork

ARTIFACT = "snnsc.artifact"
"""Key: `whole` sequence, or one `step`."""
EXACT_GRID = "snnsc.exact_grid"
"""Key, of a network on an exact grid: the grid."""
STATES = "snnsc.states"
"""Key, of a step: state's input -> `next` (its output), `shape` (B is any), `initial` (value at the first step)."""


def metadata(
    source: Checkpoint, network: SpikingNetwork, stripped: tuple[str, ...], folded: list[str]
) -> dict[str, str]:
    """What a model says of itself: equation, input, classes, recipe, what was folded and stripped.

    This is of the whole sequence; a model of one step has `step_entries` too.
    """
    recipe, facts = source.recipe, source.facts
    # data root and teacher are paths on the machine that trained: no business of the model's
    portable = recipe.model_dump(mode="json", exclude={"data": {"root"}, "method": {"teacher"}})
    weights = network.step_weights
    return {
        FORMAT_KEY: str(FORMAT),
        "snnsc.version": snnsc.__version__,
        ARTIFACT: "whole",
        "snnsc.T": str(recipe.model.T),
        "snnsc.neuron": json.dumps(
            {"equation": equation(recipe.model.neuron), **recipe.model.neuron.model_dump(mode="json")}
        ),
        "snnsc.input": json.dumps(
            {
                "layout": "TBCHW" if recipe.data.is_event else "BCHW",
                "coding": "event counts a frame" if recipe.data.is_event else "direct: the image at every step",
                "kind": "integer" if facts["whole_counts"] else "real",
                "slicing": getattr(recipe.data, "slicing", None),
                "mean": facts["mean"],
                "std": facts["std"],
            }
        ),
        "snnsc.classes": json.dumps(facts["classes"]),
        "snnsc.folded": "; ".join(folded),
        **({} if weights is None else {"snnsc.step_weights": json.dumps(weights.tolist())}),
        "snnsc.stripped": json.dumps(list(stripped)),
        "snnsc.facts": json.dumps(facts),
        "snnsc.recipe": json.dumps(portable),
    }


def step_entries(model: onnx.ModelProto) -> dict[str, str]:
    """What a model of one time step says of its states."""
    outputs = {value.name for value in model.graph.output}
    states = {
        value.name: {"next": value.name + NEXT, "shape": dims_of(value), "initial": 0.0}
        for value in model.graph.input
        if value.name + NEXT in outputs
    }
    return {ARTIFACT: "step", STATES: json.dumps(states)}


def set_metadata(model: onnx.ModelProto, entries: dict[str, str]) -> None:
    """Set the model's metadata to these entries, in their order."""
    helper.set_model_props(model, entries)
