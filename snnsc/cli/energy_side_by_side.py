"""What `snnsc energy` shows of several networks: as many side by side as the terminal has room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snnsc.cli.console import table
from snnsc.cli.energy_tables import NAME_WIDTH, folded, longest, room, show
from snnsc.energy.report.comparison import TOTALS, Comparison
from snnsc.energy.report.wording import Found, number, price, priced, ratio, spiking, times

MOST_NETWORKS = 4


@dataclass(frozen=True)
class Group:
    """Rows under a title, which may be empty: each has a name and a cell for each network."""

    title: str
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def show_side_by_side(several: Comparison, labels: Sequence[str]) -> None:
    """Print totals and energies of networks, a few in one table and the others in more of them."""
    groups = _groups(several)
    columns = [[cells[i] for group in groups for _, cells in group.rows] for i in range(len(labels))]
    heads = [folded(label, max(NAME_WIDTH, longest(cells))) for label, cells in zip(labels, columns, strict=True)]
    widths = [2 + longest([head, *cells]) for head, cells in zip(heads, columns, strict=True)]
    names = 2 + longest([name for group in groups for name in (group.title, *(name for name, _ in group.rows))])
    start = 0
    while start < len(labels):
        end = start + 1
        while end < min(len(labels), start + MOST_NETWORKS) and names + sum(widths[start : end + 1]) <= room():
            end += 1
        _show_part(groups, heads, slice(start, end))
        start = end


def _show_part(groups: Sequence[Group], heads: Sequence[str], part: slice) -> None:
    made = table("operations a sample, relative to the first", ["", *heads[part]])
    for group in groups:
        rows = [(name, cells[part]) for name, cells in group.rows if any(cells[part])]
        if rows and group.title:
            made.add_section()
            made.add_row(group.title)
        for name, cells in rows:
            made.add_row(name, *cells)
    show(made)


def _groups(several: Comparison) -> list[Group]:
    reports = several.reports
    totals = [(name, _totals([report["totals"][key] for report in reports])) for key, name in TOTALS.items()]
    models = [[report["energy"][i] for report in reports] for i in range(len(reports[0]["energy"]))]
    prices = [(f"  {each[0]['model']}", _prices(each)) for each in models if any(map(priced, each))]
    ratios = [(f"  {each[0]['model']}", tuple(ratio(entry["ratio"]) for entry in each)) for each in models]
    energy, twin = several.titles()
    rates = ("firing rate", tuple(map(_rate, reports)))
    return [Group("", (*totals, rates)), Group(energy, tuple(prices)), Group(twin, tuple(ratios))]


def _rate(found: Found) -> str:
    rate = found["network"]["firing_rate"]
    return "" if not spiking(found) else "?" if rate is None else f"{rate['mean']:.4f}"


def _prices(each: Sequence[Found]) -> tuple[str, ...]:
    base = each[0]["snn_pj"]
    return (price(each[0]), *(f"{price(entry)}{times(entry['snn_pj'], base)}" for entry in each[1:]))


def _totals(values: Sequence[float | None]) -> tuple[str, ...]:
    return (number(values[0]), *(f"{number(value)}{times(value, values[0])}" for value in values[1:]))
