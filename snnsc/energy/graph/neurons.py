"""Neurons that a file writes out: a comparison whose outcome leaves as a number, and the arithmetic around it.

What torch.onnx.export makes of an SNN of SpikingJelly, snnTorch or Norse is a loop over time that is written out, with
leak, charge, comparison and reset of each neuron as nodes of their own:

    Mul(v, beta) - Add(., x) - Sub(., threshold) - Greater(., 0) - Cast -> spikes
    Sub(v, Mul(spikes, threshold)) -> v

`labels` says of each value what it is. Here: which comparisons are neurons, and which nodes are theirs. A comparison is
one where its outcome leaves as 0 and 1 to something that is not its own reset. Nodes from the last layer, pool, norm or
residual sum to the comparison, and all that make a state, are the neuron's and have no rows of their own; biases and
scales given for each channel stay the network's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx

from snnsc.energy.graph.labels import ELEMENT, Labels, Readable, label
from snnsc.energy.graph.memoryless import join
from snnsc.energy.graph.moments import Moments, moments, time_steps
from snnsc.energy.graph.nodes import Graph, Node
from snnsc.energy.graph.ops import COMPARES, SUMS
from snnsc.energy.plan.kinds import Kind

_PRODUCTS = frozenset({"Mul", "Div"})


@dataclass(frozen=True)
class Neuron:
    """One comparison that fires, at one time step.

    Attributes:
        spikes: The value that holds its spikes as numbers.
        layer: Which neurons these are; the same at every time step.
        arithmetic: (multiplications, additions) of one update of one element: leak, synapse and charge. Comparing and
            resetting are not counted, here as elsewhere.
        reads: Values that it takes its current from.
    """

    spikes: str
    layer: int
    arithmetic: tuple[int, int]
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Neurons:
    """All neurons that a graph writes out.

    Attributes:
        at: Name of the node that makes spikes as numbers -> the neuron.
        inside: Names of the nodes that are arithmetic of a neuron.
        layers: Value that holds spikes or a state -> the layer of neurons.
        moments: When values are made and used.
    """

    at: Mapping[str, Neuron] = field(default_factory=dict)
    inside: frozenset[str] = frozenset()
    layers: Mapping[str, int] = field(default_factory=dict)
    moments: Moments = field(default_factory=Moments)


def find_neurons(graph: Graph, kinds: Mapping[str, Kind]) -> Neurons:
    """The neurons of a straight graph.

    Args:
        graph: The graph.
        kinds: Kind of each value: a comparison of spikes, or of sums of spikes, is logic.
    """
    if not any(node.op in COMPARES for node in graph.nodes):
        return Neurons()
    labels = label(graph, logic={n for n, kind in kinds.items() if kind.unit is not None}, states=_given_states(graph))
    outputs = {value.name for value in graph.model.graph.output}
    firing, kept = _firing(graph, labels, outputs)
    join(graph, labels, firing)
    region = _Region(graph, labels, kept)
    pieces = {c: region.back_from(c) for c in firing}  # in execution order: what is new at each is of its time step
    layers = {labels.layer(c) for c in firing}
    # of the last step: the first ones start from nothing, and exporters leave out what adds or keeps nothing
    settled = {labels.layer(c): region.arithmetic(nodes) for c, (nodes, _) in pieces.items()}
    producer = graph.producers
    at = {
        producer[spikes].name: Neuron(spikes, labels.layer(c), settled[labels.layer(c)], tuple(pieces[c][1]))
        for c, spikes in firing.items()
    }
    inside = {node.name for nodes, _ in pieces.values() for node in nodes}
    inside |= {node.name for node in graph.nodes if region.belongs(node) and labels.of(node.outputs[0]) in layers}
    of_layers = {value: labels.of(value) for value in labels.found if labels.of(value) in layers}
    steps = {labels.comparisons[c].name: step for c, step in time_steps(labels, firing).items()}
    when = moments(graph, labels, steps)
    return Neurons(at, frozenset(inside - at.keys()), of_layers, when)


def body_arithmetic(node: Node) -> tuple[int, int]:
    """As `Neuron.arithmetic`, of a Scan that is a layer of neurons."""
    body = node.attrs["body"]
    assert isinstance(body, onnx.GraphProto)
    scanned = node.integer("num_scan_inputs", 0)
    view = _Body.of(body)
    states = {value.name for value in list(body.input)[: len(body.input) - scanned]}
    labels = label(view, states=states)
    region = _Region(view, labels, set())
    return region.arithmetic([n for n in view.nodes if n.op in ELEMENT and n.outputs[0] in labels.found])


@dataclass(frozen=True)
class _Body:
    """The body of a loop, as `labels` reads it; what it takes from outside counts as constant."""

    nodes: tuple[Node, ...]
    data: frozenset[str]

    @classmethod
    def of(cls, body: onnx.GraphProto) -> _Body:
        nodes = []
        data = {value.name for value in body.input}
        for proto in body.node:
            attrs = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
            nodes.append(Node(proto.output[0], proto.op_type, "", tuple(proto.input), tuple(proto.output), attrs))
            data.update(proto.output if data.intersection(proto.input) else ())
        return cls(tuple(nodes), frozenset(data))

    def data_inputs(self, node: Node) -> list[str]:
        return [name for name in node.inputs if name in self.data]

    def filled(self, name: str) -> float | None:  # noqa: ARG002
        return None

    def identity(self, name: str) -> str:
        return name


def _given_states(graph: Graph) -> set[str]:
    """Inputs of a graph of one time step that are states: beside another input, and read element by element alone."""
    readers: dict[str, list[Node]] = {i.name: [] for i in graph.inputs}
    for node in graph.nodes:
        for name in readers.keys() & set(node.inputs):
            readers[name].append(node)
    alone = {name for name, nodes in readers.items() if nodes and all(node.op in ELEMENT for node in nodes)}
    return alone if alone != readers.keys() else set()


def _firing(graph: Graph, labels: Labels, outputs: set[str]) -> tuple[dict[int, str], set[str]]:
    """Comparison -> its spikes as numbers, where they leave; and the nodes on their way out, which are no neuron's."""
    leaving: dict[int, str] = {}
    ways: set[str] = set()
    for node in graph.nodes:
        for name in graph.data_inputs(node):
            if _leaves(node, name, labels):
                ways.add(name)
    ways |= outputs
    kept: set[str] = set()
    for value in ways:
        found = labels.found.get(value)
        if found is None or found.role != "spikes" or not found.number:
            continue
        leaving[found.neuron] = found.number
        while value != found.number:
            node = graph.producers[value]
            kept.add(node.name)
            value = next(n for n in graph.data_inputs(node) if labels.found[n].neuron == found.neuron)
    return dict(sorted((leaving | _unread(labels, leaving)).items())), kept


def _unread(labels: Labels, leaving: Mapping[int, str]) -> dict[int, str]:
    """Comparisons of the same neurons at steps whose spikes nothing reads but their own reset."""
    layers = {labels.layer(c) for c in leaving}
    thresholds = {labels.threshold(c) for c in leaving}
    membranes = {labels.pools.find(labels.found[spikes].membrane) for spikes in leaving.values()}
    numbers = {f.neuron: f.number for f in labels.found.values() if f.role == "spikes" and f.number}
    seen = {labels.membrane(c) for c in leaving}
    unread: dict[int, str] = {}
    for c, node in enumerate(labels.comparisons):
        truth = node.outputs[0]
        pool = labels.pools.find(labels.found[truth].membrane)
        chosen_by = pool in membranes and labels.threshold(c) in thresholds  # a reset may choose by truth alone
        if labels.layer(c) in layers and labels.membrane(c) not in seen and (c in numbers or chosen_by):
            seen.add(labels.membrane(c))
            unread[c] = numbers.get(c, truth)
    return unread


def _leaves(node: Node, value: str, labels: Labels) -> bool:
    found = labels.found.get(value)
    if found is None or found.role != "spikes":
        return False
    result = labels.found.get(node.outputs[0])
    if result is not None and result.role == "spikes" and labels.layer(result.neuron) == labels.layer(found.neuron):
        return False  # the same spikes, moved or scaled, or a threshold that they raise
    return node.name not in labels.resets


class _Region:
    """The nodes around comparisons.

    Args:
        graph: The graph, or the body of a loop.
        labels: What its values are.
        kept: Names of nodes that belong to no neuron.
    """

    def __init__(self, graph: Readable, labels: Labels, kept: set[str]) -> None:
        self.graph, self.labels, self.kept = graph, labels, kept
        self.producers = {output: node for node in graph.nodes for output in node.outputs}
        self.readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in graph.data_inputs(node):
                self.readers.setdefault(name, []).append(node)
        self.seen: set[str] = set()

    def back_from(self, comparison: int) -> tuple[list[Node], list[str]]:
        """What leads to a comparison and was not met before, and the signals it begins with."""
        nodes: list[Node] = []
        signals: dict[str, None] = {}
        stack = [self.labels.comparisons[comparison]]
        while stack:
            node = stack.pop()
            if node.name in self.seen:
                continue
            self.seen.add(node.name)
            if node.name not in self.kept and node.op in ELEMENT and not self._of_the_network(node):
                nodes.append(node)
            for name in self.graph.data_inputs(node):
                producer = self.producers.get(name)
                if producer is None or name in self.labels.sources:
                    signals[name] = None
                else:
                    stack.append(producer)
        return nodes, list(signals)

    def belongs(self, node: Node) -> bool:
        """Whether a node makes a state, or spikes that serve a reset alone."""
        found = self.labels.found.get(node.outputs[0])
        return found is not None and found.role != "signal" and node.op in ELEMENT and node.name not in self.kept

    def arithmetic(self, nodes: list[Node]) -> tuple[int, int]:
        """(multiplications, additions) that charge, not those that compare or reset."""
        counted = [node for node in nodes if self._charges(node)]
        return sum(n.op in _PRODUCTS for n in counted), sum(n.op in SUMS for n in counted)

    def _charges(self, node: Node) -> bool:
        output = node.outputs[0]
        readers = self.readers.get(output, [])
        offset = len(self.graph.data_inputs(node)) == 1
        compares = offset and bool(readers) and all(reader.op in COMPARES for reader in readers)
        spikes = self.labels.found[output].role == "spikes"
        return not (compares or spikes or node.name in self.labels.resets or neutral(self.graph, node))

    def _of_the_network(self, node: Node) -> bool:
        """A bias, or a scale for each channel, on the way to the neuron."""
        data = self.graph.data_inputs(node)
        if len(data) != 1 or len(node.inputs) != 2 or self.labels.found[data[0]].role != "signal":
            return False
        constant = next((name for name in node.inputs if name != data[0]), "")
        value = self.graph.constant(constant) if isinstance(self.graph, Graph) else None
        return node.op in SUMS | _PRODUCTS and value is not None and self.graph.filled(constant) is None


def neutral(graph: Readable, node: Node) -> bool:
    """Whether a node adds 0, or multiplies by 1 or 0: no arithmetic."""
    data = graph.data_inputs(node)
    if node.op not in SUMS | _PRODUCTS or len(data) != 1 or len(node.inputs) != 2:
        return False
    first = node.inputs[0] == data[0]
    number = graph.filled(node.inputs[1 if first else 0])
    match node.op:
        case "Mul":
            return number in (0, 1)
        case "Div":
            return number == 1 and first
        case _:
            return number == 0 and (first or node.op != "Sub")


def steps_of(neurons: Neurons) -> Iterator[tuple[str, int, int]]:
    """Node, layer and time step of every neuron; time runs in execution order."""
    count: dict[int, int] = {}
    for name, neuron in neurons.at.items():
        step = count.get(neuron.layer, 0)
        count[neuron.layer] = step + 1
        yield name, neuron.layer, step
