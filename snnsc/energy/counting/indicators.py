"""Nodes that turn a value into what is summed: 1 where it is nonzero, 1 where it is one unit, its magnitude in units.

Every operator used is the same from opset 7 on, but for two that `Builder` writes in the graph's version.
"""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from snnsc.energy.plan.kinds import Kind

PREFIX = "snnsc.count."
_SCALED_TOLERANCE = 0.01  # float32 rounding of an average over 10^4 spikes is below 10^-3 of one spike


class Builder:
    """Collects nodes and constants; equal ones are shared.

    Args:
        opset: Version of the standard operators in the model.
        dtypes: onnxruntime's element type of each value of the model.
    """

    def __init__(self, opset: int, dtypes: dict[str, str]) -> None:
        self.opset, self.dtypes = opset, dtypes
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._cache: dict[tuple[object, ...], str] = {}

    def floats(self, value: str) -> str:
        """The value as float32, or as it is if it is float64 (whose smallest values float32 would lose)."""
        return value if self.dtypes[value] in ("tensor(float)", "tensor(double)") else self.single(value)

    def single(self, value: str) -> str:
        """The value as float32."""
        return value if self.dtypes.get(value) == "tensor(float)" else self.cast(value, TensorProto.FLOAT)

    def nonzero(self, value: str) -> str:
        """1 where the element is not zero, NaN included."""
        return self.cast(self.cast(value, TensorProto.BOOL), TensorProto.FLOAT)

    def multiples(self, value: str, kind: Kind) -> str:
        """|x| in units."""
        x = self.op("Abs", self.floats(value))
        return x if kind.name != "scaled" or kind.unit is None else self.op("Mul", x, self.like(value, 1 / kind.unit))

    def rounded(self, value: str, kind: Kind) -> str:
        """|x| in units, as the nearest integer."""
        return self.op("Floor", self.op("Add", self.multiples(value, kind), self.like(value, 0.5)))

    def ones(self, value: str, kind: Kind) -> str:
        """1 where the integer value is 1 or -1: where the event is an addition."""
        near, unit = self.magnitude(value, kind), self.like(value, 1)
        if self.opset >= 11:
            return self.cast(self.op("Equal", near, unit), TensorProto.FLOAT)
        differs = self.cast(self.op("Sub", near, unit), TensorProto.BOOL)
        return self.cast(self.op("Not", differs), TensorProto.FLOAT)

    def magnitude(self, value: str, kind: Kind) -> str:
        """|x| in units, as an integer where it is one: how many unit spikes it unrolls into."""
        return self.rounded(value, kind) if kind.name == "scaled" else self.multiples(value, kind)

    def misfits(self, value: str, kind: Kind) -> str:
        """1 where an element is not of its kind."""
        if kind.name == "binary":
            x = self.floats(value)
            return self.nonzero(self.op("Sub", self.op("Mul", x, x), x))
        units, near = self.multiples(value, kind), self.rounded(value, kind)
        off = self.op("Abs", self.op("Sub", units, near))
        if kind.name == "scaled":
            off = self.op("Floor", self.op("Mul", off, self.like(value, 1 / _SCALED_TOLERANCE)))
        lost = self.op("Sub", self.nonzero(value), self.nonzero(near))  # a nonzero element that rounds to zero
        return self.nonzero(self.op("Add", self.nonzero(off), lost))

    def suspicion(self, value: str, kind: Kind) -> str:
        """Not negative, and zero everywhere if and only if every element is of its kind; cheaper than `misfits`."""
        x = self.floats(value)
        match kind.name:
            case "binary":
                # x^2 - x is zero at 0 and 1 only; it neither underflows nor rounds to zero elsewhere (inf gives nan)
                return self.op("Abs", self.op("Sub", self.op("Mul", x, x), x))
            case "integer":
                return self.op("Sub", x, self.op("Floor", x))
            case _:
                return self.misfits(value, kind)

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

    def like(self, value: str, number: object) -> str:
        """A constant of the type that `floats` gives the value."""
        dtype = np.float64 if self.dtypes[value] == "tensor(double)" else np.float32
        return self.constant(np.array(float(number), dtype))  # type: ignore[arg-type]

    def constant(self, array: np.ndarray) -> str:
        """An initializer."""
        key: tuple[object, ...] = ("constant", array.dtype.str, array.shape, hashlib.blake2b(array.tobytes()).digest())
        if key not in self._cache:
            self._cache[key] = f"{PREFIX}{len(self._cache)}"
            self.initializers.append(numpy_helper.from_array(array, self._cache[key]))
        return self._cache[key]

    def op(self, op_type: str, *inputs: str, **attrs: int | list[int]) -> str:
        """A node."""
        key: tuple[object, ...] = (op_type, *inputs, str(sorted(attrs.items())))
        if key not in self._cache:
            self._cache[key] = f"{PREFIX}{len(self._cache)}"
            node = helper.make_node(op_type, list(inputs), [self._cache[key]], self._cache[key])
            node.attribute.extend(helper.make_attribute(name, value) for name, value in attrs.items())
            self.nodes.append(node)
        return self._cache[key]
