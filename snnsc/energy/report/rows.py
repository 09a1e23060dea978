"""One layer, and all layers together, as plain values per sample: the rows that every form of the report shows."""

from __future__ import annotations

from collections.abc import Mapping

from snnsc.energy.counting.counts import BINS, MEASURED, SPREAD, Counts, LayerCount, Stat
from snnsc.energy.pricing.formulas import chip_events, measured

Value = float | str | None
Row = dict[str, object]
_SUMMED = ("macs", "acs", "events", "event_magnitude", "pool_events", "spikes")
_COUNTED = ("dense_macs", "ann_macs", "max_events", "neuron_updates", "bias_adds", "residual_adds")
_DERIVED = ("weight_reads", "membrane_reads", "membrane_writes", "macs_every_step")


def layer_row(layer: LayerCount, counts: Counts) -> Row:
    """A row of `layers`; its keys are told in `report.Report`."""
    stats, samples = layer.stats, counts.samples

    def mean(key: str) -> float | None:
        if key in stats:
            return stats[key].total / (samples or 1)
        bound = key in _COUNTED or not _measures(layer, key)
        unknown = "dense_macs" in stats if key == "ann_macs" else samples == 0 and not bound
        return None if unknown else 0.0

    row: Row = {"name": layer.name, "op": layer.op, "input_kind": layer.input_kind}
    row["input_unit"] = layer.unit
    row["time_steps"] = mean("time_steps")
    row |= {key: mean(key) for key in (*_COUNTED, "events", "acs", "event_magnitude", "pool_events", "spikes")}
    events, acs, updates = mean("events"), mean("acs"), mean("neuron_updates") or 0.0
    macs = None if events is None or acs is None else events - acs
    row["macs"] = macs
    row["macs_every_step"] = macs and macs * (_share(stats, "events_every_step", "events") or 1)
    row["weight_reads"] = events
    membrane = 0.0 if not counts.spiking else None if events is None else events + updates
    row["membrane_reads"] = row["membrane_writes"] = membrane
    row["firing_rate"] = _share(stats, "spikes", "neuron_updates")
    row["input_density"] = _share(stats, "input_nonzeros", "input_elements")
    for key in ("events", "spikes"):
        row[f"{key}_min"] = stats[key].low if key in stats else None
        row[f"{key}_max"] = stats[key].high if key in stats else None
    row["weights"] = layer.weights
    row["std"] = _deviations(stats, samples)
    row["steps"] = {key: [value / samples for value in values] for key, values in layer.steps.items() if samples}
    row["spread"] = _histograms(stats, layer.spread)
    row["facts"] = dict(layer.facts)
    return row


def total_row(rows: list[Row]) -> dict[str, float | None]:
    """The rows summed key by key; None where one of them is not known."""
    totals: dict[str, float | None] = {}
    for key in (*_COUNTED, *_SUMMED, *_DERIVED):
        values = [value for row in rows if isinstance(value := row[key], int | float)]
        totals[key] = sum(map(float, values)) if len(values) == len(rows) else None
    return totals


def chip_row(counts: Counts) -> dict[str, float] | None:
    """What chips are charged for, of all rows together; None without samples, or without neurons."""
    if not counts.samples or not counts.spiking:
        return None
    works = [measured(layer, counts.samples) for layer in counts.layers]
    events = [chip_events(work) for work in works]
    return {
        "spike_events": sum(spikes for spikes, _ in events),
        "real_events": sum(real for _, real in events),
        "neuron_updates": sum(work.updates for work in works),
        "spikes": sum(work.spikes for work in works),
    }


def network_row(counts: Counts) -> Row:
    """The whole network over the samples: mean, deviation and extremes of the sums over its layers."""
    network, samples = counts.network, counts.samples
    quantities = {
        key: {"mean": stat.total / samples, "std": stat.std(samples), "min": stat.low, "max": stat.high}
        for key, stat in network.stats.items()
        if samples
    }
    firing = quantities.get("spikes")
    updates = sum(layer.stats["neuron_updates"].total for layer in counts.layers if "neuron_updates" in layer.stats)
    rate = None
    if firing is not None and updates:
        rate = {key: value * samples / updates for key, value in firing.items()}
    return {**quantities, "firing_rate": rate, "spread": _histograms(_largest(counts), network.spread)}


def _largest(counts: Counts) -> dict[str, Stat]:
    """The largest possible value of each quantity with a histogram, summed over the layers."""
    found: dict[str, Stat] = {}
    for layer in counts.layers:
        for key in SPREAD.values():
            if key in layer.stats:
                found[key] = Stat(0, 0, found.get(key, Stat(0, 0, 0)).high + layer.stats[key].high)
    return found


def _histograms(stats: Mapping[str, Stat], spread: Mapping[str, tuple[int, ...]]) -> Row:
    """Each histogram with the range that its equal bins share out."""
    return {
        key: {"from": 0, "to": stats[SPREAD[key]].high, "samples": list(bins)}
        for key, bins in spread.items()
        if len(bins) == BINS
    }


def _deviations(stats: Mapping[str, Stat], samples: int) -> Row:
    return {key: stats[key].std(samples) for key in MEASURED if key in stats and samples}


def _measures(layer: LayerCount, key: str) -> bool:
    """Whether the row would have this quantity if samples were run."""
    if key == "spikes":
        return "neuron_updates" in layer.stats
    if key == "pool_events":
        return "input_elements" in layer.stats and "dense_macs" not in layer.stats
    return "dense_macs" in layer.stats


def _share(stats: Mapping[str, Stat], part: str, whole: str) -> float | None:
    if part not in stats or whole not in stats:
        return None
    total = stats[whole].total
    return stats[part].total / total if total else None
