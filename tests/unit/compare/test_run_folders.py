"""Run folders read for comparison; what is damaged is named by file and line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from snnsc.compare import runs
from snnsc.compare.runs import Energy, Epoch, Histogram, read_energy, read_run, read_runs
from snnsc.compare.seeds import write_seeds
from snnsc.errors import ModelFileError, RecipeError
from snnsc.recipe.schema import Recipe

from .lines import EDGES, line

Write = Callable[..., Path]


def test_file_names_are_those_that_training_and_export_write() -> None:
    from snnsc.training.gradients import FIRST_LAYER
    from snnsc.training.run import METRICS, RECIPE

    assert (runs.METRICS, runs.RECIPE, runs.FIRST_LAYER) == (METRICS, RECIPE, FIRST_LAYER)


def test_a_run(write_run: Write, make_recipe: Callable[..., Recipe]) -> None:
    run = read_run(write_run("a", [0.5, 0.75]))
    histogram = Histogram(tuple(EDGES), (1, 2, 0), 4, (0, 2, 1))
    assert run.recipe == make_recipe("train.epochs=2")
    assert run.epochs == (Epoch(0.5, 10.0, 0.2, 0.5, histogram), Epoch(0.75, 20.0, 0.2, 0.25, histogram))
    assert (run.finished, run.energy) == (True, None)
    assert not read_run(write_run("b", [0.5])).finished


def test_older_runs_and_networks_without_neurons(write_run: Write) -> None:
    folder = write_run("a", [0.5], firing_rate={})
    found = json.loads((folder / "metrics.jsonl").read_text())
    del found["first_layer_gradient"]
    (folder / "metrics.jsonl").write_text(json.dumps(found) + "\n")
    epoch = read_run(folder).epochs[0]
    assert (epoch.firing_rate, epoch.histogram) == (None, None)


def test_a_line_that_is_being_written_does_not_count(write_run: Write) -> None:
    folder = write_run("a", [0.5])
    with (folder / "metrics.jsonl").open("a") as f:
        f.write(json.dumps(line(2, 0.6))[:40])
    assert len(read_run(folder).epochs) == 1
    (folder / "metrics.jsonl").write_text(json.dumps(line(1, 0.6)))
    with pytest.raises(ModelFileError, match=r"metrics.jsonl: no epoch of this run is done yet"):
        read_run(folder)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("nonsense", "Expecting value"),
        ("[]", "list indices"),
        ('"text"', "string indices"),
        ("{}", "has no 'epoch'"),
        (json.dumps(line(3, 0.5)), "epoch is 3, not 2"),
        (json.dumps({**line(2, 0.5), "accuracy": None}), "accuracy is None, which is no finite number"),
        (json.dumps(line(2, math.nan)), "accuracy is nan, which is no finite number"),
        (json.dumps({**line(2, 0.5), "seconds": "1"}), "seconds is '1', which is no finite number"),
        (json.dumps({**line(2, 0.5), "gradient_norm": 3}), "'int' object is not iterable"),
        (
            json.dumps(line(2, 0.5, gradient_norm={"stem.convs.0.conv": "x"})),
            "gradient_norm is 'x', which is no number",
        ),
        (json.dumps(line(2, 0.5, firing_rate={"a": True})), "firing_rate is True"),
        (json.dumps(line(2, 0.5, first_layer_gradient={})), "has no 'edges'"),
        (json.dumps(line(2, 10**400)), ""),
        (
            json.dumps(
                line(2, 0.5, first_layer_gradient={"edges": [1, 2], "negative": [1], "zero": 0, "positive": []})
            ),
            "first_layer_gradient has not one more edge than counts of a sign",
        ),
        (
            json.dumps(
                line(2, 0.5, first_layer_gradient={"edges": [2, 1], "negative": [1], "zero": 0, "positive": [1]})
            ),
            "first_layer_gradient.edges do not rise from 1e-30 to 1e30",
        ),
        (
            json.dumps(
                line(2, 0.5, first_layer_gradient={"edges": [1, 2], "negative": [-1], "zero": 0, "positive": [1]})
            ),
            "first_layer_gradient holds -1, which is no count",
        ),
        ("[" * 100_000, "recursion"),
    ],
    ids=range(17),
)
def test_a_damaged_line_is_named(write_run: Write, second: str, message: str) -> None:
    folder = write_run("a", [0.5])
    with (folder / "metrics.jsonl").open("a") as f:
        f.write(second + "\n")
    with pytest.raises(ModelFileError, match=r"metrics.jsonl: line 2 is damaged: .*" + re.escape(message)):
        read_run(folder)


def test_exploding_gradients_are_no_damage(write_run: Write) -> None:
    run = read_run(write_run("a", [0.5], gradient_norm={"stem.convs.0.conv": math.inf}))
    assert run.epochs[0].first_gradient == math.inf


def test_energy(tmp_path: Path) -> None:
    path = tmp_path / "energy.json"
    assert read_energy(path) is None
    path.write_text(json.dumps({"energy": [{"model": "x"}, {"model": "horowitz-fp32", "snn_pj": 5, "ratio": 0.25}]}))
    assert read_energy(path) == Energy(5.0, 0.25, is_bound=False)
    entry = {"model": "horowitz-fp32", "snn_pj": 5, "ratio": 0.25, "not_priced": ["CLIF"]}
    path.write_text(json.dumps({"energy": [entry]}))
    assert read_energy(path) == Energy(5.0, 0.25, is_bound=True)
    for damaged in ("", "[]", '{"energy": []}', '{"energy": [{"model": "horowitz-fp32", "snn_pj": null}]}'):
        path.write_text(damaged)
        with pytest.raises(ModelFileError, match=r"energy.json: is damaged"):
            read_energy(path)


def test_what_export_writes_is_read() -> None:
    from snnsc.energy.pricing.pricing import load_targets

    assert runs.PRICES in {target.name for target in load_targets()}


def test_a_folder_of_seeds(write_run: Write, tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    write_run("many/seed-10", [0.5, 0.5], "seed=10")
    write_run("many/seed-2", [0.5], "seed=2")
    (tmp_path / "many/seed-3").mkdir()
    many = tmp_path / "many"
    assert [run.folder.name for run in read_runs([many / "seed-2", many / "seed-10"]).runs] == ["seed-2", "seed-10"]
    found = read_runs([many])  # copied without its plan
    assert [run.recipe.seed for run in found.runs] == [2, 10]
    assert found.not_begun == (many / "seed-3",)
    write_seeds(many, make_recipe("train.epochs=2"), (10, 3, 2, 4))
    found = read_runs([many])
    assert [run.recipe.seed for run in found.runs] == [10, 2]
    assert found.not_begun == (many / "seed-3", many / "seed-4")


def test_folders_that_hold_no_run(tmp_path: Path, write_run: Write, make_recipe: Callable[..., Recipe]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "seeds").mkdir()
    write_seeds(tmp_path / "seeds", make_recipe(), (0,))
    without = write_run("without", [0.5])
    (without / "metrics.jsonl").unlink()
    other = write_run("other", [0.5])
    (other / "recipe.toml").write_text("name = 3")
    for name, kind, message in (
        ("none", ModelFileError, "no such run folder"),
        ("empty", ModelFileError, "is no run folder, as it has no recipe.toml, and no seeds.json either"),
        ("seeds", ModelFileError, "no epoch of any of its seeds is done yet"),
        ("without", ModelFileError, "metrics.jsonl: no such file; no epoch of this run is done yet"),
        ("other", RecipeError, "recipe.toml: name: must be a valid string"),
        ("x" * 300, ModelFileError, "no such run folder"),
    ):
        with pytest.raises(kind, match=re.escape(message)):
            read_runs([tmp_path / name])
