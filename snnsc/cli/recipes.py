"""`snnsc recipes`: what comes with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from snnsc.cli.console import say

NAME = "recipes"


def command(
    name: Annotated[str | None, typer.Argument(help="Print this recipe, to start a file of your own from.")] = None,
) -> None:
    """List the recipes that come with snnsc, or print one: snnsc recipes digits > mine.toml."""
    from snnsc.recipe.load import recipe_text, shipped_recipes

    if name is not None:
        say(recipe_text(name).rstrip("\n"))
        return
    for shipped, path in shipped_recipes().items():
        first = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()
        say(f"{shipped:24} {first}")
