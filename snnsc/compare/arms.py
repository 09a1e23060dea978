"""Which runs belong together: those of one recipe, drawn with several seeds, are an arm."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnsc.compare.runs import Run
from snnsc.errors import RecipeError
from snnsc.recipe.load import TAGS
from snnsc.recipe.schema import Recipe

LONGEST = 40
"""Characters of a label made of differences."""
NO_DIFFERENCE = {"seed", "data.root"}
"""Keys that tell seeds and machines apart, not experiments."""


@dataclass(frozen=True)
class Arm:
    """Runs of one recipe."""

    label: str
    runs: tuple[Run, ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe, with the seed of the first run."""
        return self.runs[0].recipe

    @property
    def finished(self) -> bool:
        """Whether every run is."""
        return all(run.finished for run in self.runs)


def group(runs: Sequence[Run], labels: Sequence[str] | None = None) -> tuple[Arm, ...]:
    """Put runs whose recipes are equal but for the seed (and the data's root) into arms, in order of first appearance.

    An arm is called as its folder: that of its seeds, or of its only run. One of several runs that lie apart is called
    by what sets its recipe apart from the others', where that is short, else by its first folder.

    Raises:
        RecipeError: a folder stands there twice, or the labels do not fit.
    """
    folders = Counter(run.folder.resolve() for run in runs)
    if twice := [str(folder) for folder, times in folders.items() if times > 1]:
        raise RecipeError(f"{', '.join(twice)}: given twice")
    members: dict[Recipe, list[Run]] = {}
    for run in runs:
        members.setdefault(_experiment(run.recipe), []).append(run)
    if labels is None:
        names = _names(list(members.values()))
    else:
        names = [_printable(label.strip()) for label in labels]
        if len(names) != len(members):
            arms = ", ".join(_names(list(members.values())))
            raise RecipeError(f"--labels: has {len(names)} labels for {len(members)} arms: {arms}")
        if not all(names) or len(set(names)) < len(names):
            raise RecipeError(f"--labels {','.join(names)}: every arm needs a label of its own")
    return tuple(Arm(name, tuple(runs)) for name, runs in zip(names, members.values(), strict=True))


def _experiment(recipe: Recipe) -> Recipe:
    data = recipe.data.model_copy(update={"root": None})
    return recipe.model_copy(update={"seed": 0, "data": data})


def _names(arms: Sequence[Sequence[Run]]) -> list[str]:
    names = [_printable(_arm_folder(runs[0]).name) for runs in arms]
    telling = [", ".join(found) for found in telling_keys([runs[0].recipe for runs in arms])]
    by_difference = [
        what
        if len(runs) > 1 and _arm_folder(runs[0]) == runs[0].folder.resolve() and 0 < len(what) <= LONGEST
        else name
        for runs, name, what in zip(arms, names, telling, strict=True)
    ]
    paths = [_printable(str(runs[0].folder)) for runs in arms]
    return next((found for found in (by_difference, names) if len(set(found)) == len(arms)), paths)


def _arm_folder(run: Run) -> Path:
    """The folder that gives the arm its name: of the seeds, where the run's is one of those."""
    folder = run.folder.resolve()
    return folder.parent if re.fullmatch(r"seed-\d+", folder.name) else folder


def telling_keys(recipes: Sequence[Recipe]) -> list[list[str]]:
    """For each recipe what tells it apart: `key=value` with the last part of the key, or the value of a union's tag.

    A key counts if its values differ among the recipes that have it: what only one member of a union has does not.
    """
    flat = [dict(_flat(recipe.model_dump(mode="json"))) for recipe in recipes]
    telling = _varying(flat)
    return [[_shown(key, table[key]) for key in telling if key in table] for table in flat]


def unequal(recipes: Sequence[Recipe]) -> list[str]:
    """Keys of [data] and [train] whose values differ among recipes that have them: no budget is shared."""
    return _varying([dict(_flat(recipe.model_dump(mode="json", include={"data", "train"}))) for recipe in recipes])


def _varying(flat: Sequence[Mapping[str, object]]) -> list[str]:
    keys = dict.fromkeys(key for table in flat for key in table)
    return [key for key in keys if len({repr(table[key]) for table in flat if key in table}) > 1]


def _flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        key = f"{path}{name}"
        if key not in NO_DIFFERENCE:
            yield key, "set" if isinstance(value, dict) else value
        if isinstance(value, dict):
            yield from _flat(value, f"{key}.")


def _shown(key: str, value: object) -> str:
    name = key.rpartition(".")[2]
    # the value of a union's tag alone says what it is
    return str(value) if name in TAGS else f"{name}={'none' if value is None else value}"


def _printable(name: str) -> str:
    """A folder's name may hold bytes that are no text, which neither a terminal nor a font can show."""
    return "".join(character if character.isprintable() else "?" for character in name)


def data_sets(arms: Sequence[Arm]) -> list[str]:
    """What each arm was evaluated on, in words; accuracies on different ones are no comparison."""
    words = []
    for arm in arms:
        data = arm.recipe.data
        details = [f"{key}={getattr(data, key)}" for key in ("folder", "test_limit", "split_seed")
                   if getattr(data, key, None) is not None]  # fmt: skip
        words.append(f"{data.type}{' (' + ', '.join(details) + ')' if details else ''}")
    return words
