"""What was counted, per layer and per sample; survives a round trip through JSON exactly."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import NoReturn

import numpy as np

from snnsc.errors import ModelFileError

FORMAT = "1"
Number = int | float
_EXACT = 2**53  # of samples and weights
_LARGEST = 2**106  # of a sum of 2^53 exact counts
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
        graph: Digest of the graph that was counted, see `graph.Graph`.
    """

    samples: int
    layers: tuple[LayerCount, ...]
    split: str = ""
    not_counted: tuple[dict[str, object], ...] = ()
    violations: tuple[dict[str, object], ...] = ()
    graph: str = ""

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
        body: dict[str, object] = {"format": FORMAT, "samples": self.samples, "split": self.split, "graph": self.graph}
        body |= {"layers": layers}
        return json.dumps({**body, "not_counted": self.not_counted, "violations": self.violations})

    @classmethod
    def from_json(cls, text: str, source: str = "statistics") -> Counts:
        """Read what `to_json` wrote; whether it fits a graph is for `embedded` to tell.

        Raises:
            ModelFileError: The text is damaged or of another format.
        """
        try:
            body = _table(json.loads(text), "the text")
            if body["format"] != FORMAT:
                found = repr(body["format"])[:40]
                msg = f"{source}: statistics have format {found}, this version reads {FORMAT!r}; give --inputs"
                raise ModelFileError(msg)
            samples = _integer(body["samples"], "samples")
            if samples < 1:
                _refuse("samples", samples)
            return cls(
                samples,
                tuple(_layer(row) for row in _rows(body["layers"], "layers")),
                _text(body["split"], "split"),
                tuple(_missing(row) for row in _rows(body["not_counted"], "not_counted")),
                tuple(_violation(row) for row in _rows(body["violations"], "violations")),
                _text(body["graph"], "graph"),
            )
        except KeyError as error:
            problem = f"key {error} is missing"
        except (ValueError, RecursionError) as error:
            problem = " ".join(str(error).split())[:200]
        msg = f"{source}: embedded statistics are damaged ({problem}); export the model again or give --inputs"
        raise ModelFileError(msg)


def merge_layers(parts: Iterable[tuple[LayerCount, ...]]) -> tuple[LayerCount, ...]:
    """Add up the layers of several batches, row by row."""
    merged: tuple[LayerCount, ...] = ()
    for part in parts:
        merged = tuple(a.merge(b) for a, b in zip(merged, part, strict=True)) if merged else part
    return merged


def _layer(row: dict[str, object]) -> LayerCount:
    name = _text(row["name"], "name")
    where = f"layer {name[:60]!r}"
    unit = row["unit"]
    return LayerCount(
        name=name,
        op=_text(row["op"], f"op of {where}"),
        input_kind=_text(row["input_kind"], f"input_kind of {where}"),
        unit=None if unit is None else float(_count(unit, f"unit of {where}")),
        weights=_integer(row["weights"], f"weights of {where}"),
        stats={key: _stat(value, f"{key[:40]} of {where}") for key, value in _table(row["stats"], where).items()},
    )


def _stat(value: object, where: str) -> Stat:
    if not isinstance(value, list) or len(value) != 3:
        _refuse(where, value)
    return Stat(*(_count(number, where) for number in value))


def _missing(row: dict[str, object]) -> dict[str, object]:
    nodes = row["nodes"]
    if not isinstance(nodes, list):
        _refuse("nodes of not_counted", nodes)
    texts = [_text(node, "nodes of not_counted") for node in nodes]
    op, reason = _text(row["op"], "op of not_counted"), _text(row["reason"], "reason of not_counted")
    if _integer(row["count"], "count of not_counted") != len(texts):
        _refuse("count of not_counted", row["count"])
    return {"op": op, "reason": reason, "count": len(texts), "nodes": texts}


def _violation(row: dict[str, object]) -> dict[str, object]:
    texts = {key: _text(row[key], f"{key} of violations") for key in ("value", "kind")}
    return {**texts, **{key: _integer(row[key], f"{key} of violations") for key in ("elements", "samples")}}


def _rows(value: object, where: str) -> list[dict[str, object]]:
    if not isinstance(value, list):
        _refuse(where, value)
    return [_table(row, where) for row in value]


def _table(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        _refuse(where, value)
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        _refuse(where, value)
    return value


def _integer(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _EXACT:
        _refuse(where, value)
    return value


def _count(value: object, where: str) -> Number:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:  # NaN neither
        _refuse(where, value)
    return value


def _refuse(where: str, value: object) -> NoReturn:
    try:
        shown = repr(value)
    except (ValueError, RecursionError):
        shown = type(value).__name__
    msg = f"{where}: {shown[:40]}{'...' if len(shown) > 40 else ''}"
    raise ValueError(msg)


def _number(value: np.floating) -> Number:
    number = float(value)
    return int(number) if number.is_integer() else number
