"""`snnsc energy --inputs RECIPE`: its evaluation set, as `snnsc eval` reads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from snnsc.cli import app
from snnsc.data import build_loaders
from snnsc.errors import DataError, RecipeError, SnnscError
from snnsc.recipe.load import find_recipe, load_recipe


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """images.onnx takes digits, frames.onnx sequences of them; wide.onnx and two.onnx take something else."""
    monkeypatch.chdir(tmp_path)
    weight = onnx.numpy_helper.from_array(np.ones((2, 1, 3, 3), np.float32), "w")
    last = onnx.numpy_helper.from_array(np.array([-1, 1, 8, 8]), "shape")
    fold = helper.make_node("Reshape", ["x", "shape"], ["flat"])
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    folded = helper.make_node("Conv", ["flat", "w"], ["y"], name="conv")
    for name, nodes, inputs in (
        ("images", [conv], {"x": ["N", 1, 8, 8]}),
        ("wide", [conv], {"x": ["N", 1, 9, 9]}),
        ("frames", [fold, folded], {"x": ["T", "N", 1, 8, 8]}),
        ("two", [helper.make_node("Add", ["x", "z"], ["y"])], {"x": ["N", 2], "z": ["N", 2]}),
    ):
        values = [helper.make_tensor_value_info(x, TensorProto.FLOAT, dims) for x, dims in inputs.items()]
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * (2 if name == "two" else 4))
        graph = helper.make_graph(nodes, "g", values, [result], [weight, last])
        opset = [helper.make_opsetid("", 18)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), f"{name}.onnx")
    return tmp_path


def energy(*arguments: str) -> dict:
    done = CliRunner().invoke(app, ["energy", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_evaluation_set_of_a_recipe_is_counted(folder: Path) -> None:
    recipe = load_recipe("digits")
    test = build_loaders(recipe, folder, train=False).test
    images = np.concatenate([inputs.numpy() for inputs, _ in test.batches()])
    np.save("images.npy", images)
    found, expected = energy("images.onnx", "--inputs", "digits"), energy("images.onnx", "--inputs", "images.npy")
    assert found["samples"] == len(images) == expected["samples"]
    assert found["source"] == "digits"
    assert found["layers"] == expected["layers"]
    held = energy("frames.onnx", "--inputs", "digits", "--data-root", str(folder))
    events = found["totals"]["events"]
    assert held["totals"]["events"] == pytest.approx(recipe.model.T * events)
    shutil.copy(find_recipe("digits"), "mine.toml")
    assert energy("images.onnx", "--inputs", "mine.toml")["totals"]["events"] == events


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (DataError, ["wide.onnx", "--inputs", "digits"], "wide.onnx: input 'x' has shape ["),
        (
            DataError,
            ["two.onnx", "--inputs", "digits"],
            "two.onnx: takes 2 inputs, a recipe's data are one; give an .npz",
        ),
        (
            DataError,
            ["images.onnx", "--inputs", "none"],
            "none: no such file; give an .npz or .npy with samples, or a rec",
        ),
        (RecipeError, ["images.onnx", "--inputs", "none.toml"], "none.toml: no such recipe file; "),
        (RecipeError, ["images.onnx", "--data-root", "."], "--data-root .: goes with --inputs RECIPE; leave it out"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_does_not_fit_is_refused(error: type[SnnscError], arguments: list[str], message: str) -> None:
    raised = CliRunner().invoke(app, ["energy", *arguments]).exception
    assert isinstance(raised, error), raised
    assert str(raised).startswith(message)
