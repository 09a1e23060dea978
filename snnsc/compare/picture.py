"""The arms drawn: evaluation accuracy over the epochs, and how the first convolution's weight gradients are spread.

The second panel is the figure of Guo et al. (arXiv 2401.04486): starved of gradients, a first layer has them crowded
at small magnitudes. Drawn by matplotlib's Agg into memory: the same runs give the same bytes, whatever the user's
settings are.
"""

from __future__ import annotations

import io
import itertools
import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snnsc.compare.arms import Arm
from snnsc.compare.runs import Histogram
from snnsc.compare.spread import Spread, spread
from snnsc.errors import ModelFileError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's, which colour-blind readers tell apart, without the yellow that white swallows."""
DASHES = ("-", "--", ":", "-.")
INCHES, DOTS_PER_INCH = (12.0, 4.8), 120
FEW_EPOCHS = 15
"""Up to as many are drawn as dots too."""
MOST_TICKS = 5
"""On each side of 0 of the gradients' axis."""
CLEAR = 0.1
"""Share of that axis around 0 without other ticks, whose words would meet."""
GAP = 0.5
"""Half the width in decades of the middle of the gradients' axis, between the two signs."""


def draw(arms: Sequence[Arm]) -> bytes:
    """The picture as PNG.

    Raises:
        ModelFileError: the histograms of an arm's runs have other bins.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it speaks of its caches, which nobody asked about
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context("default"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a folder's name in a script that the font lacks
        figure = Figure(figsize=INCHES, dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        _draw_accuracy(left, arms)
        _draw_gradients(right, arms)
        content = io.BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def accuracy_by_epoch(arm: Arm) -> list[Spread]:
    """Accuracy over the runs at each epoch that all of them have done."""
    by_run = [[epoch.accuracy for epoch in run.epochs] for run in arm.runs]
    return [found for values in zip(*by_run, strict=False) if (found := spread(values)) is not None]


def gradient_sums(arm: Arm) -> Histogram | None:
    """The histograms of all epochs of all runs, added up; None where none was recorded.

    Raises:
        ModelFileError: they have other bins.
    """
    total: Histogram | None = None
    for run in arm.runs:
        for histogram in (epoch.histogram for epoch in run.epochs if epoch.histogram is not None):
            if total is None:
                total = histogram
                continue
            if histogram.edges != total.edges:
                raise ModelFileError(f"{run.folder}: its first_layer_gradient has other edges than other runs'")
            total = _add(total, histogram)
    return total


def _add(a: Histogram, b: Histogram) -> Histogram:
    negative, positive = (
        tuple(x + y for x, y in zip(left, right, strict=True))
        for left, right in ((a.negative, b.negative), (a.positive, b.positive))
    )
    return Histogram(a.edges, negative, a.zero + b.zero, positive)


def _style(index: int) -> tuple[str, str]:
    return COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]


def _draw_accuracy(axes: Axes, arms: Sequence[Arm]) -> None:
    from matplotlib.ticker import MaxNLocator

    lines: list[Artist] = []
    for index, arm in enumerate(arms):
        colour, dashes = _style(index)
        spreads = accuracy_by_epoch(arm)
        epochs = range(1, len(spreads) + 1)
        means = [100 * at.mean for at in spreads]
        marker = "o" if len(spreads) <= FEW_EPOCHS else ""
        lines += axes.plot(epochs, means, color=colour, linestyle=dashes, marker=marker, markersize=4)
        if len(arm.runs) > 1:
            below, above = ([100 * (at.mean + sign * (at.std or 0.0)) for at in spreads] for sign in (-1, 1))
            axes.fill_between(epochs, below, above, color=colour, alpha=0.18, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="evaluation accuracy (%)", title="Accuracy: mean, band of +/- 1 standard deviation")
    axes.grid(alpha=0.3)
    _legend(axes, lines, [f"{a.label} ({len(a.runs)} seed{'' if len(a.runs) == 1 else 's'})" for a in arms])


def _draw_gradients(axes: Axes, arms: Sequence[Arm]) -> None:
    axes.set_title("Weight gradients of the first convolution, all epochs")
    recorded = {arm.label: total for arm in arms if (total := gradient_sums(arm)) is not None}
    scale = _scale(list(recorded.values()))
    if scale is None:
        what = "all gradients are 0" if recorded else "not recorded by these runs;\ntrain again with this snnsc"
        axes.text(0.5, 0.5, what, transform=axes.transAxes, ha="center", va="center", color="0.4")
        axes.set(xticks=[], yticks=[])
        return
    lines: list[Artist] = []
    names = []
    for index, arm in enumerate(arms):
        colour, dashes = _style(index)
        if arm.label not in recorded:
            lines += axes.plot([], [], linestyle="none")
            names.append(f"{arm.label}: not recorded")
            continue
        shares, zero, places = scale.place(recorded[arm.label])
        lines.append(axes.stairs(shares, places, color=colour, linestyle=dashes, linewidth=1.6))
        names.append(f"{arm.label} (0: {zero:.1f} %)")
    axes.set(xlabel="gradient, logarithmic on both sides of 0", ylabel="share of the weights (%)")
    axes.set_xticks(*scale.ticks())
    axes.set_xlim(-scale.width, scale.width)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    _legend(axes, lines, names)


@dataclass(frozen=True)
class _Scale:
    """Signed logarithmic axis: `low` stands GAP to both sides of the middle, and a decade is 1 wide."""

    low: float
    high: float
    """Magnitudes that the axis reaches from and to."""

    @property
    def width(self) -> float:
        return self.at(self.high)

    def at(self, magnitude: float) -> float:
        return math.log10(magnitude / self.low) + GAP

    def place(self, total: Histogram) -> tuple[list[float], float, list[float]]:
        """Shares of the weights in percent from left to right, that of zero, and the places between the bins."""
        shown = [i for i, (a, b) in enumerate(itertools.pairwise(total.edges)) if a >= self.low and b <= self.high]
        edges = [total.edges[i] for i in shown] + [total.edges[shown[-1] + 1]]
        weights = sum(total.negative) + total.zero + sum(total.positive)
        counts = [*(total.negative[i] for i in reversed(shown)), 0, *(total.positive[i] for i in shown)]
        places = [*(-self.at(edge) for edge in reversed(edges)), *map(self.at, edges)]
        return [100 * count / weights for count in counts], 100 * total.zero / weights, places

    def ticks(self) -> tuple[list[float], list[str]]:
        """Some powers of ten on both sides, and 0."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        step = max(1, math.ceil((last - first + 1) / MOST_TICKS))
        powers = [p for p in range(last, first - 1, -step) if self.at(10.0**p) > CLEAR * self.width][::-1]
        at = [self.at(10.0**power) for power in powers]
        places = [*(-place for place in reversed(at)), 0.0, *at]
        return places, [*(f"$-10^{{{p}}}$" for p in reversed(powers)), "0", *(f"$10^{{{p}}}$" for p in powers)]


def _scale(totals: Sequence[Histogram]) -> _Scale | None:
    """An axis that holds every bin that is not empty; None where all are."""
    ends = [
        (low, high)
        for total in totals
        for (low, high), counts in zip(
            itertools.pairwise(total.edges), zip(total.negative, total.positive, strict=True), strict=True
        )
        if any(counts)
    ]
    return _Scale(min(low for low, _ in ends), max(high for _, high in ends)) if ends else None


def _legend(axes: Axes, lines: Sequence[Artist], names: Sequence[str]) -> None:
    legend = axes.legend(lines, [f"arm {i}" for i in range(len(names))], fontsize="small", framealpha=0.8)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)  # a folder's name may hold dollars, or start with the underscore that hides it
        text.set_text(name)
