"""What a checkpoint alone tells is refused before samples are read and anything is traced."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from snnsc.checkpoint import Checkpoint, save
from snnsc.cli.export import command
from snnsc.errors import CheckError, RecipeError
from snnsc.export.form import Form
from snnsc.export.possible import check_possible
from snnsc.export.verify import Verification
from snnsc.model import build_model
from snnsc.recipe.schema import Recipe

pytest.importorskip("h5py")
pytest.importorskip("emx_onnx_cgen")

MakeRecipe = Callable[..., Recipe]
SMALL = "model.stages=[[2],[2]]"
RESNET = ("model.arch=resnet20-thin", "data={type='nmnist',size=8}")
FACTS = {"classes": list("0123456789"), "mean": None, "std": None, "whole_counts": False, "files_sha256": "",
         "train_samples": 1}  # fmt: skip


def untrained(make_recipe: MakeRecipe, *overrides: str) -> Checkpoint:
    keys = overrides if any("arch" in key for key in overrides) else (SMALL, *overrides)
    recipe = make_recipe(*keys)
    torch.manual_seed(0)
    return Checkpoint("train", recipe, FACTS, build_model(recipe).state_dict())


NIR, SINABS, STEP, C = Form("nir"), Form("nir", encoding="sinabs"), Form("step"), Form("c")
GRID, GRID_STEP = Form(exact_grid=True), Form("step", exact_grid=True)
REFUSED = [
    *(((f"model.norm.type={norm}",), form, "the network learned something for each one (model.norm.type")
      for norm in ("tebn", "bntt") for form in (STEP, NIR, C)),
    (("model.neuron.type=glif",), STEP, "(model.neuron.type = 'glif'); export the whole sequence (--format onnx)"),
    (("model.neuron.type=glif",), GRID, "layer stem.neurons.0: glif neurons multiply by sigmoids"),
    (("model.neuron.type=glif",), NIR, "the network learned something for each one"),
    (("model.neuron.type=clif",), NIR, "layer stem.neurons.0: NIR cannot say clif's second state"),
    (("model.neuron.type=clif",), GRID_STEP, "layer stem.neurons.0: clif neurons multiply by sigmoids"),
    (("model.neuron.reset=soft",), NIR, "layer stem.neurons.0: NIR cannot say a soft reset"),
    (("model.neuron.type=diet-lif",), NIR, "layer stem.neurons.0: NIR cannot say a soft reset"),
    (("model.norm.type=mpbn",), NIR, "NIR cannot say a normalisation of its membrane"),
    (("model.neuron.type=if",), SINABS, "layer stem.neurons.0: Sinabs reads IF neurons"),
    (RESNET, SINABS, "model.arch = 'resnet20-thin': Sinabs mistakes paths that join"),
    (("method.weighting={warmup_epochs=0}",), NIR, "NIR cannot say weights of time steps (method.weighting)"),
    (("model.neuron.type=relu", "model.T=1"), NIR, "NIR cannot say rectifiers (relu)"),
    (("model.neuron.type=relu", "model.T=1"), GRID, "no spikes that could differ (relu): leave out --exact-grid"),
    (("model.neuron.decay=0.3",), GRID, "layer stem.neurons.0: decay = 0.3 is no power of two"),
    (("model.neuron.input_gain=0.7",), GRID_STEP, "layer stem.neurons.0: input gain = 0.7 is no power of two"),
    (("model.neuron={type='plif',tau=3.0}",), GRID, "layer stem.neurons.0: decay = 0.66"),
]  # fmt: skip
POSSIBLE = [
    *(((), form) for form in (Form(), Form(int8=True), NIR, SINABS, STEP, C, GRID, GRID_STEP)),
    *(((f"model.neuron.type={neuron}",), form) for neuron in ("plif", "real-spike", "if") for form in (NIR, STEP, C)),
    (("model.neuron.type=clif",), C),
    (("model.norm.type=mpbn",), GRID),
    (("model.norm.type=tebn", "model.neuron.reset=soft"), GRID),
    (("model.neuron.type=relu", "model.T=1"), C),
    (("method.weighting={warmup_epochs=0}",), C),
    (RESNET, Form("nir", encoding="folded")),
]


@pytest.fixture
def no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("it was traced"))


@pytest.mark.usefixtures("no_trace")
@pytest.mark.parametrize(("overrides", "form", "words"), REFUSED)
def test_what_the_recipe_tells_is_refused_at_once(
    make_recipe: MakeRecipe, overrides: tuple[str, ...], form: Form, words: str
) -> None:
    with pytest.raises(RecipeError) as raised:
        check_possible(untrained(make_recipe, *overrides), form)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("no_trace")
@pytest.mark.parametrize(("overrides", "form"), POSSIBLE)
def test_other_networks_are_not_refused(make_recipe: MakeRecipe, overrides: tuple[str, ...], form: Form) -> None:
    check_possible(untrained(make_recipe, *overrides), form)


def test_what_was_learned_is_refused_too(make_recipe: MakeRecipe) -> None:
    source = untrained(make_recipe, "model.norm.type=mpbn")
    (gamma, *_) = [name for name in source.model if "membrane_norm.weight" in name]
    source.model[gamma][0] = 0
    for form in (Form(), STEP, GRID):
        with pytest.raises(CheckError, match="gamma of mpbn is 0 in channel 0"):
            check_possible(source, form)


@pytest.mark.parametrize(("form", "module", "extra"), [(C, "emx_onnx_cgen.compiler", "c"), (NIR, "h5py", "nir")])
def test_packages_are_asked_for_at_once(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, form: Form, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RecipeError, match=rf"pip install 'snnsc\[{extra}\]'"):
        check_possible(untrained(make_recipe), form)


# ------------------------------------------------------------------------------------------------ the command line


@pytest.fixture
def checkpoint(make_recipe: MakeRecipe, tmp_path: Path) -> Path:
    (tmp_path / "it's a folder").mkdir()
    path = tmp_path / "it's a folder" / "best.pt"
    save(path, untrained(make_recipe, "model.neuron.reset=soft"))
    return path


def test_no_sample_is_read_for_what_is_impossible(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnsc.cli.samples.some_samples", lambda *_: pytest.fail("samples were read"))
    with pytest.raises(RecipeError, match="NIR cannot say a soft reset"):
        command(checkpoint, format_="nir")
    with pytest.raises(RecipeError, match="must end in"):
        command(checkpoint, out=Path("m.nir"))


@pytest.mark.parametrize("format_", ["onnx", "c"])
def test_suggested_commands_can_be_pasted(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    from snnsc.export import export as module

    found = Verification(1, 1.0, 1.0, 1.0, 0.0, 0.0, {}, 1)
    monkeypatch.setattr("snnsc.cli.samples.some_samples", lambda *_: ([], "none"))
    monkeypatch.setattr(module, "export", lambda *_: module.Exported((), (), found, {}, {}, None))
    command(checkpoint, format_=format_, data_root=Path("my data"))  # type: ignore[arg-type]
    last = capsys.readouterr().out.splitlines()[-1]
    folder = "'" + str(checkpoint.parent).replace("'", "'\"'\"'")
    assert (
        last
        == {
            "onnx": f"next: snnsc eval {folder}/model.onnx' --data-root 'my data'",
            "c": f"next: make -C {folder}/model_c'",
        }[format_]
    )
