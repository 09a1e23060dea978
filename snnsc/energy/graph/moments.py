"""When values of a straight graph are made and used, by the time steps of the neurons that it writes out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from snnsc.energy.graph.labels import Labels
from snnsc.energy.graph.nodes import Graph

_Moment = TypeVar("_Moment", int, tuple[int, int])
Steps = Mapping[str, int]
"""Name of a node that compares -> its time step."""
Made = tuple[int, int, int]
"""Time step, T and layer."""


@dataclass(frozen=True)
class Moments:
    """When values are made and used.

    Attributes:
        steps: T of these neurons; 0 without any.
        made: Value -> of the comparisons right before it the last time step, with T and layer; absent before any.
        used: Value -> the time steps of the neurons that take it as their current, through layers, norms and sums too.
    """

    steps: int = 0
    made: Mapping[str, Made] = field(default_factory=dict)
    used: Mapping[str, frozenset[int]] = field(default_factory=dict)


def moments(graph: Graph, labels: Labels, steps: Steps) -> Moments:
    """When each value is made and used."""
    first = earliest(graph, steps)
    count = max(steps.values(), default=-1) + 1
    return Moments(count, _made(graph, _with_layers(labels, steps)), _used(graph, labels, steps, first))


def earliest(graph: Graph, steps: Mapping[str, _Moment]) -> dict[str, _Moment]:
    """Value -> the first time step of a comparison that it leads to; absent where it leads to none."""
    found: dict[str, _Moment] = {}
    for node in reversed(graph.nodes):
        own = steps.get(node.name)
        after = [found[o] for o in node.outputs if o in found] if own is None else [own]
        if after:
            step = min(after)
            for name in graph.data_inputs(node):
                found[name] = min(found.get(name, step), step)
    return found


def time_steps(labels: Labels, firing: Iterable[int]) -> dict[int, int]:
    """Time step of each comparison that fires, or that compares what one that fires does, as for a later reset."""
    count: dict[int, int] = {}
    steps: dict[tuple[int, frozenset[str]], int] = {}
    for c in firing:
        layer = labels.layer(c)
        steps[layer, labels.membrane(c)] = count.get(layer, 0)
        count[layer] = count.get(layer, 0) + 1
    found = {c: steps.get((labels.layer(c), labels.membrane(c))) for c in range(len(labels.comparisons))}
    return {c: step for c, step in found.items() if step is not None}


def _with_layers(labels: Labels, steps: Steps) -> dict[str, Made]:
    """Name of a node that compares -> what it makes."""
    layers = {node.name: labels.layer(c) for c, node in enumerate(labels.comparisons) if node.name in steps}
    totals: dict[int, int] = {}
    for name, layer in layers.items():
        totals[layer] = max(totals.get(layer, 0), steps[name] + 1)
    return {name: (steps[name], totals[layer], layer) for name, layer in layers.items()}


def all_steps(made: Collection[Made | None]) -> bool:
    """Whether values with these entries in `Moments.made` are one for each time step of one layer."""
    count = len(made)
    known = [entry for entry in made if entry is not None]
    layers = {layer for _, _, layer in known}
    return count > 1 == len(layers) and {(t, of) for t, of, _ in known} == {(t, count) for t in range(count)}


def _made(graph: Graph, steps: Mapping[str, Made]) -> dict[str, Made]:
    """What holds all steps has none, so that a part of it that meets another value is of the other's."""
    found: dict[str, Made] = {}
    for node in graph.nodes:
        if node.is_neuron or (node.op == "Concat" and all_steps([found.get(name) for name in node.inputs])):
            continue
        before = [found[name] for name in graph.data_inputs(node) if name in found]
        if node.name in steps:
            before = [steps[node.name]]  # also where it reads what layers before it made at all steps
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
