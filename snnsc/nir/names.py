"""Names that no two things share."""

from __future__ import annotations

from collections.abc import Iterable


class Names:
    """Gives a name once: as it is asked for, and else with a number after it.

    Args:
        taken: Names that are not to be given.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def fresh(self, name: str) -> str:
        """`name`, or `name_2`, `name_3`, ... where that is taken."""
        made, number = name, 1
        while made in self._taken:
            number += 1
            made = f"{name}_{number}"
        self._taken.add(made)
        return made
