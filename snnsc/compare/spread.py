"""Mean and sample standard deviation over seeds, and how far two arms stand apart in them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A quantity over the runs of an arm."""

    mean: float
    std: float | None
    """Sample standard deviation (n - 1); None of a single value."""
    n: int


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and sample standard deviation; None of nothing."""
    if not values:
        return None
    finite = all(map(math.isfinite, values))
    mean = statistics.fmean(values) if finite else math.nan
    if len(values) < 2:
        return Spread(mean, None, len(values))
    return Spread(mean, statistics.stdev(values) if finite else math.nan, len(values))


def pooled_std(a: Spread, b: Spread) -> float | None:
    """sqrt(((n_a - 1) s_a^2 + (n_b - 1) s_b^2) / (n_a + n_b - 2)); None where either has a single value."""
    if a.std is None or b.std is None:
        return None
    return math.sqrt(((a.n - 1) * a.std**2 + (b.n - 1) * b.std**2) / (a.n + b.n - 2))


def percent(of: Spread) -> str:
    """A share as `55.1 +/- 0.8 %`."""
    return f"{100 * of.mean:.1f}{'' if of.std is None else f' +/- {100 * of.std:.1f}'} %"
