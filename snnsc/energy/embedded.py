"""The statistics that a model carries: used only if they are of this very graph, and can be true."""

from __future__ import annotations

from collections.abc import Iterator

from snnsc.energy.counting import plan_without_samples
from snnsc.energy.counts import Counts, LayerCount, Number, Stat
from snnsc.energy.graph import STATISTICS_KEY, Graph
from snnsc.energy.layers import Layer
from snnsc.energy.plan import Plan
from snnsc.errors import ModelFileError

_BY_ROLE = {
    "events": ("input_nonzeros", "events", "acs", "event_magnitude"),
    "pool": ("input_nonzeros", "pool_events"),
    "spikes": ("spikes",),
    "": (),
}
_NOT_STATS = ("weights", "repeats")


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
    if [(row.name, row.op) for row in counts.layers] != [(layer.name, layer.op) for layer in plan.layers]:
        yield f"it has {len(plan.layers)} layers with other names, they tell of {len(counts.layers)}"
        return
    told = sorted((group["op"], name) for group in counts.not_counted for name in _names(group))
    if told != sorted((item.op, item.name) for item in plan.missing):
        yield "not_counted names other nodes"
    for entry in counts.violations:
        root, samples = plan.roots.get(str(entry["value"])), entry["samples"]
        if root is None or root.name != entry["kind"] or not isinstance(samples, int) or samples > counts.samples:
            yield f"violation of {str(entry['value'])[:60]!r}"
    for row, layer in zip(counts.layers, plan.layers, strict=True):
        for problem in _misfits(row, layer, counts.samples, promised=not counts.violations):
            yield f"layer {row.name[:60]!r}: {problem}"


def _names(group: dict[str, object]) -> list[str]:
    nodes = group["nodes"]
    assert isinstance(nodes, list)
    return nodes


def _misfits(row: LayerCount, layer: Layer, samples: int, *, promised: bool) -> Iterator[str]:
    """What cannot be true of one row; `promised` if every value was of its kind."""
    unit = None if layer.kind.unit is None else float(layer.kind.unit)
    static = {key: value for key, value in layer.static.items() if key not in _NOT_STATS}
    repeats = layer.static.get("repeats", 0)
    facts: dict[str, tuple[object, object]] = {
        "input_kind": (row.input_kind, layer.kind.name),
        "unit": (row.unit, unit),
        "weights": (row.weights, layer.static.get("weights", 0)),
        "keys": (sorted(row.stats), sorted([*static, *_BY_ROLE[layer.role], *["events_every_step"] * bool(repeats)])),
    }
    for key, (told, true) in facts.items():
        if told != true:
            yield f"{key} {str(told)[:80]}, the graph has {str(true)[:80]}"
            return
    for key, value in static.items():
        if row.stats[key] != Stat(value * samples, value, value):
            yield f"{key} is not {value} in each of {samples} samples"
    for key in _BY_ROLE[layer.role]:
        yield from _not_a_sum(key, row.stats[key], samples)
    bounds = {
        "input_nonzeros": static.get("input_elements", 0),
        "events": static.get("max_events", 0),
        "spikes": static.get("neuron_updates", 0),
        "pool_events": _most_pool_events(layer),
    }
    for key, most in bounds.items():
        if key in row.stats and row.stats[key].high > most:
            yield f"{key} of a sample is {row.stats[key].high}, at most {most} are possible"
    if layer.role == "events":
        yield from _contradictions(row, repeats, promised=promised)


def _contradictions(row: LayerCount, repeats: int, *, promised: bool) -> Iterator[str]:
    """Events against the quantities that follow from them."""
    events, acs, magnitude = (row.stats[key] for key in ("events", "acs", "event_magnitude"))
    if not _at_most(acs, events):
        yield "acs are more than events"
    if row.input_kind == "real" and (acs != Stat(0, 0, 0) or magnitude != events):
        yield "a real input has acs, or an event_magnitude other than events"
    if promised and row.input_kind == "binary" and not acs == magnitude == events:
        yield "a binary input has acs or an event_magnitude other than events"
    if promised and not _at_most(events, magnitude):
        yield "event_magnitude is less than events"
    if repeats and row.stats["events_every_step"] != Stat(
        *(n * repeats for n in (events.total, events.low, events.high))
    ):
        yield f"events_every_step is not {repeats} times events"


def _at_most(small: Stat, large: Stat) -> bool:
    return small.total <= large.total and small.low <= large.low and small.high <= large.high


def _not_a_sum(key: str, stat: Stat, samples: int) -> Iterator[str]:
    """Whether no samples at all have this sum, smallest and largest value."""
    total, low, high = stat.total, stat.low, stat.high
    if not all(isinstance(n, int) for n in (total, low, high)) and key != "event_magnitude":
        yield f"{key} is not a whole number"
    slack: Number = 0 if isinstance(total, int) else 1e-9 * total
    if low > high or not high + (samples - 1) * low - slack <= total <= low + (samples - 1) * high + slack:
        yield f"{key}: {samples} samples from {low} to {high} do not add up to {total}"


def _most_pool_events(layer: Layer) -> int:
    elements = layer.static.get("input_elements", 0)
    return elements if layer.fanout is None else int(layer.fanout.sum()) * (elements // layer.inner)
