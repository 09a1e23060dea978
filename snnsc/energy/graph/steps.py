"""Which nodes are one layer at several time steps, in a graph that is unrolled over time."""

from __future__ import annotations

from collections.abc import Mapping

from snnsc.energy.graph.labels import ELEMENT, PASSES
from snnsc.energy.graph.neurons import Neurons, steps_of
from snnsc.energy.graph.nodes import Graph, Node
from snnsc.energy.graph.ops import LINEAR, POOLS, SCALES, SUMS
from snnsc.energy.plan.layout import Shape

_ROWS = LINEAR | SCALES | SUMS | POOLS


def places(graph: Graph, neurons: Neurons, shapes: Mapping[str, Shape], own_steps: int) -> dict[str, tuple[str, int]]:
    """Name of each node that is one of several time steps -> the row that it is reported under, and its step.

    Nodes are one layer where operator, attributes, weights (by content) and output shape are equal, and what they read
    comes from the same layers; from a loop that was made straight, where they are the same node of its body. They
    are in the order of time because a step needs the one before. A graph without time has none. Beside our own neurons,
    which have all steps, they are as many as these have, and each reads another value.

    Args:
        graph: The straight graph.
        neurons: Those that it writes out.
        shapes: Concrete shape of each value that depends on samples.
        own_steps: T of our own neurons; 1 without any.
    """
    members: dict[int, list[str]] = {}
    for name, layer, _ in steps_of(neurons):
        members.setdefault(layer, []).append(name)
    straight = any(node.unrolled for node in graph.nodes)
    written = straight or any(len(names) > 1 for names in members.values())
    if not written and own_steps == 1:
        return {}
    known = neurons.inside | neurons.at.keys()
    groups: dict[object, list[Node]] = {}
    origins = _origins(graph, neurons)
    for node in graph.nodes:
        row = node.op in _ROWS and not node.domain and node.name not in known
        if row and node.time_step is None and graph.data_inputs(node):
            groups.setdefault(_key(graph, node, origins, shapes), []).append(node)
    found: dict[str, tuple[str, int]] = {}
    for nodes in groups.values():
        if not written and (len(nodes) != own_steps or len({tuple(graph.data_inputs(n)) for n in nodes}) != own_steps):
            continue
        name = nodes[0].unrolled[0] if nodes[0].unrolled else nodes[0].name
        found |= {node.name: (name, step) for step, node in enumerate(nodes) if len(nodes) > 1}
    nodes_of = {node.name: node for node in graph.nodes}
    for names in members.values():
        first = nodes_of[names[0]]
        name = first.unrolled[0] if first.unrolled else first.name
        found |= {node: (name, step) for step, node in enumerate(names) if len(names) > 1}
    return found


def _key(graph: Graph, node: Node, origins: Mapping[str, frozenset[int]], shapes: Mapping[str, Shape]) -> object:
    sources = graph.data_inputs(node)
    constants = tuple("" if name in sources else graph.identity(name) for name in node.inputs)
    read = node.unrolled[0] if node.unrolled else frozenset().union(*(origins[name] for name in sources))
    return node.op, repr(sorted(node.attrs.items())), constants, shapes[node.outputs[0]], read


def _origins(graph: Graph, neurons: Neurons) -> dict[str, frozenset[int]]:
    """Which layers each value comes from: layers with weights are told apart by these, layers of neurons are known."""
    numbers: dict[object, int] = {}

    def one(*key: object) -> frozenset[int]:
        return frozenset({numbers.setdefault(key, len(numbers))})

    found = {name: one("inputs") for name in _in_steps(graph, neurons)}
    for node in graph.nodes:
        sources = graph.data_inputs(node)
        if not sources:
            continue
        read = frozenset().union(*(found.setdefault(name, one("input", name)) for name in sources))
        constants = tuple(graph.identity(name) for name in node.inputs if name and name not in sources)
        for output in node.outputs:
            if output in neurons.layers:
                found[output] = one("neuron", neurons.layers[output])
            elif node.op in LINEAR and constants:
                found[output] = one(node.op, constants)
            elif node.op in ELEMENT or node.op in PASSES or node.op == "Concat":
                found[output] = read
            else:
                found[output] = one(node.op, constants, read)
    return found


def _in_steps(graph: Graph, neurons: Neurons) -> list[str]:
    """The inputs of a graph that takes one at each time step; none where two are used at the same one."""
    used = {i.name: neurons.moments.used.get(i.name, frozenset()) for i in graph.inputs}
    single = {name: steps for name, steps in used.items() if len(steps) == 1}
    return list(single) if len(set(single.values())) == len(single) else []
