"""`snnsc compare`: run folders -> arms side by side, as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snnsc.cli.arguments import Json
from snnsc.cli.console import note, say, show_json, show_whole, table, tell
from snnsc.errors import RecipeError

if TYPE_CHECKING:
    from snnsc.compare.arms import Arm
    from snnsc.compare.summary import Difference, Summary

NAME = "compare"


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs or of seeds.")],
    labels: Annotated[str | None, typer.Option(metavar="A,B,...", help="Names of the arms, in their order.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw accuracy and first-layer gradients into this file.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    json_: Json = False,
) -> None:
    """Compare arms: runs of one recipe with several seeds, as mean and standard deviation, against the first arm."""
    from snnsc.compare.arms import group
    from snnsc.compare.runs import read_runs
    from snnsc.files import check_output, write_atomically

    if json_ and markdown:
        raise RecipeError("--json and --markdown: standard output can only be one of both")
    if png is not None:
        check_output("--png", png, suffix=".png", keep=runs[0])
    found = read_runs(runs)
    arms = group(found.runs, None if labels is None else labels.split(","))
    for folder in found.not_begun:
        note(f"{folder}: no epoch is done yet; left out")
    _warn(arms)

    from snnsc.compare.summary import differences, summarise

    summaries = [summarise(arm) for arm in arms]
    between = differences(summaries)
    if png is not None:
        from snnsc.compare.picture import draw

        write_atomically(png, draw(arms))
    if json_:
        rows = {"arms": [s.to_dict() for s in summaries], "differences": [d.to_dict() for d in between]}
        show_json({**rows, "png": None if png is None else str(png)})
        return
    _show(summaries, between, as_markdown=markdown)
    if png is not None:
        note(f"picture: {png}")


def _show(summaries: Sequence[Summary], between: Sequence[Difference], *, as_markdown: bool) -> None:
    from snnsc.compare import table as text

    if as_markdown:
        say(text.markdown(summaries))
        for line in text.remarks(summaries, between):
            say(f"\n{line}")
        return
    header, rows = text.cells(summaries)
    shown = table("arms", [name.replace(" ", "\n") for name in header])
    shown.padding = (0, 1, 0, 0)
    for row in rows:
        shown.add_row(*row)
    show_whole(shown)
    tell([*text.remarks(summaries, between), *text.legend(summaries)])


def _warn(arms: Sequence[Arm]) -> None:
    from snnsc.compare.arms import data_sets, unequal

    sets = data_sets(arms)
    if len(set(sets)) > 1:
        each = ", ".join(f"{arm.label}: {name}" for arm, name in zip(arms, sets, strict=True))
        note(f"warning: the arms are of different data sets, so their accuracies do not compare: {each}")
    keys = unequal([arm.recipe for arm in arms])
    if len(set(sets)) > 1:
        keys = [key for key in keys if not key.startswith("data.")]  # said already
    if keys:
        note(f"warning: the arms were not trained alike: {', '.join(keys)} differ")
    for arm in arms:
        seeds = [run.recipe.seed for run in arm.runs]
        if len(set(seeds)) < len(seeds):
            note(f"warning: {arm.label}: has a seed more than once ({', '.join(map(str, seeds))}); equal seeds are "
                 "no independent runs, and their deviation is too small")  # fmt: skip
