"""Follow the time axis through a graph, where it stands inside the samples: [B,T,C], [B*T,C,H,W], [B,C,T].

It is followed as `layout` follows the samples: with `inner` elements inside it, the element at flat position f is of
time step `(f // inner) % T`. It is known where a value is taken apart into what neurons use at T different time steps,
where what was made at T time steps is put together, and at our own neurons, which have it in front; from there it is
followed forwards and backwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from snnsc.energy.graph.moments import Made, Moments, all_steps
from snnsc.energy.graph.nodes import Graph, Node
from snnsc.energy.graph.ops import KEEP_ORDER
from snnsc.energy.plan.layout import Shape, step

PARTS = frozenset({"Gather", "Slice", "Split"})


@dataclass(frozen=True)
class Axis:
    """The time axis of a value.

    Attributes:
        inner: Elements inside it.
        size: T.
    """

    inner: int
    size: int


@dataclass(frozen=True)
class Times:
    """What is known of time inside the samples.

    Attributes:
        inside: Value -> its time axis, where that stands inside the samples.
        unclear: Values whose time axis is found in two places, or beside another one in front of the samples.
    """

    inside: Mapping[str, Axis] = field(default_factory=dict)
    unclear: frozenset[str] = frozenset()


def find_times(
    graph: Graph, shapes: Mapping[str, Shape], inner: Mapping[str, int], batch: int, moments: Moments
) -> Times:
    """The time axis of every value that has one inside its samples.

    Args:
        graph: The straight graph.
        shapes: Concrete shape of each value that depends on samples.
        inner: Layout of the samples in each value, see `layout`.
        batch: Samples in the run that the shapes are from.
        moments: When neurons that the graph writes out use each value.
    """
    seeds = [*_of_our_neurons(graph, shapes, inner, batch)]
    doubtful: list[tuple[str, Axis]] = []
    if moments.steps > 1:
        for clear, seed in _taken_apart(graph, shapes, moments):
            (seeds if clear else doubtful).append(seed)
        seeds += _put_together(graph, shapes, moments)
    known = _Axes(graph, shapes)
    known.spread(seeds)
    _reassemble(known)

    def within(name: str, axis: Axis) -> bool:
        return name in inner and axis.inner * axis.size <= inner[name]

    inside = {name: axis for name, axis in known.found.items() if within(name, axis)}
    doubted = _Axes(graph, shapes)
    doubted.spread(doubtful)
    unclear = {name for name, axis in doubted.found.items() if within(name, axis)}
    if any(within(name, axis) or name in inside for name, axis in known.twice):
        return Times({}, frozenset(unclear | inside.keys()))
    unclear |= {name for name in inside if prod(shapes[name]) != batch * inner[name]}
    return Times({name: axis for name, axis in inside.items() if name not in unclear}, frozenset(unclear))


def _of_our_neurons(
    graph: Graph, shapes: Mapping[str, Shape], inner: Mapping[str, int], batch: int
) -> Iterator[tuple[str, Axis]]:
    """Time stands in front of what our own functions read and give."""
    for node in graph.nodes:
        for name in (*graph.data_inputs(node), *node.outputs) if node.is_neuron else ():
            size = prod(shapes[name]) // (batch * inner[name]) if name in inner else 1
            if size > 1:
                yield name, Axis(inner[name] * batch, size)


def _taken_apart(
    graph: Graph, shapes: Mapping[str, Shape], moments: Moments
) -> Iterator[tuple[bool, tuple[str, Axis]]]:
    """Values whose equal parts along one axis are used at time steps of their own, as many each.

    In doubt, not clear, where they are used at others each, but share some.
    """
    parts: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for node in graph.nodes:
        source = node.inputs[0] if node.inputs else ""
        if node.op in PARTS and source in shapes and not node.domain:
            axis = _axis(graph, node, shapes)
            if axis is not None:
                sizes = [(o, 1 if node.op == "Gather" else shapes[o][axis]) for o in node.outputs if o in shapes]
                parts.setdefault((source, axis), []).extend(sizes)
    for (source, axis), found in parts.items():
        used = {moments.used.get(name, frozenset()) for name, _ in found}
        lengths = {length for _, length in found}
        if len(used) < 2 or len(lengths) != 1 or not all(used):
            continue
        apart = sum(map(len, used)) == len(frozenset().union(*used)) and len(set(map(len, used))) == 1
        yield from ((apart, seed) for seed in _seed(source, shapes[source], axis, lengths.pop()))


def _put_together(graph: Graph, shapes: Mapping[str, Shape], moments: Moments) -> Iterator[tuple[str, Axis]]:
    """What Concat makes of T values, each made at another time step."""
    for node in graph.nodes:
        if node.op == "Concat" and all_steps([moments.made.get(name) for name in node.inputs]):
            yield from _joined(node, shapes)


def _joined(node: Node, shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Axis]]:
    """The time axis of a Concat of T values of one size."""
    output = node.outputs[0]
    if node.domain or any(name not in shapes for name in (output, *node.inputs)):
        return
    axis = node.integer("axis", 0) % len(shapes[output])
    sizes = {shapes[name][axis] for name in node.inputs}
    if len(sizes) == 1:
        yield from _seed(output, shapes[output], axis, sizes.pop())


def _seed(name: str, shape: Shape, axis: int, size: int) -> Iterator[tuple[str, Axis]]:
    if size and shape[axis] % size == 0 and shape[axis] > size:
        yield name, Axis(size * prod(shape[axis + 1 :]), shape[axis] // size)


def _axis(graph: Graph, node: Node, shapes: Mapping[str, Shape]) -> int | None:
    """The one axis that a node takes a part of; of a Gather with one index."""
    before, after = shapes[node.inputs[0]], shapes.get(node.outputs[0])
    if after is None:
        return None
    if node.op == "Gather":
        index = graph.constant(node.inputs[1])
        return node.integer("axis", 0) % len(before) if index is not None and index.size == 1 else None
    changed = [a for a, (b, c) in enumerate(zip(before, after, strict=True)) if b != c]
    return changed[0] if len(changed) == 1 else None


class _Axes:
    """The axis of every value that is reached from seeds.

    Attributes:
        found: Value -> its axis.
        twice: Values with any other axis that reaches them.
    """

    def __init__(self, graph: Graph, shapes: Mapping[str, Shape]) -> None:
        self.graph, self.shapes = graph, shapes
        self.found: dict[str, Axis] = {}
        self.twice: list[tuple[str, Axis]] = []
        self._readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in graph.data_inputs(node):
                self._readers.setdefault(name, []).append(node)

    def spread(self, seeds: Iterable[tuple[str, Axis]]) -> None:
        """Follow more seeds, forwards and backwards."""
        graph, shapes = self.graph, self.shapes
        stack = list(seeds)
        while stack:
            name, axis = stack.pop()
            if name in self.found:
                self.twice += [] if self.found[name] == axis else [(name, axis)]
                continue
            self.found[name] = axis
            for node in self._readers.get(name, ()):
                after = ((o, _forwards(graph, node, name, o, axis, shapes)) for o in node.outputs if o in shapes)
                stack += [(o, Axis(inner, axis.size)) for o, inner in after if inner is not None]
            maker = graph.producers.get(name)
            if maker is not None:
                before = ((s, _backwards(graph, maker, s, name, axis, shapes)) for s in graph.data_inputs(maker))
                stack += [(s, Axis(inner, axis.size)) for s, inner in before if inner is not None]


def _reassemble(known: _Axes) -> None:
    """Follow what Concat makes of values that are each computed from parts of one time step."""
    graph, shapes = known.graph, known.shapes
    steps: dict[str, Made] = {}
    for node in graph.nodes:
        read = [steps.get(name) for name in graph.data_inputs(node)]
        axis = known.found.get(node.inputs[0]) if node.op in PARTS and not node.domain else None
        if axis is not None:
            steps |= {output: (step, axis.size, 0) for output, step in _steps_of(graph, node, shapes, axis)}
        elif node.op == "Concat" and all_steps(read):
            if node.outputs[0] not in known.found:
                known.spread(_joined(node, shapes))
        elif len(own := {step for step in read if step is not None}) == 1:
            steps |= dict.fromkeys(node.outputs, own.pop())


def _steps_of(graph: Graph, node: Node, shapes: Mapping[str, Shape], time: Axis) -> Iterator[tuple[str, int]]:
    """Outputs that are one time step of what a node takes apart, and which."""
    axis = _axis(graph, node, shapes)
    if axis is None:
        return
    shape = shapes[node.inputs[0]]
    below = prod(shape[axis + 1 :])
    start = 0
    if node.op != "Split":
        value = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if value is None or value.size != 1:
            return
        start = int(value.reshape(-1)[0]) % shape[axis]
    for output in node.outputs:
        if output not in shapes:
            return
        size = 1 if node.op == "Gather" else shapes[output][axis]
        if (size * below, shape[axis] * below, start * below % time.inner) == (time.inner, time.inner * time.size, 0):
            yield output, start * below // time.inner
        start += size


def _forwards(
    graph: Graph, node: Node, source: str, output: str, axis: Axis, shapes: Mapping[str, Shape]
) -> int | None:
    inner = step(graph, node, source, output, {source: axis.inner}, shapes, axis.size)
    return inner if inner is not None and prod(shapes[output]) % (inner * axis.size) == 0 else None


def _backwards(
    graph: Graph, node: Node, source: str, output: str, axis: Axis, shapes: Mapping[str, Shape]
) -> int | None:
    """The one layout of a source that gives this one of the output."""
    if source not in shapes:
        return None
    same = node.is_neuron or node.op in KEEP_ORDER
    candidates = {axis.inner} if same else set(_layouts(shapes[source], axis.size))
    fitting = [
        inner
        for inner in candidates
        if _forwards(graph, node, source, output, Axis(inner, axis.size), shapes) == axis.inner
    ]
    return fitting[0] if len(fitting) == 1 else None


def _layouts(shape: Shape, size: int) -> Iterator[int]:
    """Every way in which an axis of that size can stand in a shape, alone or folded with others."""
    for a, n in enumerate(shape):
        rest = n // size if n % size == 0 else 0
        yield from (d * prod(shape[a + 1 :]) for d in range(1, rest + 1) if rest % d == 0)
