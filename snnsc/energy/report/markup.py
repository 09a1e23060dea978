"""HTML by construction: whatever is not Markup is text, and is escaped; names in a file may be hostile."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from snnsc.energy.report.wording import printable


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Iterable[str]
_VOID = frozenset({"input", "meta", "wbr"})
_WORDS = re.compile(r"(?<=[/._:-])")


def element(tag: str, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """One element.

    Args:
        tag: Its name.
        *children: Markup as it is, other text escaped, or an iterable of both.
        **attributes: `class_` is `class`, other underscores are hyphens; None and False leave it out, True is the
            bare name.
    """
    told = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_text(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _VOID:
        return Markup(f"<{tag}{told}>")
    return Markup(f"<{tag}{told}>{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Several pieces after each other."""
    parts = (part for child in children for part in ([child] if isinstance(child, str) else child))
    return Markup("".join(part if isinstance(part, Markup) else _text(part) for part in parts))


def name(text: str) -> Markup:
    """A name from a file, which may break between its words."""
    return Markup(element("wbr").join(_text(word) for word in _WORDS.split(text)))


def _text(text: str) -> str:
    return escape(printable(text))
