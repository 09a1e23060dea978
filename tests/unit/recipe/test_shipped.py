"""The recipes that come with snnsc: every network can be built, published settings stand in them, old names stay."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from snnsc.recipe.load import load_recipe, shipped_recipes
from snnsc.recipe.schema import (
    AdamWSpec,
    EvolutionarySpec,
    LifSpec,
    MaskingSpec,
    Recipe,
    TeacherSpec,
    VanillaSpec,
    WeightingSpec,
)

NAMES = list(shipped_recipes())
BASELINES = [
    "ann", "bntt", "clif", "detached-reset", "diet-lif", "distill", "glif", "im-loss", "kd", "label-smoothing", "mpbn",
    "ms", "msg", "msg-two", "plif", "real-spike", "sew-add", "soft-reset", "tebn", "tet", "two", "vanilla",
]  # fmt: skip


def of(folder: str) -> dict[str, Recipe]:
    """Recipes of a folder, by name."""
    return {name: load_recipe(name) for name in NAMES if name.startswith(f"{folder}/")}


def test_names_stay() -> None:
    assert {
        "cifar10", "cifar10-folder", "cifar100", "cifar10dvs", "digits", "fashion-mnist", "mnist", "nmnist",
        "nmnist-folder",
    } <= set(NAMES)  # fmt: skip
    assert set(of("baselines")) == {f"baselines/cifar10-{option}" for option in BASELINES}
    assert set(of("guo2024")) == {
        f"guo2024/{name}"
        for name in (
            "cifar100-resnet18-t2", "cifar100-resnet18-t4", "cifar100-resnet34-t2", "cifar100-resnet34-t4",
            "cifar10-resnet18-t2", "cifar10-resnet18-t4", "imagenet-resnet18-t4", "imagenet-resnet34-t4",
            "cifar10dvs-resnet18-t10",
        )
    }  # fmt: skip
    assert set(of("li2024")) == {
        f"li2024/{name}"
        for name in (
            "cifar10-cifarnet-t4", "cifar100-cifarnet-t4", "cifar10dvs-resnet18-t10", "cifar10dvs-vggsnn-t10",
            "ncaltech101-vggsnn-t10",
        )
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_network_can_be_built(name: str) -> None:
    import torch

    from snnsc.model import build_model

    recipe = load_recipe(name)
    with torch.device("meta"):
        model = build_model(recipe, compiled=False)
    assert bool(model.shortcuts) == (recipe.method.mode != "vanilla")


@pytest.mark.parametrize("name", [name for name in NAMES if "/" in name])
def test_a_recipe_is_called_as_its_file(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name in (Path(name).name, name.replace("/", "-").removesuffix("-t4"))
    named = re.fullmatch(r"([a-z0-9]+)-([a-z0-9]+)-t(\d+)", recipe.name)
    if named:
        assert named.groups() == (recipe.data.type, recipe.model.arch, str(recipe.model.T))


@pytest.mark.parametrize("name", of("guo2024"))
def test_settings_of_guo_2024(name: str) -> None:
    """As published; the rest is marked as our choice."""
    recipe = load_recipe(name)
    assert recipe.method == EvolutionarySpec(mode="evolutionary", weight=0.25, schedule="linear", combine="logits")
    assert recipe.model.neuron == LifSpec(type="lif", decay=0.5, threshold=1.0, reset="hard")
    lr = 4e-3 if recipe.data.type == "imagenet" else 0.01
    assert recipe.train.optimizer == AdamWSpec(type="adamw", lr=lr, weight_decay=0.02)
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.train.lr_schedule) == (300, 128, "cosine")
    assert re.search(r'^type = "triangle" +# our choice$', shipped_recipes()[name].read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("guo2024/", "depth/", "cifar"))])
@pytest.mark.parametrize("mode", ["vanilla", "shortcut"])
def test_other_arms_are_one_override_away(name: str, mode: str) -> None:
    evolutionary, other = load_recipe(name), load_recipe(name, [f"method.mode={mode}"])
    assert other.method.mode == mode
    assert other.model_copy(update={"method": evolutionary.method}) == evolutionary


@pytest.mark.parametrize("name", of("li2024"))
def test_settings_of_li_2024(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.model.neuron == LifSpec(type="lif", decay=0.5, input_gain=0.5, threshold=0.5)
    assert recipe.model.surrogate.type == "piecewise-linear"
    assert recipe.method == VanillaSpec(
        mode="vanilla",
        masking=MaskingSpec(ratio=0.5, placement="surrogate"),
        weighting=WeightingSpec(warmup_epochs=5, momentum=0.7),
    )
    alone = load_recipe(name, ['method={mode="vanilla",masking={}}'])  # as its comment says
    assert (alone.method.masking, alone.method.weighting) == (recipe.method.masking, None)


def test_a_baseline_is_one_option_away_from_the_others() -> None:
    """Data and training are the same, but for what the option itself is."""
    recipes = of("baselines")
    for name, recipe in recipes.items():
        assert recipe.data == recipes["baselines/cifar10-tet"].data
        train = recipe.train.model_copy(update={"label_smoothing": 0.0})
        assert train == recipes["baselines/cifar10-tet"].train, name
        assert (1 if name.endswith("-ann") else 4) == recipe.model.T
    said = {json.dumps(recipe.model_dump(mode="json", exclude={"name"}), sort_keys=True) for recipe in recipes.values()}
    assert len(said) == len(recipes)


def test_the_teacher_is_the_run_that_the_other_recipe_makes() -> None:
    teacher = load_recipe("baselines/cifar10-kd").method.teacher
    assert isinstance(teacher, TeacherSpec)
    assert teacher.checkpoint == f"runs/{load_recipe('baselines/cifar10-ann').name}-1/last.pt"
