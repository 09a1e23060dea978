"""The statistics that a model carries: used only if they are of this very graph, and can be true."""

from __future__ import annotations

from collections.abc import Iterator

from snnsc.energy.counting.counting import plan_without_samples
from snnsc.energy.counting.counts import IN_STEPS, SPREAD, Counts, LayerCount, Network, Stat
from snnsc.energy.counting.possible import problems_of_parts, problems_of_spread, problems_of_stat
from snnsc.energy.graph.graph import STATISTICS_KEY, Graph
from snnsc.energy.plan.groups import Row, make_rows
from snnsc.energy.plan.plan import Plan
from snnsc.errors import ModelFileError

_BY_ROLE = {
    "events": ("input_nonzeros", "events", "acs", "event_magnitude"),
    "pairs": ("events", "acs", "event_magnitude"),
    "pool": ("input_nonzeros", "pool_events"),
    "spikes": ("spikes",),
    "": (),
}


def read_embedded(graph: Graph) -> Counts:
    """The statistics in the metadata of a graph.

    Raises:
        ModelFileError: They are damaged, of another graph, or no run of this graph can have given them.
    """
    counts = Counts.from_json(graph.metadata[STATISTICS_KEY], graph.source)
    if counts.graph != graph.digest:
        msg = (
            f"{graph.source}: embedded statistics are of another graph (its nodes or weights were changed since);"
            " give --inputs"
        )
        raise ModelFileError(msg)
    problem = next(_problems(counts, plan_without_samples(graph)), None)
    if problem is not None:
        msg = (
            f"{graph.source}: embedded statistics do not fit the graph ({problem}); export the model again or give"
            " --inputs"
        )
        raise ModelFileError(msg)
    return counts


def _problems(counts: Counts, plan: Plan) -> Iterator[str]:
    rows = make_rows(plan.layers)
    if [(count.name, count.op) for count in counts.layers] != [(row.first.group, row.first.op) for row in rows]:
        yield f"it has {len(rows)} layers with other names, they tell of {len(counts.layers)}"
        return
    told = sorted((group["op"], name) for group in counts.not_counted for name in _names(group))
    if told != sorted((item.op, item.name) for item in plan.missing):
        yield "not_counted names other nodes"
    for entry in counts.violations:
        root, samples = plan.roots.get(str(entry["value"])), entry["samples"]
        if root is None or root.name != entry["kind"] or not isinstance(samples, int) or samples > counts.samples:
            yield f"violation of {str(entry['value'])[:60]!r}"
    for count, row in zip(counts.layers, rows, strict=True):
        for problem in _misfits(count, row, counts.samples, promised=not counts.violations):
            yield f"layer {count.name[:60]!r}: {problem}"
    for problem in _of_network(counts.network, counts.layers, counts.samples):
        yield f"network: {problem}"


def _names(group: dict[str, object]) -> list[str]:
    nodes = group["nodes"]
    assert isinstance(nodes, list)
    return nodes


def _misfits(count: LayerCount, row: Row, samples: int, *, promised: bool) -> Iterator[str]:
    """What cannot be true of one row; `promised` if every value was of its kind."""
    true = row.empty(samples)
    measured, repeats = _BY_ROLE[row.first.role], row.repeats
    facts: dict[str, tuple[object, object]] = {
        "input_kind": (count.input_kind, true.input_kind),
        "unit": (count.unit, true.unit),
        "weights": (count.weights, true.weights),
        "facts": (count.facts, true.facts),
        "keys": (sorted(count.stats), sorted([*true.stats, *measured, *["events_every_step"] * bool(repeats)])),
        "steps": (sorted(count.steps), sorted(key for key in measured if key in IN_STEPS)),
        "spread": (sorted(count.spread), sorted(key for key in measured if key in SPREAD)),
    }
    for key, (told, is_) in facts.items():
        if told != is_:
            yield f"{key} {str(told)[:80]}, the graph has {str(is_)[:80]}"
            return
    for key, stat in true.stats.items():
        if count.stats[key] != stat:
            yield f"{key} is not {stat.high} in each of {samples} samples"
    bounds = {
        "input_nonzeros": row.static.get("input_elements", 0),
        "events": row.static.get("max_events", 0),
        "spikes": row.static.get("neuron_updates", 0),
        "pool_events": _most_pool_events(row),
    }
    for key in measured:
        stat = count.stats[key]
        yield from problems_of_stat(key, stat, samples, whole=key != "event_magnitude")
        if key in bounds and stat.high > bounds[key]:
            yield f"{key} of a sample is {stat.high}, at most {bounds[key]} are possible"
    for key, parts in count.steps.items():
        yield from problems_of_parts(f"{key} at the time steps", parts, row.steps, count.stats[key].total)
    for key, bins in count.spread.items():
        yield from problems_of_spread(key, bins, count.stats[key], samples, row.static[SPREAD[key]])
    if "events" in measured:
        yield from _contradictions(count, repeats, promised=promised)


def _contradictions(count: LayerCount, repeats: int, *, promised: bool) -> Iterator[str]:
    """Events against the quantities that follow from them."""
    events, acs, magnitude = (count.stats[key] for key in ("events", "acs", "event_magnitude"))
    if not _at_most(acs, events):
        yield "acs are more than events"
    if any(a > e for a, e in zip(count.steps["acs"], count.steps["events"], strict=True)):
        yield "acs of a time step are more than its events"
    if count.input_kind == "real" and (acs != Stat(0, 0, 0, 0) or magnitude != events):
        yield "a real input has acs, or an event_magnitude other than events"
    same = acs == magnitude == events and count.steps["acs"] == count.steps["event_magnitude"] == count.steps["events"]
    if promised and count.input_kind == "binary" and not same:
        yield "a binary input has acs or an event_magnitude other than events"
    if promised and not _at_most(events, magnitude):
        yield "event_magnitude is less than events"
    every = Stat(events.total * repeats, events.low * repeats, events.high * repeats, events.squares * repeats**2)
    if repeats and count.stats["events_every_step"] != every:
        yield f"events_every_step is not {repeats} times events"


def _of_network(network: Network, layers: tuple[LayerCount, ...], samples: int) -> Iterator[str]:
    """Sums over the rows against the rows."""
    rows = {key: [x.stats[key] for x in layers if key in x.stats] for key in IN_STEPS}
    totals = {key: sum(stat.total for stat in stats) for key, stats in rows.items() if stats}
    if "events" in totals:
        totals["macs"] = totals["events"] - totals["acs"]
    largest = {key: sum(x.stats[SPREAD[key]].high for x in layers if key in x.stats) for key in SPREAD if rows[key]}
    if network.stats.keys() != totals.keys() or network.spread.keys() != largest.keys():
        yield f"{sorted(network.stats)}, spread of {sorted(network.spread)}; the layers have {sorted(totals)}"
        return
    for key, stat in network.stats.items():
        yield from problems_of_stat(key, stat, samples, whole=key != "event_magnitude")
        if abs(stat.total - totals[key]) > (0 if isinstance(totals[key], int) else 1e-9 * totals[key]):
            yield f"{key} are {stat.total}, the layers add up to {totals[key]}"
        low, high = (sum(getattr(s, end) for s in rows.get(key, ())) for end in ("low", "high"))
        if key in rows and not low <= stat.low <= stat.high <= high:
            yield f"{key} of a sample are {stat.low} to {stat.high}, the layers have {low} to {high}"
    for key, bins in network.spread.items():
        yield from problems_of_spread(key, bins, network.stats[key], samples, int(largest[key]))


def _at_most(small: Stat, large: Stat) -> bool:
    return all(getattr(small, key) <= getattr(large, key) for key in ("total", "low", "high", "squares"))


def _most_pool_events(row: Row) -> int:
    most = 0
    for layer in row.layers:
        elements = layer.static.get("input_elements", 0)
        most += elements if layer.fanout is None else int(layer.fanout.sum()) * (elements // layer.inner)
    return most
