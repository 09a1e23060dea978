"""The arms as rows of text, for a terminal or to paste, and what has to be said below them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from snnsc.compare.arms import telling_keys
from snnsc.compare.spread import Spread
from snnsc.compare.summary import Difference, Summary

UNFINISHED = " *"

COLUMNS: dict[str, Callable[[Summary], str]] = {
    "arm": lambda s: s.arm.label + ("" if s.arm.finished else UNFINISHED),
    "seeds": lambda s: str(s.accuracy.n),
    "accuracy %": lambda s: _percent(s.accuracy),
    "best %": lambda s: f"{100 * s.best_accuracy.mean:.2f}",
    "parameters": lambda s: _count(s.parameters.stripped),
    "branches": lambda s: _count(s.parameters.branches),
    "1st-layer gradient": lambda s: _digits(s.first_gradient),
    "in epoch 1": lambda s: _digits(s.first_gradient_epoch_1),
    "firing": lambda s: _digits(s.firing_rate),
    "time": lambda s: _time(s.seconds.mean),
    "SNN/ANN": lambda s: _bound(s) + _digits(s.ratio),
    "energy uJ": lambda s: _bound(s) + _digits(s.snn_pj, 1e-6),
}
"""Header and cell of each; a terminal breaks the headers at their spaces."""
LEGEND = (
    "accuracy: of the last epoch, mean +/- sample standard deviation over the seeds; best: mean of the best epochs",
    "parameters: without the branches; 1st-layer gradient: norm for the first convolution, mean over the epochs",
)
ENERGY_LEGEND = "SNN/ANN, energy: of a sample, by horowitz-fp32, where exported; >: some neurons' updates have no price"


def cells(summaries: Sequence[Summary]) -> tuple[list[str], list[list[str]]]:
    """Header and rows; a column that no arm has anything in is left out."""
    header, columns = [], []
    for name, show in COLUMNS.items():
        column = [show(summary) for summary in summaries]
        if any(cell != "-" for cell in column):
            header.append(name)
            columns.append(column)
    return header, [list(row) for row in zip(*columns, strict=True)]


def markdown(summaries: Sequence[Summary]) -> str:
    """The table as Markdown, numbers to the right."""
    header, rows = cells(summaries)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def remarks(summaries: Sequence[Summary], found: Sequence[Difference]) -> list[str]:
    """What sets the arms' recipes apart, differences of their accuracy, and which runs are not finished."""
    apart = telling_keys([summary.arm.recipe for summary in summaries])
    named = [(summary.arm.label, ", ".join(what)) for summary, what in zip(summaries, apart, strict=True)]
    lines = [f"{label}: {what}" for label, what in named if what not in ("", label)]
    lines += [
        f"{d.arm} - {d.baseline}: {d.points:+.2f} points"
        + (f", {d.in_stds:+.1f} pooled standard deviations ({d.pooled_std:.2f})" if math.isfinite(d.in_stds) else "")
        for d in found
    ]
    lines += [
        f"* {run.folder}: not finished, epoch {len(run.epochs)} of {run.recipe.train.epochs}"
        for summary in summaries
        for run in summary.arm.runs
        if not run.finished
    ]
    return lines


def legend(summaries: Sequence[Summary]) -> list[str]:
    """What the columns mean."""
    return [*LEGEND, *([ENERGY_LEGEND] if any(summary.ratio for summary in summaries) else [])]


def _bound(summary: Summary) -> str:
    return ">" if summary.energy_is_bound and summary.ratio is not None else ""


def _percent(of: Spread) -> str:
    return f"{100 * of.mean:.2f}{'' if of.std is None else f' +/- {100 * of.std:.2f}'}"


def _count(number: int) -> str:
    for unit, size in ((" M", 1e6), (" k", 1e3)):
        if number >= size:
            return f"{number / size:.2f}{unit}"
    return str(number) if number else "-"


def _digits(of: Spread | None, factor: float = 1.0) -> str:
    return "-" if of is None else f"{of.mean * factor:.3g}"


def _time(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
