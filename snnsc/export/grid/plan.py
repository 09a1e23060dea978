"""How finely to round the weights of each layer, so that every spike is exact (`--exact-grid`).

    graph -> spans, as the weights are -> room: the finest grid that each sum may have, from the neurons backwards
          -> weights 2^-a and input 2^-b of each linear operator, a + b = room -> spans of the rounded weights: checked

An operator that reads spikes (or their sums and averages) has its b given, and all of the room is its weights'. One
that reads real numbers, an image, or currents as the downsampling convolutions of `ms` do, has its input clamped (else
the bounds of currents would multiply from stage to stage) and rounded first. The room is split so that both roundings
weigh the same, for inputs of unit variance, as normalised ones have:

    error of a sum^2 ~ n 4^-a + |w|^2 4^-b, a + b fixed  =>  a - b = log2(sqrt(n) / |w|),  n inputs, |w| their weights
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from snnsc.errors import CheckError
from snnsc.export.grid.exact import AVERAGES, LINEAR, SUMS, Graph, Membrane, Snap, broken_span
from snnsc.export.grid.spans import BITS, Span, hull
from snnsc.neuron_functions import DOMAIN

LEAST_STEPS = 4
"""Steps of the grid that the largest weight of a layer must be worth."""
REMEDY = "train with a smaller model.T, or with if or a larger model.neuron.decay, which take fewer bits a step"


@dataclass(frozen=True)
class Reads:
    """What a linear operator is to read, where it reads real numbers.

    Attributes:
        low: Smallest value, at most 0; smaller ones are clamped.
        high: Largest value, at least 0; larger ones are clamped.
        whole: Whether all are whole numbers.
    """

    low: float
    high: float
    whole: bool


@dataclass(frozen=True)
class Linear:
    """The grid of a linear operator.

    Attributes:
        a: Its weights are multiples of 2^-a.
        b: Its inputs are multiples of 2^-b, its bias and sums of 2^-(a+b).
        m: Its sums, and all partial sums, are at most 2^m.
        clamp: To what its inputs are clamped, and then rounded to 2^-b; None where they are on it by themselves.
    """

    a: int
    b: int
    m: float
    clamp: tuple[float, float] | None


@dataclass(frozen=True)
class Neurons:
    """The grid of a layer of neurons.

    Attributes:
        e: Its current is a multiple of 2^-e, and its membrane potential after T steps of 2^-(e + c (T-1)).
        c: Its decay is 2^-c.
        m: Its membrane potential is at most 2^m.
    """

    e: float
    c: int
    m: float


@dataclass(frozen=True)
class Grid:
    """The grid of a network.

    Attributes:
        T: Up to how many time steps its spikes are exact.
        linear: Of each linear operator that neurons depend on.
        neurons: Of each layer of neurons.
    """

    T: int
    linear: dict[str, Linear]
    neurons: dict[str, Neurons]

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "T": self.T,
            "linear": {name: {"a": x.a, "b": x.b, "m": x.m} for name, x in self.linear.items()},
            "neurons": {name: {"e": x.e, "c": x.c, "m": x.m} for name, x in self.neurons.items()},
        }


@dataclass(frozen=True)
class Room:
    """The finest grid that a value may have: multiples of 2^-e; and what does not let it be finer."""

    e: float
    reason: str


def plan(model: onnx.ModelProto, T: int, reads: Mapping[str, Reads]) -> Grid:
    """The finest grid on which every spike of a model is exact, for every input and up to T time steps.

    Args:
        model: The exported whole sequence, its weights not yet rounded.
        T: Time steps.
        reads: What each linear operator is to read that reads real numbers (`Graph.real_readers`).

    Raises:
        CheckError: there is none, or one too coarse for the weights of a layer.
    """
    graph = Graph(model, T, {name: (r.low, r.high) for name, r in reads.items()})
    bounds = graph.spans()
    while True:
        rooms = _rooms(graph, bounds)
        snaps = _snaps(graph, rooms, reads)
        _refuse_coarse(graph, snaps, rooms)
        found = graph.spans(snaps)
        if broken_span(graph, found) is None:
            return _grid(graph, found, snaps)
        # rounding made some weights larger; bounds only grow, and with them the steps, until they are too coarse
        bounds = {name: hull([bounds[name], span]) for name, span in found.items()}


def _rooms(graph: Graph, bounds: Mapping[str, Span]) -> dict[str, Room]:
    """The room of every sum: name of the node that makes it -> the finest grid that it may have."""
    free = Room(math.inf, "")
    values: dict[str, Room] = {}
    rooms: dict[str, Room] = {}

    def limit(value: str, room: Room) -> None:
        values[value] = min(values.get(value, free), room, key=lambda r: r.e)

    membranes = {node.name: membrane for node, membrane in graph.neurons(bounds)}
    for node in reversed(graph.nodes):
        if node.domain == DOMAIN:
            limit(node.input[0], _membrane_room(membranes[node.name], graph.T))
            continue
        out, less = node.output[0], 0
        if node.op_type in SUMS:
            m = bounds[out].m
            limit(out, Room(BITS - m, f"float32 has {BITS} bits, and the sums of {node.name} reach 2^{m:g}"))
            rooms[node.name] = values[out]
        if node.op_type in LINEAR:
            continue  # what it reads is rounded as it needs it
        if node.op_type in AVERAGES:
            less = graph.averaged(node)
        if out in values:
            for name in graph.data_inputs(node):
                limit(name, Room(values[out].e - less, values[out].reason))
    return rooms


def _snaps(graph: Graph, rooms: Mapping[str, Room], reads: Mapping[str, Reads]) -> dict[str, Snap]:
    """How each linear operator is rounded."""
    snaps: dict[str, Snap] = {}
    grids: dict[str, float] = {graph.input: math.inf}  # the e of every value
    for node in graph.nodes:
        grid = max(grids[name] for name in graph.data_inputs(node))
        if node.domain == DOMAIN:
            grid = 0
        elif node.op_type in AVERAGES:
            grid += graph.averaged(node)
        elif node.op_type in LINEAR:
            room = int(rooms[node.name].e)
            if (given := reads.get(node.name)) is not None:
                grid = 0 if given.whole else min(grid, _input_share(graph, node, room))
            snaps[node.name] = Snap(room - int(grid), int(grid))
            grid = room
        elif node.op_type in SUMS and grid > rooms[node.name].e:
            raise CheckError(f"{node.name}: it adds spikes, and {rooms[node.name].reason}; {REMEDY}")
        grids[node.output[0]] = grid
    return snaps


def _membrane_room(membrane: Membrane, T: int) -> Room:
    """The finest grid of the current of a layer of neurons."""
    taken = membrane.c * (T - 1)
    finest = BITS - membrane.span.m - taken
    words = (
        f"float32 has {BITS} bits; the membrane of {membrane.name} reaches 2^{membrane.span.m:g} (m) "
        f"and takes c (T-1) = {membrane.c} x {T - 1} bits"
    )
    if membrane.floor > finest:
        raise CheckError(
            f"layer {membrane.name}: its soft reset subtracts a threshold that is a multiple of 2^-{membrane.floor:g} "
            f"only, but {words}, so 2^-{finest:g} is the finest; train with a threshold such as 1 or 0.5, a hard reset,"
            " or a smaller model.T"
        )
    return Room(finest + membrane.k, words)


def _input_share(graph: Graph, node: onnx.NodeProto, room: int) -> int:
    """The b of an operator that reads real numbers, see the top of this file."""
    w, _ = graph.weights(node)
    norm = math.sqrt((w**2).sum(1).mean())
    lead = math.log2(math.sqrt(w.shape[1]) / norm) if norm > 0 else 0
    return max(0, round((room - lead) / 2))


def _refuse_coarse(graph: Graph, snaps: Mapping[str, Snap], rooms: Mapping[str, Room]) -> None:
    for node in graph.nodes:
        if node.name not in snaps:
            continue
        largest, a = float(np.abs(graph.weights(node)[0]).max()), snaps[node.name].a
        if 0 < largest < LEAST_STEPS * 2.0**-a:
            raise CheckError(
                f"layer {node.name}: exact spikes would need weights that are multiples of 2^{-a}, too coarse for its "
                f"largest, {largest:.3g}: {rooms[node.name].reason}; {REMEDY}"
            )


def _grid(graph: Graph, found: Mapping[str, Span], snaps: Mapping[str, Snap]) -> Grid:
    sums = {node.name: found[node.output[0]].m for node in graph.nodes}
    linear = {name: Linear(snap.a, snap.b, sums[name], graph.clamps.get(name)) for name, snap in snaps.items()}
    neurons = {
        node.name: Neurons(found[node.input[0]].e, membrane.c, membrane.span.m)
        for node, membrane in graph.neurons(found)
    }
    return Grid(graph.T, linear, neurons)
