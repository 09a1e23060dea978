"""A folder of seeds: one recipe, trained with several seeds, each into a run folder of its own.

<folder>/seeds.json   the seeds and the recipe; written whole before anything else, so that no kill can lose a seed
<folder>/seed-<n>/    a run folder, see `snnsc.training.run`
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from snnsc.errors import ModelFileError, RecipeError
from snnsc.files import is_file, write_atomically
from snnsc.recipe.load import validate
from snnsc.recipe.schema import Recipe

SEEDS = "seeds.json"
LARGEST_SEED = 2**32 - 1


def seed_folder(folder: Path, seed: int) -> Path:
    """Where the run of a seed stands in a folder of seeds."""
    return folder / f"seed-{seed}"


def seed_folders(folder: Path) -> list[Path]:
    """The run folders in a folder of seeds that have begun, by seed."""
    found = [f for f in folder.glob("seed-*") if re.fullmatch(r"seed-\d+", f.name) and f.is_dir()]
    return sorted(found, key=lambda f: (len(f.name), f.name))


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The same experiment, drawn anew."""
    return recipe.model_copy(update={"seed": seed})


def parse_seeds(text: str) -> tuple[int, ...]:
    """The seeds of `--seeds 0,1,2`, in their order.

    Raises:
        RecipeError: something in the list is no seed, or stands there twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        word = part.strip()
        if not re.fullmatch(r"[0-9]+", word):
            raise RecipeError(f"--seeds {text}: {word!r} is no whole number from 0 on; write a list such as 0,1,2")
        if len(word) > 10 or int(word) > LARGEST_SEED:
            raise RecipeError(f"--seeds {text}: {word} is too large; a seed is at most {LARGEST_SEED}")
        if int(word) in seeds:
            raise RecipeError(f"--seeds {text}: {int(word)} stands there twice; equal seeds give equal runs")
        seeds.append(int(word))
    return tuple(seeds)


def write_seeds(folder: Path, recipe: Recipe, seeds: Sequence[int]) -> None:
    """Write down what the folder is going to hold.

    Raises:
        SnnscError: it cannot be written.
    """
    plan = {"seeds": list(seeds), "recipe": recipe.model_dump(mode="json", exclude_none=True)}
    write_atomically(folder / SEEDS, json.dumps(plan, indent=2) + "\n")


def is_seeds_folder(folder: Path) -> bool:
    """Whether `folder` was begun by `write_seeds`."""
    return is_file(folder / SEEDS)


def read_seeds(folder: Path) -> tuple[Recipe, tuple[int, ...]]:
    """The recipe of a folder of seeds, and its seeds in their order.

    Raises:
        ModelFileError: the file is damaged.
        RecipeError: its recipe is not one of this snnsc.
    """
    path = folder / SEEDS
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        seeds = tuple(plan["seeds"])
        tables = dict(plan["recipe"])
        valid = all(type(seed) is int and 0 <= seed <= LARGEST_SEED for seed in seeds)
        if not seeds or not valid or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds are {plan['seeds']!r}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
        raise ModelFileError(f"{path}: is damaged: {e}") from e
    return validate(tables, str(path)), seeds
