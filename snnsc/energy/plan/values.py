"""What is known of every value of a straight graph at one input size."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from snnsc.energy.graph.nodes import Graph
from snnsc.energy.plan.geometry import Unsupported
from snnsc.energy.plan.kinds import Kind
from snnsc.energy.plan.layout import Shape, sample_axis
from snnsc.energy.plan.times import Times


@dataclass(frozen=True)
class Spread:
    """How a value is spread over time.

    Attributes:
        steps: T.
        inner: Elements of one time step of one sample.
        inside: Elements inside its time axis, where that stands inside the samples; 0 where it stands in front.
        fanout: For each element of one time step of one sample.
    """

    steps: int
    inner: int
    inside: int
    fanout: np.ndarray | None


@dataclass(frozen=True)
class Values:
    """Shapes, layouts and kinds.

    Attributes:
        graph: The graph.
        shapes: Concrete shape of each value that depends on samples, from a run.
        inner: Layout of each value, see `layout`.
        kinds: Kind of each value, see `kinds`.
        batch: Samples in that run.
        times: Where time stands inside the samples.
    """

    graph: Graph
    shapes: dict[str, Shape]
    inner: dict[str, int]
    kinds: dict[str, Kind]
    batch: int
    times: Times = field(default_factory=Times)

    def steps_of(self, value: str) -> int:
        """How many times the value is made for one sample: T, or 1 before time begins."""
        if value in self.times.inside:
            return self.times.inside[value].size
        return self.per_sample(value) // self.inner[value] if value in self.inner else 1

    def per_sample(self, value: str) -> int:
        """Elements per sample, all time steps together."""
        return prod(self.shapes[value]) // self.batch

    def of_one(self, value: str) -> Shape:
        """The shape of one sample at one time step; empty where the samples cannot be told apart."""
        shape = self.shapes[value]
        axis = sample_axis(shape, self.inner[value], self.batch) if value in self.inner else None
        if axis is None:
            return ()
        one = [self.inner[value] // prod(shape[axis + 1 :]), *shape[axis + 1 :]]
        time = self.times.inside.get(value)
        if time is not None:
            at = sample_axis(tuple(one), time.inner, time.size)
            if at is None:
                return ()
            one[at] //= time.size
            if at and one[at] == 1:
                del one[at]
        return tuple(one[1:] if one[0] == 1 else one)

    def time_axis(self, value: str) -> int | None:
        """The axis that is time inside the samples and nothing else; None where there is none."""
        time, shape = self.times.inside.get(value), self.shapes[value]
        axis = None if time is None else sample_axis(shape, time.inner, time.size)
        return axis if time is not None and axis is not None and shape[axis] == time.size else None

    def row(self, value: str, fanout: np.ndarray | None = None, *, timed: bool = True) -> Spread:
        """How a value is measured: its time steps, and the fan-out of one of them.

        Args:
            value: The value.
            fanout: For each element of one sample, or of one time step that stands in front; None for 1.
            timed: Whether time inside the samples is told apart.
        """
        steps, inner = self.per_sample(value) // self.inner[value], self.inner[value]
        time = self.times.inside.get(value) if timed else None
        if time is None:
            return Spread(steps, inner, 0, fanout)
        if fanout is not None:
            each = fanout.reshape(-1, time.size, time.inner)
            if (each != each[:, :1]).any():  # weights of its own at each step
                return Spread(steps, inner, 0, fanout)
            fanout = each[:, 0].reshape(-1)
        return Spread(time.size, inner // time.size, time.inner, fanout)

    def weight(self, name: str) -> np.ndarray:
        """A constant.

        Raises:
            Unsupported: It is none.
        """
        value = self.graph.constant(name)
        if value is None:
            msg = f"its weight {name!r} is not constant"
            raise Unsupported(msg)
        return value

    def nonzero(self, name: str, output: str) -> int:
        """Nonzero elements of a constant after broadcasting to a value, per sample."""
        constant = self.graph.constant(name)
        if constant is None:
            return self.per_sample(output)
        return int(np.count_nonzero(np.broadcast_to(constant != 0, self.shapes[output]))) // self.batch

    def one_row(self, factors: np.ndarray, value: str) -> np.ndarray:
        """Factors that broadcast to a value, as those of one time step of one sample, flat.

        Raises:
            Unsupported: They are not the same for all of them.
        """
        rows = np.broadcast_to(factors, self.shapes[value]).reshape(-1, self.batch, self.inner[value])
        if (rows != rows[:1, :1]).any():
            msg = "its constant varies along time or samples"
            raise Unsupported(msg)
        row: np.ndarray = rows[0, 0].astype(np.float64)
        return row

    def tiled(self, fanout: np.ndarray, value: str) -> np.ndarray:
        """A fan-out of one row, repeated over all rows of one sample and time step, flat.

        Raises:
            Unsupported: The rows of a sample are not whole.
        """
        flat, inner = fanout.reshape(-1), self.inner[value]
        if inner % flat.size:
            msg = "rows and samples do not nest"
            raise Unsupported(msg)
        return np.tile(flat, inner // flat.size)
