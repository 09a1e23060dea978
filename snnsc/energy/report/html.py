"""`--html`: the whole report as one file that needs no network and no script; `templates/report.css` is its look.

page -> header, comparison (several networks), `sections` for each network
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from snnsc.energy.report.charts import Bar, bars, switch
from snnsc.energy.report.comparison import TOTALS, Comparison
from snnsc.energy.report.markup import Markup, element, join, name
from snnsc.energy.report.sections import network, scrolling, table
from snnsc.energy.report.wording import HEADLINE, Found, basis, number, percent, price, priced, ratio, spiking, times

_ON_A_PHONE = 3  # networks side by side
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(reports: Sequence[Found], version: str) -> str:
    """A report as HTML.

    Args:
        reports: As `Report.to_dict` gives them; several are compared.
        version: Of the snnsc that writes it.
    """
    several = Comparison(tuple(reports))
    labels = several.labels()
    title = f"Energy of {labels[0]}" if len(reports) == 1 else f"Energy of {len(reports)} networks"
    if len(reports) == 1:
        lede, body = basis(reports[0]), network(reports[0], "net-0")
    else:
        lede = f"relative to {labels[0]}"
        each = enumerate(zip(labels, reports, strict=True))
        parts = [
            element("details", element("summary", f"{label}: {basis(found)}"), network(found, f"net-{i}"))
            for i, (label, found) in each
        ]
        body = join(_comparison(several, labels), parts)
    style = (resources.files("snnsc.energy.report") / "templates" / "report.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(style)),
    )
    header = element("header", element("h1", title), element("p", lede, class_="quiet"))
    footer = element("footer", f"snnsc {version}; every figure is a mean over the samples", class_="quiet")
    whole = element("html", head, element("body", header, element("main", body), footer), lang="en")
    return f"<!doctype html>\n{whole}\n"


def _comparison(several: Comparison, labels: Sequence[str]) -> Markup:
    """Totals and energies side by side, and bars of the energy."""
    warnings = several.warnings()
    told = element("div", element("ul", (element("li", line) for line in warnings)), class_="findings")
    views = [
        (model, bars([Bar(label, (("energy", e["snn_pj"]),), _relative(e, rows[0][1])) for label, e in rows]))
        for model, rows in _energies(several, labels)
    ]
    return element(
        "section",
        element("h2", "Side by side"),
        told if warnings else "",
        switch("energy a sample under", "compare", views, first=HEADLINE) if views else "",
        element("h3", "Operations a sample"),
        _totals(several, labels),
        element("h3", "Energy a sample"),
        _prices(several, labels),
    )


def _energies(several: Comparison, labels: Sequence[str]) -> list[tuple[str, list[tuple[str, Found]]]]:
    """Price models that price every network -> (label, price)."""
    columns = zip(*(report["energy"] for report in several.reports), strict=True)
    rows = [(entries[0]["model"], list(zip(labels, entries, strict=True))) for entries in columns]
    return [(model, each) for model, each in rows if all(entry["snn_pj"] is not None for _, entry in each)]


def _totals(several: Comparison, labels: Sequence[str]) -> Markup:
    each = [found["totals"] for found in several.reports]
    base = each[0]
    body = [
        element(
            "tr",
            element("th", what, scope="row"),
            (_cell(number(totals[key]), totals[key], base[key], first=totals is base) for totals in each),
        )
        for key, what in TOTALS.items()
    ]
    rates = [found["network"]["firing_rate"] if spiking(found) else None for found in several.reports]
    if any(rates):
        cells = (element("td", "" if rate is None else percent(rate["mean"])) for rate in rates)
        body.append(element("tr", element("th", "firing rate", scope="row"), cells))
    title = "operations of each network"
    return _table(title, ("", *map(name, labels)), body)


def _prices(several: Comparison, labels: Sequence[str]) -> Markup:
    body = [
        element(
            "tr",
            element("th", entries[0]["model"], scope="row"),
            (_cell(price(e), e["snn_pj"], entries[0]["snn_pj"], first=e is entries[0]) for e in entries),
        )
        for entries in zip(*(report["energy"] for report in several.reports), strict=True)
        if any(priced(entry) for entry in entries)
    ]
    title, columns = "energy of each network by price model", ("price model", *map(name, labels))
    ratios = [
        element(
            "tr", element("th", entries[0]["model"], scope="row"), (element("td", ratio(e["ratio"])) for e in entries)
        )
        for entries in zip(*(report["energy"] for report in several.reports), strict=True)
        if any(entry["ratio"] is not None for entry in entries)
    ]
    if ratios:
        head = element("th", several.titles()[1], colspan=len(columns), scope="rowgroup")
        body += [element("tr", head, class_="group"), *ratios]
    return _table(title, columns, body)


def _table(title: str, columns: Sequence[str], body: Sequence[Markup]) -> Markup:
    return scrolling(title, table(title, columns, body, fits=len(columns) <= 1 + _ON_A_PHONE))


def _cell(text: str, value: float | None, base: float | None, *, first: bool) -> Markup:
    """A figure, and what it is relative to the first network's, which stands below it where there is little room."""
    relative = "" if first else times(value, base).strip()
    return element("td", text, (" ", element("span", relative, class_="times")) if relative else "")


def _relative(entry: Found, first: Found) -> str:
    return price(entry) + ("" if entry is first else times(entry["snn_pj"], first["snn_pj"]))
