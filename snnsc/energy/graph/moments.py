"""When values of a straight graph are made and used, by the time steps of the neurons that it writes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from snnsc.energy.graph.labels import Labels
from snnsc.energy.graph.nodes import Graph

Steps = Mapping[str, int]
"""Name of a node that compares -> its time step."""


@dataclass(frozen=True)
class Moments:
    """When values are made and used.

    Attributes:
        steps: T of these neurons; 0 without any.
        made: Value -> the last time step of a comparison that it depends on; absent before the first one.
        used: Value -> the time steps of the neurons that take it as their current, through layers, norms and sums too.
    """

    steps: int = 0
    made: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, frozenset[int]] = field(default_factory=dict)


def moments(graph: Graph, labels: Labels, steps: Steps) -> Moments:
    """When each value is made and used."""
    first = earliest(graph, steps)
    count = max(steps.values(), default=-1) + 1
    return Moments(count, _made(graph, steps), _used(graph, labels, steps, first))


def earliest(graph: Graph, steps: Steps) -> dict[str, int]:
    """Value -> the first time step of a comparison that it leads to; absent where it leads to none."""
    found: dict[str, int] = {}
    for node in reversed(graph.nodes):
        own = steps.get(node.name)
        after = [found[o] for o in node.outputs if o in found] if own is None else [own]
        if after:
            step = min(after)
            for name in graph.data_inputs(node):
                found[name] = min(found.get(name, step), step)
    return found


def _made(graph: Graph, steps: Steps) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in graph.nodes:
        before = [found[name] for name in graph.data_inputs(node) if name in found]
        before += [steps[node.name]] if node.name in steps else []
        if before:
            found |= dict.fromkeys(node.outputs, max(before))
    return found


def _used(graph: Graph, labels: Labels, steps: Steps, first: Mapping[str, int]) -> dict[str, frozenset[int]]:
    """A current is taken where it becomes a state, or is compared; what a reset takes is the neuron's own."""
    nothing: frozenset[int] = frozenset()
    found: dict[str, frozenset[int]] = {}
    for node in reversed(graph.nodes):
        if node.name in labels.resets or node.is_neuron:
            continue
        output = node.outputs[0]
        label = labels.found.get(output)
        step = steps.get(node.name, first.get(output) if label is not None and label.role == "state" else None)
        used = nothing.union(*(found.get(o, nothing) for o in node.outputs)) if step is None else frozenset({step})
        if used:
            for name in graph.data_inputs(node):
                found[name] = found.get(name, nothing) | used
    return found
