"""Which teachers are taken and which are refused, and that a taught network needs its teacher in training only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from snnsc import checkpoint
from snnsc.checkpoint import Checkpoint
from snnsc.errors import ModelFileError, RecipeError
from snnsc.model import build_model
from snnsc.recipe.schema import Recipe
from snnsc.strip import strip
from snnsc.training.teacher import load_teacher

CPU = torch.device("cpu")
FACTS: dict[str, object] = {
    "classes": list("0123456789"), "mean": [0.3], "std": [0.4], "whole_counts": False,
    "files_sha256": None, "train_samples": 1438,
}  # fmt: skip
EVENTS = "data={type='nmnist', size=16}"


def save(path: Path, recipe: Recipe, facts: dict[str, object] | None = None) -> Checkpoint:
    made = Checkpoint("train", recipe, {**FACTS, **(facts or {})}, build_model(recipe).state_dict())
    checkpoint.save(path, made)
    return made


@pytest.fixture
def student(make_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Recipe]:
    return lambda *keys: make_recipe(f"method.teacher={{checkpoint='{tmp_path / 'ann.pt'}'}}", *keys)


def load(recipe: Recipe) -> Any:
    assert recipe.method.teacher is not None
    return load_teacher(recipe.method.teacher, recipe, FACTS, CPU)


def test_teaches_without_gradient_and_without_its_branches(
    tmp_path: Path, student: Callable[..., Recipe], make_recipe: Callable[..., Recipe]
) -> None:
    made = save(tmp_path / "ann.pt", make_recipe("method={mode='shortcut'}", "model={arch='resnet20-thin', T=2}"))
    teacher = load(student())
    assert not teacher.network.training
    assert not teacher.network.shortcuts
    assert not any(p.requires_grad for p in teacher.network.parameters())
    x = torch.randn(3, 1, 8, 8)
    taught = teacher.logits(x)
    assert not taught.requires_grad
    assert torch.equal(taught, made.build()(x))
    o = torch.randn(3, 10, requires_grad=True)
    teacher.loss(taught, o).backward()  # what it says can stand in a graph
    assert o.grad is not None
    assert o.grad.abs().max() > 0


def test_the_same_frames_go_to_student_and_teacher(
    tmp_path: Path, student: Callable[..., Recipe], make_recipe: Callable[..., Recipe]
) -> None:
    relu = "model={arch='tiny', T=1, neuron={type='relu'}, norm={type='bn'}}"
    made = save(tmp_path / "ann.pt", make_recipe(EVENTS, relu))
    frames = torch.rand(4, 2, 2, 16, 16)
    assert torch.equal(load(student(EVENTS)).logits(frames), made.build()(frames))


@pytest.mark.parametrize(
    ("of_teacher", "facts", "of_student", "message"),
    [
        (["data={type='cifar100', size=8}"], {}, [], "was trained on 100 classes, the data has 10"),
        ([], {"classes": [*"012345678", "x"]}, [], "other classes: its class 9 is 'x', the data's is '9'"),
        (["data.size=16"], {}, [], "was trained with data.size = 16, the recipe has 8"),
        (["data={type='cifar10', size=8}"], {}, [], "was trained with data.channels = 3, the recipe has 1"),
        ([], {"mean": [0.5]}, [], r"normalised by mean \[0.5\], the data is by \[0.3\]"),
        ([], {"std": [0.5]}, [], r"normalised by std \[0.5\], the data is by \[0.4\]"),
        ([EVENTS], {}, [EVENTS, "data.slicing=count"], "was trained with data.slicing = time, the recipe has count"),
        ([EVENTS], {}, ["data.size=16"], "was trained with data.is_event = True, the recipe has False"),
        (
            [EVENTS, "model.norm={type='tebn'}", "model.T=3"],
            {},
            [EVENTS],
            r"T = 4: the network has weights for each of its 3 time steps \(model.norm.type = 'tebn'\)",
        ),
    ],
    ids=["classes", "names", "size", "channels", "mean", "std", "slicing", "events", "steps"],
)
def test_refused(
    tmp_path: Path,
    student: Callable[..., Recipe],
    make_recipe: Callable[..., Recipe],
    of_teacher: list[str],
    facts: dict[str, object],
    of_student: list[str],
    message: str,
) -> None:
    save(tmp_path / "ann.pt", make_recipe(*of_teacher), facts)
    with pytest.raises(RecipeError, match=rf"^method\.teacher\.checkpoint: .*ann\.pt: .*{message}") as e:
        load(student(*of_student))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), (b"text", "is no checkpoint of snnsc")])
def test_no_file_or_no_checkpoint(
    tmp_path: Path, student: Callable[..., Recipe], content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "ann.pt").write_bytes(content)
    with pytest.raises(ModelFileError, match=rf"^method\.teacher\.checkpoint: .*ann\.pt: {message}"):
        load(student())


def test_a_taught_network_is_built_and_stripped_without_its_teacher(
    tmp_path: Path, student: Callable[..., Recipe]
) -> None:
    path = tmp_path / "student.pt"
    recipe = student("method.mode='shortcut'", "model.stages=[[8,8],[8]]")
    save(path, recipe)
    source = checkpoint.read(path)
    strip(source, [(torch.randn(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64))], tmp_path / "s.pt")
    x = torch.randn(2, 1, 8, 8)
    with torch.inference_mode():
        assert torch.equal(checkpoint.read(tmp_path / "s.pt").build()(x), source.build()(x))
