"""Means, deviations and differences of arms, and how they read."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from snnsc.compare.arms import group, unequal
from snnsc.compare.runs import read_run
from snnsc.compare.spread import Spread, percent, pooled_std, spread
from snnsc.compare.summary import Parameters, Summary, count_parameters, differences, summarise
from snnsc.compare.table import cells, legend, markdown, remarks
from snnsc.recipe.schema import Recipe

Write = Callable[..., Path]
EVOLUTIONARY = "method={mode='evolutionary'}"


def test_spread() -> None:
    assert spread([]) is None
    assert spread([0.5]) == Spread(0.5, None, 1)
    found = spread([0.50, 0.55, 0.57])
    assert found == Spread(pytest.approx(0.54), pytest.approx(math.sqrt((0.04**2 + 0.01**2 + 0.03**2) / 2)), 3)
    infinite = spread([1.0, math.inf])
    assert infinite is not None
    assert math.isnan(infinite.mean)
    assert percent(Spread(0.5512, 0.0079, 3)) == "55.1 +/- 0.8 %"
    assert percent(Spread(0.5512, None, 1)) == "55.1 %"


def test_pooled_deviation() -> None:
    a, b = [1.0, 2.0, 4.0], [3.0, 5.0]
    pooled = math.sqrt((2 * statistics.variance(a) + statistics.variance(b)) / 3)
    assert pooled_std(spread(a), spread(b)) == pytest.approx(pooled)
    assert pooled_std(spread(a), Spread(1.0, None, 1)) is None


def test_parameters_are_those_of_the_network_with_and_without_branches(make_recipe: Callable[..., Recipe]) -> None:
    from snnsc.model import build_model

    recipe = make_recipe(EVOLUTIONARY)
    plain, whole = (
        sum(p.numel() for p in build_model(recipe, branches=branches, compiled=False).parameters())
        for branches in (False, True)
    )
    assert count_parameters(recipe) == Parameters(plain, whole - plain)
    assert whole - plain == 32 * 10 + 10


@pytest.fixture
def summaries(write_run: Write) -> list[Summary]:
    runs = [
        *(read_run(write_run(f"plain/seed-{s}", [0.3, 0.4 + s / 100], f"seed={s}")) for s in range(2)),
        *(read_run(write_run(f"fading/seed-{s}", [0.6, 0.5 + s / 50], EVOLUTIONARY, f"seed={s}")) for s in range(3)),
        read_run(write_run("begun", [0.2], "model.T=2")),
    ]
    (runs[2].folder / "energy.json").write_text(
        json.dumps({"energy": [{"model": "horowitz-fp32", "snn_pj": 2e6, "ratio": 0.5}]})
    )
    runs[2] = read_run(runs[2].folder)
    return [summarise(arm) for arm in group(runs)]


def test_numbers_of_an_arm(summaries: list[Summary]) -> None:
    plain, fading, begun = summaries
    assert plain.accuracy == Spread(pytest.approx(0.405), pytest.approx(0.01 / math.sqrt(2)), 2)
    assert fading.accuracy == Spread(pytest.approx(0.52), pytest.approx(0.02), 3)
    assert fading.best_accuracy == Spread(pytest.approx(0.6), 0.0, 3)
    assert plain.first_gradient == Spread(0.375, 0.0, 2)
    assert plain.first_gradient_epoch_1 == Spread(0.5, 0.0, 2)
    assert plain.firing_rate == Spread(pytest.approx(0.2), 0.0, 2)
    assert (plain.seconds.mean, begun.seconds.mean) == (20.0, 10.0)
    assert (plain.ratio, fading.ratio, fading.snn_pj) == (None, Spread(0.5, None, 1), Spread(2e6, None, 1))
    assert (plain.parameters.branches, fading.parameters.branches) == (0, 330)


def test_differences_are_to_the_first_arm_in_pooled_deviations(summaries: list[Summary]) -> None:
    (found,) = differences(summaries)  # the third has one run, which is not finished
    pooled = math.sqrt((1 * 0.01**2 / 2 + 2 * 0.02**2) / 3)
    assert (found.arm, found.baseline) == ("fading", "plain")
    assert found.points == pytest.approx(11.5)
    assert found.pooled_std == pytest.approx(100 * pooled)
    assert found.in_stds == pytest.approx(0.115 / pooled)


def test_runs_that_are_not_finished_are_not_set_against_others(write_run: Write) -> None:
    runs = [read_run(write_run(f"a/seed-{s}", [0.3, 0.4], f"seed={s}")) for s in range(2)]
    runs += [read_run(write_run(f"b/seed-{s}", [0.3] * (s + 1), EVOLUTIONARY, f"seed={s}")) for s in range(2)]
    assert differences([summarise(arm) for arm in group(runs)]) == []


def test_equal_runs_have_no_deviation_to_measure_by(write_run: Write) -> None:
    runs = [read_run(write_run(f"a/seed-{s}", [0.3, 0.4], f"seed={s}")) for s in range(2)]
    runs += [read_run(write_run(f"b/seed-{s}", [0.3, 0.5], EVOLUTIONARY, f"seed={s}")) for s in range(2)]
    found = [summarise(arm) for arm in group(runs)]
    assert differences(found)[0].in_stds == math.inf
    assert remarks(found, differences(found)) == ["a: vanilla", "b: evolutionary", "b - a: +10.00 points"]


def test_arms_that_were_not_trained_alike_are_told(write_run: Write) -> None:
    runs = [read_run(write_run(name, [0.3], *keys)) for name, keys in (("a", ()), ("b", ("train.batch_size=7",)))]
    recipes = [arm.recipe for arm in group(runs)]
    assert unequal(recipes) == ["train.batch_size"]
    assert unequal(recipes[:1]) == []


def test_the_table(summaries: list[Summary]) -> None:
    header, rows = cells(summaries)
    assert [dict(zip(header, row, strict=True)) for row in rows] == [
        {
            "arm": "plain", "seeds": "2", "accuracy %": "40.50 +/- 0.71", "best %": "40.50", "parameters": "24.06 k",
            "branches": "-", "1st-layer gradient": "0.375", "in epoch 1": "0.5", "firing": "0.2", "time": "0:00:20",
            "SNN/ANN": "-", "energy uJ": "-",
        },
        {
            "arm": "fading", "seeds": "3", "accuracy %": "52.00 +/- 2.00", "best %": "60.00", "parameters": "24.06 k",
            "branches": "330", "1st-layer gradient": "0.375", "in epoch 1": "0.5", "firing": "0.2", "time": "0:00:20",
            "SNN/ANN": "0.5", "energy uJ": "2",
        },
        {
            "arm": "begun *", "seeds": "1", "accuracy %": "20.00", "best %": "20.00", "parameters": "24.06 k",
            "branches": "-", "1st-layer gradient": "0.5", "in epoch 1": "0.5", "firing": "0.2", "time": "0:00:10",
            "SNN/ANN": "-", "energy uJ": "-",
        },
    ]  # fmt: skip
    begun = summaries[2].arm.runs[0].folder
    assert remarks(summaries, differences(summaries)) == [
        "plain: T=4, vanilla",
        "fading: T=4, evolutionary",
        "begun: T=2, vanilla",
        "fading - plain: +11.50 points, +6.8 pooled standard deviations (1.68)",
        f"* {begun}: not finished, epoch 1 of 2",
    ]
    assert any("horowitz-fp32" in text for text in legend(summaries))


def test_columns_that_no_arm_fills_are_left_out(summaries: list[Summary]) -> None:
    header, rows = cells([summaries[0]])
    assert "energy uJ" not in header
    assert "branches" not in header
    assert len(rows[0]) == len(header)
    assert not any("horowitz-fp32" in text for text in legend([summaries[0]]))


def test_markdown(write_run: Write) -> None:
    lines = markdown([summarise(arm) for arm in group([read_run(write_run("a|b", [0.25]))])]).splitlines()
    assert lines[0].startswith("| arm | seeds | accuracy % |")
    assert set(lines[1]) == set("| -:")
    assert lines[2].startswith(r"| a\|b * | 1 | 25.00 | 25.00 | 24.06 k |")
    assert len(lines) == 3


def test_json_has_every_run(summaries: list[Summary]) -> None:
    found = summaries[1].to_dict()
    assert json.loads(json.dumps(found)) == found
    assert (found["arm"], found["finished"], found["parameters"], found["branch_parameters"]) == (
        "fading", True, 24058, 330,
    )  # fmt: skip
    assert found["accuracy"] == {"mean": pytest.approx(0.52), "std": pytest.approx(0.02), "n": 3}
    assert [(run["seed"], run["epochs"], run["epochs_planned"], run["ratio"]) for run in found["runs"]] == [
        (0, 2, 2, 0.5), (1, 2, 2, None), (2, 2, 2, None),
    ]  # fmt: skip
