"""Lists of seeds, and the folder that holds their runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from snnsc.compare.seeds import parse_seeds, read_seeds, seed_folder, seed_folders, with_seed, write_seeds
from snnsc.errors import ModelFileError, RecipeError
from snnsc.recipe.schema import Recipe


def test_lists_keep_their_order() -> None:
    assert parse_seeds("0,1,2") == (0, 1, 2)
    assert parse_seeds(" 7 , 3") == (7, 3)
    assert parse_seeds("007") == (7,)
    assert parse_seeds("4294967295") == (2**32 - 1,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no whole number"),
        ("0,", "'' is no whole number"),
        ("a", "'a' is no whole number"),
        ("-1", "'-1' is no whole number"),
        ("+1", "'+1' is no whole number"),
        ("1_0", "'1_0' is no whole number"),
        ("0-3", "'0-3' is no whole number"),
        ("٣", "'٣' is no whole number"),
        ("3,3", "3 stands there twice"),
        ("3,03", "3 stands there twice"),
        ("4294967296", "4294967296 is too large; a seed is at most 4294967295"),
    ],
)
def test_what_is_no_list_of_seeds(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match="^" + re.escape(f"--seeds {text}: {message}")):
        parse_seeds(text)


def test_a_plan_is_read_as_written(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe("method={mode='evolutionary',weight=0.1}", "data.root='/d'", "train.optimizer.type=sgd")
    write_seeds(tmp_path, recipe, (3, 0))
    assert read_seeds(tmp_path) == (recipe, (3, 0))
    assert with_seed(recipe, 3) == make_recipe(
        "method={mode='evolutionary',weight=0.1}", "data.root='/d'", "train.optimizer.type=sgd", "seed=3"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": []},
        {"seeds": [-1]},
        {"seeds": [True]},
        {"seeds": ["0"]},
        {"seeds": None},
        {"recipe": None},
        {"recipe": 3},
    ],
    ids=str,
)
def test_a_damaged_plan_is_one_error(
    tmp_path: Path, make_recipe: Callable[..., Recipe], change: dict[str, object]
) -> None:
    write_seeds(tmp_path, make_recipe(), (0, 1))
    plan = json.loads((tmp_path / "seeds.json").read_text())
    (tmp_path / "seeds.json").write_text(json.dumps(plan | change))
    with pytest.raises(ModelFileError, match=r"seeds.json: is damaged"):
        read_seeds(tmp_path)
    (tmp_path / "seeds.json").write_bytes(b"\xff{")
    with pytest.raises(ModelFileError, match=r"seeds.json: is damaged"):
        read_seeds(tmp_path)


def test_a_plan_of_another_recipe_names_the_key(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    write_seeds(tmp_path, make_recipe(), (0,))
    plan = json.loads((tmp_path / "seeds.json").read_text())
    plan["recipe"]["train"]["epoch"] = 3
    (tmp_path / "seeds.json").write_text(json.dumps(plan))
    with pytest.raises(RecipeError, match=r"seeds.json: train.epoch: unknown key \(did you mean 'epochs'\?\)"):
        read_seeds(tmp_path)


def test_run_folders_are_found_by_seed(tmp_path: Path) -> None:
    for name in ("seed-10", "seed-2", "seed-x", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "seed-3").touch()
    assert seed_folders(tmp_path) == [seed_folder(tmp_path, 2), seed_folder(tmp_path, 10)]
