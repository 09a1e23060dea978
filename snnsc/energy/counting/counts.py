"""What was counted, per layer, per sample and per time step; survives a round trip through JSON exactly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from math import sqrt
from operator import add
from typing import TypeVar

import numpy as np

from snnsc.energy.counting.fields import Number, as_count, as_integer, as_list, as_rows, as_table, as_text, refuse
from snnsc.errors import ModelFileError

FORMAT = "2"
BINS = 20
MEASURED = ("events", "acs", "event_magnitude", "input_nonzeros", "pool_events", "spikes")
IN_STEPS = ("events", "acs", "event_magnitude", "pool_events", "spikes")
"""Quantities that `LayerCount.steps` may hold."""
SPREAD = {"events": "max_events", "spikes": "neuron_updates"}
"""Quantities that `LayerCount.spread` may hold, and the largest possible value of each."""

_N = TypeVar("_N", int, Number)


@dataclass(frozen=True)
class Stat:
    """One quantity over the samples.

    Attributes:
        total: Sum over the samples; an exact integer for every count.
        low: Smallest value of one sample.
        high: Largest value of one sample.
        squares: Sum over the samples of the square of the value.
    """

    total: Number
    low: Number
    high: Number
    squares: Number = 0

    @classmethod
    def of(cls, values: np.ndarray) -> Stat:
        """From one value a sample, float64 holding integers below 2^53."""
        found = numbers(values)
        return cls(sum(found), min(found), max(found), sum(n * n for n in found))

    @classmethod
    def constant(cls, value: Number, samples: int) -> Stat:
        """The same value in each sample."""
        return cls(value * samples, value, value, value * value * samples)

    def std(self, samples: int) -> float:
        """Standard deviation of so many samples (divisor n), 0 without any; of integers without cancellation."""
        if not samples:
            return 0.0
        return sqrt(max(samples * self.squares - self.total * self.total, 0)) / samples

    def __add__(self, other: Stat) -> Stat:
        """Over the samples of both."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Stat(self.total + other.total, low, high, self.squares + other.squares)


@dataclass(frozen=True)
class LayerCount:
    """One layer.

    Attributes:
        name: Unique name.
        op: ONNX operator type, or the kind of neuron.
        input_kind: `real`, `binary`, `integer`, `scaled`; of the output for a neuron layer.
        unit: What a scaled input is an integer multiple of, e.g. 1/4; None for real.
        weights: Nonzero weights.
        stats: Quantity -> per-sample total, minimum, maximum, squares. Without samples the measured ones are absent.
        steps: Quantity (of `IN_STEPS`) -> sum over the samples at each time step; its sum is the total of `stats`.
        spread: Quantity (of `SPREAD`) -> histogram over the samples: how many lie in each of 20 equal bins from 0 to
            the largest value possible, bin = floor(20 value / largest), the last bin closed.
        facts: What is known of the layer's form, see `layer.LayerFacts`; as JSON has it, tuples as lists.
    """

    name: str
    op: str
    input_kind: str
    unit: float | None
    weights: int
    stats: dict[str, Stat] = field(default_factory=dict)
    steps: dict[str, tuple[Number, ...]] = field(default_factory=dict)
    spread: dict[str, tuple[int, ...]] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)

    def merge(self, other: LayerCount) -> LayerCount:
        """Over the samples of both; `facts` are those of the first, also where inputs are of several sizes."""
        return LayerCount(
            *(self.name, self.op, self.input_kind, self.unit, self.weights),
            _merge_stats(self.stats, other.stats),
            _merge_sums(self.steps, other.steps),
            _merge_sums(self.spread, other.spread),
            self.facts,
        )

    def absent(self, samples: int) -> LayerCount:
        """The row over samples that do not run it."""
        return replace(
            self,
            stats={key: Stat.constant(0, samples) for key in self.stats},
            steps={key: (0,) * len(numbers) for key, numbers in self.steps.items()},
            spread={key: (samples, *[0] * (BINS - 1)) for key in self.spread},
        )


@dataclass(frozen=True)
class Network:
    """All rows together, sample by sample: the extremes of sums, not sums of extremes.

    Attributes:
        stats: Quantity -> statistics of its sum over the rows; `macs` is events - acs.
        spread: As in `LayerCount`; the largest possible value is the sum of the rows'.
    """

    stats: dict[str, Stat] = field(default_factory=dict)
    spread: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def merge(self, other: Network, samples: int, others: int) -> Network:
        """Over the samples of both, so many each; a quantity that one lacks, as a branch may, is 0 in its samples."""
        stats = {
            key: self.stats.get(key, Stat.constant(0, samples)) + other.stats.get(key, Stat.constant(0, others))
            for key in self.stats | other.stats
        }
        first, second = ((n, *[0] * (BINS - 1)) for n in (samples, others))
        spread = {
            key: tuple(map(add, self.spread.get(key, first), other.spread.get(key, second)))
            for key in self.spread | other.spread
        }
        return Network(stats, spread)


@dataclass(frozen=True)
class Counts:
    """All layers of one graph.

    Attributes:
        samples: How many samples were run; 0 for dense counts without any.
        layers: One row a layer, in execution order.
        split: Name of the data split the samples came from; empty if not told.
        not_counted: Compute-bearing operators without a row: op, reason, count, nodes.
        violations: Values that are not of the kind that the graph promises: value, kind, samples, elements.
        graph: Digest of the graph that was counted, see `graph.Graph`.
        network: Of the whole network; empty without samples.
    """

    samples: int
    layers: tuple[LayerCount, ...]
    split: str = ""
    not_counted: tuple[dict[str, object], ...] = ()
    violations: tuple[dict[str, object], ...] = ()
    graph: str = ""
    network: Network = Network()

    @cached_property
    def spiking(self) -> bool:
        """Whether any layer is a neuron layer."""
        return any("neuron_updates" in layer.stats for layer in self.layers)

    def to_json(self) -> str:
        """The text for the `snnsc.statistics` metadata of an exported model."""
        body: dict[str, object] = {"format": FORMAT, "samples": self.samples, "split": self.split, "graph": self.graph}
        body["layers"] = [{**asdict(layer), "stats": _lists(layer.stats)} for layer in self.layers]
        body["network"] = {"stats": _lists(self.network.stats), "spread": self.network.spread}
        return json.dumps({**body, "not_counted": self.not_counted, "violations": self.violations})

    @classmethod
    def from_json(cls, text: str, source: str = "statistics") -> Counts:
        """Read what `to_json` wrote; whether it fits a graph is for `embedded` to tell.

        Raises:
            ModelFileError: The text is damaged or of another format.
        """
        try:
            body = as_table(json.loads(text), "the text")
            if body["format"] != FORMAT:
                found = repr(body["format"])[:40]
                msg = f"{source}: statistics have format {found}, this version reads {FORMAT!r}; give --inputs"
                raise ModelFileError(msg)
            samples = as_integer(body["samples"], "samples")
            if samples < 1:
                refuse("samples", samples)
            return cls(
                samples,
                tuple(_layer(row) for row in as_rows(body["layers"], "layers")),
                as_text(body["split"], "split"),
                tuple(_missing(row) for row in as_rows(body["not_counted"], "not_counted")),
                tuple(_violation(row) for row in as_rows(body["violations"], "violations")),
                as_text(body["graph"], "graph"),
                _network(as_table(body["network"], "network")),
            )
        except KeyError as error:
            problem = f"key {error} is missing"
        except (ValueError, RecursionError) as error:
            problem = " ".join(str(error).split())[:200]
        msg = f"{source}: embedded statistics are damaged ({problem}); export the model again or give --inputs"
        raise ModelFileError(msg)


def merge_layers(parts: Iterable[tuple[int, tuple[LayerCount, ...]]]) -> tuple[LayerCount, ...]:
    """Add up the layers of several batches, row by row.

    Args:
        parts: Samples and rows of each. A row that a part lacks, as of a branch not taken, is 0 in its samples.
    """
    merged: dict[str, LayerCount] = {}
    before = 0
    for samples, rows in parts:
        found = {row.name: row for row in rows}
        for name, row in (merged | found).items():
            one = merged.get(name) or row.absent(before)
            merged[name] = one.merge(found.get(name) or row.absent(samples)) if before else row
        before += samples
    return tuple(merged.values())


def numbers(values: np.ndarray) -> list[Number]:
    """Float64 as integers, where they are."""
    return [int(value) if value.is_integer() else value for value in values.tolist()]


def histogram(values: np.ndarray, largest: int) -> tuple[int, ...]:
    """How many values lie in each of `BINS` equal bins from 0 to the largest possible one.

    Args:
        values: One a sample, float64 holding integers.
        largest: Of one sample.
    """
    bins = np.minimum(BINS * values.astype(np.int64) // min(max(largest, 1), 2**62), BINS - 1)
    return tuple(np.bincount(bins, minlength=BINS).tolist())


def bin_of(value: int, largest: int) -> int:
    """The bin of one value."""
    return min(BINS * value // max(largest, 1), BINS - 1)


def _merge_stats(one: Mapping[str, Stat], other: Mapping[str, Stat]) -> dict[str, Stat]:
    return {key: one[key] + other[key] for key in one if key in other}


def _merge_sums(one: Mapping[str, tuple[_N, ...]], other: Mapping[str, tuple[_N, ...]]) -> dict[str, tuple[_N, ...]]:
    """Position by position; what one has no value for is 0: batches may have more time steps than others."""
    both = {key: zip_longest(one[key], other[key], fillvalue=0) for key in one if key in other}
    return {key: tuple(a + b for a, b in pairs) for key, pairs in both.items()}


def _lists(stats: Mapping[str, Stat]) -> dict[str, list[Number]]:
    return {key: [s.total, s.low, s.high, s.squares] for key, s in stats.items()}


def _layer(row: dict[str, object]) -> LayerCount:
    name = as_text(row["name"], "name")
    where = f"layer {name[:60]!r}"
    unit = row["unit"]
    return LayerCount(
        name=name,
        op=as_text(row["op"], f"op of {where}"),
        input_kind=as_text(row["input_kind"], f"input_kind of {where}"),
        unit=None if unit is None else float(as_count(unit, f"unit of {where}")),
        weights=as_integer(row["weights"], f"weights of {where}"),
        stats=_stats(row["stats"], where),
        steps={
            key: tuple(as_count(n, f"steps of {where}") for n in as_list(numbers, f"steps of {where}"))
            for key, numbers in as_table(row["steps"], f"steps of {where}").items()
        },
        spread=_spread(row["spread"], where),
        facts=as_table(row["facts"], f"facts of {where}"),
    )


def _network(row: dict[str, object]) -> Network:
    return Network(_stats(row["stats"], "network"), _spread(row["spread"], "network"))


def _stats(value: object, where: str) -> dict[str, Stat]:
    stats = {}
    for key, numbers in as_table(value, where).items():
        place = f"{key[:40]} of {where}"
        if len(as_list(numbers, place)) != 4:
            refuse(place, numbers)
        stats[key] = Stat(*(as_count(number, place) for number in as_list(numbers, place)))
    return stats


def _spread(value: object, where: str) -> dict[str, tuple[int, ...]]:
    place = f"spread of {where}"
    table = as_table(value, place)
    return {key: tuple(as_integer(n, place) for n in as_list(bins, place)) for key, bins in table.items()}


def _missing(row: dict[str, object]) -> dict[str, object]:
    texts = [as_text(node, "nodes of not_counted") for node in as_list(row["nodes"], "nodes of not_counted")]
    op, reason = as_text(row["op"], "op of not_counted"), as_text(row["reason"], "reason of not_counted")
    if as_integer(row["count"], "count of not_counted") != len(texts):
        refuse("count of not_counted", row["count"])
    share = {"share": _share(row["share"])} if "share" in row else {}
    return {"op": op, "reason": reason, "count": len(texts), "nodes": texts, **share}


def _share(value: object) -> Number | None:
    return None if value is None else as_count(value, "share of not_counted")


def _violation(row: dict[str, object]) -> dict[str, object]:
    texts = {key: as_text(row[key], f"{key} of violations") for key in ("value", "kind")}
    return {**texts, **{key: as_integer(row[key], f"{key} of violations") for key in ("elements", "samples")}}
