"""What `snnsc energy` shows on a terminal: short tables, and sentences for what they leave out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

from snnsc.cli.console import console, say, table
from snnsc.energy.report.comparison import TOTALS, Comparison
from snnsc.energy.report.wording import (
    Found,
    basis,
    by_kind,
    energy,
    equal,
    findings,
    fit_reasons,
    number,
    price,
    priced,
    printable,
    ratio,
    shares,
    times,
    unpublished,
)

if TYPE_CHECKING:
    from rich.table import Table

MOST_ROWS = 60
WIDEST = 100
MOST_NETWORKS = 4
NAME_WIDTH = 16
WORK = ("dense_macs", "macs", "neuron_updates")
LEGEND = "over all T steps; dense MACs: as if no input were zero; ACs: additions; rate: spikes a neuron and step"


@dataclass(frozen=True)
class Column:
    """A column of the table of layers.

    Attributes:
        head: Its title.
        show: Its text for a row.
        weight: Columns of little weight are left out first where the terminal is narrow.
    """

    head: str
    show: Callable[[Found], str]
    weight: int = 9


COLUMNS = (
    Column("op", lambda row: printable(row["op"]), 3),
    Column("input", lambda row: row["input_kind"] or "", 2),
    Column("dense MACs", lambda row: number(row["dense_macs"]), 4),
    Column("MACs", lambda row: number(row["macs"])),
    Column("ACs", lambda row: number(row["acs"])),
    Column("updates", lambda row: number(row["neuron_updates"]), 5),
    Column("rate", lambda row: "" if row["firing_rate"] is None else f"{row['firing_rate']:.4f}"),
    Column("min..max", lambda row: _rates(row), 1),
)


def show_report(found: Found, *, chosen: bool, fit: bool, sources: bool) -> None:
    """Print the report of one network.

    Args:
        found: As `Report.to_dict` gives it.
        chosen: Whether the targets were named, so that each is shown with its parts and its fit.
        fit: Whether the fit on chips was asked for.
        sources: Whether assumptions and sources were.
    """
    _show_layers(found)
    _show_prices(found, chosen=chosen)
    if fit or chosen:
        _show_fit([found], [""])
    if sources:
        _show_sources(found)
    _tell([*unpublished(found), *findings(found), basis(found)])


def show_comparison(several: Comparison, *, fit: bool, sources: bool) -> None:
    """Print several networks side by side."""
    labels = [printable(label) for label in several.labels()]
    for start in range(0, len(labels), MOST_NETWORKS):
        part = slice(start, start + MOST_NETWORKS)
        _show_side_by_side(several, labels[part], several.reports[part])
    if fit:
        _show_fit(several.reports, labels)
    if sources:
        _show_sources(several.reports[0])
    for label, found in zip(labels, several.reports, strict=True):
        _tell([f"{label}: {line}" for line in (basis(found), *findings(found))])
    _tell([*several.warnings(), *unpublished(several.reports[0])])


def _show_layers(found: Found) -> None:
    working = [row for row in found["layers"] if any(row[key] for key in WORK)]
    shown = _largest(working)
    rows = [*shown, {"name": "total", "op": "", "input_kind": "", **found["totals"], **_total_rate(found)}]
    columns, most = list(COLUMNS), min(console().width, WIDEST)
    while len(columns) > 1 and _width(columns, rows) > most:
        columns.remove(min(columns, key=lambda column: column.weight))
    made = table("operations a sample, mean", ["layer", *(column.head for column in columns)])
    made.columns[0].no_wrap, made.columns[0].overflow = False, "fold"
    for row in rows:
        made.add_row(printable(row["name"]), *(column.show(row) for column in columns))
    _print(made)
    if len(shown) < len(working):
        _tell([f"{len(working) - len(shown)} layers with less work are left out; --csv, --html and --json have them"])
    _tell([LEGEND])


def _largest(rows: list[Found]) -> list[Found]:
    """The rows with the most work, in their order, so that the table of a deep network can be read."""
    by_work = sorted(rows, key=lambda row: sum(row[key] or 0 for key in WORK), reverse=True)
    kept = {row["name"] for row in by_work[:MOST_ROWS]}
    return [row for row in rows if row["name"] in kept]


def _width(columns: Sequence[Column], rows: Sequence[Found]) -> int:
    """Of a table with these columns and a first one of names, which may be folded."""
    return NAME_WIDTH + 2 + sum(2 + max(len(c.head), *(len(c.show(row)) for row in rows)) for c in columns)


def _total_rate(found: Found) -> Found:
    rate = found["network"]["firing_rate"]
    if rate is None:
        return {"firing_rate": None, "spikes_min": None}
    updates = found["totals"]["neuron_updates"]
    ends = {f"spikes_{end}": rate[end] * updates for end in ("min", "max")}
    return {"firing_rate": rate["mean"], **ends}


def _rates(row: Found) -> str:
    """The firing rates of the samples, from the lowest to the highest."""
    if row["firing_rate"] is None or row["spikes_min"] is None:
        return ""
    low, high = (row[f"spikes_{end}"] / row["neuron_updates"] for end in ("min", "max"))
    return f"{low:.3f}..{high:.3f}"


def _show_prices(found: Found, *, chosen: bool) -> None:
    spiking = any(row["neuron_updates"] for row in found["layers"])
    heads = ["SNN", "ANN twin", "SNN / ANN"] if spiking else ["zeros skipped", "dense", "skipped / dense"]
    made = table("energy a sample, mean", ["price model", *heads, *(["made of"] if chosen else [])])
    if chosen:
        made.columns[-1].no_wrap, made.columns[-1].justify = False, "left"
    for title, entries in by_kind(found):
        made.add_row(title)
        for entry in entries:
            ann = "" if entry["ann_pj"] is None else energy(entry["ann_pj"])
            more = [shares(entry)] if chosen else []
            made.add_row(f"  {entry['model']}", price(entry), ann, ratio(entry["ratio"]), *more)
    if made.row_count:
        _print(made)
    _tell([equal(found)])


def _show_side_by_side(several: Comparison, labels: Sequence[str], reports: Sequence[Found]) -> None:
    base = several.reports[0]
    made = table("operations a sample, mean, and relative to the first", ["", *labels])
    for column in made.columns[1:]:
        column.overflow, column.no_wrap = "fold", False
    for key, name in TOTALS.items():
        cells = [f"{number(r['totals'][key])}{times(r['totals'][key], base['totals'][key])}" for r in reports]
        made.add_row(name, *cells)
    rates = [r["network"]["firing_rate"] for r in reports]
    made.add_row("firing rate", *("?" if rate is None else f"{rate['mean']:.4f}" for rate in rates))
    made.add_section()
    made.add_row("SNN, energy")
    for index, entry in enumerate(base["energy"]):
        if any(priced(report["energy"][index]) for report in reports):
            each = [report["energy"][index] for report in reports]
            made.add_row(f"  {entry['model']}", *(f"{price(e)}{times(e['snn_pj'], entry['snn_pj'])}" for e in each))
    made.add_row("SNN / ANN twin")
    for index, entry in enumerate(base["energy"]):
        ratios = [ratio(report["energy"][index]["ratio"]) for report in reports]
        if any(ratios):
            made.add_row(f"  {entry['model']}", *ratios)
    _print(made)


def _show_fit(reports: Sequence[Found], labels: Sequence[str]) -> None:
    for found, label in zip(reports, labels, strict=True):
        made = table(f"fit{f' of {label}' if label else ''}", ["chip", "verdict", "why"])
        for column in made.columns[1:]:
            column.justify, column.no_wrap = "left", False
        for entry in found["fit"]:
            made.add_row(entry["target"], entry["verdict"], fit_reasons(entry))
        if made.row_count:
            _print(made)
        else:
            _tell([f"{label}: " * bool(label) + "no limits are told of these targets"])


def _show_sources(found: Found) -> None:
    for entry in found["energy"]:
        _tell([f"{entry['model']}: {entry['summary']}"])
        _tell([f"- {line}" for line in entry["assumptions"]], indent=2)
        for name, q in entry["constants"].items():
            supply = "" if q["voltage"] is None else f", {q['voltage']:g} V"
            told = f"{q['value']:g} {q['unit']} ({q['grade']}, {q['process']}{supply}): {q['source']}"
            _tell([f"{name.replace('_', ' ')} {told}"], indent=2)


def _print(made: Table) -> None:
    """Print a table; names and sentences are folded, and it is wider than a narrow terminal rather than cut."""
    from rich.cells import cell_len

    made.padding = (0, 1, 0, 0)
    least = 2
    for column in made.columns:
        longest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        least += 2 + (longest if column.no_wrap else min(longest, NAME_WIDTH))
    out = console()
    out.width = max(min(out.width, WIDEST), least)
    out.print(made)


def _tell(lines: Sequence[str], indent: int = 0) -> None:
    """Print sentences, folded where a person reads them."""
    for line in lines:
        if line and sys.stdout.isatty():
            first, more = " " * indent, " " * (indent + 2)
            line = fill(line, console().width, initial_indent=first, subsequent_indent=more, break_on_hyphens=False)
            say(line)
        elif line:
            say(" " * indent + line)
