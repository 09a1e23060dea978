"""Bars, a heat map and small histograms of the HTML report: HTML and SVG that need no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from snnsc.energy.report.markup import Markup, element, join, name
from snnsc.energy.report.wording import percent

MOST_COLUMNS = 64
_FEW_COLUMNS = 16
_SHADES = 9


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        name: Its name.
        parts: (CSS class, length) from left to right.
        text: Its value in words.
    """

    name: str
    parts: tuple[tuple[str, float], ...]
    text: str


def bars(rows: Sequence[Bar]) -> Markup:
    """Horizontal bars on one scale."""
    longest = max((sum(length for _, length in row.parts) for row in rows), default=0) or 1.0
    return element(
        "ol",
        (
            element(
                "li",
                element("span", name(row.name), class_="name"),
                element(
                    "span",
                    (element("span", class_=c, style=f"width:{100 * n / longest:.3f}%") for c, n in row.parts if n > 0),
                    class_="track",
                    aria_hidden="true",
                ),
                element("span", row.text, class_="value"),
            )
            for row in rows
        ),
        class_="bars",
        role="list",
    )


def switch(title: str, group: str, views: Sequence[tuple[str, Markup]], first: str = "") -> Markup:
    """Several views of which one is shown at a time, by radio buttons alone.

    Args:
        title: What is chosen.
        group: Unique in the page.
        views: (label, content).
        first: Label of the one that is shown at the start; the very first if there is none of it.
    """
    start = next((i for i, (label, _) in enumerate(views) if label == first), 0)
    parts = []
    for index, (label, content) in enumerate(views):
        place = f"{group}-{index}"
        parts.append(element("input", type_="radio", name=group, id_=place, checked=index == start))
        parts.append(element("label", label, for_=place))
        parts.append(element("div", content, class_="panel"))
    return element("fieldset", element("legend", title), parts, class_="switch")


def key(*entries: tuple[str, str]) -> Markup:
    """A legend: (CSS class, meaning)."""
    return element(
        "p",
        (element("span", element("i", class_=colour, aria_hidden="true"), text) for colour, text in entries),
        class_="key",
    )


def heat_map(caption: str, rows: Sequence[tuple[str, Sequence[float]]]) -> Markup:
    """Shares from 0 to 1 by row and time step, as a table whose cells are shaded, and its legend.

    Args:
        caption: What it shows.
        rows: (name, one share a step); rows may differ in length. Beyond 64 steps neighbours are averaged.
    """
    steps = max(len(values) for _, values in rows)
    width = ceil(steps / MOST_COLUMNS)
    pooled = [(title, _pool(values, width)) for title, values in rows]
    top = max((value for _, values in pooled for value in values), default=0) or 1.0
    columns = ceil(steps / width)
    few = columns <= _FEW_COLUMNS
    labels = [_step_name(i, width, steps) for i in range(columns)]
    head = [element("th", label if few or i % 8 == 0 else "", scope="col") for i, label in enumerate(labels)]
    body = [
        element(
            "tr",
            element("th", name(title), scope="row"),
            (_cell(value, top, labels[i], few=few) for i, value in enumerate(values)),
            (element("td") for _ in range(columns - len(values))),
        )
        for title, values in pooled
    ]
    table = element(
        "table",
        element("caption", caption, class_="hidden"),
        element("thead", element("tr", element("th", "layer \\ step", scope="col"), head)),
        element("tbody", body),
        class_="heat" if few else "heat fine",
    )
    shades = element("span", (element("i", class_=f"h{i}") for i in range(_SHADES)), class_="scale", aria_hidden="true")
    unit = "each cell in percent" if few else f"columns of {width} steps" if width > 1 else "one column a step"
    legend = element("p", "0 % ", shades, f" {percent(top)}; {unit}", class_="key")
    return join(element("div", table, class_="box", tabindex="0", role="region", aria_label=caption), legend)


def histogram(bins: Sequence[int], shown: int, marks: tuple[float, float, float], label: str) -> Markup:
    """A small histogram with a line from the smallest to the largest value and a mark at the mean.

    Args:
        bins: Samples in equal bins from 0 on.
        shown: How many of them, so that several histograms share an axis.
        marks: Smallest value, mean and largest value, in bins.
        label: The same in words.
    """
    most = max(bins, default=0) or 1
    low, mean, high = (min(100.0, 100 * mark / shown) for mark in marks)
    boxes = [
        element("rect", x=f"{100 * i / shown:.2f}", y=f"{20 - 19 * n / most:.2f}", width=f"{96 / shown:.2f}",
                height=f"{19 * n / most:.2f}", class_="add")
        for i, n in enumerate(bins[:shown])
        if n
    ]  # fmt: skip
    lines = [
        element("line", x1=f"{low:.2f}", x2=f"{high:.2f}", y1="22", y2="22", stroke_width="1"),
        element("line", x1=f"{mean:.2f}", x2=f"{mean:.2f}", y1="19", y2="24", stroke_width="1"),
    ]
    box = {"viewBox": "0 0 100 24", "preserveAspectRatio": "none"}
    return element("svg", boxes, lines, class_="spread", role="img", aria_label=label, **box)


def _pool(values: Sequence[float], width: int) -> list[float]:
    groups = [values[i : i + width] for i in range(0, len(values), width)]
    return [sum(group) / len(group) for group in groups]


def _step_name(index: int, width: int, steps: int) -> str:
    first, last = index * width + 1, min(steps, (index + 1) * width)
    return str(first) if first == last else f"{first}-{last}"


def _cell(value: float, top: float, step: str, *, few: bool) -> Markup:
    shade = min(_SHADES - 1, int(_SHADES * value / top))
    text = f"{100 * value:.1f}" if few else element("span", percent(value), class_="hidden")
    return element("td", text, class_=f"h{shade}", title=f"step {step}: {percent(value)}")
