"""`snnsc eval` of NIR files: on arrays, on a recipe's data, on their own; in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("h5py")

import h5py

from snnsc.cli.eval_ import command
from snnsc.cli.eval_nir import evaluate_nir
from snnsc.data import build_loaders
from snnsc.errors import DataError, ModelFileError, RecipeError
from snnsc.export.fold import fold
from snnsc.export.step import to_step
from snnsc.model import build_model
from snnsc.nir.write import to_nir
from snnsc.recipe.schema import Recipe
from snnsc.training.evaluate import evaluate

KEYS = ("data={type='digits', test_limit=40}", "model.stages=[[4,6],[8]]")


@pytest.fixture(scope="module")
def exported(make_recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A NIR file of ours that says what it is for."""
    recipe = make_recipe(*KEYS)
    torch.manual_seed(0)
    network = build_model(recipe)
    loaders = build_loaders(recipe, Path("unused"))
    assert loaders.train is not None
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(next(iter(loaders.train.batches(0)))[0])
    folded, _ = fold(network.eval())
    about = {
        "snnsc.T": "4",
        "snnsc.recipe": recipe.model_dump_json(exclude={"data": {"root"}, "method": {"teacher"}}),
        "snnsc.facts": json.dumps(loaders.facts.to_dict()),
    }
    path = tmp_path_factory.mktemp("nir") / "n.nir"
    path.write_bytes(to_nir(to_step(folded, recipe), encoding="r", dt=1e-4, metadata=about))
    expected = evaluate(network, loaders.test.batches(), 10, torch.device("cpu"))
    (path.parent / "expected").write_text(str(expected.accuracy))
    return path


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Input [2] -> IF -> Output: the class is the input with more events."""
    with h5py.File(tmp_path / "f.nir", "w") as file:
        node = file.create_group("node")
        node["type"] = "NIRGraph"
        edges = np.array([("i", "n"), ("n", "o")], object)
        node.create_dataset("edges", data=edges, dtype=h5py.string_dtype())
        ones = {"r": np.ones(2), "v_threshold": np.ones(2) * 0.5, "v_reset": np.zeros(2)}
        for name, kind, values in (
            ("i", "Input", {"shape": np.array([2])}),
            ("n", "IF", ones),
            ("o", "Output", {"shape": np.array([2])}),
        ):
            node[f"nodes/{name}/type"] = kind
            for key, value in values.items():
                node[f"nodes/{name}/{key}"] = value
    return tmp_path / "f.nir"


def test_our_own_file_needs_nothing(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(exported, json_=True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx(float((exported.parent / "expected").read_text()), abs=0.026)
    assert found["samples"] == 40
    assert [layer["name"] for layer in found["layers"]] == ["stem.neurons.0", "stages.0.0.neuron", "stages.1.0.neuron"]
    assert len(found["accuracy_by_timestep"]) == 4


def test_a_recipe_and_other_numbers_of_steps(exported: Path) -> None:
    found, classes, weights = evaluate_nir(exported, "digits", None, 2, None)
    assert (found.samples, len(found.accuracy_by_timestep), weights) == (359, 2, None)
    assert classes == tuple("0123456789")


def test_arrays(foreign: Path, tmp_path: Path) -> None:
    frames = np.zeros((3, 4, 2), np.uint8)
    frames[:, 0, 0] = frames[:, 1, 1] = frames[0, 2, 0] = frames[:2, 3, 1] = 1
    np.savez(tmp_path / "x.npz", frames=frames, labels=np.array([0, 1, 0, 0]))
    found, classes, _ = evaluate_nir(foreign, str(tmp_path / "x.npz"), None, None, None)
    assert (found.accuracy, found.samples, classes) == (0.75, 4, ("0", "1"))
    assert found.confusion == [[2, 1], [0, 1]]
    assert found.layers[0].firing_rate == pytest.approx(9 / 24)


WRONG = {
    "labels missing": ({"x": np.zeros((3, 4, 2))}, "has the arrays 'x'; expected are 'labels'"),
    "three arrays": ({"x": np.zeros((3, 4, 2)), "y": np.zeros(1), "labels": np.zeros(4, int)}, "expected are 'labels'"),
    "another shape": ({"x": np.zeros((3, 4, 5)), "labels": np.zeros(4, int)}, r"expected are numbers \[T,N,2\]"),
    "other labels": (
        {"x": np.zeros((3, 4, 2)), "labels": np.zeros(5, int)},
        r"'labels' is int64 \[5\], expected int64 \[4\]",
    ),
    "a class too many": (
        {"x": np.zeros((3, 4, 2)), "labels": np.full(4, 2)},
        "labels are 2 to 2, the network has 2 outputs",
    ),
    "NaN": ({"x": np.full((3, 4, 2), np.nan), "labels": np.zeros(4, int)}, "holds NaN or infinity"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arrays_are_one_error(name: str, foreign: Path, tmp_path: Path) -> None:
    arrays, words = WRONG[name]
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=words) as raised:
        evaluate_nir(foreign, str(tmp_path / "x.npz"), None, None, None)
    assert "\n" not in str(raised.value)


def test_wrong_requests_are_one_error(foreign: Path, exported: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 4, 2)), labels=np.zeros(4, int))
    for inputs, T, error, words in (
        (None, None, RecipeError, "does not say which data it is for; give --inputs"),
        (str(tmp_path / "x.npz"), 3, RecipeError, "--T 3: .*has its own number of time steps"),
        ("digits", None, DataError, r"takes inputs \[2\], those of digits are \[1, 8, 8\]"),
        ("no-such-recipe", None, RecipeError, "no-such-recipe"),
        (str(tmp_path / "y.npz"), None, DataError, "y.npz: no such file"),
    ):
        with pytest.raises(error, match=words):
            evaluate_nir(foreign, inputs, None, T, None)
    with pytest.raises(RecipeError, match=r"was written for time steps of 0\.0001 s; leave --dt out"):
        evaluate_nir(exported, None, None, None, 1.0)
    with pytest.raises(ModelFileError, match="no such file"):
        evaluate_nir(tmp_path / "missing.nir", None, None, None, None)
