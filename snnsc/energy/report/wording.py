"""Numbers and findings of a report in words, the same on the terminal and on the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from snnsc.energy.graph.ops import LINEAR
from snnsc.energy.pricing.targets import load_targets

Found = dict[str, Any]
"""A report as `Report.to_dict` gives it."""

_COUNTS = (("G", 1e9), ("M", 1e6), ("k", 1e3))
_ENERGIES = (("J", 1e12), ("mJ", 1e9), ("uJ", 1e6), ("nJ", 1e3), ("pJ", 1.0))
_MOST_NAMES = 4
HEADLINE = "horowitz-fp32"
KINDS = {"arithmetic": "arithmetic alone", "memory": "arithmetic and memory", "event": "chips, as published"}
_KINDS = {
    "binary": "spikes, 0 or 1",
    "integer": "whole numbers",
    "scaled": "whole multiples of one unit",
}


def printable(text: str) -> str:
    """A name from a file, whatever it holds: control, direction and other invisible characters are written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def number(value: float | None) -> str:
    """A count: `203.71 k`; `-` for none at all, `?` for one that is not known."""
    if value is None:
        return "?"
    if value < 9_999.5:
        return f"{value:,.0f}" if value >= 0.5 else "<1" if value > 0 else "-"
    unit, size = next((u, s) for u, s in _COUNTS if value >= 0.999995 * s)
    return f"{value / size:,.2f} {unit}"


def energy(picojoules: float | None) -> str:
    """An energy: `345.0 nJ`; `?` for one that is not known."""
    if picojoules is None:
        return "?"
    unit, size = next(((u, s) for u, s in _ENERGIES if picojoules >= 0.99995 * s), _ENERGIES[-1])
    value = picojoules / size
    return f"{value:.{1 if value >= 99.995 else 2 if value >= 9.9995 else 3}f} {unit}"


def percent(share: float | None, digits: int = 2) -> str:
    """A share: `12.03 %`."""
    if share is None:
        return "?"
    least = 10.0**-digits
    return f"< {least:.{digits}f} %" if 0 < 100 * share < least / 2 else f"{100 * share:.{digits}f} %"


def names(values: Sequence[str], most: int = _MOST_NAMES) -> str:
    """A list of names, cut after the first few."""
    shown = ", ".join(printable(value) for value in values[:most])
    return f"{shown} and {len(values) - most} more" if len(values) > most else shown


def plural(count: int, word: str) -> str:
    """`1 sample`, `2 samples`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def basis(found: Found) -> str:
    """What the counts were measured on."""
    match found["source"]:
        case "none":
            return "no samples: dense counts and upper bounds only; give --inputs samples.npz, or a recipe, for counts"
        case "embedded":
            return f"counted on {plural(found['samples'], 'sample')} at export: {printable(found['split'])}"
        case source:
            return f"counted on {plural(found['samples'], 'sample')} of {printable(source)}"


def findings(found: Found) -> list[str]:
    """What limits the figures of a report, and what was stripped: one sentence each."""
    return [line for line in (*limits(found), stripped([found])) if line]


def limits(found: Found) -> list[str]:
    """What limits the figures of a report: one sentence each."""
    lines = [lower_bound(found["energy"]), *map(not_counted, found["not_counted"]), hidden(found["not_counted"])]
    more = (one_step(found), every_step(found), unfolded(found), unprepared(found))
    return [line for line in (*lines, *map(violation, found["violations"]), *more) if line]


def lower_bound(prices: Sequence[Found]) -> str:
    """That the energy lacks the updates of some kinds of neuron; empty where all are priced."""
    kinds = sorted({kind for entry in prices for kind in entry["not_priced"]})
    if not kinds:
        return ""
    return f"the SNN's energy is a lower bound: updates of {names(kinds)} neurons have no published price, 0 was taken"


def not_counted(group: Found) -> str:
    """One entry of `not_counted`."""
    share = group.get("share")
    much = "how much they hide is not known" if share is None else f"at most {percent(share)} of the compute"
    nodes, op = plural(group["count"], "node"), printable(group["op"])
    return f"not counted: {nodes} {op}, {much}: {printable(group['reason'])} ({names(group['nodes'])})"


def hidden(groups: Sequence[Found]) -> str:
    """What all operators without a row may hide together, where it is more than one group."""
    if len(groups) < 2:
        return ""
    shares = [group.get("share") for group in groups]
    if any(share is None for share in shares):
        return "what is not counted may hide any share of the compute: the figures are lower bounds"
    return f"together they hide at most {percent(min(1.0, sum(s for s in shares if s is not None)))} of the compute"


def violation(entry: Found) -> str:
    """One entry of `violations`."""
    kind = str(entry["kind"])
    return (
        f"the graph promises {_KINDS.get(kind, kind)} in {printable(str(entry['value']))}, but "
        f"{plural(int(entry['elements']), 'element')} in batches of {plural(int(entry['samples']), 'sample')} "
        "hold something else; each of them was counted as a multiplication"
    )


def one_step(found: Found) -> str:
    """That a step model is a part of the whole, which its ANN twin is not."""
    origin = found["origin"]
    if origin["artifact"] != "step":
        return ""
    steps = printable(str(origin["time_steps"]))
    return f"a model of one time step: its counts and its SNN's energy are those of one of T = {steps} steps"


def every_step(found: Found) -> str:
    """That a NIR file has no image that is held: what an ONNX file computes once, it computes at every step."""
    if not found["model"].endswith(".nir"):
        return ""
    rows = [
        row
        for row in found["layers"]
        if row["op"] in LINEAR
        and row["input_kind"] == "real"
        and not row["facts"].get("sources")
        and row["time_steps"] > 1
    ]
    if not rows:
        return ""
    return (
        f"NIR takes a frame at each step: {names([row['name'] for row in rows])} computes real numbers at each of "
        f"{rows[0]['time_steps']:.0f}; an .onnx does so once for an image that is held, and has another ANN twin"
    )


def unfolded(found: Found) -> str:
    """How much of the multiplications are normalisations that could be folded away."""
    rows = [row for row in found["layers"] if row["name"] in set(found["foldable"])]
    key, what = ("macs", "MACs") if found["source"] != "none" else ("dense_macs", "dense MACs")
    much = sum(row[key] or 0 for row in rows)
    if not much:
        return ""
    whole = number(found["totals"][key])
    return f"BatchNormalization follows a convolution or a matrix and could be folded: {number(much)} of {whole} {what}"


def unprepared(found: Found) -> str:
    """That samples do not look as the network's training samples did once they were normalised."""
    told = found["input_range"]
    if told is None or told["fits"]:
        return ""
    facts = json.loads(found["origin"]["input"])
    mean, std = (facts[key][0] if len(facts[key]) == 1 else facts[key] for key in ("mean", "std"))
    (low, high), (least, most) = told["found"], told["expected"]
    return (
        f"warning: {printable(told['name'])} holds {low:.4g} to {high:.4g}, normalised pixels lie from {least:.4g} to "
        f"{most:.4g}: give (x - {mean}) / {std}, x from 0 to 1"
    )


def chips(found: Found) -> str:
    """What the energies of chips are made of; empty where none is priced."""
    told = found["chips"]
    if (
        not told
        or not any(told.values())
        or not any(entry["kind"] == "event" and entry["snn_pj"] is not None for entry in found["energy"])
    ):
        return ""
    parts = {
        "spike_events": "events of spikes (a sum or average of n spikes is n)",
        "real_events": "events of real inputs (at every step)",
        "neuron_updates": "updates",
        "spikes": "spikes",
    }
    return "chips are charged " + ", ".join(f"{number(told[key])} {what}" for key, what in parts.items() if told[key])


def stripped(reports: Sequence[Found], labels: Sequence[str] = ("",)) -> str:
    """What models of ours lost before they were written, in one sentence; `labels` tell them apart."""
    lost = [
        (label, gone) for label, found in zip(labels, reports, strict=True) if (gone := found["origin"]["stripped"])
    ]
    if not lost:
        return ""
    each = [f"{plural(len(gone), 'tensor')} of {label or 'removable branches'} ({names(gone)})" for label, gone in lost]
    whose = "removable branches, " * any(label for label, _ in lost)
    return f"stripped before the export: {whose}{'; '.join(each)}; what was stripped costs nothing at inference"


def strings(text: str | None) -> list[str]:
    """A JSON list of strings in the metadata of a file that may be anyone's; empty for everything else."""
    try:
        value = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else []


def headline(found: Found) -> Found:
    """The price that stands for all where there is room for one: 32-bit arithmetic, else the first that there is."""
    prices: list[Found] = sorted(found["energy"], key=lambda entry: (not priced(entry), entry["model"] != HEADLINE))
    return prices[0]


def priced(entry: Found) -> bool:
    """Whether there is any figure under a price model."""
    return any(entry[key] is not None for key in ("snn_pj", "snn_pj_bound", "ann_pj"))


def by_kind(found: Found) -> list[tuple[str, list[Found]]]:
    """The prices in groups, (title, prices); without those that have no figure."""
    groups = [(title, [e for e in found["energy"] if e["kind"] == kind and priced(e)]) for kind, title in KINDS.items()]
    return [(title + _or_yours(title, entries), entries) for title, entries in groups if entries]


def _or_yours(title: str, entries: Sequence[Found]) -> str:
    own = any(entry["model"] not in _shipped() for entry in entries)
    return " or as you say" if own and title == KINDS["event"] else ""


@cache
def _shipped() -> frozenset[str]:
    return frozenset(target.name for target in load_targets())


def time_steps(found: Found) -> int:
    """T of the neurons; 1 of a model of one step, and of a network without any."""
    return max((round(row["time_steps"]) for row in found["layers"] if row["neuron_updates"]), default=1)


def spiking(found: Found) -> bool:
    """Whether the network has neurons; one without is priced with its zero inputs skipped, and dense."""
    return any(row.get("neuron_updates") for row in found["layers"])


def heads(found: Found) -> tuple[str, str, str]:
    """What stands above the network's energy, its twin's, and the ratio of the two."""
    return ("SNN", "ANN twin", "SNN / ANN") if spiking(found) else ("zeros skipped", "dense", "ratio")


def unpublished(found: Found) -> list[str]:
    """What price models have no figure for, one line for each reason."""
    groups: dict[str, list[str]] = {}
    for entry in found["energy"]:
        if price(entry) == "?":
            groups.setdefault(_unpriced(entry, spikes=spiking(found)), []).append(entry["model"])
    return [reason.format(names(models, most=20)) for reason, models in groups.items()] + static_power(found)


def _unpriced(entry: Found, *, spikes: bool) -> str:
    """Why there is no figure for the network under a price model, with a place for its name."""
    if entry["kind"] == "not-published":
        return "not published: what a synaptic event costs on {}"
    if spikes:
        return "no price under {}: without samples its spikes have no bound; give --inputs"
    if priced(entry):
        return "no price under {} with zero inputs skipped: its formulas are for spikes, or for an ANN that skips none"
    return "no price under {}: the network has no spiking layers"


def static_power(found: Found) -> list[str]:
    """At which rate static power is shared, by target; where it is not published, or is charged already."""
    states = ("charged", "included", "not published")
    told = {state: [e["model"] for e in found["energy"] if e["static"] == state] for state in states}
    rate = found["inferences_per_second"]
    lines = {
        "charged": f"static power of {names(told['charged'], most=20)} is shared by {rate or 0:g} inferences a second",
        "included": f"static power of {names(told['included'], most=20)} is in the price of an event already",
        "not published": f"static power of {names(told['not published'], most=20)} is not published: none is charged",
    }
    return [line for state, line in lines.items() if told[state]]


def price(entry: Found) -> str:
    """The SNN's energy under a price model, or its bound."""
    if entry["snn_pj"] is not None:
        return energy(entry["snn_pj"])
    return f"<= {energy(entry['snn_pj_bound'])}" if entry["snn_pj_bound"] is not None else "?"


def ratio(value: float | None) -> str:
    """A ratio to three digits; empty where there is none."""
    return "" if value is None else f"{value:.3f}"


def shares(entry: Found) -> str:
    """What an energy is made of: `weights 71 %, operations 20 %, ...`."""
    if entry["snn_pj"] is None:
        return ""
    parts = sorted(((pj, name) for name, pj in entry["terms"].items() if pj), reverse=True)
    whole = sum(pj for pj, _ in parts)
    return ", ".join(f"{name.removesuffix('_pj').replace('_', ' ')} {percent(pj / whole, 0)}" for pj, name in parts)


def times(value: float | None, base: float | None) -> str:
    """A value relative to another: ` (x 0.520)`; empty where there is no telling, or nothing to tell."""
    return "" if not value or not base else f" (x {value / base:.3f})"


def equal(found: Found) -> str:
    """The comparison with an ANN whose activations tell as much apart as T steps of spikes do; empty without one.

    Of the price models the one is taken that prices both, so that no number format is compared with another.
    """
    both = [entry for entry in found["energy"] if entry["equal"] and entry["equal"]["model"] == entry["model"]]
    twin = both[0]["equal"] if both else None
    if twin is None or twin["ratio"] is None:
        return ""
    return (
        f"equal information: T = {twin['time_steps']} steps of spikes tell apart what {plural(twin['bits'], 'bit')} "
        f"do; at the nearest published width, {twin['model_bits']} bits ({twin['model']}), the ANN twin takes "
        f"{energy(twin['ann_pj'])}, SNN / ANN {ratio(twin['ratio'])}"
    )
