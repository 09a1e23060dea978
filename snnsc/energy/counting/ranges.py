"""Do samples lie where those lay that one of our exports was trained on: (x - mean) / std of pixels from 0 to 1?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from snnsc.energy.graph.graph import Graph, initial_states

_MARGIN = 0.1  # of the width: resized and augmented images overshoot


@dataclass(frozen=True)
class InputRange:
    """The range of an input.

    Attributes:
        name: Of the input.
        found: Smallest and largest value of the samples.
        expected: Smallest and largest value that a normalised pixel can have, over the channels.
    """

    name: str
    found: tuple[float, float]
    expected: tuple[float, float]

    @property
    def fits(self) -> bool:
        """Whether the samples can have been normalised; those from 0 to 1 are taken for pixels that were not."""
        (low, high), (least, most) = self.found, self.expected
        margin = _MARGIN * (most - least)
        raw = low >= 0 and high <= 1 and least < -margin and high > low
        return least - margin <= low and high <= most + margin and not raw


@dataclass
class Watch:
    """Batches on their way to the counting, of which the range of the normalised input is kept.

    Args:
        graph: Its metadata tell mean and standard deviation, or there is no range.
    """

    graph: Graph
    low: float = inf
    high: float = -inf

    def __post_init__(self) -> None:
        states = initial_states(self.graph.metadata, self.graph.source)
        named = [i.name for i in self.graph.inputs if i.name not in states]
        self.expected = _expected(self.graph.metadata.get("snnsc.input", "{}")) if len(named) == 1 else None
        self.name = named[0] if named else ""

    def over(self, batches: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """The same batches."""
        for batch in batches:
            if self.expected is not None:
                self.low = min(self.low, float(batch[self.name].min()))
                self.high = max(self.high, float(batch[self.name].max()))
            yield batch

    @property
    def range(self) -> InputRange | None:
        """Of all batches that passed; None where nothing tells what it should be."""
        return None if self.expected is None else InputRange(self.name, (self.low, self.high), self.expected)


def _expected(text: str) -> tuple[float, float] | None:
    try:
        told = json.loads(text)
        pairs = [(float(m), float(s)) for m, s in zip(told["mean"], told["std"], strict=True)]
        ends = [(-m / s, (1 - m) / s) for m, s in pairs]
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, OverflowError, RecursionError):
        return None
    lows, highs = zip(*ends, strict=True) if ends else ((), ())
    known = bool(ends) and all(isfinite(n) for n in (*lows, *highs)) and all(s > 0 for _, s in pairs)
    return (min(lows), max(highs)) if known else None
