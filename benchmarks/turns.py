"""The order in which contestants run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

C = TypeVar("C")


def in_turn(contestants: Sequence[C], rounds: Iterable[int]) -> Iterator[tuple[int, C]]:
    """(round, contestant): each once a round; who begins moves on, so that what else the machine does falls on all."""
    for r in rounds:
        first = r % len(contestants)
        for c in (*contestants[first:], *contestants[:first]):
            yield r, c
