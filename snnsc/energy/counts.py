"""What was counted, per layer and per sample; survives a round trip through JSON exactly."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import numpy as np

from snnsc.errors import ModelFileError

FORMAT = "1"
Number = int | float
MEASURED = ("events", "acs", "event_magnitude", "input_nonzeros", "pool_events", "spikes")


@dataclass(frozen=True)
class Stat:
    """One quantity over the samples.

    Attributes:
        total: Sum over the samples; an exact integer for every count.
        low: Smallest value of one sample.
        high: Largest value of one sample.
    """

    total: Number
    low: Number
    high: Number

    @classmethod
    def of(cls, values: np.ndarray) -> Stat:
        """From one value a sample, float64 holding integers below 2^53."""
        return cls(_number(values.sum()), _number(values.min()), _number(values.max()))

    def __add__(self, other: Stat) -> Stat:
        """Over the samples of both."""
        return Stat(self.total + other.total, min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class LayerCount:
    """One layer.

    Attributes:
        name: Unique name.
        op: ONNX operator type, or the kind of neuron.
        input_kind: `real`, `binary`, `integer`, `scaled`; of the output for a neuron layer.
        unit: What a scaled input is an integer multiple of, e.g. 1/4; None for real.
        weights: Nonzero weights.
        stats: Quantity -> per-sample total, minimum, maximum. Without samples the measured ones are absent.
    """

    name: str
    op: str
    input_kind: str
    unit: float | None
    weights: int
    stats: dict[str, Stat] = field(default_factory=dict)

    def merge(self, other: LayerCount) -> LayerCount:
        """Over the samples of both."""
        keys = self.stats.keys() & other.stats.keys()
        stats = {k: self.stats[k] + other.stats[k] for k in self.stats if k in keys}
        return LayerCount(self.name, self.op, self.input_kind, self.unit, self.weights, stats)


@dataclass(frozen=True)
class Counts:
    """All layers of one graph.

    Attributes:
        samples: How many samples were run; 0 for dense counts without any.
        layers: One row a layer, in execution order.
        split: Name of the data split the samples came from; empty if not told.
        not_counted: Compute-bearing operators without a row: op, reason, count, nodes.
        violations: Values that are not of the kind that the graph promises: value, kind, samples, elements.
    """

    samples: int
    layers: tuple[LayerCount, ...]
    split: str = ""
    not_counted: tuple[dict[str, object], ...] = ()
    violations: tuple[dict[str, object], ...] = ()

    @property
    def spiking(self) -> bool:
        """Whether any layer is a neuron layer."""
        return any("neuron_updates" in layer.stats for layer in self.layers)

    def to_json(self) -> str:
        """The text for the `snnsc.statistics` metadata of an exported model."""
        layers = []
        for layer in self.layers:
            stats = {key: [s.total, s.low, s.high] for key, s in layer.stats.items()}
            layers.append({**asdict(layer), "stats": stats})
        body = {"format": FORMAT, "samples": self.samples, "split": self.split, "layers": layers}
        return json.dumps({**body, "not_counted": self.not_counted, "violations": self.violations})

    @classmethod
    def from_json(cls, text: str, source: str = "statistics") -> Counts:
        """Read what `to_json` wrote.

        Raises:
            ModelFileError: The text is damaged or of another format.
        """
        try:
            body = json.loads(text)
            if body["format"] != FORMAT:
                msg = (
                    f"{source}: statistics have format {body['format']!r}, this version reads {FORMAT!r}; give --inputs"
                )
                raise ModelFileError(msg)
            layers = tuple(_layer(row) for row in body["layers"])
            samples, split = int(body["samples"]), str(body["split"])
            not_counted, violations = tuple(map(dict, body["not_counted"])), tuple(map(dict, body["violations"]))
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{source}: embedded statistics are damaged ({error!r}); export the model again or give --inputs"
            raise ModelFileError(msg) from error
        if samples < 1:
            msg = f"{source}: embedded statistics were measured on no samples; export the model again or give --inputs"
            raise ModelFileError(msg)
        return cls(samples, layers, split, not_counted, violations)


def merge_layers(parts: Iterable[tuple[LayerCount, ...]]) -> tuple[LayerCount, ...]:
    """Add up the layers of several batches, row by row."""
    merged: tuple[LayerCount, ...] = ()
    for part in parts:
        merged = tuple(a.merge(b) for a, b in zip(merged, part, strict=True)) if merged else part
    return merged


def _layer(row: dict[str, object]) -> LayerCount:
    stats = row["stats"]
    if not isinstance(stats, dict):
        msg = "stats"
        raise TypeError(msg)
    unit = row["unit"]
    return LayerCount(
        name=str(row["name"]),
        op=str(row["op"]),
        input_kind=str(row["input_kind"]),
        unit=None if unit is None else float(str(unit)),
        weights=int(str(row["weights"])),
        stats={str(k): Stat(*map(_checked, v)) for k, v in stats.items()},
    )


def _checked(value: object) -> Number:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        msg = f"{value!r} is not a count"
        raise ValueError(msg)
    return value


def _number(value: np.floating) -> Number:
    number = float(value)
    return int(number) if number.is_integer() else number
