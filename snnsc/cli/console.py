"""How the commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import logging
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from snnsc.data.samples import Progress


_NARROWEST = 24


def console() -> Console:
    """Where tables go: standard output, at a fixed width where that is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, soft_wrap=False, highlight=False, markup=False)


def say(text: str, *, quiet: bool = False) -> None:
    """Print a line of result; not with --json, whose standard output holds the object alone."""
    if not quiet:
        typer.echo(text)


def tell(lines: Sequence[str], indent: int = 0, hang: int | None = None) -> None:
    """Print sentences, folded where a person reads them, but never at a no-break space.

    Args:
        lines: Each on a line of its own; empty ones are left out.
        indent: Spaces before the first line of each.
        hang: Spaces before its other lines; 2 more than the first if not told, and where there is little room.
    """
    for line in filter(None, lines):
        shown = " " * indent + line
        if sys.stdout.isatty():
            width = console().width
            more = indent + 2 if hang is None or width - hang < _NARROWEST else hang
            shown = fill(shown, width, subsequent_indent=" " * more, break_on_hyphens=False)
        say(shown.replace("\u00a0", " "))


def note(text: str) -> None:
    """Print a line beside the result."""
    typer.echo(text, err=True)


def show_json(value: object) -> None:
    """Print the one JSON object of --json; what is not a finite number is null, as JSON has no other word for it."""
    typer.echo(json.dumps(_finite(value), allow_nan=False))


def _finite(value: object) -> object:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case _:
            return value


def fail(exit_code: int, *messages: object) -> NoReturn:
    """Print errors, one line each however strange the names in them, and end."""
    for message in messages:
        typer.echo(f"snnsc: {on_one_line(str(message))}", err=True)
    sys.exit(exit_code)


def on_one_line(text: str) -> str:
    """A text with its line ends written out, as names of files may hold them."""
    return "".join(repr(c)[1:-1] if c.splitlines() == [""] else c for c in text)


def table(title: str, columns: list[str]) -> Table:
    """A table whose first column holds names and the others numbers."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    return made


def show_whole(made: Table) -> None:
    """Print a table, wider than a narrow terminal rather than with numbers cut short."""
    from rich.measure import Measurement

    out = console()
    out.width = max(out.width, Measurement.get(out, out.options.update(max_width=10_000), made).maximum)
    out.print(made)


def log_to_stderr() -> None:
    """Show the package's own warnings as lines; keep those of libraries that speak of nothing the user can change."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("snnsc: %(message)s"))
    logging.getLogger("snnsc").addHandler(handler)
    # torch says at every compilation that there is no CUDA runtime, where a CUDA toolkit is installed
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def shown(*words: str | Path, data_root: Path | None = None) -> str:
    """A suggested command, quoted for the shell, with the option that it needs to find the same data."""
    root = () if data_root is None else ("--data-root", data_root)
    return shlex.join(str(word) for word in (*words, *root))


@contextmanager
def data_progress() -> Iterator[Progress]:
    """A progress bar for reading and caching data, on standard error; plain lines where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not sys.stderr.isatty():
        said: set[str] = set()

        def line(what: str, done: int, total: int) -> None:
            if what not in said:
                said.add(what)
                note(f"{what} ({total}) ...")
            if done == total:
                note(f"{what} ({total}) done")

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield update
