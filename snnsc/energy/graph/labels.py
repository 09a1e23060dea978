"""What each value of a straight graph is to a neuron that the graph writes out.

signal   what a layer, a pool or an input gives, and a sum of several of these (a residual sum is the network's)
spikes   the outcome of a comparison, as truth or as number, also scaled or inverted by constants
state    what spikes and their own membrane give together (a reset), what a state leads to, and the sum of one
         layer's signals at several time steps (a synapse that remembers)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from onnx import TensorProto

from snnsc.energy.graph.nodes import Node
from snnsc.energy.graph.ops import COMPARES, ELEMENTWISE, LINEAR
from snnsc.energy.plan.kinds import MOVES

ELEMENT = (ELEMENTWISE - {"Expand"}) | {
    *("Neg", "Abs", "Relu", "Clip", "Sigmoid", "Tanh", "Exp", "Sqrt", "Reciprocal", "Sign", "Not", "Cast", "CastLike"),
    *("Floor", "Ceil", "Round", "Identity", "Softplus"),
}
"""Element by element."""
PASSES = (MOVES - {"Expand"}) | {"Cast", "CastLike"}
"""Hand one value on as it is."""


class Readable(Protocol):
    """A graph, or the body of a loop."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In execution order."""

    def data_inputs(self, node: Node) -> list[str]:
        """Inputs of a node that depend on samples."""

    def filled(self, name: str) -> float | None:
        """The number that every element of a value is."""

    def identity(self, name: str) -> str:
        """Equal for equal constants."""


@dataclass(frozen=True)
class Label:
    """One value.

    Attributes:
        role: See the module docstring.
        pool: Signals that ever met in one state have equal pools, see `Labels.pool`.
        origin: Which layers it comes from: equal for one layer's values at several time steps.
        neuron: Of spikes their comparison, of a state one that it was reset by, or -1.
        membrane: Of spikes the pool of what is compared.
        number: Of spikes the value that first holds them as numbers.
    """

    role: Literal["signal", "spikes", "state"]
    pool: int
    origin: frozenset[int]
    neuron: int = -1
    membrane: int = -1
    number: str = ""


def label(graph: Readable, *, logic: Iterable[str] = (), states: Iterable[str] = ()) -> Labels:
    """Label every value.

    Args:
        graph: The graph.
        logic: Values of which a comparison is logic, not a neuron.
        states: Inputs that are states of neurons.
    """
    labels = Labels(graph, frozenset(logic))
    for name in states:
        labels.found[name] = Label("state", labels.pools.new(), frozenset())
    for node in graph.nodes:
        if graph.data_inputs(node):
            labels.take(node)
    return labels


class Groups:
    """Numbers that are joined into groups."""

    def __init__(self) -> None:
        self.parent: list[int] = []

    def new(self) -> int:
        """A number, alone in its group."""
        self.parent.append(len(self.parent))
        return self.parent[-1]

    def find(self, item: int) -> int:
        """The group of a number: equal for all in it."""
        while self.parent[item] != item:
            self.parent[item] = item = self.parent[self.parent[item]]
        return item

    def join(self, items: Iterable[int]) -> int:
        """Make the groups of these numbers, negative ones left out, one; that group, or -1 for none."""
        roots = sorted({self.find(item) for item in items if item >= 0})
        for root in roots[1:]:
            self.parent[root] = roots[0]
        return roots[0] if roots else -1


class Labels:
    """The labels of a graph, made in execution order.

    Attributes:
        found: Value -> its label.
        sources: Values that a signal begins with.
        resets: Names of the nodes that put spikes and their own membrane together.
        comparisons: The node of each comparison.
    """

    def __init__(self, graph: Readable, logic: frozenset[str]) -> None:
        self.graph, self.logic = graph, logic
        self.found: dict[str, Label] = {}
        self.sources: set[str] = set()
        self.resets: set[str] = set()
        self.comparisons: list[Node] = []
        self.made_by: dict[str, Node] = {}
        self.pools, self.neurons = Groups(), Groups()
        self.numbers: dict[object, int] = {}
        self.same: dict[str, int] = {}
        self.compared: dict[int, int] = {}
        self.leads = self._leading()

    def layer(self, comparison: int) -> int:
        """The layer of neurons that a comparison belongs to."""
        return self.neurons.find(comparison)

    def of(self, value: str) -> int:
        """The layer of neurons whose spikes or state a value is; -1 for none."""
        found = self.found.get(value)
        return -1 if found is None or found.neuron < 0 or found.role == "signal" else self.layer(found.neuron)

    def _leading(self) -> set[str]:
        """Values that lead to a comparison element by element."""
        leads: set[str] = set()
        for node in reversed(self.graph.nodes):
            if node.op in COMPARES or (node.outputs[0] in leads and (node.op in ELEMENT or node.op in PASSES)):
                leads.update(self.graph.data_inputs(node))
        return leads

    def membrane(self, comparison: int) -> frozenset[str]:
        """What a comparison compares, without offsets: equal for two ways to write one comparison."""
        return self._compared(comparison)[0]

    def threshold(self, comparison: int) -> tuple[str, frozenset[str]]:
        """How it compares, and with which constants: equal at all time steps."""
        return self.comparisons[comparison].op, self._compared(comparison)[1]

    def _compared(self, comparison: int) -> tuple[frozenset[str], frozenset[str]]:
        """Values without offsets, and constants with them."""
        node = self.comparisons[comparison]
        data = self.graph.data_inputs(node)
        constants = {self.graph.identity(name) for name in node.inputs if name not in data}
        found = set()
        for name in data:
            value = name
            while (offset := self.made_by.get(value)) and offset.op in ("Add", "Sub"):
                data = self.graph.data_inputs(offset)
                if len(data) != 1:
                    break
                value = data[0]
                constants |= {self.graph.identity(other) for other in offset.inputs if other != value}
            found.add(value)
        return frozenset(found), frozenset(constants)

    def operands(self, node: Node) -> list[Label]:
        """The labels of what a node reads of data."""
        names = self.graph.data_inputs(node)
        for name in names:
            if name not in self.found:
                self.found[name] = self._source(name, frozenset({self._intern(("input", name))}))
        return [self.found[name] for name in names]

    def take(self, node: Node) -> None:
        """Label what one node makes."""
        operands = self.operands(node)
        output = node.outputs[0]
        self.made_by[output] = node
        self.same[output] = self._number(node)
        if node.op in COMPARES and not node.domain:
            found = self._compare(node, operands)
        elif node.op in PASSES and len(operands) == 1 and not node.domain:
            found = self._passed(node, operands[0])
        elif node.op in ELEMENT and not node.domain:
            found = self._element(node, operands)
        else:
            found = self._source(output, self._origin(node, operands))
        for value in node.outputs:
            self.found[value] = found

    def _source(self, value: str, origin: frozenset[int]) -> Label:
        self.sources.add(value)
        return Label("signal", self.pools.new(), origin)

    def _intern(self, key: object) -> int:
        return self.numbers.setdefault(key, len(self.numbers))

    def _number(self, node: Node) -> int:
        """Equal for nodes that compute the same from the same."""
        inputs = tuple(self.same.get(name, self.graph.identity(name) if name else "") for name in node.inputs)
        settled = node.op in ELEMENT or node.op in PASSES
        return self._intern(
            (node.op, repr(sorted(node.attrs.items())), inputs) if settled else ("value", node.outputs[0])
        )

    def _origin(self, node: Node, operands: list[Label]) -> frozenset[int]:
        constants = [n for n in node.inputs if n and n not in self.graph.data_inputs(node)]
        weights = tuple(self.graph.identity(name) for name in constants)
        if node.op in LINEAR and weights:
            return frozenset({self._intern((node.op, weights))})
        if node.op == "Concat":
            return frozenset().union(*(operand.origin for operand in operands))
        return frozenset({self._intern((node.op, weights, tuple(operand.origin for operand in operands)))})

    def _compare(self, node: Node, operands: list[Label]) -> Label:
        if all(operand.role == "spikes" for operand in operands) or (
            set(self.graph.data_inputs(node)) <= self.logic and all(operand.role == "signal" for operand in operands)
        ):
            same = len({operand.neuron for operand in operands}) == 1 and operands[0].role == "spikes"
            return operands[0] if same else self._source(node.outputs[0], self._origin(node, operands))
        comparison = self.neurons.new()
        self.comparisons.append(node)
        twin = self.compared.setdefault(self.same[node.outputs[0]], comparison)
        self.neurons.join([comparison, twin, *(operand.neuron for operand in operands if operand.role == "state")])
        membrane = self.pools.join(operand.pool for operand in operands)
        origin = frozenset({self._intern(("spikes", frozenset().union(*(operand.origin for operand in operands))))})
        return Label("spikes", self.pools.new(), origin, comparison, membrane)

    def _passed(self, node: Node, operand: Label) -> Label:
        counts = node.op in ("Cast", "CastLike") and node.integer("to", TensorProto.FLOAT) != TensorProto.BOOL
        if operand.role == "spikes" and not operand.number and counts:
            return replace(operand, number=node.outputs[0])
        return operand

    def _element(self, node: Node, operands: list[Label]) -> Label:
        spikes = [operand for operand in operands if operand.role == "spikes"]
        others = [operand for operand in operands if operand.role != "spikes"]
        if not others:
            return self._of_spikes(node, spikes)
        reset = [s for s in spikes if any(self._met(s.membrane, other.pool) for other in others)]
        if reset:
            self.resets.add(node.name)
        states = [operand for operand in others if operand.role == "state"]
        signals = [
            operand for operand in operands if operand.role == "signal" or (operand in spikes and operand not in reset)
        ]
        if reset or states:
            neuron = self.neurons.join([operand.neuron for operand in (*reset, *states)])
            return self._state([*states, *signals], neuron)
        if len({self.pools.find(signal.pool) for signal in signals}) == 1:
            return signals[0]
        if len({signal.origin for signal in signals}) == 1:
            return self._state(signals, -1)
        return self._source(node.outputs[0], frozenset().union(*(signal.origin for signal in signals)))

    def _of_spikes(self, node: Node, spikes: list[Label]) -> Label:
        if len({s.neuron for s in spikes}) > 1:
            neuron = self.neurons.find(spikes[0].neuron)
            if node.outputs[0] in self.leads and all(self.neurons.find(s.neuron) == neuron for s in spikes):
                self.resets.add(node.name)  # a trace of its own spikes, as of a threshold that rises with each
                return self._state(spikes, neuron)
            return self._source(node.outputs[0], frozenset().union(*(s.origin for s in spikes)))
        numbers = [self.graph.filled(name) for name in node.inputs[1:]]
        if node.op == "Where" and not spikes[0].number:
            if numbers.count(0) != 1 or None in numbers:  # 1 and -1, say: a code, not spikes
                return self._source(node.outputs[0], spikes[0].origin)
            return replace(spikes[0], number=node.outputs[0])
        return spikes[0]

    def _state(self, parts: list[Label], neuron: int) -> Label:
        pool = self.pools.join(part.pool for part in parts)
        return Label("state", pool, frozenset().union(*(part.origin for part in parts)), neuron)

    def _met(self, one: int, other: int) -> bool:
        return self.pools.find(one) == self.pools.find(other)
