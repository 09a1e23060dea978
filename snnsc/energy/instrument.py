"""Put the counting into the model: reductions that onnxruntime runs where the values are.

Big values never leave the runtime; each row yields a vector of one float64 a sample. Sums over time are float32 of
small integers (exact below 2^24), the dot product with the fan-out is float64 (exact below 2^53).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from snnsc.energy.kinds import Kind
from snnsc.energy.layers import Layer
from snnsc.energy.plan import Plan

_SCALED_TOLERANCE = 0.01  # float32 rounding of an average over 10^4 spikes is below 10^-3 of one spike
_PREFIX = "snnsc.count."


@dataclass(frozen=True)
class Instrumented:
    """A model that also counts.

    Attributes:
        model: The model; its outputs are the counts only.
        outputs: (row index, quantity) -> output name, a float64 vector over samples.
        checks: Checked value -> output name; how many elements are not of their kind, as one number.
    """

    model: onnx.ModelProto
    outputs: dict[tuple[int, str], str]
    checks: dict[str, str]


def instrument(model: onnx.ModelProto, plan: Plan, opset: int, *, trust: bool) -> Instrumented:
    """Append the counting nodes of a plan.

    Args:
        model: The model as read.
        plan: What to measure.
        opset: Version of the standard operators in the model.
        trust: Take binary values as 0/1, and only check that. Without trust, every element is looked at: slower,
            and right also where a check fails.
    """
    builder = _Builder(opset, plan.dtypes)
    outputs: dict[tuple[int, str], str] = {}
    checks = {value: builder.check(value, kind, exact=not trust) for value, kind in plan.roots.items()}
    for index, layer in enumerate(plan.layers):
        if layer.tensor:
            for quantity, name in builder.measure(layer, trust=trust).items():
                outputs[index, quantity] = name
    counted = onnx.ModelProto()
    counted.CopyFrom(model)
    del counted.graph.output[:]
    counted.graph.node.extend(builder.nodes)
    counted.graph.initializer.extend(builder.initializers)
    names = dict.fromkeys([*outputs.values(), *checks.values()])
    counted.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return Instrumented(counted, outputs, checks)


class _Builder:
    """Collects nodes; every operator used is the same from opset 7 on, ReduceSum apart."""

    def __init__(self, opset: int, dtypes: dict[str, str]) -> None:
        self.opset, self.dtypes = opset, dtypes
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.cache: dict[tuple[object, ...], str] = {}

    def check(self, value: str, kind: Kind, *, exact: bool) -> str:
        """A number that is 0 if and only if every element is of its kind; how many are not if `exact`."""
        x = self.floats(value)
        if kind.name == "binary" and not exact:
            # x^2 - x is zero at 0 and 1 only; it neither underflows nor rounds to zero elsewhere (inf gives nan).
            return self.total(self.op("Abs", self.op("Sub", self.op("Mul", x, x), x)))
        return self.total(self.cast(self.misfits(value, kind), TensorProto.DOUBLE))

    def measure(self, layer: Layer, *, trust: bool) -> dict[str, str]:
        """The quantities of one row."""
        value, steps, inner = layer.tensor, layer.static["time_steps"], layer.inner
        if trust and layer.kind.name == "binary":
            nonzero = self.over_time(self.floats(value), steps, inner)
        else:
            nonzero = self.over_time(self.nonzero(value), steps, inner)
        count = self.dot(nonzero, None)
        if layer.role == "spikes":
            return {"spikes": count}
        events = count if layer.fanout is None else self.dot(nonzero, layer.fanout)
        if layer.role == "pool":
            return {"input_nonzeros": count, "pool_events": events}
        found = {"input_nonzeros": count, "events": events}
        if layer.kind.unit is None or (trust and layer.kind.name == "binary"):
            return found
        ones = self.over_time(self.ones(value, layer.kind, trust=trust), steps, inner)
        magnitude = self.over_time(self.magnitude(value, layer.kind), steps, inner)
        return found | {"acs": self.dot(ones, layer.fanout), "event_magnitude": self.dot(magnitude, layer.fanout)}

    def floats(self, value: str) -> str:
        """The value as float32, or as it is if it is float64 (whose smallest values float32 would lose)."""
        dtype = self.dtypes[value]
        return value if dtype in ("tensor(float)", "tensor(double)") else self.cast(value, TensorProto.FLOAT)

    def nonzero(self, value: str) -> str:
        """1 where the element is not zero, NaN included."""
        return self.cast(self.cast(value, TensorProto.BOOL), TensorProto.FLOAT)

    def multiples(self, value: str, kind: Kind) -> str:
        """|x| in units."""
        x = self.op("Abs", self.floats(value))
        if kind.name != "scaled" or kind.unit is None:
            return x
        dtype = np.float64 if self.dtypes[value] == "tensor(double)" else np.float32
        return self.op("Mul", x, self.constant(np.array(float(1 / kind.unit), dtype)))

    def rounded(self, value: str, kind: Kind) -> str:
        """|x| in units, as the nearest integer."""
        units = self.multiples(value, kind)
        half = np.array(0.5, np.float64 if self.dtypes[value] == "tensor(double)" else np.float32)
        return self.op("Floor", self.op("Add", units, self.constant(half)))

    def misfits(self, value: str, kind: Kind) -> str:
        """1 where an element is not of its kind."""
        if kind.name == "binary":
            x = self.floats(value)
            return self.nonzero(self.op("Sub", self.op("Mul", x, x), x))
        units, near = self.multiples(value, kind), self.rounded(value, kind)
        off = self.op("Abs", self.op("Sub", units, near))
        if kind.name == "scaled":
            dtype = np.float64 if self.dtypes[value] == "tensor(double)" else np.float32
            off = self.op("Floor", self.op("Mul", off, self.constant(np.array(1 / _SCALED_TOLERANCE, dtype))))
        lost = self.op("Sub", self.nonzero(value), self.nonzero(near))  # a nonzero element that rounds to zero
        either = self.op("Add", self.nonzero(off), lost)
        return self.nonzero(either)

    def ones(self, value: str, kind: Kind, *, trust: bool) -> str:
        """1 where the integer value is 1 or -1: where the event is an addition."""
        near = self.multiples(value, kind) if kind.name != "scaled" else self.rounded(value, kind)
        unit = np.ones((), np.float64 if self.dtypes[value] == "tensor(double)" else np.float32)
        differs = self.op("Sub", near, self.constant(unit))
        is_one = self.cast(self.op("Not", self.cast(differs, TensorProto.BOOL)), TensorProto.FLOAT)
        if trust:
            return is_one
        fits = self.op("Sub", self.constant(np.ones((), np.float32)), self.misfits(value, kind))
        return self.op("Mul", is_one, fits)

    def magnitude(self, value: str, kind: Kind) -> str:
        """|x| in units, as an integer where it is one: how many unit spikes it unrolls into."""
        return self.rounded(value, kind) if kind.name == "scaled" else self.multiples(value, kind)

    def over_time(self, value: str, steps: int, inner: int) -> str:
        """Sum over time steps: [steps, samples, inner] -> [samples, inner]."""
        shape = self.constant(np.array([steps, -1, inner], np.int64))
        return self.reduce(self.op("Reshape", value, shape), 0)

    def dot(self, value: str, fanout: np.ndarray | None) -> str:
        """[samples, inner] times fan-out [inner] -> [1, samples], in float64; without fan-out the plain sum."""
        columns = self.op("Transpose", self.cast(value, TensorProto.DOUBLE))
        if fanout is None:
            return self.reduce(columns, 0)
        # As row times matrix: onnxruntime is four times slower with the vector on the right.
        return self.op("MatMul", self.constant(fanout.astype(np.float64)[np.newaxis]), columns)

    def total(self, value: str) -> str:
        """The sum of everything, in the value's own precision."""
        flat = self.op("Reshape", value, self.constant(np.array([-1], np.int64)))
        return self.reduce(flat, 0)

    def reduce(self, value: str, axis: int) -> str:
        """ReduceSum over one axis, which is dropped."""
        if self.opset < 13:
            return self.op("ReduceSum", value, axes=[axis], keepdims=0)
        return self.op("ReduceSum", value, self.constant(np.array([axis], np.int64)), keepdims=0)

    def cast(self, value: str, to: int) -> str:
        """A Cast node."""
        return self.op("Cast", value, to=to)

    def constant(self, array: np.ndarray) -> str:
        """An initializer; equal ones are shared."""
        key: tuple[object, ...] = ("constant", array.dtype.str, array.shape, hashlib.blake2b(array.tobytes()).digest())
        if key not in self.cache:
            self.cache[key] = f"{_PREFIX}{len(self.cache)}"
            self.initializers.append(numpy_helper.from_array(array, self.cache[key]))
        return self.cache[key]

    def op(self, op_type: str, *inputs: str, **attrs: int | list[int]) -> str:
        """A node; equal ones are shared."""
        key: tuple[object, ...] = (op_type, *inputs, str(sorted(attrs.items())))
        if key not in self.cache:
            self.cache[key] = f"{_PREFIX}{len(self.cache)}"
            node = helper.make_node(op_type, list(inputs), [self.cache[key]], self.cache[key])
            node.attribute.extend(helper.make_attribute(name, value) for name, value in attrs.items())
            self.nodes.append(node)
        return self.cache[key]
