"""Whether any samples at all can have such a sum, extremes, squares, parts and histogram."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from snnsc.energy.counting.counts import BINS, Stat, bin_of
from snnsc.energy.counting.fields import Number

_ROUNDING = 1e-9  # of sums of values that are not whole


def problems_of_stat(key: str, stat: Stat, samples: int, *, whole: bool) -> Iterator[str]:
    """What cannot be true of the statistics of one quantity."""
    total, low, high, squares = stat.total, stat.low, stat.high, stat.squares
    exact = all(isinstance(n, int) for n in (total, low, high, squares))
    if whole and not exact:
        yield f"{key} is not a whole number"
    slack: Number = 0 if exact else _ROUNDING * total
    if low > high or not high + (samples - 1) * low - slack <= total <= low + (samples - 1) * high + slack:
        yield f"{key}: {samples} samples from {low} to {high} do not add up to {total}"
        return
    # The smallest and the largest are two of the samples; squares of the others are least where those are equal, and
    # most where each lies at an end, as (v - low) (v - high) <= 0.
    others, rest = (0, 0) if samples == 1 else (samples - 2, max(abs(total - low - high) - slack, 0))
    ends = low * low if samples == 1 else low * low + high * high
    most = (low + high) * total - samples * low * high
    slack = 0 if exact else _ROUNDING * squares
    if others * (squares - ends) < rest * rest - others * slack or not ends - slack <= squares <= most + slack:
        yield f"{key}: {samples} samples from {low} to {high} that add up to {total} have no squares of sum {squares}"
    elif exact and (squares - total) % 2:
        yield f"{key}: a sum of {total} and one of squares of {squares} are not both of whole numbers"


def problems_of_parts(what: str, parts: Sequence[Number], count: int, total: Number) -> Iterator[str]:
    """What cannot be true of the parts of a total."""
    if len(parts) != count:
        yield f"{what} are {len(parts)} numbers, {count} are expected"
    elif abs(sum(parts) - total) > (0 if isinstance(total, int) else _ROUNDING * total):
        yield f"{what} add up to {sum(parts)}, not to {total}"


def problems_of_spread(key: str, bins: Sequence[int], stat: Stat, samples: int, largest: int) -> Iterator[str]:
    """What cannot be true of a histogram."""
    if len(bins) != BINS or sum(bins) != samples:
        yield f"spread of {key} tells of {sum(bins)} samples in {len(bins)} bins; there are {samples}, in {BINS}"
        return
    taken = [index for index, number in enumerate(bins) if number]
    ends = [bin_of(int(stat.low), largest), bin_of(int(stat.high), largest)]
    if [taken[0], taken[-1]] != ends:
        yield f"spread of {key} is from bin {taken[0]} to {taken[-1]}, its values are from bin {ends[0]} to {ends[1]}"
