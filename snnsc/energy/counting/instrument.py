"""Put the counting into the model: big values never leave the runtime, each gives a few numbers a step and sample.

All sums over a value [T*B, inner] are columns of one product with a matrix [inner, columns]: the fan-outs of every row
that reads it. In float32 that is exact while no sum passes 2^24; a fan-out whose sum may is written in digits of a
smaller radix, one column each, and put together in float64. Where that takes too many digits, or nothing bounds the
elements (magnitudes), the product is in float64, exact up to 2^53.

The matrices are fed with the samples, not stored in the model: onnxruntime would pack each to a width of 16 columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper

from snnsc.energy.counting.indicators import PREFIX, Builder
from snnsc.energy.plan.layer import Layer
from snnsc.energy.plan.plan import Plan

_EXACT = 2**24
_MOST_DIGITS = 4


@dataclass(frozen=True)
class Reading:
    """Where a quantity stands among the outputs.

    Attributes:
        output: Output of shape [T*B, columns].
        start: Its first column.
        radix: The columns from there are digits of this radix, the lowest first.
        digits: How many.
        steps: T.
    """

    output: str
    start: int
    radix: int
    digits: int
    steps: int

    def of(self, found: dict[str, np.ndarray]) -> np.ndarray:
        """The quantity, [T, B], float64 holding integers."""
        columns = found[self.output][:, self.start : self.start + self.digits].astype(np.float64)
        value: np.ndarray = columns @ np.power(float(self.radix), np.arange(self.digits))
        return value.reshape(self.steps, -1)


@dataclass(frozen=True)
class Instrumented:
    """A model that also counts.

    Attributes:
        model: The model; its outputs are the counts only.
        weights: What to feed it besides the samples.
        readings: (row index, quantity) -> where it is.
        checks: Checked value -> output name; how many elements are not of their kind, as one number.
    """

    model: onnx.ModelProto
    weights: dict[str, np.ndarray]
    readings: dict[tuple[int, str], Reading]
    checks: dict[str, str]

    @property
    def outputs(self) -> list[str]:
        """Names of all outputs."""
        return list(dict.fromkeys([*(r.output for r in self.readings.values()), *self.checks.values()]))


def instrument(
    model: onnx.ModelProto, plan: Plan, opset: int, *, trust: bool, proven: Mapping[str, int] | None = None
) -> Instrumented:
    """Append the counting nodes of a plan.

    Args:
        model: The model as read.
        plan: What to measure.
        opset: Version of the standard operators in the model.
        trust: Take binary values as 0/1, and only check that. Without trust, every element is looked at: slower,
            and right also where a check fails.
        proven: Values that need no check, and the largest magnitude of each; see `proofs`.
    """
    builder = Builder(opset, plan.dtypes)
    sums = _Sums(builder, proven or {})
    checks = {}
    for value, kind in plan.roots.items():
        if value not in sums.proven:
            wrong = builder.suspicion(value, kind) if trust else builder.misfits(value, kind)
            checks[value] = builder.total(wrong if trust else builder.cast(wrong, TensorProto.DOUBLE))
    readings: dict[tuple[int, str], Reading] = {}
    for index, layer in enumerate(plan.layers):
        if layer.tensor:
            for quantity, reading in _measure(sums, layer, trust=trust).items():
                readings[index, quantity] = reading
    weights = sums.close()
    counted = onnx.ModelProto()
    counted.CopyFrom(model)
    del counted.graph.output[:]
    counted.graph.node.extend(builder.nodes)
    counted.graph.initializer.extend(builder.initializers)
    for name, matrix in weights.items():
        dtype = helper.np_dtype_to_tensor_dtype(matrix.dtype)
        counted.graph.input.append(helper.make_tensor_value_info(name, dtype, matrix.shape))
    made = Instrumented(counted, weights, readings, checks)
    counted.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made.outputs)
    return made


def _measure(sums: _Sums, layer: Layer, *, trust: bool) -> dict[str, Reading]:
    """The quantities of one row."""
    build, value, kind = sums.builder, layer.tensor, layer.kind
    steps, inner, inside = layer.static["time_steps"], layer.inner, layer.inside
    if layer.role == "pairs":
        return {"events": sums.add(_pairs(build, value, layer.second), steps, inner, None, inside=inside, largest=None)}
    binary = trust and kind.name == "binary"
    nonzero = build.single(value) if binary else build.nonzero(value)
    count = sums.add(nonzero, steps, inner, None, inside=inside)
    if layer.role == "spikes":
        return {"spikes": count}
    events = sums.add(nonzero, steps, inner, layer.fanout, inside=inside)
    if layer.role == "pool":
        return {"input_nonzeros": count, "pool_events": events}
    found = {"input_nonzeros": count, "events": events}
    if kind.unit is None or binary:
        return found
    ones, magnitude = build.ones(value, kind), build.magnitude(value, kind)
    if not trust:
        fits = build.op("Sub", build.constant(np.ones((), np.float32)), build.misfits(value, kind))
        ones = build.op("Mul", ones, fits)
    found["acs"] = sums.add(ones, steps, inner, layer.fanout, inside=inside)
    largest = None if build.dtypes[value] == "tensor(double)" else sums.proven.get(value)
    return found | {"event_magnitude": sums.add(magnitude, steps, inner, layer.fanout, inside=inside, largest=largest)}


def _pairs(build: Builder, left: str, right: str) -> str:
    """Products of nonzeros of [..., M, K] @ [..., K, N], for each k: [..., K], float64 as they may pass 2^24."""
    met = (build.reduce(build.nonzero(left), -2), build.reduce(build.nonzero(right), -1))
    return build.op("Mul", *(build.cast(count, TensorProto.DOUBLE) for count in met))


@dataclass(frozen=True)
class _Weights:
    """A fan-out as columns of a matrix.

    Attributes:
        key: Tells it from others.
        radix: Of its digits.
        columns: Its digits, or itself.
        double: Whether it needs float64.
    """

    key: bytes
    radix: int
    columns: list[np.ndarray]
    double: bool


@dataclass(frozen=True)
class _Product:
    """A value and the matrix that it is multiplied with, column by column."""

    output: str
    flat: str
    dtype: type[np.floating]
    parts: dict[bytes, tuple[int, _Weights]] = field(default_factory=dict)


class _Sums:
    """Collects every weighted sum over each value."""

    def __init__(self, builder: Builder, proven: Mapping[str, int]) -> None:
        self.builder, self.proven = builder, proven
        self._products: dict[tuple[object, ...], _Product] = {}
        self._weights: dict[tuple[int, int | None], tuple[np.ndarray, _Weights]] = {}
        self._ones: dict[int, np.ndarray] = {}

    def add(
        self,
        value: str,
        steps: int,
        inner: int,
        fanout: np.ndarray | None,
        *,
        inside: int = 0,
        largest: int | None = 1,
    ) -> Reading:
        """Sum of a value over each step and sample.

        Args:
            value: What is summed; not negative, float32 of whole numbers if `largest` is told.
            steps: T.
            inner: Elements of one step and sample.
            fanout: A weight for each of them, integers; None for 1.
            inside: Elements inside the time axis, which is brought to the front; 0 where it stands there.
            largest: No element is larger; None if that is not known.
        """
        if fanout is None:
            fanout = self._ones.setdefault(inner, np.ones(inner))
        weights = self._as_columns(fanout, largest)
        product = self._product(value, inner, (steps, inside) if inside else None, double=weights.double)
        if weights.key not in product.parts:
            start = sum(len(part.columns) for _, part in product.parts.values())
            product.parts[weights.key] = (start, weights)
        start, part = product.parts[weights.key]
        return Reading(product.output, start, part.radix, len(part.columns), steps)

    def _as_columns(self, fanout: np.ndarray, largest: int | None) -> _Weights:
        """The same array is looked at once: the steps of a graph unrolled over time share theirs."""
        known = (id(fanout), largest)
        if known not in self._weights:
            digits = None if largest is None else _digits(fanout, _EXACT // largest)
            radix, columns = (1, [fanout]) if digits is None else digits
            key = hashlib.blake2b(str(radix).encode() + fanout.astype(np.float64).tobytes()).digest()
            self._weights[known] = (fanout, _Weights(key, radix, columns, digits is None))
        return self._weights[known][1]

    def _product(self, value: str, inner: int, time: tuple[int, int] | None, *, double: bool) -> _Product:
        key = (value, inner, time, double)
        if key not in self._products:
            build = self.builder
            source = build.cast(value, TensorProto.DOUBLE) if double else value
            if time is not None:
                split = build.op("Reshape", source, build.constant(np.array([-1, *time], np.int64)))
                source = build.op("Transpose", split, perm=[1, 0, 2])
            flat = build.op("Reshape", source, build.constant(np.array([-1, inner], np.int64)))
            name = f"{PREFIX}sums.{len(self._products)}"
            self._products[key] = _Product(name, flat, np.float64 if double else np.float32)
        return self._products[key]

    def close(self) -> dict[str, np.ndarray]:
        """Multiply each value with its matrix; the matrices by the names of the inputs that bring them."""
        names: dict[tuple[object, ...], str] = {}
        matrices: dict[str, np.ndarray] = {}
        for product in self._products.values():
            key = (product.dtype, *product.parts)
            if key not in names:
                names[key] = f"{PREFIX}weights.{len(names)}"
                columns = [column for _, part in product.parts.values() for column in part.columns]
                matrices[names[key]] = np.stack(columns, axis=1).astype(product.dtype)
            node = helper.make_node("MatMul", [product.flat, names[key]], [product.output], product.output)
            self.builder.nodes.append(node)
        return matrices


def _digits(weights: np.ndarray, most: int) -> tuple[int, list[np.ndarray]] | None:
    """The radix and the digits of integer weights, the lowest first, so few that each adds up to no more than `most`.

    None where they would be too many.
    """
    largest = int(weights.max(initial=0))
    whole = weights.astype(np.int64)
    for count in range(1, _MOST_DIGITS + 1):
        radix = _root(largest, count)
        columns = [whole // radix**i % radix for i in range(count)]
        if all(int(column.sum()) <= most for column in columns):
            return radix, columns
    return None


def _root(largest: int, digits: int) -> int:
    """The smallest radix in which a number has so many digits."""
    radix = max(2, int(largest ** (1 / digits)))
    while radix**digits <= largest:
        radix += 1
    return radix
