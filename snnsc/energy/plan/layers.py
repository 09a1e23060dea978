"""From a graph and concrete shapes to the rows that are counted: what each costs and what to measure for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from snnsc.energy.graph.neurons import Neurons, body_arithmetic, neutral
from snnsc.energy.graph.nodes import Node
from snnsc.energy.graph.ops import FREE, LINEAR, POOLS, RESHAPES, SCALES, SUMS
from snnsc.energy.graph.subgraphs import SPIKE
from snnsc.energy.plan.geometry import Unsupported, Windows, windows
from snnsc.energy.plan.kinds import BINARY, MOVES, REAL, Kind, join, trains
from snnsc.energy.plan.layer import Layer, LayerFacts
from snnsc.energy.plan.layout import reduced_axes
from snnsc.energy.plan.linear import Linear, linear
from snnsc.energy.plan.values import Spread, Values

NO_BATCH_AXIS = "the batch axis cannot be followed to it; a model exported with a dynamic batch axis is counted whole"


class Rows:
    """Makes the row of each node; holds what they share.

    Args:
        values: Shapes, layouts and kinds.
        neurons: Those that the graph writes out.
        places: Name of a node that is one of several time steps -> the row that it is reported under, and its step.
    """

    def __init__(self, values: Values, neurons: Neurons, places: Mapping[str, tuple[str, int]]) -> None:
        self.values, self.neurons, self.places = values, neurons, places
        self.graph, self.kinds = values.graph, values.kinds
        self.spiking = self.graph.spiking or bool(neurons.at)
        self.members: dict[str, int] = {}
        for group, _ in places.values():
            self.members[group] = self.members.get(group, 0) + 1
        fires = [n for n in self.graph.nodes if n.is_neuron or n.name in neurons.at]
        self.steps = max((values.steps_of(n.outputs[0]) * self._members(n) for n in fires), default=1)
        self.after_neurons = self._downstream({n.name for n in fires})
        self._known: dict[tuple[object, ...], Linear] = {}

    def _members(self, node: Node) -> int:
        return self.members[self.places[node.name][0]] if node.name in self.places else 1

    def _downstream(self, neurons: set[str]) -> set[str]:
        reached: set[str] = set()
        for node in self.graph.nodes:
            if node.name in neurons or reached.intersection(node.inputs):
                reached.update(node.outputs)
        return reached

    def row(self, node: Node) -> Layer | None:
        """The row of a node; None for a node that costs nothing, or is a neuron's arithmetic.

        Raises:
            Unsupported: The node computes, but cannot be counted; the message says why.
        """
        made = self._row(node)
        if made is None or node.name not in self.places:
            return made
        group, step = self.places[node.name]
        return replace(made, group=group, step=step)

    def _row(self, node: Node) -> Layer | None:
        if node.name in self.neurons.inside:
            return None
        if trains(self.graph, node):
            msg = "is in training mode"
            raise Unsupported(msg)
        if node.is_neuron or node.name in self.neurons.at:
            return self._neuron(node)
        if node.refused:
            raise Unsupported(node.refused)
        if node.domain or node.op not in LINEAR | SCALES | SUMS | POOLS | FREE:
            msg = f"operator {node.domain + '::' if node.domain else ''}{node.op} is not known"
            raise Unsupported(msg)
        if node.op in FREE or neutral(self.graph, node) or self._selects(node):
            return None
        for value in (*self.graph.data_inputs(node), node.outputs[0]):
            if value not in self.values.inner:
                msg = NO_BATCH_AXIS
                raise Unsupported(msg)
        if node.op in SUMS:
            return self._sum(node)
        if node.op in POOLS:
            return self._pool(node)
        return self._pairs(node) if node.op == "MatMul" and self._is_product(node) else self._linear(node)

    def _selects(self, node: Node) -> bool:
        """Whether a product is with spikes: it keeps a value or drops it."""
        sources = self.graph.data_inputs(node)
        return node.op == "Mul" and len(sources) == 2 and any(self.kinds[name].name == "binary" for name in sources)

    def _is_product(self, node: Node) -> bool:
        return len(self.graph.data_inputs(node)) == 2

    def _facts(self, node: Node, source: str) -> LayerFacts:
        return LayerFacts(self.values.of_one(source), self.values.of_one(node.outputs[0]))

    def _neuron(self, node: Node) -> Layer:
        found = self.neurons.at.get(node.name)
        output = found.spikes if found else node.outputs[0]
        if output not in self.values.inner:
            msg = NO_BATCH_AXIS
            raise Unsupported(msg)
        static = {"neuron_updates": self.values.per_sample(output), "time_steps": self.values.steps_of(output)}
        arithmetic = found.arithmetic if found else body_arithmetic(node) if node.op == SPIKE else None
        constants = [self.graph.constant(name) for name in node.inputs if name in self.graph.constants]
        facts = replace(
            self._facts(node, output),
            fan_in=1,
            arithmetic=arithmetic,
            parameters=0 if found else sum(value.size for value in constants if value is not None),
        )
        op = SPIKE if found else node.op.removesuffix("Step") or node.op  # LIFStep is LIF, for one step
        if not (found or node.fires):
            return Layer(node.name, op, self.kinds[output], static, facts=facts)
        row = self.values.row(output)
        return Layer(
            *(node.name, op, self.kinds[output], static, output, None, row.inner, "spikes"),
            inside=row.inside,
            facts=facts,
        )

    def _sum(self, node: Node) -> Layer:
        output = node.outputs[0]
        sources = self.graph.data_inputs(node)
        elements = self.values.per_sample(output)
        adds = elements * (len(sources) - 1)
        static = {"time_steps": self.values.steps_of(output), "residual_adds": adds, "bias_adds": 0}
        size = 0
        for name in set(node.inputs) - set(sources):
            static["bias_adds"] += self.values.nonzero(name, output)
            constant = self.graph.constant(name)
            size += 0 if constant is None else constant.size
        kind = join([self.kinds[name] for name in sources])
        facts = replace(self._facts(node, sources[0]), fan_in=len(node.inputs), parameters=size)
        return Layer(node.name, node.op, kind, static, facts=facts)

    def _pool(self, node: Node) -> Layer:
        source, output = node.inputs[0], node.outputs[0]
        static = {"time_steps": self.values.steps_of(source), "input_elements": self.values.per_sample(source)}
        fanout: np.ndarray | None = None
        shape = self.values.shapes[source]
        facts = self._facts(node, source)
        if node.op in ("AveragePool", "MaxPool"):
            geometry = windows(node, tuple(node.ints("kernel_shape", [])), shape, self.values.shapes[output])
            fanout = self.values.tiled(geometry.spread(np.ones((shape[1], *geometry.kernel))), source)
            facts = self._windowed(facts, source, geometry)
            facts = replace(facts, groups=shape[1], fan_in=int(np.prod(geometry.kernel)))
        elif node.op.startswith("Reduce") and reduced_axes(self.graph, node, len(shape)) is None:
            msg = "its axes are not constant"
            raise Unsupported(msg)
        else:
            facts = replace(facts, fan_in=self.values.per_sample(source) // max(self.values.per_sample(output), 1))
        row = self.values.row(source, fanout)
        return Layer(
            *(node.name, node.op, self.kinds[source], static | {"time_steps": row.steps}, source),
            *(row.fanout, row.inner, "pool"),
            inside=row.inside,
            facts=facts,
        )

    def _windowed(self, facts: LayerFacts, source: str, geometry: Windows) -> LayerFacts:
        """With the window of one time step: without an axis that is time alone."""
        time = self.values.time_axis(source)
        kept = [axis for axis in range(len(geometry.kernel)) if axis + 2 != time]
        kernel, strides, dilations = (
            tuple(each[axis] for axis in kept) for each in (geometry.kernel, geometry.strides, geometry.dilations)
        )
        pads = tuple(end[axis] for end in (geometry.begins, geometry.ends) for axis in kept)
        return replace(facts, kernel=kernel, strides=strides, pads=pads, dilations=dilations)

    def _pairs(self, node: Node) -> Layer:
        """A product of two values, as of attention.

        An event is a pair of nonzero elements that meet. It is an addition where one of the two is a spike, which
        adds the other, spike or real number, or does not; else a multiplication.
        """
        left, right = node.inputs[:2]
        output = node.outputs[0]
        rank = len(self.values.shapes[output])
        rows, columns = self.values.shapes[output][-2:] if rank > 1 else (1, 1)
        summed = self.values.shapes[left][-1]
        row = self.values.row(output)
        if rank < 3 or row.inner % (rows * columns) or row.inside % (rows * columns):
            msg = "both operands depend on the input, and the samples are rows of a matrix"
            raise Unsupported(msg)
        dense = self.values.per_sample(output) * summed
        binary = any(self.kinds[name].name == "binary" for name in (left, right))
        static = {
            "time_steps": row.steps,
            "dense_macs": dense,
            **self._of_ann(node, left, dense, row),
            "max_events": dense,
            "input_elements": self.values.per_sample(left) + self.values.per_sample(right),
            "bias_adds": 0,
            "weights": 0,
        }
        facts = replace(self._facts(node, left), fan_in=summed)
        kind = BINARY if binary else REAL
        folded, inside = (n // (rows * columns) * summed for n in (row.inner, row.inside))
        return Layer(
            *(node.name, node.op, kind, static, left, None, folded, "pairs", right), inside=inside, facts=facts
        )

    def _of_ann(self, node: Node, source: str, dense: int, row: Spread) -> dict[str, int]:
        """The ANN twin has no time: of a layer that is a node for each time step, it has the first.

        Nothing where it cannot be told what one time step is.
        """
        times = self.values.times
        values = (source, node.outputs[0])
        if any(name in times.unclear for name in values) or any(name in times.inside for name in values) != bool(
            row.inside
        ):
            return {}
        later = bool(node.time_step) or (node.name in self.places and self.places[node.name][1] > 0)
        return {"ann_macs": 0 if later else dense // row.steps if self.spiking else dense}

    def _linear(self, node: Node) -> Layer:
        found = self._counted(node)
        source = found.source
        row = self.values.row(source, found.fanout, timed=node.outputs[0] in self.values.times.inside)
        assert row.fanout is not None
        static = {
            "time_steps": row.steps,
            "dense_macs": found.dense,
            **self._of_ann(node, source, found.dense, row),
            "max_events": int(row.fanout.sum()) * (self.values.per_sample(source) // row.inner),
            "input_elements": self.values.per_sample(source),
            "bias_adds": found.biased,
            "weights": found.weights,
        }
        repeats = self._uses(node) // row.steps
        if source not in self.after_neurons and "ann_macs" in static and repeats > 1:
            static["repeats"] = repeats
        facts = replace(
            self._facts(node, source),
            groups=found.groups,
            fan_in=found.fan_in,
            parameters=found.parameters,
            weight_bits=self.graph.stored_bits(found.weight),
        )
        if found.geometry is not None:
            facts = self._windowed(facts, source, found.geometry)
        kind = self.kinds[source]
        return Layer(
            *(node.name, node.op, kind, static, source, row.fanout, row.inner, "events"),
            inside=row.inside,
            facts=facts,
        )

    def _uses(self, node: Node) -> int:
        """How many time steps of neurons a layer delivers its current to; 1 of one that is a node for each."""
        if node.time_step is not None or node.name in self.places:
            return 1
        used = self.neurons.moments.used.get(node.outputs[0])
        return len(used) if used else self.steps

    def _counted(self, node: Node) -> Linear:
        """The same layer at another time step has the same fan-out: computed once, and held once."""
        constants = [name for name in node.inputs if name and not self.graph.is_data(name)]
        shapes = [self.values.shapes[name] for name in (*self.graph.data_inputs(node), node.outputs[0])]
        layouts = [self.values.inner[name] for name in self.graph.data_inputs(node)]
        where = [self.graph.is_data(name) for name in node.inputs]
        if node.name not in self.places:
            return linear(self.values, node)
        weights = [self.graph.identity(name) for name in constants]
        key = (node.op, repr(sorted(node.attrs.items())), *weights, *shapes, *layouts, *where)
        if key not in self._known:
            self._known[key] = linear(self.values, node)
        return replace(self._known[key], source=self.graph.data_inputs(node)[0])

    def unfold(self, value: str) -> str:
        """The value before it was reshaped: the same numbers in the same order, so that rows share their sums."""
        producers = self.graph.producers
        while (node := producers.get(value)) and node.op in RESHAPES and self.graph.is_data(node.inputs[0]):
            value = node.inputs[0]
        return value

    def roots(self, layers: Iterable[Layer]) -> dict[str, Kind]:
        """Each measured value, walked up through pure moves to where its kind comes from."""
        found: dict[str, Kind] = {}
        for value in (name for layer in layers for name in (layer.tensor, layer.second) if name):
            while (node := self.graph.producers.get(value)) and node.op in MOVES and self.graph.is_data(node.inputs[0]):
                value = node.inputs[0]
            if self.kinds[value].unit is not None:
                found[value] = self.kinds[value]
        return found
