"""A network that is compiled as a whole trains as one whose operations run one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from snnsc.data import build_loaders
from snnsc.errors import RecipeError
from snnsc.recipe.schema import Recipe
from snnsc.training.distributed import Place
from snnsc.training.loop import EpochDone, StepDone, Training

SMALL = [
    "data={type='digits', train_limit=48, test_limit=16}",
    "train.epochs=1",
    "train.batch_size=16",
    "train.optimizer={type='sgd'}",
    "model.stages=[[4], [8]]",
    "model.T=2",
]


@pytest.fixture
def train(make_recipe: Callable[..., Recipe]) -> Callable[..., tuple[Training, list[Any]]]:
    def run(*options: str) -> tuple[Training, list[Any]]:
        torch.manual_seed(0)
        recipe = make_recipe(*SMALL, "train.precision=fp32", *options)
        training = Training(recipe, build_loaders(recipe, Path("unused")), Place(torch.device("cpu")))
        return training, list(training.events())

    return run


@pytest.mark.parametrize(
    "option",
    [
        "method.masking={ratio=0.5}",
        "model.neuron={type='glif'}",
        "model.norm={type='mpbn'}",
    ],
)
def test_the_whole_network_in_one_program(train: Callable[..., tuple[Training, list[Any]]], option: str) -> None:
    torch._dynamo.utils.counters.clear()
    whole, events = train("train.compile=model", option)
    assert torch._dynamo.utils.counters["stats"]["calls_captured"] > 50
    assert not torch._dynamo.utils.counters["graph_break"]
    plain, _ = train("train.compile=off", option)
    for (name, found), expected in zip(
        whole.model.state_dict().items(), plain.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert isinstance(events[-1], EpochDone)


def test_the_first_step_is_told_and_is_no_part_of_the_rate(train: Callable[..., tuple[Training, list[Any]]]) -> None:
    training, events = train("train.compile=off")
    steps = [event for event in events if isinstance(event, StepDone)]
    assert len(steps) == 3
    assert {step.first_step_seconds for step in steps} == {training.first_step_seconds}
    assert training.first_step_seconds is not None
    # two steps after it took the rest of the time
    assert steps[-1].samples_per_second > 2 * 16 / training.seconds


def test_cuda_graphs_without_a_gpu_are_refused_before_a_run_begins(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe(*SMALL, "train.compile=model", "train.cuda_graphs=true")
    loaders = build_loaders(recipe, Path("unused"))
    with pytest.raises(RecipeError, match=r"train\.cuda_graphs: this run is on cpu"):
        Training(recipe, loaders, Place(torch.device("cpu")))
