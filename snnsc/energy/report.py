"""The energy report: what `snnsc energy` prints and what `--json` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snnsc.energy.counting import count, dense
from snnsc.energy.counts import Counts, LayerCount, Stat
from snnsc.energy.embedded import read_embedded
from snnsc.energy.graph import STATISTICS_KEY, read_graph
from snnsc.energy.inputs import load_inputs
from snnsc.energy.pricing import Price, price

Value = float | str | None
_MEASURED = ("macs", "acs", "events", "event_magnitude", "pool_events", "spikes")
_COUNTED = ("dense_macs", "ann_macs", "max_events", "neuron_updates", "bias_adds", "residual_adds")
_DERIVED = ("weight_reads", "membrane_reads", "membrane_writes", "macs_every_step")


@dataclass(frozen=True)
class Report:
    """Counts and prices of one model; per sample, means over the samples.

    Keys of a row in `layers`, all per sample and over all time steps together:

        name, op            node name; ONNX operator, or the kind of neuron
        input_kind          real, binary, integer, scaled (see `kinds`); of the output for a neuron row
        input_unit          what integer and scaled inputs are multiples of; null for real
        time_steps          how often the layer runs: T, or 1 where it stands before (or after) the time axis
        dense_macs          output elements x weights that one output meets, padding included, as the graph runs it
        ann_macs            dense_macs of one time step: the layer in the ANN twin. Where a layer has weights of its
                            own at every time step, it is a row for each, and only the first has ann_macs
        max_events          events if every input element were nonzero: exact fan-out, borders and zero weights left out
        events              pairs of a nonzero input element and a nonzero weight it meets
        acs, macs           events that are additions, events that need a multiplication; acs + macs = events.
                            binary input: all acs; real: all macs; integer and scaled: an element of +-1 unit is an
                            addition, any other a multiplication
        event_magnitude     sum over events of the integer value: additions if integers are sent as unit spikes.
                            For real inputs it is `events`, as a real number cannot be unrolled
        macs_every_step     macs if a layer before the first neurons, which the graph runs once, ran at every step;
                            equals macs elsewhere
        input_density       share of nonzero input elements; null for rows without an input of their own
        bias_adds           additions of a nonzero bias
        residual_adds       additions of one varying value to another, element by element
        pool_events         pairs of a nonzero input element and a pooling window that holds it
        neuron_updates      neurons x time steps; each is one compare, one add, and one multiplication if it leaks
        spikes              ones in the output of a neuron row (each one reset)
        firing_rate         spikes / neuron_updates; null for other rows
        weight_reads        one for each event
        membrane_reads, membrane_writes   one for each event and one for each neuron update (arXiv 2210.13107); 0
                            in a graph without neurons
        events_min, events_max, spikes_min, spikes_max   of the samples

    `totals` sums the rows key by key. Without samples (`source` is "none") everything measured is null, and
    `max_events` and `snn_pj_bound` bound it from above. Clip, Relu, casts and moves of data cost nothing here.

    Attributes:
        source: `embedded`, the file of the inputs, or `none`.
        counts: The counts, exact.
        prices: One a price model.
    """

    source: str
    counts: Counts
    prices: tuple[Price, ...]

    def to_dict(self) -> dict[str, object]:
        """The `--json` contract; keys are only ever added."""
        rows = [_row(layer, self.counts) for layer in self.counts.layers]
        return {
            "samples": self.counts.samples,
            "source": self.source,
            "split": self.counts.split,
            "layers": rows,
            "totals": _totals(rows),
            "energy": [_energy(entry) for entry in self.prices],
            "not_counted": list(self.counts.not_counted),
            "violations": list(self.counts.violations),
        }


def estimate(
    model: Path, inputs: Path | None = None, *, models: Sequence[str] | None = None, dt: float | None = None
) -> Report:
    """Count and price a model.

    With `inputs` the counts are measured on them. Else the statistics that the model carries are used. Else only
    dense counts and bounds are given.

    Args:
        model: An ONNX file, or a NIR file.
        inputs: Samples, see `load_inputs`.
        models: Names of price models; all if not told.
        dt: Time step of a NIR file in seconds; default as `snnsc.nir.lower` says.

    Raises:
        ModelFileError: The model cannot be read or run.
        DataError: The samples cannot be read, or do not fit.
        RecipeError: No price model has that name, or `dt` does not fit.
    """
    graph = read_graph(model, dt=dt)
    if inputs is not None:
        counts, source = count(graph, load_inputs(inputs, graph)), str(inputs)
    elif STATISTICS_KEY in graph.metadata:
        counts, source = read_embedded(graph), "embedded"
    else:
        counts, source = dense(graph), "none"
    return Report(source, counts, tuple(price(counts, models)))


def _row(layer: LayerCount, counts: Counts) -> dict[str, Value]:
    stats, samples = layer.stats, counts.samples

    def mean(key: str) -> float | None:
        if key in stats:
            return stats[key].total / (samples or 1)
        return None if samples == 0 and _measures(layer, key) else 0.0

    row: dict[str, Value] = {"name": layer.name, "op": layer.op, "input_kind": layer.input_kind}
    row["input_unit"] = layer.unit
    row["time_steps"] = mean("time_steps")
    row |= {key: mean(key) for key in (*_COUNTED, "events", "acs", "event_magnitude", "pool_events", "spikes")}
    events, acs, updates = mean("events"), mean("acs"), mean("neuron_updates") or 0.0
    row["macs"] = None if events is None or acs is None else events - acs
    row["macs_every_step"] = mean("events_every_step") if "events_every_step" in stats else row["macs"]
    row["weight_reads"] = events
    membrane = 0.0 if not counts.spiking else None if events is None else events + updates
    row["membrane_reads"] = row["membrane_writes"] = membrane
    row["firing_rate"] = _share(stats, "spikes", "neuron_updates")
    row["input_density"] = _share(stats, "input_nonzeros", "input_elements")
    for key in ("events", "spikes"):
        row[f"{key}_min"] = stats[key].low if key in stats else None
        row[f"{key}_max"] = stats[key].high if key in stats else None
    return row


def _measures(layer: LayerCount, key: str) -> bool:
    """Whether the row would have this quantity if samples were run."""
    if key == "spikes":
        return "neuron_updates" in layer.stats
    if key == "pool_events":
        return "input_elements" in layer.stats and "dense_macs" not in layer.stats
    return "dense_macs" in layer.stats


def _share(stats: dict[str, Stat], part: str, whole: str) -> float | None:
    if part not in stats or whole not in stats:
        return None
    total = stats[whole].total
    return stats[part].total / total if total else None


def _totals(rows: list[dict[str, Value]]) -> dict[str, float | None]:
    totals: dict[str, float | None] = {}
    for key in (*_COUNTED, *_MEASURED, *_DERIVED):
        values = [row[key] for row in rows]
        totals[key] = None if any(v is None for v in values) else sum(float(v) for v in values if v is not None)
    return totals


def _energy(entry: Price) -> dict[str, object]:
    target = entry.target
    terms = {"mac_pj": entry.mac_pj, "ac_pj": entry.ac_pj, "neuron_pj": entry.neuron_pj}
    constants = {name: vars(q) for name, q in (("multiply", target.multiply), ("add", target.add))}
    return {
        "model": entry.model,
        "snn_pj": entry.snn_pj,
        "ann_pj": entry.ann_pj,
        "ratio": entry.ratio,
        **terms,
        "snn_pj_bound": entry.snn_pj_bound,
        "not_priced": list(entry.not_priced),
        "constants": constants,
    }
