"""What a chip would hold: the neurons of a network, layer by layer, and the synapses that lead to them."""

from __future__ import annotations

from dataclasses import dataclass

from snnsc.energy.counting.counts import Counts, LayerCount
from snnsc.energy.graph.ops import SCALES
from snnsc.energy.pricing.formulas import elements, is_known, number, shape


@dataclass(frozen=True)
class Population:
    """The neurons of one layer, of one sample.

    A layer with synapses that leads to no neurons (the classifier) is a population of accumulators, one an output.

    Attributes:
        name: Row of the counts.
        neurons: How many.
        synapses: Pairs of an input element and a nonzero weight it meets, in one time step; each is counted, also
            where a convolution shares its weight. None where not known.
        fan_in: Synapses of the neuron that has most; None where not known.
        inputs: Elements that the population reads; None where not known.
        linear: Rows whose synapses lead to it.
    """

    name: str
    neurons: int
    synapses: int | None
    fan_in: int | None
    inputs: int | None
    linear: tuple[LayerCount, ...]


def populations(counts: Counts) -> tuple[Population, ...]:
    """The populations of a network, in the order of its rows; layers without neurons behind them come last."""
    rows = {layer.name: layer for layer in counts.layers}
    found: list[Population] = []
    used: set[str] = set()
    for layer in counts.layers:
        if is_neuron(layer):
            linear = upstream(layer, rows)
            used |= {row.name for row in linear or ()}
            found.append(_population(layer, linear))
    if all(population.synapses is not None for population in found):  # else a readout may be what could not be placed
        readouts = [layer for layer in counts.layers if has_synapses(layer) and layer.name not in used]
        found += [_population(layer, (layer,)) for layer in readouts]
    return tuple(found)


def upstream(layer: LayerCount, rows: dict[str, LayerCount]) -> tuple[LayerCount, ...] | None:
    """Rows with synapses that a row reads, through sums, pools and scales; None where that is not known."""
    found: dict[str, LayerCount] = {}
    seen = {layer.name}
    waiting = [layer]
    while waiting:
        current = waiting.pop()
        if not is_known(current) or "sources" not in current.facts:
            return None
        for name in names(current, "sources"):
            if name in seen or name not in rows:
                continue
            seen.add(name)
            if has_synapses(rows[name]):
                found[name] = rows[name]
            elif not is_neuron(rows[name]):
                waiting.append(rows[name])
    return tuple(row for name, row in rows.items() if name in found)


def per_step(layer: LayerCount, key: str) -> int | None:
    """A count of one sample and one time step that does not depend on the samples; None where it is not known."""
    if key not in layer.stats or "time_steps" not in layer.stats:
        return None
    steps = layer.stats["time_steps"].high
    return round(layer.stats[key].high / steps) if steps else None


def has_synapses(layer: LayerCount) -> bool:
    """Whether a row is a convolution or a matrix; a scale can be folded into either."""
    return "max_events" in layer.stats and layer.op not in SCALES


def is_neuron(layer: LayerCount) -> bool:
    """Whether a row is a layer of neurons."""
    return "neuron_updates" in layer.stats


def names(layer: LayerCount, key: str) -> tuple[str, ...]:
    """A fact that is a list of names; empty where it is not known."""
    value = layer.facts.get(key)
    return tuple(str(name) for name in value) if isinstance(value, list | tuple) else ()


def _population(layer: LayerCount, linear: tuple[LayerCount, ...] | None) -> Population:
    outputs = elements(shape(layer, "output_shape"))
    synapses = [per_step(row, "max_events") for row in linear or ()]
    fan_in = [number(row, "fan_in") for row in linear or ()]
    inputs = [elements(shape(row, "input_shape")) for row in linear or ()]
    return Population(
        name=layer.name,
        neurons=(per_step(layer, "neuron_updates") or 0) if is_neuron(layer) else outputs,
        synapses=None if linear is None or None in synapses else sum(n for n in synapses if n is not None),
        fan_in=sum(fan_in) if linear is not None and all(fan_in) else None,
        inputs=sum(inputs) if linear is not None and all(inputs) else None,
        linear=linear or (),
    )
