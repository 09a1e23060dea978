"""Runs of one recipe are an arm, whatever their seeds and folders are; arms have names of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from snnsc.compare.arms import data_sets, group, telling_keys
from snnsc.compare.runs import read_run
from snnsc.errors import RecipeError
from snnsc.recipe.schema import Recipe

Write = Callable[..., Path]
EVOLUTIONARY = "method={mode='evolutionary'}"


def test_seeds_and_roots_make_no_arm_of_their_own(write_run: Write) -> None:
    folders = [
        write_run("plain/seed-0", [0.1]),
        write_run("fading", [0.1], EVOLUTIONARY),
        write_run("plain/seed-1", [0.1], "seed=1", "data.root='/elsewhere'"),
    ]
    arms = group([read_run(folder) for folder in folders])
    assert [arm.label for arm in arms] == ["plain", "fading"]
    assert [[run.recipe.seed for run in arm.runs] for arm in arms] == [[0, 1], [0]]


def test_scattered_runs_are_called_by_what_differs(write_run: Write) -> None:
    runs = [
        read_run(write_run(f"digits-{3 * i + seed}", [0.1], method, f"seed={seed}"))
        for i, method in enumerate(["method={mode='vanilla'}", EVOLUTIONARY, "method={mode='evolutionary',weight=0.5}"])
        for seed in range(2)
    ]
    labels = [arm.label for arm in group(runs)]
    assert labels == ["vanilla", "evolutionary, weight=0.25", "evolutionary, weight=0.5"]
    assert [arm.label for arm in group(runs[:2])] == ["digits-0"]  # nothing differs
    assert [arm.label for arm in group(runs, ["a", "b", "c"])] == ["a", "b", "c"]


def test_names_that_meet_become_paths(write_run: Write, tmp_path: Path) -> None:
    runs = [read_run(write_run("a/run", [0.1])), read_run(write_run("b/run", [0.1], EVOLUTIONARY))]
    assert [arm.label for arm in group(runs)] == [str(tmp_path / "a/run"), str(tmp_path / "b/run")]


def test_names_that_cannot_be_shown(write_run: Write) -> None:
    assert group([read_run(write_run("a\x1b[0m\udc80", [0.1]))])[0].label == "a?[0m?"


def test_wrong_labels_and_folders(write_run: Write) -> None:
    runs = [read_run(write_run("a", [0.1])), read_run(write_run("b", [0.1], EVOLUTIONARY))]
    with pytest.raises(RecipeError, match="--labels: has 1 labels for 2 arms: a, b"):
        group(runs, ["x"])
    for labels in (["x", "x"], ["x", " "]):
        with pytest.raises(RecipeError, match="every arm needs a label of its own"):
            group(runs, labels)
    with pytest.raises(RecipeError, match="a: given twice"):
        group([runs[0], runs[0]])


def test_differences_name_only_what_tells_recipes_apart(make_recipe: Callable[..., Recipe]) -> None:
    plain, masked, other = (
        make_recipe(),
        make_recipe("method.masking={ratio=0.3}", "seed=3"),
        make_recipe("method.masking={ratio=0.4}", "data.root='/x'", "model.neuron.type=if"),
    )
    assert telling_keys([plain, masked, other]) == [
        ["lif", "masking=none"],
        ["lif", "masking=set", "ratio=0.3"],
        ["if", "masking=set", "ratio=0.4"],
    ]
    assert telling_keys([plain]) == [[]]


def test_what_arms_were_evaluated_on(write_run: Write) -> None:
    other = ("data={type='mnist',test_limit=50}", "data.size=8")
    arms = group([read_run(write_run("a", [0.1])), read_run(write_run("b", [0.1], *other))])
    assert data_sets(arms) == ["digits", "mnist (test_limit=50)"]
