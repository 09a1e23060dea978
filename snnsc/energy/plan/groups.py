"""Rows of the report out of the layers of a plan: the nodes of a graph unrolled over time that share a row are one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from snnsc.energy.counting.counts import IN_STEPS, SPREAD, LayerCount, Network, Stat, histogram, numbers
from snnsc.energy.plan.layer import Layer

Measured = Mapping[str, np.ndarray]
"""Quantity -> [T, B], float64 holding integers."""
_NOT_STATS = ("weights", "repeats")


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        members: Indices of its layers in the plan.
        layers: Those layers; the first speaks for all.
    """

    members: tuple[int, ...]
    layers: tuple[Layer, ...]

    @property
    def first(self) -> Layer:
        """The layer that tells what all have in common."""
        return self.layers[0]

    @cached_property
    def static(self) -> dict[str, int]:
        """Counts per sample that follow from shapes and weights, of all members together."""
        keys = dict.fromkeys(key for layer in self.layers for key in layer.static if key not in _NOT_STATS)
        return {key: sum(layer.static.get(key, 0) for layer in self.layers) for key in keys}

    @property
    def repeats(self) -> int:
        """How often hardware repeats a layer that the graph runs once; 0 if it does not."""
        return self.first.static.get("repeats", 0) if len(self.layers) == 1 else 0

    @cached_property
    def steps(self) -> int:
        """Time steps, T."""
        if all(layer.step is None for layer in self.layers):
            return max(layer.static["time_steps"] for layer in self.layers)
        return 1 + max(layer.step or 0 for layer in self.layers)

    @cached_property
    def facts(self) -> dict[str, object]:
        """What is known of the form of the first layer, as JSON has it."""
        facts: dict[str, object] = json.loads(json.dumps(asdict(self.first.facts)))
        return facts

    def empty(self, samples: int) -> LayerCount:
        """The row over some samples, without what only samples tell."""
        layer = self.first
        stats = {key: Stat.constant(value, samples) for key, value in self.static.items()}
        unit = None if layer.kind.unit is None else float(layer.kind.unit)
        weights = layer.static.get("weights", 0)
        return LayerCount(layer.group, layer.op, layer.kind.name, unit, weights, stats, facts=self.facts)

    def measured(self, found: Sequence[Measured]) -> dict[str, np.ndarray]:
        """What samples tell of all members, out of what they tell of each layer of the plan."""
        sums: dict[str, np.ndarray] = {}
        for index, layer in zip(self.members, self.layers, strict=True):
            for quantity, values in _completed(layer, found[index]).items():
                total = sums.setdefault(quantity, np.zeros((self.steps, values.shape[1])))
                if layer.step is None:
                    total[: len(values)] += values
                else:
                    total[layer.step] += values.sum(axis=0)
        return sums

    def count(self, measured: Measured, samples: int) -> LayerCount:
        """The row over some samples."""
        row = self.empty(samples)
        totals = {key: values.sum(axis=0) for key, values in measured.items()}
        if self.repeats and "events" in totals:
            totals["events_every_step"] = totals["events"] * self.repeats
        row.stats.update({key: Stat.of(values) for key, values in totals.items()})
        row.steps.update({key: tuple(numbers(measured[key].sum(axis=1))) for key in IN_STEPS if key in measured})
        for key, largest in SPREAD.items():
            if key in totals:
                row.spread[key] = histogram(totals[key], self.static[largest])
        return row


def make_rows(layers: Iterable[Layer]) -> tuple[Row, ...]:
    """The rows of a plan, each where its first layer stands."""
    groups: dict[str, list[tuple[int, Layer]]] = {}
    for index, layer in enumerate(layers):
        groups.setdefault(layer.group, []).append((index, layer))
    return tuple(Row(tuple(i for i, _ in found), tuple(layer for _, layer in found)) for found in groups.values())


def count_rows(rows: Sequence[Row], found: Sequence[Measured], samples: int) -> tuple[tuple[LayerCount, ...], Network]:
    """Every row, and the network, over some samples.

    Args:
        rows: The rows of a plan.
        found: What was measured, for each layer of the plan.
        samples: How many, B.
    """
    measured = [row.measured(found) for row in rows]
    layers = tuple(row.count(each, samples) for row, each in zip(rows, measured, strict=True))
    return layers, _network(rows, measured)


def _network(rows: Sequence[Row], measured: Sequence[Measured]) -> Network:
    """Sums over the rows, sample by sample."""
    totals: dict[str, np.ndarray] = {}
    for key in IN_STEPS:
        if having := [each[key].sum(axis=0) for each in measured if key in each]:
            totals[key] = np.sum(having, axis=0)
    if "events" in totals:
        totals["macs"] = totals["events"] - totals["acs"]
    spread = {}
    for key, bound in SPREAD.items():
        if key in totals:
            largest = sum(row.static[bound] for row, each in zip(rows, measured, strict=True) if key in each)
            spread[key] = histogram(totals[key], largest)
    return Network({key: Stat.of(values) for key, values in totals.items()}, spread)


def _completed(layer: Layer, found: Measured) -> dict[str, np.ndarray]:
    """The measured quantities of one layer, and those that follow from them."""
    measured = dict(found)
    if "events" in measured:
        events = measured["events"]
        measured.setdefault("acs", events if layer.kind.name == "binary" else np.zeros_like(events))
        measured.setdefault("event_magnitude", events)
    return measured
