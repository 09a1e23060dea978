"""Run folders made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from snnsc.recipe.load import to_toml
from snnsc.recipe.schema import Recipe

from .lines import line


@pytest.fixture
def write_run(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> Callable[..., Path]:
    """Write a run folder: accuracy of each epoch, overrides of the small recipe, further keys of every line."""

    def write(name: str, accuracies: Sequence[float], *overrides: str, **more: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        recipe = make_recipe("train.epochs=2", *overrides)
        (folder / "recipe.toml").write_text(to_toml(recipe))
        lines = [line(epoch, accuracy, **more) for epoch, accuracy in enumerate(accuracies, 1)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(found) + "\n" for found in lines))
        return folder

    return write
