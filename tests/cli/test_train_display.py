"""The live line: pace and time left leave the first step out; compiling is told of where there is any."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from snnsc.cli import train_display
from snnsc.cli.train_display import Display
from snnsc.data import build_loaders
from snnsc.recipe.schema import Recipe
from snnsc.training.device import pick_device
from snnsc.training.distributed import Place
from snnsc.training.events import StepDone
from snnsc.training.loop import Training


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def steps(make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """What a run with this `train.compile` shows after each of three steps; drawn at once, each step told of."""
    monkeypatch.setattr(train_display, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(train_display, "LONG", 0.0)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")

    def shown(compile_: str) -> list[str]:
        recipe = make_recipe(f"train.compile={compile_}", "data.train_limit=192", "train.batch_size=64")
        training = Training(recipe, build_loaders(recipe, Path("unused")), Place(pick_device("cpu")))
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        texts = []
        with Display(training, Path("somewhere"), quiet=False) as display:
            for event in training.events():
                if not isinstance(event, StepDone):
                    break
                terminal.seek(0)
                terminal.truncate()
                display.show(event)
                texts.append(terminal.getvalue())
        return texts

    return shown


def test_pace_and_time_left_are_of_later_steps(steps: Callable[[str], list[str]]) -> None:
    first, second, third = steps("off")
    assert "loss" in first
    assert "/s" not in first
    assert "left" not in first
    for text in (second, third):
        assert "/s 0:00:00 left" in text


@pytest.mark.parametrize("compile_", ["off", "neurons"])
def test_compiling_is_told_of_once_where_there_is_any(steps: Callable[[str], list[str]], compile_: str) -> None:
    told = ["compiling included" in text for text in steps(compile_)]
    assert told == [compile_ == "neurons", False, False]
