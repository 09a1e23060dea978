"""`snnsc energy`: ONNX or NIR model -> exact operation counts, energy estimates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snnsc.cli.arguments import Json
from snnsc.cli.console import console, say, show_json, table

if TYPE_CHECKING:
    from snnsc.energy import Report

NAME = "energy"
COUNTS = ("dense_macs", "macs", "acs", "neuron_updates")
LEGEND = "over all T steps; dense MACs: as if no input were zero; ACs: additions; rate: spikes a neuron and step"


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX or NIR file, ours or another's.")],
    inputs: Annotated[
        Path | None, typer.Option(help="Real samples to count on: .npz or .npy; default the statistics in the model.")
    ] = None,
    dt: Annotated[
        float | None, typer.Option(help="NIR: time step in seconds; default the file's own, or 1e-4.")
    ] = None,
    json_: Json = False,
) -> None:
    """Count spike operations exactly, and estimate the energy of an SNN and of its ANN twin."""
    from snnsc.energy import estimate

    report = estimate(model, inputs, dt=dt)
    if json_:
        show_json(report.to_dict())
        return
    show_energy(report)


def show_energy(report: Report) -> None:
    """Print the report as tables."""
    found: dict[str, Any] = report.to_dict()
    out = console()
    rows = table("operations a sample", ["layer", "op", "input", "dense MACs", "MACs", "ACs", "updates", "rate"])
    working = [row for row in found["layers"] if any(row[key] for key in COUNTS) or row["macs"] is None]
    for row in [*working, {"name": "total", "op": "", "input_kind": "", **found["totals"]}]:
        rate = row.get("firing_rate")
        counts = [_count(row[key]) for key in COUNTS]
        rows.add_row(row["name"], row["op"], row["input_kind"] or "", *counts, "" if rate is None else f"{rate:.4f}")
    out.print(rows)
    say(LEGEND)
    heads = ["SNN", "ANN twin", "SNN / ANN"] if _spiking(report) else ["zeros skipped", "dense", "skipped / dense"]
    prices = table("energy a sample", ["model", *heads])
    for entry in found["energy"]:
        snn, ratio = entry["snn_pj"], entry["ratio"]
        bound = f"<= {_energy(entry['snn_pj_bound'])}" if snn is None else _energy(snn)
        prices.add_row(entry["model"], bound, _energy(entry["ann_pj"]), "" if ratio is None else f"{ratio:.3f}")
    out.print(prices)
    if unpriced := unpriced_neurons(report):
        say(unpriced)
    say(_basis(found))
    for group in found["not_counted"]:
        say(f"not counted: {group}")
    for violation in found["violations"]:
        say(f"the graph's promise does not hold on the data: {violation}")


def summary(report: Report) -> str:
    """The prices in one line."""
    first = report.prices[0]
    if not _spiking(report):
        return f"{first.model}: zeros skipped {_energy(first.snn_pj)}, dense {_energy(first.ann_pj)}; no spiking layers"
    return f"{first.model}: SNN {_energy(first.snn_pj)}, ANN twin {_energy(first.ann_pj)}"


def _spiking(report: Report) -> bool:
    return any("neuron_updates" in layer.stats for layer in report.counts.layers)


def unpriced_neurons(report: Report) -> str | None:
    """That the energy lacks the updates of some kind of neuron; None where all are priced."""
    kinds = sorted({kind for price in report.prices for kind in price.not_priced})
    if not kinds:
        return None
    return (
        f"the SNN's energy is a lower bound: updates of {', '.join(kinds)} neurons have no published price, 0 was taken"
    )


def _basis(found: dict[str, Any]) -> str:
    match found["source"]:
        case "none":
            return "no samples: dense counts and upper bounds only; give --inputs samples.npz for counts"
        case "embedded":
            return f"counted on {found['samples']} samples at export: {found['split']}"
        case source:
            return f"counted on {found['samples']} samples of {source}"


def _count(value: float | None) -> str:
    if value is None:
        return "?"
    if value < 10_000:
        return f"{value:,.0f}" if value else "-"
    unit, size = next((u, s) for u, s in (("G", 1e9), ("M", 1e6), ("k", 1e3)) if value >= s)
    return f"{value / size:.2f} {unit}"


def _energy(picojoules: float | None) -> str:
    if picojoules is None:
        return "?"
    for unit, size in (("mJ", 1e9), ("uJ", 1e6), ("nJ", 1e3)):
        if picojoules >= size:
            return f"{picojoules / size:.3f} {unit}"
    return f"{picojoules:.3f} pJ"
