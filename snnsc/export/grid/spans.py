"""How large and how fine a value can be, whatever the input and the order of summation.

float32 holds every multiple of 2^-e up to 2^m where e + m <= 24. Products and sums of such numbers are then exact, and
as exact sums do not depend on their order, every runtime that adds products in float32 finds the same (with or without
fused multiply-add; not in bfloat16 or TF32, nor by Winograd's or Fourier transforms, which divide).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
BITS = 24
"""Of the significand of float32."""
LOWEST = -64
"""Bounds are taken to be 2^-64 at least, so that no grid comes near the smallest numbers of float32."""


@dataclass(frozen=True)
class Span:
    """Bounds of a value, and its grid.

    Attributes:
        low: The value, and every partial sum on the way to it, is at least this; <= 0.
        high: And at most this; >= 0.
        e: It is a multiple of 2^-e; inf where it has no grid.
        real: Whether it is the input or made by a linear operator; not so are spikes, their sums and averages.
    """

    low: float
    high: float
    e: float
    real: bool = True

    @property
    def m(self) -> float:
        """The smallest whole m with |value| <= 2^m, not below `LOWEST`; 0 where the value is 0."""
        bound = max(-self.low, self.high)
        return max(math.ceil(math.log2(bound)), LOWEST) if 0 < bound < math.inf else bound

    @property
    def exact(self) -> bool:
        """Whether float32 holds all its values and partial sums."""
        return self.e + self.m <= BITS

    def scale(self, k: int) -> Span:
        """The value times 2^k."""
        return replace(self, low=math.ldexp(self.low, k), high=math.ldexp(self.high, k), e=self.e - k)

    def clamped(self, low: float, high: float) -> Span:
        """The value, brought into low..high."""
        return replace(self, low=max(self.low, min(low, 0.0)), high=min(self.high, max(high, 0.0)))

    def snapped(self, e: float) -> Span:
        """The value rounded to multiples of 2^-e, where it is finer."""
        if self.e <= e:
            return self
        step = 2.0**-e
        low, high = np.floor(self.low / step), np.ceil(self.high / step)
        return replace(self, low=float(low * step), high=float(high * step), e=e)


SPIKES = Span(0, 1, 0, real=False)
ANY = Span(-math.inf, math.inf, math.inf)


def total(spans: list[Span]) -> Span:
    """Of the sum of several values."""
    low, high = sum(s.low for s in spans), sum(s.high for s in spans)
    return Span(low, high, max(s.e for s in spans), any(s.real for s in spans))


def hull(spans: list[Span]) -> Span:
    """Of a value that is any of several."""
    low, high = min(s.low for s in spans), max(s.high for s in spans)
    return Span(low, high, max(s.e for s in spans), any(s.real for s in spans))


def constant(values: Array) -> Span:
    """Of constants."""
    return Span(min(float(values.min()), 0.0), max(float(values.max()), 0.0), exponent(values), real=False)


def rounded(values: Array, e: float) -> Array:
    """The nearest multiples of 2^-e, ties to even."""
    step = 2.0**-e
    return np.asarray(np.round(values / step) * step)


def exponent(values: Array) -> float:
    """The smallest e such that all values are multiples of 2^-e; -inf where all are 0."""
    mantissa, power = np.frexp(values[values != 0].astype(np.float64))
    if mantissa.size == 0:
        return -math.inf
    whole = (mantissa * 2.0**53).astype(np.int64)
    lowest = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    return float((53 - power - lowest).max())
