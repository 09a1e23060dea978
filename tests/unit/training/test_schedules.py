"""The weight of the branches and the learning rate, at their ends, in the middle and in the warm-up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from snnsc.recipe.schema import (
    DistillSpec,
    EvolutionarySpec,
    MaskingSpec,
    RampSpec,
    Recipe,
    ShortcutSpec,
    VanillaSpec,
)
from snnsc.training.schedules import branch_weight, learning_rate, masking_ratio


def evolving(schedule: str, weight: float = 0.25) -> EvolutionarySpec:
    return EvolutionarySpec(mode="evolutionary", schedule=schedule, weight=weight)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (VanillaSpec(mode="vanilla"), [0, 0, 0, 0, 0]),
        (ShortcutSpec(mode="shortcut"), [1, 1, 1, 1, 1]),
        (evolving("linear"), [0.25, 0.1875, 0.125, 0.0625, 0.25 / 1000]),
        (evolving("linear", 2.0), [2, 1.5, 1, 0.5, 0.002]),
        # cos(pi/4) = sqrt(2)/2; at the last iteration (pi/1000)^2 / 4 of it is left
        (evolving("cosine"), [0.25, 0.125 * (1 + 2**-0.5), 0.125, 0.125 * (1 - 2**-0.5), 0.25 * 2.4674e-6]),
        (evolving("constant"), [0.25, 0.25, 0.25, 0.25, 0.25]),
        (evolving("linear", 0.0), [0, 0, 0, 0, 0]),
        (DistillSpec(mode="distill"), [0.25, 0.1875, 0.125, 0.0625, 0.25 / 1000]),
        (DistillSpec(mode="distill", schedule="constant", weight=1.0), [1, 1, 1, 1, 1]),
    ],
    ids=lambda v: getattr(v, "schedule", getattr(v, "mode", "")),
)
def test_branch_weight(method, expected: list[float]) -> None:
    found = [branch_weight(method, i, 1000) for i in (0, 250, 500, 750, 999)]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-15)


def test_linear_goes_to_zero_over_iterations_not_epochs() -> None:
    found = [branch_weight(evolving("linear", 1.0), i, 8) for i in range(8)]
    assert found == [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]


def test_cosine_learning_rate(make_recipe: Callable[..., Recipe]) -> None:
    train = make_recipe("train.epochs=4", "train.optimizer={type='adamw', lr=0.02}").train
    found = [learning_rate(train, i, 25) for i in (0, 25, 50, 75, 100)]
    assert found == pytest.approx([0.02, 0.01 * (1 + 2**-0.5), 0.01, 0.01 * (1 - 2**-0.5), 0], abs=1e-15)


def test_constant_learning_rate(make_recipe: Callable[..., Recipe]) -> None:
    train = make_recipe("train.epochs=4", "train.lr_schedule=constant", "train.optimizer={type='sgd', lr=0.1}").train
    assert {learning_rate(train, i, 25) for i in range(100)} == {0.1}


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_warm_up_rises_evenly_to_the_peak(make_recipe: Callable[..., Recipe], schedule: str) -> None:
    keys = ["epochs=3", "warmup_epochs=0.5", f"lr_schedule={schedule}", "optimizer={type='sgd', lr=1}"]
    train = make_recipe(*(f"train.{key}" for key in keys)).train
    # half of 8 steps are 4: 1/5 to 4/5, then the peak
    assert [learning_rate(train, i, 8) for i in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    # 20 steps are left: the middle of the cosine is at 14
    assert learning_rate(train, 14, 8) == pytest.approx(0.5 if schedule == "cosine" else 1.0)
    assert learning_rate(train, 24, 8) == pytest.approx(0.0 if schedule == "cosine" else 1.0, abs=1e-15)


def test_no_warm_up_and_a_single_step(make_recipe: Callable[..., Recipe]) -> None:
    train = make_recipe("train.epochs=1", "train.warmup_epochs=0.4").train
    assert learning_rate(train, 0, 1) == 0.01  # 0.4 of a step is none


def test_masking_ratio() -> None:
    constant = MaskingSpec(ratio=0.3)
    assert {masking_ratio(constant, i, 10, 8) for i in range(80)} == {0.3}
    # 0.5 through the first three epochs of ten steps, then five epochs to 1: 0.1 an epoch
    ramp = MaskingSpec(ramp=RampSpec(start=3, ratio=1.0))
    found = [masking_ratio(ramp, i, 10, 8) for i in (0, 29, 30, 35, 40, 70, 79, 80)]
    assert found == pytest.approx([0.5, 0.5, 0.5, 0.55, 0.6, 0.9, 0.99, 1.0])
    down = MaskingSpec(ratio=0.4, ramp=RampSpec(start=0.5, ratio=0.0))
    assert [masking_ratio(down, i, 4, 1) for i in range(5)] == pytest.approx([0.4, 0.4, 0.4, 0.2, 0.0])
