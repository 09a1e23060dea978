"""What `snnsc energy` shows on a terminal: short tables, and sentences for what they leave out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from snnsc.cli.console import table, tell
from snnsc.cli.energy_side_by_side import show_side_by_side
from snnsc.cli.energy_tables import NAME_WIDTH, SENTENCE_WIDTH, folded, longest, room, show, wrapped
from snnsc.energy.report.comparison import Comparison
from snnsc.energy.report.fits import fit_reasons, no_limits
from snnsc.energy.report.wording import (
    Found,
    basis,
    by_kind,
    chips,
    energy,
    equal,
    findings,
    heads,
    number,
    price,
    printable,
    ratio,
    shares,
    spiking,
    time_steps,
    unpublished,
)

MOST_ROWS = 60
MODEL_WIDTH = 21
WORK = ("dense_macs", "macs", "neuron_updates")
VERDICTS = ("does not fit", "not checked")


@dataclass(frozen=True)
class Column:
    """A column of the table of layers.

    Attributes:
        head: Its title.
        show: Its text for a row.
        weight: Columns of little weight are left out first where the terminal is narrow.
        meaning: What the legend says of it.
    """

    head: str
    show: Callable[[Found], str]
    weight: int = 9
    meaning: str = ""


_DENSE = "with zeros, those of padding too"
_RATE = "spikes a neuron and step"
COLUMNS = (
    Column("op", lambda row: printable(row["op"]), 3),
    Column("input", lambda row: row["input_kind"] or "", 2),
    Column("dense MACs", lambda row: number(row["dense_macs"]), 4, _DENSE),
    Column("MACs", lambda row: number(row["macs"]), meaning="of nonzero inputs"),
    Column("ACs", lambda row: number(row["acs"]), meaning="additions"),
    Column("updates", lambda row: number(row["neuron_updates"]), 5),
    Column("rate", lambda row: "" if row["firing_rate"] is None else f"{row['firing_rate']:.4f}", 9, _RATE),
    Column("min..max", lambda row: _rates(row), 1, "rates of the samples"),
)


def show_report(found: Found, *, chosen: bool, fit: bool, sources: bool) -> None:
    """Print the report of one network.

    Args:
        found: As `Report.to_dict` gives it.
        chosen: Whether the targets were named, so that each is shown with its parts.
        fit: Whether the fit on chips was asked for.
        sources: Whether assumptions and sources were.
    """
    _show_layers(found)
    _show_prices(found, chosen=chosen)
    if fit:
        _show_fit([found], [""])
    if sources:
        _show_sources(found)
    tell([*unpublished(found), *findings(found), basis(found)])


def show_comparison(several: Comparison, *, fit: bool, sources: bool) -> None:
    """Print several networks side by side."""
    labels = [printable(label) for label in several.labels()]
    show_side_by_side(several, labels)
    if fit:
        _show_fit(several.reports, labels)
    if sources:
        _show_sources(several.reports[0])
    tell([*several.findings(), *several.warnings()])


def _show_layers(found: Found) -> None:
    working = [row for row in found["layers"] if any(row[key] for key in WORK)]
    shown = _largest(working)
    rows = [*shown, {"name": "total", "op": "", "input_kind": "", **found["totals"], **_total_rate(found)}]
    columns = [column for column in COLUMNS if {column.show(row) for row in rows} - {"", "-", "?"}]
    while len(columns) > 1 and NAME_WIDTH + _width(columns, rows) > room():
        columns.remove(min(columns, key=lambda column: column.weight))
    made = table("operations a sample, mean", ["layer", *(column.head for column in columns)])
    names = max(NAME_WIDTH, room() - _width(columns, rows))
    for row in rows:
        made.add_row(folded(row["name"], names), *(column.show(row) for column in columns))
    show(made)
    if len(shown) < len(working):
        tell([f"{len(working) - len(shown)} layers with less work are left out; --csv, --html and --json have them"])
    tell([_legend(found, columns, {row["input_kind"] for row in rows})])


def _legend(found: Found, columns: Sequence[Column], kinds: set[str]) -> str:
    """What the columns that are shown mean."""
    steps = time_steps(found)
    told = {column.head: column.meaning for column in columns if column.meaning}
    if "dense MACs" in told and spiking(found):
        told["dense MACs"] += ", as in the ANN twin"
    if "scaled" in kinds and any(column.head == "input" for column in columns):
        told["scaled"] = "multiples of one unit"
    return "; ".join([*[f"over all {steps} steps"] * (steps > 1), *(f"{head}: {what}" for head, what in told.items())])


def _largest(rows: list[Found]) -> list[Found]:
    """The rows with the most work, in their order, so that the table of a deep network can be read."""
    by_work = sorted(rows, key=lambda row: sum(row[key] or 0 for key in WORK), reverse=True)
    kept = {row["name"] for row in by_work[:MOST_ROWS]}
    return [row for row in rows if row["name"] in kept]


def _width(columns: Sequence[Column], rows: Sequence[Found]) -> int:
    """Of all that stands beside the names in a table with these columns."""
    return 2 + sum(2 + longest([c.head, *(c.show(row) for row in rows)]) for c in columns)


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
    groups = by_kind(found)
    cells = {e["model"]: _price_cells(e) for _, entries in groups for e in entries}
    columns = [i for i in range(3) if any(row[i] for row in cells.values())]
    made = table("energy a sample, mean", ["price model", *(heads(found)[i] for i in columns)])
    for title, entries in groups:
        made.add_row(title)
        for entry in entries:
            shown = (cells[entry["model"]][i] for i in columns)
            made.add_row(folded(f"  {entry['model']}", MODEL_WIDTH), *shown)
    if made.row_count:
        show(made)
    if chosen:
        tell([f"{entry['model']} is made of: {made_of}" for entry in found["energy"] if (made_of := shares(entry))])
    tell([chips(found), equal(found)])


def _price_cells(entry: Found) -> tuple[str, str, str]:
    ann = "" if entry["ann_pj"] is None else energy(entry["ann_pj"])
    return price(entry), ann, ratio(entry["ratio"])


def _show_fit(reports: Sequence[Found], labels: Sequence[str]) -> None:
    for found, label in zip(reports, labels, strict=True):
        made = table(f"fit{f' of {label}' if label else ''}", ["chip", "verdict", "why"])
        for column in made.columns:
            column.justify = "left"
        chips = [folded(entry["target"], NAME_WIDTH) for entry in found["fit"]]
        rest = 2 + sum(2 + longest(cells) for cells in (chips, VERDICTS)) + 2
        width = max(SENTENCE_WIDTH, room() - rest)
        for chip, entry in zip(chips, found["fit"], strict=True):
            made.add_row(chip, entry["verdict"], "\n".join(wrapped(line, width) for line in fit_reasons(entry)))
        if made.row_count:
            show(made)
        else:
            tell([f"{label}: " * bool(label) + "no limits are told of these targets"])
    if any(found["fit"] for found in reports):
        tell([no_limits(reports[0])])


def _show_sources(found: Found) -> None:
    for entry in found["energy"]:
        tell([f"{entry['model']}: {entry['summary']}"])
        tell([f"- {line}" for line in entry["assumptions"]], indent=2)
        for name, q in entry["constants"].items():
            supply = "" if q["voltage"] is None else f", {q['voltage']:g} V"
            told = f"{q['value']:g} {q['unit']} ({q['grade']}, {q['process']}{supply}): {q['source']}"
            tell([f"{name.replace('_', ' ')} {told}"], indent=2)
