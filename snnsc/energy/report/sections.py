"""The parts of the HTML report of one network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from snnsc.energy.report.charts import Bar, bars, heat_map, histogram, key, switch
from snnsc.energy.report.fits import amount, fit_reasons, no_limits
from snnsc.energy.report.markup import Markup, element, join, name
from snnsc.energy.report.wording import (
    Found,
    basis,
    by_kind,
    chips,
    energy,
    equal,
    findings,
    headline,
    heads,
    number,
    percent,
    price,
    ratio,
    shares,
    spiking,
    time_steps,
    unpublished,
)


def network(found: Found, anchor: str) -> Markup:
    """Everything about one network; `anchor` is unique in the page."""
    return join(
        cards(found), limits(found), prices(found), layers(found, anchor), rates(found), spread(found), fits(found),
        sources(found), origin(found),
    )  # fmt: skip


def cards(found: Found) -> Markup:
    """The headline figures."""
    first, network, totals = headline(found), found["network"], found["totals"]
    what, twin, _ = heads(found)
    over = ", over all steps" if time_steps(found) > 1 else ""
    shown = [
        (f"{what}, energy a sample", price(first), first["model"]),
        (
            f"{twin}, energy a sample",
            energy(first["ann_pj"]),
            "the same layers, run once, every input charged, padding too",
        ),
        ratios(found, what, twin),
        ("synaptic events a sample", number(totals["events"]), _range(network.get("events"), number)),
        ("dense MACs a sample", number(totals["dense_macs"]), f"as if no input were zero, padding too{over}"),
    ]
    if spiking(found):
        rate = network["firing_rate"]
        mean = None if rate is None else rate["mean"]
        shown.append(("firing rate, spikes a neuron and step", percent(mean), _range(rate, percent)))
        shown.append(("neuron updates a sample", number(totals["neuron_updates"]), "neurons x time steps"))
    return element(
        "dl",
        (
            element(
                "div",
                element("dt", title),
                element("dd", value, class_="figure"),
                element("dd", more, class_="quiet"),
            )
            for title, value, more in shown
        ),
        class_="cards",
    )


def ratios(found: Found, what: str, twin: str) -> tuple[str, str, str]:
    """How far the price models are apart, as a card."""
    known = sorted((entry["ratio"], entry["model"]) for entry in found["energy"] if entry["ratio"] is not None)
    if not known:
        return f"{what} / {twin}", "?", "not known without samples"
    (low, lowest), (high, highest) = known[0], known[-1]
    if len(known) == 1:
        return f"{what} / {twin}", f"{low:.3f}", lowest
    return f"{what} / {twin}", f"{low:.3f} to {high:.3f}", f"{lowest} to {highest}: no single number tells it"


def limits(found: Found) -> Markup:
    """What the reader must know before the figures are used."""
    lines = findings(found)
    if found["source"] == "none":
        lines.insert(0, basis(found))
    if not lines:
        return Markup()
    listed = element("ul", (element("li", line) for line in lines))
    return element("section", element("h2", "Findings"), element("div", listed, class_="findings"))


def prices(found: Found) -> Markup:
    """Every price model in one table."""
    head = ("price model", *heads(found), "what the energy is made of")
    body: list[Markup] = []
    for title, entries in by_kind(found):
        body.append(element("tr", element("th", title, colspan=len(head), scope="rowgroup"), class_="group"))
        body += [_price(entry) for entry in entries]
    lines = [element("p", line, class_="quiet") for line in (chips(found), equal(found), *unpublished(found)) if line]
    return element(
        "section",
        element("h2", "Energy a sample"),
        scrolling("energy a sample by price model", table("energy a sample by price model", head, body, words=1)),
        lines,
    )


def _price(entry: Found) -> Markup:
    ann = "" if entry["ann_pj"] is None else energy(entry["ann_pj"])
    return element(
        "tr",
        element("th", entry["model"], scope="row", title=entry["summary"]),
        (element("td", text) for text in (price(entry), ann, ratio(entry["ratio"]))),
        element("td", shares(entry), class_="wrap"),
    )


def layers(found: Found, anchor: str) -> Markup:
    """Bars of each layer: operations, events, and energy under each price model that tells it by layer."""
    rows = found["layers"]
    dense = [Bar(r["name"], (("add", r["dense_macs"]),), number(r["dense_macs"])) for r in rows if r["dense_macs"]]
    events = [
        Bar(r["name"], (("add", r["acs"]), ("multiply", r["macs"])), f"{number(r['events'])}{_deviation(r)}")
        for r in rows
        if r["events"]
    ]
    updates = [
        Bar(r["name"], (("add", r["neuron_updates"]),), number(r["neuron_updates"]))
        for r in rows
        if r["neuron_updates"]
    ]
    legend = key(("add", "additions"), ("multiply", "multiplications with addition"))
    views = [("events", join(legend, bars(events)))] if events else []
    views.append(("dense MACs", bars(dense)))
    views += [("neuron updates", bars(updates))] if updates else []
    for entry in found["energy"]:
        if entry["layers"]:
            shown = [Bar(layer, (("energy", pj),), energy(pj)) for layer, pj in entry["layers"].items() if pj]
            views.append((f"energy: {entry['model']}", bars(shown)))
    return element(
        "section", element("h2", "Layers"), switch("shown for each layer, a sample", f"{anchor}-view", views)
    )


def rates(found: Found) -> Markup:
    """The firing rate of every layer of neurons at every time step."""
    shown = []
    for row in found["layers"]:
        spikes = row["steps"].get("spikes")
        if spikes and row["neuron_updates"]:
            neurons = row["neuron_updates"] / len(spikes)
            shown.append((row["name"], [value / neurons for value in spikes]))
    if not shown:
        return Markup()
    return element(
        "section", element("h2", "Firing rate by layer and time step"), heat_map("share of neurons that fire", shown)
    )


def spread(found: Found) -> Markup:
    """How much the samples differ."""
    rows = [(row, "spikes", "neuron_updates") for row in found["layers"] if "spikes" in row["spread"]]
    title = "Firing rate over the samples"
    if not rows:
        rows = [(row, "events", "max_events") for row in found["layers"] if "events" in row["spread"]]
        title = "Events over the samples, in percent of the possible ones"
    if not rows:
        return Markup()
    shown = max(_last(row["spread"][key]["samples"]) for row, key, _ in rows)
    body = [_spread_row(row, key, shown) for row, key, _ in rows]
    head = ("layer", "mean", "std", "min", "max", f"samples, from 0 to {percent(shown / 20)}")
    return element("section", element("h2", title), scrolling(title, table(title, head, body, words=1)))


def _spread_row(row: Found, key: str, shown: int) -> Markup:
    bins, most = row["spread"][key]["samples"], row["spread"][key]["to"] or 1
    mean, std, low, high = (value / most for value in (row[key], row["std"][key], row[f"{key}_min"], row[f"{key}_max"]))
    label = f"{row['name']}: mean {percent(mean)}, from {percent(low)} to {percent(high)}"
    picture = histogram(bins, shown, (20 * low, 20 * mean, 20 * high), label)
    cells = (element("td", percent(value)) for value in (mean, std, low, high))
    return element("tr", element("th", name(row["name"]), scope="row"), cells, element("td", picture, class_="wrap"))


def _last(bins: Sequence[int]) -> int:
    """How many bins there are up to the last that holds a sample."""
    return max((i + 1 for i, n in enumerate(bins) if n), default=1)


def _deviation(row: Found) -> str:
    std = row["std"].get("events")
    return f" \u00b1 {number(std)}" if std else ""


def _range(stat: Any, show: Any) -> str:  # noqa: ANN401
    return "" if not stat else f"{show(stat['min'])} to {show(stat['max'])} over the samples"


def scrolling(label: str, content: Markup) -> Markup:
    """A box that scrolls sideways by itself, also by keyboard."""
    return element("div", content, class_="box", tabindex="0", role="region", aria_label=label)


def table(caption: str, head: Sequence[str], body: Sequence[Markup], words: int = 0, *, fits: bool = False) -> Markup:
    """A table; its caption is for those who hear it.

    Its last `words` columns hold text, which a phone has below the others. One that `fits` has no text, and so few
    columns that a phone has them all side by side.
    """
    columns = (
        element("th", text, scope="col", class_="text" if i >= len(head) - words else None)
        for i, text in enumerate(head)
    )
    return element(
        "table",
        element("caption", caption, class_="hidden"),
        element("thead", element("tr", columns)),
        element("tbody", body),
        class_="told" if words or fits else None,
        style=f"--numbers:{len(head) - words - 1}" if words or fits else None,
    )


def fits(found: Found) -> Markup:
    """Whether the network fits each chip, and what stands in its way."""
    if not found["fit"]:
        return Markup()
    title, looks = "Fit on chips", {"fits": "good", "does not fit": "bad"}
    body = [
        element(
            "tr",
            element("th", entry["target"], scope="row"),
            element("td", entry["verdict"], class_=looks.get(entry["verdict"])),
            element("td", element("ul", (element("li", line) for line in fit_reasons(entry))), class_="wrap"),
        )
        for entry in found["fit"]
    ]
    details = [
        element(
            "details",
            element("summary", f"{entry['target']}: every limit"),
            scrolling(f"limits of {entry['target']}", _limits(entry)),
        )
        for entry in found["fit"]
    ]
    shown = scrolling(title, table(title, ("chip", "verdict", "why"), body, words=1))
    without = no_limits(found)
    return element(
        "section", element("h2", title), shown, element("p", without, class_="quiet") if without else "", details
    )


def _limits(entry: Found) -> Markup:
    body = [
        element(
            "tr",
            element("th", check["name"], scope="row"),
            (element("td", text) for text in (check["verdict"], amount(check["needed"]))),
            element("td", f"{amount(check['available'])} {check['unit']}"),
            element("td", check["detail"], class_="wrap"),
            element("td", check["source"], class_="wrap"),
        )
        for check in entry["checks"]
    ]
    head = ("limit", "verdict", "needed", "there is", "why", "source")
    return table(f"limits of {entry['target']}", head, body, words=2)


def sources(found: Found) -> Markup:
    """The assumptions of every price model, and where each of its numbers comes from."""
    return element(
        "section",
        element("h2", "Assumptions and sources"),
        (
            element(
                "details",
                element("summary", f"{entry['model']}: {entry['summary']}"),
                element("ul", (element("li", line) for line in entry["assumptions"])) if entry["assumptions"] else "",
                _constants(entry) if entry["constants"] else "",
            )
            for entry in found["energy"]
        ),
    )


def _constants(entry: Found) -> Markup:
    head = ("number", "value", "grade", "process, supply", "source")
    body = [
        element(
            "tr",
            element("th", title.replace("_", " "), scope="row"),
            element("td", f"{q['value']:g} {q['unit']}"),
            element("td", element("span", q["grade"], class_="badge")),
            element("td", q["process"] + ("" if q["voltage"] is None else f", {q['voltage']:g} V")),
            element("td", q["source"], class_="wrap"),
        )
        for title, q in entry["constants"].items()
    ]
    heading = f"numbers of {entry['model']}"
    return scrolling(heading, table(heading, head, body, words=1))


def origin(found: Found) -> Markup:
    """What was measured, on what, and which file it was."""
    told = found["origin"]
    facts = [
        ("file", found["model"]),
        ("graph, SHA-256", found["graph"]),
        ("samples", basis(found)),
        ("time steps", told["time_steps"]),
        ("neuron", told["neuron"]),
        ("input", told["input"]),
        ("written by", f"snnsc {told['version']}" if told["version"] else None),
    ]
    listed = (join(element("dt", title), element("dd", element("code", value))) for title, value in facts if value)
    return element("section", element("h2", "Network and samples"), element("dl", listed, class_="facts"))
