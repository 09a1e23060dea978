"""Tables and sentences on a terminal: as wide as it is, no number is cut, names are folded between their words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from textwrap import wrap
from typing import TYPE_CHECKING

from snnsc.cli.console import console
from snnsc.energy.report.wording import printable

if TYPE_CHECKING:
    from rich.table import Table

WIDEST = 120
NAME_WIDTH = 16
SENTENCE_WIDTH = 24
_MOST_LINES = 6
_CUT = "..."
_WORDS = re.compile(r"(?<=[/._: -])")


def room() -> int:
    """How wide a table may be."""
    return min(console().width, WIDEST)


def longest(cells: Iterable[str]) -> int:
    """Width of the widest line in some cells."""
    from rich.cells import cell_len

    return max((cell_len(line) for cell in cells for line in cell.splitlines()), default=0)


def folded(name: str, width: int) -> str:
    """A name in lines of at most `width`, broken between its words; a word that is longer loses its middle.

    A name that takes more than 6 lines loses its own.
    """
    lines = [""]
    for word in _WORDS.split(printable(name)):
        if longest([lines[-1] + word]) <= width:
            lines[-1] += word
        else:
            lines.append(_without_middle(word, width))
    lines = [line for line in lines if line] or [""]
    return "\n".join(lines) if len(lines) <= _MOST_LINES else _without_middle(printable(name), width)


def wrapped(sentence: str, width: int) -> str:
    """A sentence in lines of at most `width`; words that are longer are names, and folded as such."""
    lines = wrap(printable(sentence), width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(line if longest([line]) <= width else folded(line, width) for line in lines)


def _without_middle(text: str, width: int) -> str:
    from rich.cells import chop_cells

    if longest([text]) <= width:
        return text
    end = (width - len(_CUT)) // 2
    start = width - len(_CUT) - end
    return chop_cells(text, start)[0] + _CUT + chop_cells(text[::-1], end)[0][::-1]


def show(made: Table) -> None:
    """Print a table whose cells are folded already; it is wider than a narrow terminal rather than cut."""
    made.padding = (0, 1, 0, 0)
    out = console()
    out.width = max(room(), 2 + sum(2 + longest(map(str, (c.header, *c.cells))) for c in made.columns))
    out.print(made)
