"""From a graph and concrete shapes to the rows that are counted: what each costs and what to measure for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

import numpy as np

from snnsc.energy.geometry import Unsupported, windows
from snnsc.energy.graph import Graph, Node
from snnsc.energy.kinds import MOVES, Kind, join, trains
from snnsc.energy.layout import Shape, reduced_axes
from snnsc.energy.ops import FREE, LINEAR, POOLS, RESHAPES, SCALES, SUMS


@dataclass(frozen=True)
class Layer:
    """One row of the report, before any sample has run.

    Attributes:
        name: Unique name.
        op: Operator type.
        kind: Kind of its input (of its output for a neuron layer).
        static: Counts per sample that follow from shapes and weights.
        tensor: The value to measure.
        fanout: For each element of one time step of one sample, how many nonzero weights (or windows) it meets;
            None to count nonzero elements only.
        inner: Layout of the measured value, see `layout`.
        role: What the measurement is: events of a linear row, pool events, spikes, or nothing.
    """

    name: str
    op: str
    kind: Kind
    static: dict[str, int]
    tensor: str = ""
    fanout: np.ndarray | None = field(default=None, repr=False, compare=False)
    inner: int = 1
    role: str = ""


class Rows:
    """Makes the row of each node; holds what they share.

    Args:
        graph: The graph.
        shapes: Concrete shape of each value that depends on samples, from a run.
        inner: Layout of each value, see `layout`.
        kinds: Kind of each value, see `kinds`.
        batch: Samples in that run.
    """

    def __init__(
        self, graph: Graph, shapes: dict[str, Shape], inner: dict[str, int], kinds: dict[str, Kind], batch: int
    ) -> None:
        self.graph, self.shapes, self.inner, self.kinds, self.batch = graph, shapes, inner, kinds, batch
        self.producers = {output: node for node in graph.nodes for output in node.outputs}
        self.after_neurons = self._downstream()
        self.steps = max((self.steps_of(n.outputs[0]) for n in graph.nodes if n.is_neuron), default=1)

    def _downstream(self) -> set[str]:
        reached: set[str] = set()
        for node in self.graph.nodes:
            if node.is_neuron or reached.intersection(node.inputs):
                reached.update(node.outputs)
        return reached

    def steps_of(self, value: str) -> int:
        """How many times the value is made for one sample: T, or 1 before time begins."""
        return self.per_sample(value) // self.inner[value] if value in self.inner else 1

    def per_sample(self, value: str) -> int:
        """Elements per sample, all time steps together."""
        return prod(self.shapes[value]) // self.batch

    def row(self, node: Node) -> Layer | None:
        """The row of a node; None for a node that costs nothing.

        Raises:
            Unsupported: The node computes, but cannot be counted; the message says why.
        """
        if trains(self.graph, node):
            msg = "is in training mode"
            raise Unsupported(msg)
        if node.is_neuron:
            return self._neuron(node)
        if node.domain or node.op not in LINEAR | SCALES | SUMS | POOLS | FREE:
            msg = f"operator {node.domain + '::' if node.domain else ''}{node.op} is not known"
            raise Unsupported(msg)
        if node.op in FREE:
            return None
        for value in (*self.graph.data_inputs(node), node.outputs[0]):
            if value not in self.inner:
                msg = "the batch axis cannot be followed to it"
                raise Unsupported(msg)
        if node.op in SUMS:
            return self._sum(node)
        return self._pool(node) if node.op in POOLS else self._linear(node)

    def _neuron(self, node: Node) -> Layer:
        output = node.outputs[0]
        if output not in self.inner:
            msg = "the batch axis cannot be followed to it"
            raise Unsupported(msg)
        static = {"neuron_updates": self.per_sample(output), "time_steps": self.steps_of(output)}
        if not node.fires:
            return Layer(node.name, node.op, self.kinds[output], static)
        return Layer(node.name, node.op, self.kinds[output], static, output, None, self.inner[output], "spikes")

    def _sum(self, node: Node) -> Layer:
        output = node.outputs[0]
        sources = self.graph.data_inputs(node)
        elements = self.per_sample(output)
        static = {"time_steps": self.steps_of(output), "residual_adds": elements * (len(sources) - 1), "bias_adds": 0}
        for name in set(node.inputs) - set(sources):
            static["bias_adds"] += self._spread(self.graph.constant(name), output)
        return Layer(node.name, node.op, join([self.kinds[name] for name in sources]), static)

    def _spread(self, constant: np.ndarray | None, output: str) -> int:
        """Nonzero elements of a constant after broadcasting to a value, per sample."""
        if constant is None:
            return self.per_sample(output)
        nonzero = np.broadcast_to(constant != 0, self.shapes[output])
        return int(np.count_nonzero(nonzero)) // self.batch

    def _pool(self, node: Node) -> Layer:
        source, output = node.inputs[0], node.outputs[0]
        kind = self.kinds[source]
        static = {"time_steps": self.steps_of(source), "input_elements": self.per_sample(source)}
        inner = self.inner[source]
        fanout: np.ndarray | None = None
        if node.op in ("AveragePool", "MaxPool"):
            shape = self.shapes[source]
            kernel = tuple(node.ints("kernel_shape", []))
            geometry = windows(node, kernel, shape, self.shapes[output])
            fanout = _tile(geometry.spread(np.ones((shape[1], *kernel))), inner)
        elif node.op.startswith("Reduce") and reduced_axes(self.graph, node, len(self.shapes[source])) is None:
            msg = "its axes are not constant"
            raise Unsupported(msg)
        return Layer(node.name, node.op, kind, static, source, fanout, inner, "pool")

    def _linear(self, node: Node) -> Layer:
        source, output = self._source(node), node.outputs[0]
        match node.op:
            case "Conv":
                fanout, dense, weights, bias = self._conv(node)
            case "Gemm" | "MatMul":
                fanout, dense, weights, bias = self._matrix(node)
            case _:
                fanout, dense, weights, bias = self._scale(node, source)
        inner, steps = self.inner[source], self.steps_of(output)
        spread = _tile(fanout, inner)
        # the ANN twin has no time: of a layer that is a node for each time step, it has the first
        ann = dense // steps if self.graph.spiking else dense
        static = {
            "time_steps": steps,
            "dense_macs": dense,
            "ann_macs": 0 if node.time_step else ann,
            "max_events": int(spread.sum()) * (self.per_sample(source) // inner),
            "input_elements": self.per_sample(source),
            "bias_adds": bias,
            "weights": weights,
        }
        if source not in self.after_neurons and steps < self.steps and node.time_step is None:
            static["repeats"] = self.steps // steps
        return Layer(node.name, node.op, self.kinds[source], static, source, spread, inner, "events")

    def _source(self, node: Node) -> str:
        sources = self.graph.data_inputs(node)
        if len(sources) != 1:
            both = all(self.graph.is_data(name) for name in node.inputs[:2])
            msg = "both operands depend on the input" if both else "its bias depends on the input"
            raise Unsupported(msg)
        if sources[0] != node.inputs[0] and node.op != "Mul":
            msg = "the constant operand stands on the left"
            raise Unsupported(msg)
        return sources[0]

    def _weight(self, name: str) -> np.ndarray:
        value = self.graph.constant(name)
        if value is None:
            msg = f"its weight {name!r} is not constant"
            raise Unsupported(msg)
        return value

    def _conv(self, node: Node) -> tuple[np.ndarray, int, int, int]:
        """Fan-out [C, *spatial]; n[c, k] = outputs of the group whose weight at offset k is not zero."""
        weight = self._weight(node.inputs[1])
        shape, output = self.shapes[node.inputs[0]], node.outputs[0]
        groups, kernel = node.integer("group", 1), weight.shape[2:]
        if weight.shape[1] * groups != shape[1] or weight.shape[0] % groups:
            msg = f"weight shape {list(weight.shape)} does not fit {groups} groups of input {list(shape)}"
            raise Unsupported(msg)
        geometry = windows(node, kernel, shape, self.shapes[output])
        nonzero = (weight != 0).reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        fanout = geometry.spread(nonzero.sum(axis=1).reshape(shape[1], *kernel))
        dense = self.per_sample(output) * prod(weight.shape[1:])
        bias = self._weight(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1)
        biased = int(np.count_nonzero(bias)) * self.per_sample(output) // weight.shape[0]
        return fanout, dense, int(nonzero.sum()), biased

    def _matrix(self, node: Node) -> tuple[np.ndarray, int, int, int]:
        """Fan-out [K] of Gemm and of MatMul with one constant matrix."""
        weight, output = self._weight(node.inputs[1]), node.outputs[0]
        if weight.ndim != 2:
            msg = f"its weight has {weight.ndim} axes; only a matrix is counted"
            raise Unsupported(msg)
        bias = 0
        if node.op == "Gemm":
            if node.integer("transA", 0):
                msg = "transA is set"
                raise Unsupported(msg)
            weight = weight.T if node.integer("transB", 0) else weight
            weight = weight * np.float32(node.number("alpha", 1.0))
            if len(node.inputs) > 2 and node.inputs[2] and node.number("beta", 1.0) != 0:
                bias = self._spread(self._weight(node.inputs[2]), output)
        if self.shapes[node.inputs[0]][-1] != weight.shape[0]:
            msg = f"weight shape {list(weight.shape)} does not fit input {list(self.shapes[node.inputs[0]])}"
            raise Unsupported(msg)
        fanout = (weight != 0).sum(axis=1).astype(np.float64)
        return fanout, self.per_sample(output) * weight.shape[0], int(np.count_nonzero(weight)), bias

    def _scale(self, node: Node, source: str) -> tuple[np.ndarray, int, int, int]:
        """One multiplication an element: BatchNormalization that was not folded, Mul or Div with a constant."""
        output, shape = node.outputs[0], self.shapes[source]
        if shape != self.shapes[output]:
            msg = "broadcasts its input"
            raise Unsupported(msg)
        if node.op == "BatchNormalization":
            scale = self._weight(node.inputs[1]).reshape(-1, *[1] * (len(shape) - 2))
            bias = self.per_sample(output)
        else:
            scale = self._weight(next(name for name in node.inputs if name != source))
            bias = 0
        row = self.inner[source]
        factors = np.broadcast_to(scale != 0, shape).reshape(-1, self.batch, row)
        if (factors != factors[:1, :1]).any():
            msg = "its constant varies along time or samples"
            raise Unsupported(msg)
        return factors[0, 0].astype(np.float64), self.per_sample(output), int(np.count_nonzero(scale)), bias

    def unfold(self, value: str) -> str:
        """The value before it was reshaped: the same numbers in the same order, so that rows share their sums."""
        while (node := self.producers.get(value)) and node.op in RESHAPES and self.graph.is_data(node.inputs[0]):
            value = node.inputs[0]
        return value

    def roots(self, layers: Iterable[Layer]) -> dict[str, Kind]:
        """Each measured value, walked up through pure moves to where its kind comes from."""
        found: dict[str, Kind] = {}
        for layer in layers:
            value = layer.tensor
            while (
                value
                and (node := self.producers.get(value))
                and node.op in MOVES
                and self.graph.is_data(node.inputs[0])
            ):
                value = node.inputs[0]
            if value and self.kinds[value].unit is not None:
                found[value] = self.kinds[value]
        return found


def _tile(fanout: np.ndarray, inner: int) -> np.ndarray:
    """A fan-out of one row repeated over all rows of one sample and time step, flat."""
    flat = fanout.reshape(-1)
    if inner % flat.size:
        msg = "rows and samples do not nest"
        raise Unsupported(msg)
    return np.tile(flat, inner // flat.size)
