"""`snnsc eval --T` and step weights: checkpoints and, as exported, ONNX models; in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from snnsc import checkpoint
from snnsc.checkpoint import Checkpoint
from snnsc.cli.eval_ import command
from snnsc.data import build_loaders
from snnsc.errors import ModelFileError, RecipeError
from snnsc.model import build_model
from snnsc.recipe.schema import Recipe

Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture
def make(make_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Path]:
    """A checkpoint of an untrained network on 40 digits, with their running statistics, so that it fires."""

    def save(*keys: str, weights: dict[str, torch.Tensor] | None = None) -> Path:
        recipe = make_recipe("data={type='digits', test_limit=40}", *keys)
        network = build_model(recipe)
        loaders = build_loaders(recipe, Path("unused"))
        assert loaders.train is not None
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0  # the statistics become those of this batch
        with torch.no_grad():
            network(next(iter(loaders.train.batches(0)))[0])
        facts = loaders.facts.to_dict()
        path = tmp_path / "c.pt"
        checkpoint.save(path, Checkpoint("train", recipe, facts, network.state_dict() | (weights or {})))
        return path

    return save


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str]) -> Evaluate:
    def run(path: Path, **options: Any) -> dict[str, Any]:
        command(path, device="cpu", json_=True, **options)
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def test_images_are_held_for_other_numbers_of_steps(make: Callable[..., Path], evaluate: Evaluate) -> None:
    path = make("model.T=4")
    own, long, short = evaluate(path), evaluate(path, T=6), evaluate(path, T=1)
    assert [len(found["accuracy_by_timestep"]) for found in (own, long, short)] == [4, 6, 1]
    assert evaluate(path, T=4) == own
    # from rest, the first steps of a longer run are those of a shorter one
    assert long["accuracy_by_timestep"][:4] == own["accuracy_by_timestep"]
    assert long["loss"] != own["loss"]
    assert own["step_weights"] is None


@pytest.mark.parametrize(
    ("keys", "because"),
    [
        (["model.norm={type='tebn'}"], r"model\.norm\.type = 'tebn'"),
        (["model.norm={type='bntt'}"], r"model\.norm\.type = 'bntt'"),
        (["model.neuron={type='glif'}"], r"model\.neuron\.type = 'glif'"),
        (["method.weighting={warmup_epochs=0}"], r"method\.weighting"),
    ],
    ids=["tebn", "bntt", "glif", "weighting"],
)
def test_weights_of_time_steps_cannot_run_others(
    make: Callable[..., Path], evaluate: Evaluate, keys: list[str], because: str
) -> None:
    path = make(*keys)
    assert len(evaluate(path, T=4)["accuracy_by_timestep"]) == 4
    with pytest.raises(RecipeError, match=rf"c\.pt: T = 5: the network .* time steps? .*{because}") as e:
        evaluate(path, T=5)
    assert "\n" not in str(e.value)


def test_a_number_that_the_network_cannot_run(make: Callable[..., Path], evaluate: Evaluate) -> None:
    path = make("model={arch='tiny', T=1, neuron={type='relu'}, norm={type='bn'}}")
    with pytest.raises(RecipeError, match=r"c\.pt: T = 2: model\.T: must be 1 with model\.neuron\.type = 'relu'"):
        evaluate(path, T=2)
    with pytest.raises(RecipeError, match=r"c\.pt: T = 2000: model\.T: must be less than or equal to 1024"):
        evaluate(make(), T=2000)


def test_step_weights_are_shown_and_count(
    make: Callable[..., Path], evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    weighting = "method.weighting={warmup_epochs=0}"
    even = evaluate(make(weighting))
    assert even["step_weights"] == [1, 1, 1, 1]
    path = make(weighting, weights={"step_weights": torch.tensor([2.0, 1.0, 0.75, 0.25])})
    found = evaluate(path)
    assert found["step_weights"] == [2.0, 1.0, 0.75, 0.25]
    assert found["loss"] != even["loss"]
    command(path, device="cpu")
    assert "step weights                    1: 2.00  2: 1.00  3: 0.75  4: 0.25\n" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------ ONNX


def exported(path: Path) -> Path:
    from snnsc.export.fold import fold
    from snnsc.export.metadata import metadata, set_metadata
    from snnsc.export.onnx import to_onnx

    source = checkpoint.read(path)
    network = source.build(branches=False, compiled=False)
    folded, words = fold(network)
    model = to_onnx(folded, source.recipe)
    set_metadata(model, metadata(source, network, (), words))
    onnx.save(model, path.with_suffix(".onnx"))
    return path.with_suffix(".onnx")


def edit(path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


def test_an_onnx_model_holds_images_as_its_checkpoint_does(make: Callable[..., Path], evaluate: Evaluate) -> None:
    path = make("model.T=3")
    other = exported(path)
    for T in (None, 3, 5):
        ours, theirs = evaluate(path, T=T), evaluate(other, T=T)
        assert theirs["accuracy_by_timestep"] == ours["accuracy_by_timestep"]
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)
        assert theirs["step_weights"] is None


def test_an_onnx_model_of_fixed_steps_is_refused(make: Callable[..., Path], evaluate: Evaluate) -> None:
    other = exported(make())

    def without_T(model: onnx.ModelProto) -> None:
        model.graph.input.remove(next(value for value in model.graph.input if value.name == "T"))

    edit(other, without_T)
    with pytest.raises(RecipeError, match=r"--T 5: .*c\.onnx runs its own number of time steps alone"):
        evaluate(other, T=5)


def test_step_weights_of_an_onnx_model(make: Callable[..., Path], evaluate: Evaluate) -> None:
    path = make("method.weighting={warmup_epochs=0}", weights={"step_weights": torch.tensor([1.5, 1.0, 1.0, 0.5])})
    other = exported(path)
    found = evaluate(other)
    assert found["step_weights"] == [1.5, 1.0, 1.0, 0.5]
    assert found["loss"] == pytest.approx(evaluate(path)["loss"], rel=1e-4)

    def damage(model: onnx.ModelProto) -> None:
        next(p for p in model.metadata_props if p.key == "snnsc.step_weights").value = "[1.5, tru"

    edit(other, damage)
    with pytest.raises(ModelFileError, match="the step weights in its metadata are damaged"):
        evaluate(other)
