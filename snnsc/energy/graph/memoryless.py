"""Neurons that keep nothing, or are never reset: no state tells which of them are one layer at several time steps.

Those that read from layers of equal weights are. So are, wrongly, the two of a chain W - spike - W - spike whose
weights are tied: it cannot be told from a recurrent layer over two time steps. Two towers that share their weights, as
of a siamese network, are told apart by the inputs of the graph that they read.
"""

from __future__ import annotations

from collections.abc import Iterable

from snnsc.energy.graph.labels import Groups, Labels
from snnsc.energy.graph.moments import earliest, time_steps
from snnsc.energy.graph.nodes import Graph


def join(graph: Graph, labels: Labels, firing: Iterable[int]) -> None:
    """Join the comparisons that are one layer at several time steps, but for those that a state joined already."""
    sizes: dict[int, int] = {}
    for c in range(len(labels.comparisons)):
        sizes[labels.layer(c)] = sizes.get(labels.layer(c), 0) + 1
    alike: dict[frozenset[int], list[int]] = {}
    for c in [c for c in firing if sizes[labels.layer(c)] == 1]:
        alike.setdefault(_origin(labels, c), []).append(c)
    if all(len(group) == 1 for group in alike.values()):
        return
    remembering = {c for c in range(len(labels.comparisons)) if sizes[labels.layer(c)] > 1}
    reads = _inputs(graph, labels, remembering)
    steps = time_steps(labels, [c for c in firing if c in remembering])
    leads = earliest(graph, {labels.comparisons[c].name: (step, labels.layer(c)) for c, step in steps.items()})
    for group in alike.values():
        for tower in _towers(group, [reads[c] for c in group], [leads.get(_output(labels, c)) for c in group]):
            for c in tower[1:]:
                if not _beside(labels, tower[0], c):
                    labels.neurons.join([tower[0], c])


def _output(labels: Labels, comparison: int) -> str:
    return labels.comparisons[comparison].outputs[0]


def _origin(labels: Labels, comparison: int) -> frozenset[int]:
    return frozenset().union(*(m.origin for m in labels.operands(labels.comparisons[comparison])))


def _beside(labels: Labels, one: int, other: int) -> bool:
    """Whether two comparisons compare one value, with two thresholds."""
    first, second = (labels.operands(labels.comparisons[c]) for c in (one, other))
    same = labels.pools.find(first[0].pool) == labels.pools.find(second[0].pool)
    return same and all(membrane.role != "state" for membrane in second)


def _inputs(graph: Graph, labels: Labels, remembering: set[int]) -> dict[int, frozenset[str]]:
    """The inputs of the graph that each comparison reads through nothing that remembers; none behind such."""
    inputs = {i.name for i in graph.inputs}
    nothing: frozenset[str] = frozenset()
    found: dict[str, frozenset[str]] = {name: frozenset({name}) for name in inputs}
    behind: dict[int, frozenset[str]] = {}
    compared = {node.name: c for c, node in enumerate(labels.comparisons)}
    for node in graph.nodes:
        reads = nothing.union(*(found.get(name, nothing) for name in graph.data_inputs(node)))
        label = labels.found.get(node.outputs[0])
        c = compared.get(node.name)
        if c is not None:
            behind[c] = reads
        if c in remembering or node.is_neuron or (label is not None and label.role == "state"):
            reads = nothing
        found |= dict.fromkeys(node.outputs, reads)
    return behind


def _towers(group: list[int], reads: list[frozenset[str]], leads: list[tuple[int, int] | None]) -> list[list[int]]:
    """Comparisons that share an input of the graph, together.

    All are one layer where some read through what remembers. Those that lead to neurons that remember are where each
    leads to another time step of the same: a network that takes one input at each step.

    Args:
        group: Comparisons.
        reads: For each, the inputs that it reads.
        leads: For each, the first (time step, layer) of neurons that remember.
    """
    if not all(reads):
        return [group]
    if None not in leads and len(set(leads)) == len(leads):
        layers: dict[int, list[int]] = {}
        for c, lead in zip(group, leads, strict=True):
            layers.setdefault(lead[1] if lead else -1, []).append(c)
        return list(layers.values())
    inputs = Groups()
    numbers = {name: inputs.new() for name in sorted(frozenset().union(*reads))}
    for read in reads:
        inputs.join(numbers[name] for name in read)
    towers: dict[int, list[int]] = {}
    for c, read in zip(group, reads, strict=True):
        towers.setdefault(inputs.find(numbers[min(read)]), []).append(c)
    return list(towers.values())
