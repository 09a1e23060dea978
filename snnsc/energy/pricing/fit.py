"""Does a network fit a chip? One verdict for each limit that the chip's target tells, see `schema.Limits`.

The mapping is simple: every layer of neurons, with the synapses that lead to it, is split over cores by its neurons
and by its synapses' memory; layers share a core where both leave room (`packing.first_fit`). A better mapping may need
fewer cores. What a fact is missing for, or what depends on a placement, is `not checked`, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal

from snnsc.energy.counting.counts import Counts
from snnsc.energy.pricing.conv_cores import Finding, beyond, check_layers, worst
from snnsc.energy.pricing.formulas import is_known, number
from snnsc.energy.pricing.packing import Piece, first_fit
from snnsc.energy.pricing.populations import Population, has_synapses, is_neuron, per_step, populations
from snnsc.energy.pricing.schema import Limit, Limits, Memory, Sourced, Target

Verdict = Literal["fits", "does not fit", "not checked"]
_KIB = 8 * 1024  # bits


@dataclass(frozen=True)
class Check:
    """One limit.

    Attributes:
        name: What is limited.
        verdict: `fits`, `does not fit`, `not checked`.
        needed: By the network; None where not known.
        available: On the chip; None where it is not a number.
        unit: Of both.
        overflow: needed - available where it does not fit and both are numbers.
        more_chips: Whether more chips would help; None where it fits or was not checked.
        detail: Why it was not checked or does not fit, or what was compared.
        source: Where the limit was published.
        short: `detail` with the worst layer alone, and how many more there are; empty where it names no layers.
    """

    name: str
    verdict: Verdict
    needed: float | None
    available: float | None
    unit: str
    overflow: float | None
    more_chips: bool | None
    detail: str
    source: str
    short: str = ""


@dataclass(frozen=True)
class Fit:
    """A network on one chip.

    Attributes:
        target: Name of the target.
        verdict: `does not fit` where any limit does not hold; `fits` where all of them do; else `not checked`.
        cores_used: Under the mapping told above; None where it could not be made.
        cores: Of the chip; None where not told.
        more_chips: Whether more chips would make it fit; None where it fits or was not checked.
        checks: One a limit.
    """

    target: str
    verdict: Verdict
    cores_used: int | None
    cores: int | None
    more_chips: bool | None
    checks: tuple[Check, ...]


def fit(counts: Counts, target: Target) -> Fit | None:
    """Check a network against the limits of a chip; None for a target without any.

    Args:
        counts: What was counted, with or without samples.
        target: The target.
    """
    limits = target.limits
    if limits is None:
        return None
    found = populations(counts)
    used = _cores_used(found, limits)
    checks = (*_capacities(found, limits, used), *_hard(counts, found, limits), *_layers(counts, limits))
    failed = [check for check in checks if check.verdict == "does not fit"]
    verdict: Verdict = "fits" if checks and all(check.verdict == "fits" for check in checks) else "not checked"
    return Fit(
        target=target.name,
        verdict="does not fit" if failed else verdict,
        cores_used=used,
        cores=limits.cores.value if limits.cores else None,
        more_chips=all(bool(check.more_chips) for check in failed) if failed else None,
        checks=checks,
    )


def _capacities(found: tuple[Population, ...], limits: Limits, used: int | None) -> Iterator[Check]:
    """What more chips give more of."""
    if (room := _room(limits)) is not None:
        limit, most = room
        neurons = sum(population.neurons for population in found)
        known = _placed(found) or neurons > most  # else a readout may be missing
        yield _compare("neurons", neurons if known else None, limit, more_chips=True, available=most, unknown=_UNPLACED)
    if limits.synapses:
        synapses = _sum(population.synapses for population in found)
        yield _compare("synapses", synapses, limits.synapses, more_chips=True, unknown=_UNPLACED)
    if limits.synaptic_memory_per_core:
        sizes = {p.name: (_bits(p, limits) or 0) / _KIB for p in found}
        needed = max(sizes.values(), default=0) if _placed(found) else None
        yield _compare(
            "synapses of one neuron, on average of the layer", needed, limits.synaptic_memory_per_core,
            more_chips=False, unknown=_UNPLACED, layers=sizes,
        )  # fmt: skip
    if limits.cores and limits.neurons_per_core:
        unknown = _UNPLACED if not _placed(found) else "the synapses of one neuron do not fit into a core"
        yield _compare("cores", used, limits.cores, more_chips=True, unknown=unknown)
    if limits.cores and limits.weight_memory_per_core:
        weights = _weights_kib(found)
        most_kib = limits.cores.value * limits.weight_memory_per_core.value
        told = "weights alone, each stored once; programs, potentials and queues take memory too"
        yield _compare(
            "weights", weights, limits.weight_memory_per_core,
            more_chips=True, available=most_kib, unknown=_UNPLACED, told=told,
        )  # fmt: skip


def _room(limits: Limits) -> tuple[Limit, int] | None:
    """Places for neurons on a chip."""
    if limits.neurons:
        return limits.neurons, limits.neurons.value
    if limits.cores and limits.neurons_per_core:
        return limits.neurons_per_core, limits.cores.value * limits.neurons_per_core.value
    return None


def _hard(counts: Counts, found: tuple[Population, ...], limits: Limits) -> Iterator[Check]:
    """What more chips do not help with, or what depends on where neurons lie."""
    if limits.fan_in:
        known = {p.name: p.fan_in for p in found if p.fan_in is not None}
        most = max(known.values(), default=0)
        complete = len(known) == len(found) or most > limits.fan_in.value
        needed = most if complete else None
        yield _compare("fan-in", needed, limits.fan_in, more_chips=False, unknown=_NO_FAN_IN, layers=known)
    if limits.axons_in_per_core:
        yield _axons_in(found, limits.axons_in_per_core)
    if limits.axons_out_per_core:
        why = "depends on the cores that the neurons of one core reach, so on their placement"
        yield _not_checked("axons out of a core", limits.axons_out_per_core, why)
    if limits.weight_bits:
        widths = {row.name: number(row, "weight_bits") * is_known(row) for row in counts.layers if has_synapses(row)}
        bits = max(widths.values()) if widths and all(widths.values()) else None
        told = _narrower(counts, widths, limits.weight_bits.value) if bits else ""
        unknown = "the width of some weights is not known"
        yield _compare(
            "bits of a weight", bits, limits.weight_bits,
            more_chips=False, unknown=unknown, told=told, layers=widths,
        )  # fmt: skip
    elif any(number(row, "weight_bits") > 8 for row in counts.layers if has_synapses(row)):
        why = "which widths it takes is not told; none of these chips is known to take floating-point weights"
        yield Check("bits of a weight", "not checked", None, None, "bits", None, None, why, "none found")
    if limits.neuron_kinds:
        yield _kinds(counts, limits)
    if limits.stateless:
        yield _state(counts, limits.stateless)


def _narrower(counts: Counts, widths: Mapping[str, int], most: int) -> str:
    """What helps against weights that are too wide; empty where none are."""
    wide = {name for name, bits in widths.items() if bits > most}
    if not wide:
        return ""
    first = {row.name for row in counts.layers if row.input_kind == "real" and not row.facts.get("sources")}
    if wide <= first and len(wide) < len(widths):
        return "--int8 keeps a first layer that reads real numbers in float32: compute it off the chip"
    return "quantise the weights first"


def _layers(counts: Counts, limits: Limits) -> Iterator[Check]:
    """What a single layer may be like."""
    for finding in check_layers(counts, limits):
        yield _finding(finding)


def _axons_in(found: tuple[Population, ...], limit: Limit) -> Check:
    """A core needs an axon for each neuron that reaches it: at least a fan-in, at most all that its layers read."""
    name = "axons into a core"
    fan_in = {p.name: p.fan_in or 0 for p in found}
    if (most := max(fan_in.values(), default=0)) > limit.value:
        return _compare(name, most, limit, more_chips=False, layers=fan_in)
    inputs = [p.inputs for p in found if p.inputs is not None]
    if len(inputs) == len(found) and max(inputs, default=0) <= limit.value:
        told = "one layer a core; layers that share a core share its axons"
        return _compare(name, max(inputs, default=0), limit, more_chips=False, told=told)
    why = "depends on which neurons share a core" if len(inputs) == len(found) else _UNPLACED
    return _not_checked(name, limit, why)


def _state(counts: Counts, limit: Sourced) -> Check:
    steps = [round(layer.stats["time_steps"].high) for layer in counts.layers if is_neuron(layer)]
    if not steps:
        return _fact("no state", True, "no neurons that keep a potential", limit)
    if max(steps) > 1:
        why = f"potentials are kept over {max(steps)} time steps, and the chip keeps nothing"
        return _fact("no state", False, why, limit)
    why = "one time step: it fits unless a state is carried from one run to the next"
    return Check("no state", "not checked", None, None, "", None, None, why, limit.source)


def _kinds(counts: Counts, limits: Limits) -> Check:
    assert limits.neuron_kinds
    kinds = sorted({layer.op for layer in counts.layers if is_neuron(layer)})
    others = [kind for kind in kinds if kind not in limits.neuron_kinds.values]
    foreign = {layer.op for layer in counts.layers if layer.facts.get("arithmetic")}
    if others and all(kind in foreign for kind in others):
        why = f"the equation of {', '.join(others)} neurons is not known"
        return Check("kinds of neurons", "not checked", None, None, "", None, None, why, limits.neuron_kinds.source)
    known = [kind for kind in others if kind not in foreign]
    reason = f"{', '.join(known)} neurons; the chip has {', '.join(limits.neuron_kinds.values)}"
    return _fact("kinds of neurons", not known, ", ".join(kinds) if not known else reason, limits.neuron_kinds)


def _cores_used(found: tuple[Population, ...], limits: Limits) -> int | None:
    if limits.neurons_per_core is None or not _placed(found):
        return None
    memory = limits.synaptic_memory_per_core
    pieces = [Piece(p.neurons, _bits(p, limits) or 0.0) for p in found]
    return first_fit(pieces, limits.neurons_per_core.value, memory.value * _KIB if memory else None)


def _placed(found: tuple[Population, ...]) -> bool:
    return all(p.synapses is not None and p.neurons for p in found)


def _bits(population: Population, limits: Limits) -> float | None:
    """Memory of the synapses of one neuron, on average; weights at the chip's width where they are wider."""
    if population.synapses is None or not population.neurons:
        return None
    widest = limits.weight_bits.value if limits.weight_bits else 64
    bits = 0.0
    for row in population.linear:
        bits += (per_step(row, "max_events") or 0) * min(number(row, "weight_bits") or 32, widest)
    return bits / population.neurons


def _weights_kib(found: tuple[Population, ...]) -> float | None:
    rows = {row.name: row for population in found for row in population.linear}.values()
    sizes = [number(row, "parameters") * number(row, "weight_bits") for row in rows]
    return sum(sizes) / _KIB if _placed(found) and all(sizes) else None


_UNPLACED = "it is not known which layers some neurons read"
_NO_FAN_IN = "the fan-in of some neurons is not known"


def _compare(
    name: str,
    needed: float | None,
    limit: Limit | Memory,
    *,
    more_chips: bool,
    available: float | None = None,
    unknown: str = "a shape is not known",
    told: str = "",
    layers: Mapping[str, float] | None = None,
) -> Check:
    """A check of a number; `layers` tells what each layer needs of it."""
    most = limit.value if available is None else available
    if needed is None:
        return Check(name, "not checked", None, most, limit.unit, None, None, unknown, limit.source)
    if needed <= most:
        return Check(name, "fits", needed, most, limit.unit, None, None, told, limit.source)
    told = told or (f"{ceil(needed / most):,} chips would hold them" if more_chips else "more chips do not help")
    broken = beyond(layers or {}, most)
    detail, short = (f"{told}: {', '.join(broken)}", f"{told}: {worst(broken)}") if broken else (told, "")
    return Check(name, "does not fit", needed, most, limit.unit, needed - most, more_chips, detail, limit.source, short)


def _not_checked(name: str, limit: Limit, reason: str) -> Check:
    return Check(name, "not checked", None, limit.value, limit.unit, None, None, reason, limit.source)


def _fact(name: str, ok: bool, reason: str, limit: Sourced) -> Check:
    verdict: Verdict = "fits" if ok else "does not fit"
    return Check(name, verdict, None, None, "", None, None if ok else False, reason, limit.source)


def _finding(finding: Finding) -> Check:
    verdict: Verdict = "not checked" if finding.fits is None else "fits" if finding.fits else "does not fit"
    needed, available = finding.needed, finding.available
    over = needed - available if needed is not None and available is not None else 0.0
    return Check(
        *(finding.name, verdict, needed, available, finding.unit),
        overflow=over if over > 0 else None,
        more_chips=finding.more_chips if finding.fits is False else None,
        detail=finding.reason,
        source=finding.source,
        short=finding.short,
    )


def _sum(values: Iterator[int | None]) -> int | None:
    known = list(values)
    return None if None in known else sum(n for n in known if n is not None)
