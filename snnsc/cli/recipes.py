"""`snnsc recipes`: what comes with the package, and what a recipe may say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from snnsc.cli.console import say, tell
from snnsc.errors import RecipeError

NAME = "recipes"


def command(
    name: Annotated[
        str | None, typer.Argument(help="Print this recipe, to start a file of your own from; or a part of --keys.")
    ] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="List every key of a recipe, or those below NAME: default and meaning.")
    ] = False,
) -> None:
    """List the recipes that come with snnsc, print one, or explain the keys: snnsc recipes digits > mine.toml."""
    from snnsc.recipe.load import TAGS, recipe_text, shipped_recipes

    if keys:
        from snnsc.recipe.describe import keys as described

        wanted = [entry for entry in described() if name is None or f"{entry[0]}.".startswith(f"{name}.")]
        if not wanted:
            raise RecipeError(f"--keys {name}: no key begins so; `snnsc recipes --keys` lists all")
        for key, default, meaning in wanted:
            heads = key.rpartition(".")[2] in TAGS
            if heads:
                say("")
            tell([f"{key} = {default}"])
            tell([meaning], indent=4, hang=4)
    elif name is not None:
        say(recipe_text(name).rstrip("\n"))
    else:
        for folder, group in itertools.groupby(_by_folder(shipped_recipes()), key=lambda item: item[0]):
            if folder:
                say("")
            listed = list(group)
            width = max(len(shipped) for _, shipped, _ in listed)
            for _, shipped, path in listed:
                first = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()
                tell([f"{shipped:{width}}  {first}"], hang=width + 2)


def _by_folder(recipes: Mapping[str, Path]) -> list[tuple[str, str, Path]]:
    """(folder, name, file) of each recipe, those in no folder first."""
    return sorted((name.rpartition("/")[0], name, path) for name, path in recipes.items())
