"""`snnsc energy`: ONNX or NIR models -> exact operation counts, energy estimates, fit on chips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import snnsc
from snnsc.cli.arguments import DataRoot, Json
from snnsc.cli.console import note, on_one_line, show_json

if TYPE_CHECKING:
    from snnsc.energy import Report

NAME = "energy"


def command(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help="ONNX or NIR files, ours or another's; several compare.")
    ],
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="NPZ|NPY|RECIPE",
            help="Real samples to count on, or a recipe for its evaluation set; default the statistics in the model.",
        ),
    ] = None,
    data_root: DataRoot = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE.toml", help="Price model or chip, repeatable; default all that ship."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--inferences-per-second", help="Charge chips their static power too, shared out at this rate."),
    ] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Show whether the network fits each chip.")] = False,
    sources: Annotated[bool, typer.Option("--sources", help="Show the assumptions and where prices are from.")] = False,
    dt: Annotated[
        float | None, typer.Option(help="NIR: time step in seconds; default the file's own, or 1e-4.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write one row a layer.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the whole report as one page, with charts.")
    ] = None,
    json_: Json = False,
) -> None:
    """Count spike operations exactly, and estimate the energy of an SNN and of its ANN twin."""
    from snnsc.files import check_output, write_together

    if csv is not None or html is not None:
        from snnsc.energy.graph.load import weight_files

        read = [*models, *([Path(inputs)] if inputs else []), *(Path(name) for name in target or ())]
        read += [file for model in models for file in weight_files(model)]
        for option, path, suffix in (("--csv", csv, ".csv"), ("--html", html, ".html")):
            if path is not None:
                for source in read:
                    check_output(option, path, suffix=suffix, keep=source)

    from snnsc.cli.energy_display import show_comparison, show_report
    from snnsc.cli.energy_samples import find_samples
    from snnsc.energy.report.comparison import Comparison
    from snnsc.energy.report.report import estimate_all

    samples = find_samples(inputs, data_root)
    reports = [report.to_dict() for report in estimate_all(models, samples, targets=target, rate=rate, dt=dt)]
    files = _files(reports, csv, html)
    if files:
        write_together(files)
    if json_:
        show_json(reports[0] if len(reports) == 1 else Comparison(tuple(reports)).to_dict())
    elif len(reports) == 1:
        show_report(reports[0], chosen=bool(target), fit=fit, sources=sources)
    else:
        show_comparison(Comparison(tuple(reports)), fit=fit, sources=sources)
    for path in files:
        note(on_one_line(f"written: {path}"))


def _files(reports: list[dict[str, Any]], csv: Path | None, html: Path | None) -> dict[Path, bytes | str]:
    """The files that were asked for, with what goes into them."""
    files: dict[Path, bytes | str] = {}
    if csv is not None:
        from snnsc.energy.report.table import to_csv

        files[csv] = to_csv(reports)
    if html is not None:
        from snnsc.energy.report.html import page

        files[html] = page(reports, snnsc.__version__)
    return files


def summary(report: Report) -> str:
    """The prices in one line."""
    from snnsc.energy.report.wording import energy, headline

    first = headline(report.to_dict())
    if not report.counts.spiking:
        both = f"zeros skipped {energy(first['snn_pj'])}, dense {energy(first['ann_pj'])}"
        return f"{first['model']}: {both}; no spiking layers"
    return f"{first['model']}: SNN {energy(first['snn_pj'])}, ANN twin {energy(first['ann_pj'])}"


def unpriced_neurons(report: Report) -> str | None:
    """That the energy lacks the updates of some kind of neuron; None where all are priced."""
    from snnsc.energy.report.wording import lower_bound

    found: Any = report.to_dict()
    return lower_bound(found["energy"]) or None
