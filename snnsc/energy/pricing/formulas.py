"""What each kind of target charges one layer for: a name and picojoules a term, each formula once.

A formula multiplies the published numbers of a target (`schema`) with the `Work` of a layer. The unit is pJ a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, prod

from snnsc.energy.counting.counts import LayerCount
from snnsc.energy.graph.ops import SCALES
from snnsc.energy.pricing.schema import ArithmeticTarget, EventTarget, MemoryTarget, OperationTarget, Update

Terms = dict[str, float]


@dataclass(frozen=True)
class Work:
    """What one layer does for one sample, over all time steps.

    Attributes:
        op: Operator, or kind of neuron.
        kind: `real`, `binary`, `integer`, `scaled`: of the input.
        events: Pairs of a nonzero input and a nonzero weight.
        acs: Those of them that are additions.
        magnitude: Events if an integer n is sent as n spikes.
        every_step: Events if a layer before the first neurons ran at every step.
        inputs: Nonzero input elements.
        updates: Neurons times time steps.
        spikes: Spikes that the neurons fire.
        bias_adds: Additions of a bias.
        ann_macs: Multiplications of the same layer in the ANN twin; None where its time steps cannot be told.
        input_shape: Of one sample and step; empty where not known.
        output_shape: Of one sample and step; empty where not known.
        kernel: Spatial size of the window; empty elsewhere.
        parameters: Elements of weight and bias; 0 where not known.
        arithmetic: Operations of an update of a foreign neuron.
    """

    op: str
    kind: str
    events: float
    acs: float
    magnitude: float
    every_step: float
    inputs: float
    updates: float
    spikes: float
    bias_adds: float
    ann_macs: float | None
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    kernel: tuple[int, ...]
    parameters: int
    arithmetic: Update | None


def measured(layer: LayerCount, samples: int) -> Work:
    """The mean over the samples."""

    def mean(key: str, default: float = 0.0) -> float:
        return layer.stats[key].total / samples if key in layer.stats else default

    events = mean("events")
    return _work(
        layer,
        samples,
        events=events,
        acs=mean("acs"),
        magnitude=mean("event_magnitude", events),
        every_step=mean("events_every_step", events),
        inputs=mean("input_nonzeros"),
        spikes=mean("spikes"),
    )


def worst(layer: LayerCount, samples: int, steps: int) -> Work:
    """If every input element were an event and every neuron fired at every step.

    An integer has no largest magnitude: `magnitude` is infinite for one.

    Args:
        layer: The layer.
        samples: Samples that were counted; 0 for none.
        steps: Time steps of the network: a layer that reads real numbers before time begins may run as often.
    """

    def mean(key: str) -> float:
        return layer.stats[key].total / (samples or 1) if key in layer.stats else 0.0

    events = mean("max_events")
    return _work(
        layer,
        samples or 1,
        events=events,
        acs=events if layer.input_kind == "binary" else 0.0,
        magnitude=inf if events and layer.input_kind in ("integer", "scaled") else events,
        every_step=events * max(steps / (mean("time_steps") or 1), 1),
        inputs=mean("input_elements"),
        spikes=mean("neuron_updates"),
    )


def arithmetic(work: Work, target: ArithmeticTarget) -> Terms:
    """Operations alone (Horowitz, ISSCC 2014, figure 1.1.9, gives the prices).

        mac_pj    = (events - acs) * (E_multiply + E_add)
        ac_pj     = acs * E_add
        neuron_pj = updates * (m * E_multiply + a * E_add)

    m and a are the operations of one neuron in one step: LIF 1 and 1 (leak, integrate), IF 0 and 1.
    """
    return {
        "mac_pj": (work.events - work.acs) * target.mac_pj,
        "ac_pj": work.acs * target.add.value,
        "neuron_pj": work.updates * _update_pj(work, target),
    }


def arithmetic_ann(work: Work, target: OperationTarget) -> float | None:
    """The ANN twin, run once, every multiplication charged: ann_macs * (E_multiply + E_add); None where not known."""
    return None if work.ann_macs is None else work.ann_macs * target.mac_pj


def memory(work: Work, target: MemoryTarget) -> Terms:
    """Operations, accesses and addressing of a spiking layer (Lemaire et al., arXiv 2210.13107).

    Equations as the authors' code numbers the paper's (qualia-plugin-snn, EnergyEstimationMetric); theta x C_out x
    kernel is counted exactly here, as `events`, and N T as `updates`:

        E_RAM(words)   = E_access + E_bit * words * bits               a read or a write, of one word
        operations     = (events - acs) * E_MAC + acs * E_add          1.4, 2.4; real inputs multiply
                       + updates * (m * E_multiply + a * E_add)        1.3, 2.3: a leak is a MAC; IF nothing
                       + (bias_adds + spikes) * E_add                  1.4, 2.4: bias, reset
        queues         = inputs * E_RAM(queue)                         5: a spike is read
                       + spikes * E_RAM(queue)                         13: a spike is written
        weights        = events * E_RAM(parameters)                    7, 8
        biases         = bias_adds * E_RAM(output channels)            7, 6.2
        potentials     = 2 (events + updates) * E_RAM(neurons)         9, 10, 14, 15: reads and writes
        addressing     = events * E_add                                16.3, 17.2
                       + inputs * 2 E_MAC, convolutions only           16.2

    E_MAC is E_multiply + E_add. The event part of the potentials stands in the layer with the synapses, N T in the
    layer of neurons. (2.4 has a factor N_in too many, which the authors' code corrects; 16.3 has C_out, which their
    code leaves out.)
    """
    add, mac = target.add.value, target.mac_pj
    neurons = elements(work.output_shape)
    addressing = work.events * add + (2 * work.inputs * mac if _is_convolution(work) else 0.0)
    return {
        "operations_pj": (work.events - work.acs) * mac
        + (work.acs + work.bias_adds + work.spikes) * add
        + work.updates * _update_pj(work, target),
        "queues_pj": (work.inputs + work.spikes) * access_pj(target, target.queue_words),
        "weights_pj": work.events * access_pj(target, work.parameters),
        "biases_pj": work.bias_adds * access_pj(target, _channels(work)),
        "potentials_pj": 2 * (work.events + work.updates) * access_pj(target, neurons),
        "addressing_pj": addressing,
    }


def memory_ann(work: Work, target: MemoryTarget) -> float | None:
    """The same layer as an ANN's, run once (arXiv 2210.13107); None where its shapes or steps are not known.

    operations  = ann_macs * E_MAC + N_out * E_add, the latter if it has a bias      1.1, 1.2, 2.1, 2.2
    inputs      = ann_macs * E_RAM(N_in), a convolution                              3
                = N_in * E_RAM(N_in), a matrix                                       4
    weights     = ann_macs * E_RAM(parameters)                                       6
    biases      = N_out * E_RAM(output channels), if it has any                      6
    outputs     = N_out * E_RAM(N_out)                                               11, 12
    addressing  = (N_in + N_out + C_out * kernel) * E_add, a convolution
                = ann_macs * E_add, a matrix
    """
    if work.ann_macs == 0:
        return 0.0
    if work.ann_macs is None or not work.input_shape or not work.output_shape:
        return None
    add, channels = target.add.value, _channels(work)
    n_in, n_out = elements(work.input_shape), elements(work.output_shape)
    biases = n_out if work.bias_adds else 0
    convolves = _is_convolution(work)
    inputs = work.ann_macs if convolves else n_in
    addressing = n_in + n_out + channels * prod(work.kernel) if convolves else work.ann_macs
    return (
        work.ann_macs * target.mac_pj
        + (biases + addressing) * add
        + inputs * access_pj(target, n_in)
        + work.ann_macs * access_pj(target, work.parameters)
        + biases * access_pj(target, channels)
        + n_out * access_pj(target, n_out)
    )


def access_pj(target: MemoryTarget, words: int) -> float:
    """E_RAM of arXiv 2210.13107, in pJ: 13.2 + 1.09e-5 * words * bits, a fit to Horowitz's 8, 32 and 1024 KiB."""
    return target.access.value + target.access_per_bit.value * words * target.bits


def event(work: Work, target: EventTarget) -> Terms:
    """A chip that works on spikes; the static power of the whole chip is added in `pricing`.

        synaptic_pj    = (events of spikes, each n times for an integer n) * E_event
        real_input_pj  = (events of real inputs, at every time step) * E_event
        neuron_pj      = updates * E_update,
                         or spikes * E_active + (updates - spikes) * E_inactive
        spike_pj       = spikes * E_spike

    Chips take spikes and no real numbers: a real input is charged as one synaptic event for each nonzero weight it
    meets, at every step, and has a term of its own, so that it can be left out where it is encoded off the chip.
    Scales that stand alone (BatchNormalization, Mul, Div) are no synapses: they fold into weights before deployment.
    """
    each = target.synaptic_event.value
    spiking, real = chip_events(work)
    terms = {"synaptic_pj": spiking * each if spiking else 0.0, "real_input_pj": real * each}
    if target.neuron_update:
        terms["neuron_pj"] = work.updates * target.neuron_update.value
    if target.active_update and target.inactive_update:
        silent = work.updates - work.spikes
        terms["neuron_pj"] = work.spikes * target.active_update.value + silent * target.inactive_update.value
    if target.spike:
        terms["spike_pj"] = work.spikes * target.spike.value
    return terms


def chip_events(work: Work) -> tuple[float, float]:
    """Synaptic events on a chip: of spikes, each n times for an integer n, and of real inputs, at every time step."""
    if work.op in SCALES:
        return 0.0, 0.0
    if work.kind == "real":
        return 0.0, work.every_step
    return (work.events if work.kind == "binary" else work.magnitude), 0.0


def update(work: Work, target: OperationTarget) -> Update | None:
    """Operations of one update: the target's own entry, else what the graph shows; None where neither is known."""
    return target.neuron.get(work.op, work.arithmetic)


def _update_pj(work: Work, target: OperationTarget) -> float:
    found = update(work, target)
    return found.multiplies * target.multiply.value + found.adds * target.add.value if found else 0.0


def _is_convolution(work: Work) -> bool:
    return bool(work.kernel)


def _channels(work: Work) -> int:
    if not work.output_shape:
        return 0
    return work.output_shape[0] if _is_convolution(work) else work.output_shape[-1]


def _work(
    layer: LayerCount,
    samples: int,
    *,
    events: float,
    acs: float,
    magnitude: float,
    every_step: float,
    inputs: float,
    spikes: float,
) -> Work:
    def mean(key: str) -> float:
        return layer.stats[key].total / samples if key in layer.stats else 0.0

    linear = "dense_macs" in layer.stats
    ann_macs = mean("ann_macs") if "ann_macs" in layer.stats or not linear else None
    return Work(
        *(layer.op, layer.input_kind, events, acs, magnitude, every_step, inputs if linear else 0.0),
        *(mean("neuron_updates"), spikes, mean("bias_adds") if linear else 0.0, ann_macs),
        *(shape(layer, "input_shape"), shape(layer, "output_shape"), shape(layer, "kernel") if linear else ()),
        *(number(layer, "parameters") or layer.weights, _arithmetic(layer)),
    )


def shape(layer: LayerCount, key: str) -> tuple[int, ...]:
    """A fact that is a list of integers; empty where it is not known."""
    value = layer.facts.get(key)
    return tuple(int(n) for n in value) if isinstance(value, list | tuple) else ()


def is_known(layer: LayerCount) -> bool:
    """Whether the layer's form is known at all: a fact of a row without shapes is no fact but a default."""
    return bool(shape(layer, "output_shape"))


def elements(dimensions: tuple[int, ...]) -> int:
    """Elements of a shape; 0 where it is not known."""
    return prod(dimensions) if dimensions else 0


def number(layer: LayerCount, key: str) -> int:
    """A fact that is an integer; 0 where it is not known."""
    value = layer.facts.get(key)
    return value if isinstance(value, int) else 0


def _arithmetic(layer: LayerCount) -> Update | None:
    operations = shape(layer, "arithmetic")
    return Update(multiplies=operations[0], adds=operations[1]) if len(operations) == 2 else None
