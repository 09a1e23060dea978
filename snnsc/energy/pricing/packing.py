"""Put a network onto cores: a simple mapping, not the best there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """Neurons that are alike.

    Attributes:
        neurons: How many.
        bits: Memory that the synapses of one of them take, in bits.
    """

    neurons: int
    bits: float


def first_fit(pieces: Sequence[Piece], neurons: int, bits: float | None) -> int | None:
    """How many cores a network takes.

    A layer fills whole cores, as many neurons in each as its places and its memory allow; what is left of it goes
    into the first core with room for all of that, else into a new one.

    Args:
        pieces: The layers, in order.
        neurons: Places for neurons in a core.
        bits: Memory for synapses in a core; None if it does not matter.

    Returns:
        Cores; None where the synapses of one neuron alone do not fit into a core.
    """
    full = 0
    open_cores: list[tuple[int, float]] = []  # places and bits left
    for piece in pieces:
        if not piece.neurons:
            continue
        each = neurons
        if bits is not None and piece.bits:
            each = min(neurons, int(bits // piece.bits))
        if not each:
            return None
        full += piece.neurons // each
        rest = piece.neurons % each
        if not rest:
            continue
        needed = rest * piece.bits if bits is not None else 0.0
        for index, (places, left) in enumerate(open_cores):
            if rest <= places and needed <= left:
                open_cores[index] = (places - rest, left - needed)
                break
        else:
            open_cores.append((neurons - rest, (bits or 0.0) - needed))
    return full + len(open_cores)


def match(needs: Sequence[tuple[int, int]], cores: Sequence[tuple[int, int]]) -> int:
    """How many layers find a core of their own: the largest matching of layers and cores that hold them.

    Augmenting paths (Kuhn's algorithm): a layer takes a free core that holds it, or one whose layer can move.

    Args:
        needs: Kernel and neuron words of each layer.
        cores: Kernel and neuron words of each core.
    """
    owner: dict[int, int] = {}

    def place(layer: int, tried: set[int]) -> bool:
        for core, (kernel, neuron) in enumerate(cores):
            if core in tried or needs[layer][0] > kernel or needs[layer][1] > neuron:
                continue
            tried.add(core)
            if core not in owner or place(owner[core], tried):
                owner[core] = layer
                return True
        return False

    return sum(place(layer, set()) for layer in range(len(needs)))
