"""Values of a JSON file that anyone may have written, each of the type it must be; else ValueError with its place."""

from __future__ import annotations

from typing import NoReturn

Number = int | float
EXACT = 2**53
"""Largest number of samples, weights, or events of one sample: what float64 holds exactly."""
_LARGEST = EXACT**3  # a sum over 2^53 samples of squares of exact counts


def as_rows(value: object, where: str) -> list[dict[str, object]]:
    """A list of tables."""
    return [as_table(row, where) for row in as_list(value, where)]


def as_list(value: object, where: str) -> list[object]:
    """A list."""
    if not isinstance(value, list):
        refuse(where, value)
    return value


def as_table(value: object, where: str) -> dict[str, object]:
    """A table."""
    if not isinstance(value, dict):
        refuse(where, value)
    return value


def as_text(value: object, where: str) -> str:
    """A text."""
    if not isinstance(value, str):
        refuse(where, value)
    return value


def as_integer(value: object, where: str) -> int:
    """A whole number from 0 to 2^53."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= EXACT:
        refuse(where, value)
    return value


def as_count(value: object, where: str) -> Number:
    """A number of things: finite, not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:  # NaN neither
        refuse(where, value)
    return value


def refuse(where: str, value: object) -> NoReturn:
    """Raise ValueError, with as much of the value as fits a line."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):
        shown = type(value).__name__
    msg = f"{where}: {shown[:40]}{'...' if len(shown) > 40 else ''}"
    raise ValueError(msg)
