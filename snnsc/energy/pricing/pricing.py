"""Turn counts into energy under each target.

    counts -> work of each layer -> formula of the target's kind (`formulas`) -> Price

An arithmetic or a memory target prices the ANN twin too: the same layers with ReLU, run once, every multiplication
charged. For a graph without neuron layers the arithmetic price is the same network with its zero inputs skipped, and
the other kinds, which are for spikes, have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil, isfinite, log2
from typing import Literal, assert_never

from snnsc.energy.counting.counts import Counts
from snnsc.energy.pricing import formulas
from snnsc.energy.pricing.formulas import Terms, Work
from snnsc.energy.pricing.schema import (
    ArithmeticTarget,
    EventTarget,
    MemoryTarget,
    NotPublishedTarget,
    OperationTarget,
    Quantity,
    Target,
)
from snnsc.energy.pricing.targets import find_targets, load_targets
from snnsc.errors import RecipeError

__all__ = ["EqualInformation", "Price", "load_targets", "price"]

Static = Literal["charged", "included", "not published"]
_PJ_PER_MW = 1e9  # in one second
_FREE_OF_SAMPLES = {"neuron_pj"}  # of arithmetic targets: updates follow from shapes


@dataclass(frozen=True)
class EqualInformation:
    """The ANN twin with as many bits an activation as T time steps of spikes tell apart: ceil(log2(T + 1)).

    Attributes:
        time_steps: T.
        bits: ceil(log2(T + 1)) (arXiv 2409.08290).
        model: Arithmetic target that prices it, and the SNN.
        model_bits: Width that is published there: the nearest that holds `bits`, else the widest.
        ann_pj: The ANN twin under it, pJ a sample.
        ratio: The SNN's `snn_pj` / `ann_pj`; None without samples.
    """

    time_steps: int
    bits: int
    model: str
    model_bits: int
    ann_pj: float
    ratio: float | None


@dataclass(frozen=True)
class Price:
    """One network under one target; picojoule per sample, mean over the samples.

    Attributes:
        model: Name of the target.
        kind: `arithmetic`, `memory`, `event` or `not-published`.
        snn_pj: The network as counted; None without samples, or where there is no price.
        terms: Parts that add up to `snn_pj`, see `formulas`; without samples those that need none.
        layers: Name of a row of the counts -> its part of `snn_pj`, static power left out; None where `snn_pj` is.
        ann_pj: The ANN twin under the same prices, dense, run once; None where the target cannot price it.
        ratio: snn_pj / ann_pj; None without samples or without an ANN twin to divide by.
        equal: The comparison at equal information; None but under the target that prices the twin at its width.
        snn_pj_bound: As snn_pj if every input element were an event; None where there is no bound.
        not_priced: Neuron kinds whose updates are charged 0, as nothing is known of their operations.
        assumptions: What is taken for granted, sentence by sentence.
        target: The target.
        static: Where a rate was told, what became of the static power: `charged`; `included` in the price of an event
            already; `not published`. None without a rate.
    """

    model: str
    kind: str
    snn_pj: float | None
    terms: Terms
    layers: dict[str, float] | None
    ann_pj: float | None
    ratio: float | None
    equal: EqualInformation | None
    snn_pj_bound: float | None
    not_priced: tuple[str, ...]
    assumptions: tuple[str, ...]
    target: Target = field(repr=False)
    static: Static | None = None

    @property
    def constants(self) -> dict[str, Quantity]:
        """The published numbers, with their sources."""
        return self.target.constants

    @property
    def mac_pj(self) -> float | None:
        """Arithmetic targets: multiplications of real, graded and scaled inputs."""
        return self.terms.get("mac_pj")

    @property
    def ac_pj(self) -> float | None:
        """Arithmetic targets: additions of spikes."""
        return self.terms.get("ac_pj")

    @property
    def neuron_pj(self) -> float | None:
        """Arithmetic and event targets: neuron updates."""
        return self.terms.get("neuron_pj")


def price(counts: Counts, targets: Sequence[Target | str] | None = None, rate: float | None = None) -> list[Price]:
    """Price counts under targets.

    Args:
        counts: What was counted.
        targets: Targets, or names of ones that ship; all that ship if not told.
        rate: Inferences a second, which share the static power; not charged if not told.

    Raises:
        RecipeError: No target has that name, or the rate is not a positive number.
    """
    if rate is not None and not (isfinite(rate) and rate > 0):
        raise RecipeError(f"--inferences-per-second: must be a number greater than 0, not {rate}")
    given = load_targets() if targets is None else [_target(target) for target in targets]
    works = [formulas.measured(layer, counts.samples) for layer in counts.layers] if counts.samples else []
    steps = _time_steps(counts)
    bounds = [formulas.worst(layer, counts.samples, steps) for layer in counts.layers]
    prices = [_price(counts, target, works, bounds, rate) for target in given]
    return prices if rate is None else [replace(entry, static=_static_power(entry.target)) for entry in prices]


def _target(target: Target | str) -> Target:
    return find_targets([target])[0] if isinstance(target, str) else target


def _price(counts: Counts, target: Target, works: list[Work], bounds: list[Work], rate: float | None) -> Price:
    if isinstance(target, NotPublishedTarget):
        return _no_price(target, (f"{target.reason} ({target.source})",))
    if not counts.spiking and not isinstance(target, ArithmeticTarget):
        prices_ann = isinstance(target, MemoryTarget)
        reason = "the network has no spiking layers" + (": priced as an ANN alone" if prices_ann else "")
        return _no_price(target, (reason,), _ann(bounds, target))
    static = _static(target, rate)
    bound_terms = _total([_terms(work, target) for work in bounds]) | static
    bound = sum(bound_terms.values())
    split = [_terms(work, target) for work in works]
    terms = _total(split) | static if split else _known(bound_terms, target)
    snn = sum(terms.values()) if split else None
    names = [layer.name for layer in counts.layers]
    layers = {name: sum(part.values()) for name, part in zip(names, split, strict=True)} if split else None
    ann = _ann(bounds, target)
    return Price(
        *(target.name, target.kind, snn, terms, layers, ann, _ratio(snn, ann)),
        equal=_equal(counts, target, bounds, snn),
        snn_pj_bound=bound if isfinite(bound) else None,
        not_priced=_not_priced(bounds, target),
        assumptions=tuple(_assumptions(target, bounds, ann, bound, rate)),
        target=target,
    )


def _no_price(target: Target, reasons: tuple[str, ...], ann: float | None = None) -> Price:
    return Price(
        *(target.name, target.kind, None, {}, None, ann, None, None, None, ()),
        assumptions=(*reasons, *target.notes),
        target=target,
    )


def _terms(work: Work, target: Target) -> Terms:
    match target:
        case ArithmeticTarget():
            return formulas.arithmetic(work, target)
        case MemoryTarget():
            return formulas.memory(work, target)
        case EventTarget():
            return formulas.event(work, target)
        case NotPublishedTarget():
            return {}
        case _:
            assert_never(target)


def _total(split: list[Terms]) -> Terms:
    total: Terms = {}
    for part in split:
        for key, value in part.items():
            total[key] = total.get(key, 0.0) + value
    return total


def _known(terms: Terms, target: Target) -> Terms:
    if not isinstance(target, ArithmeticTarget):
        return {}
    return {key: terms.get(key, 0.0) for key in _FREE_OF_SAMPLES}


def _static(target: Target, rate: float | None) -> Terms:
    """Energy of an inference's share of the static power: P / rate."""
    if rate is None or not isinstance(target, EventTarget) or target.static_power is None:
        return {}
    return {"static_pj": target.static_power.value * _PJ_PER_MW / rate}


def _static_power(target: Target) -> Static:
    if not isinstance(target, EventTarget):
        return "not published"
    return "included" if target.includes_static else "charged" if target.static_power else "not published"


def _ann(works: list[Work], target: Target) -> float | None:
    """The ANN twin; it needs shapes alone, so that the works of the bound do."""
    parts: list[float | None]
    if isinstance(target, MemoryTarget):
        parts = [formulas.memory_ann(work, target) for work in works]
    elif isinstance(target, ArithmeticTarget):
        parts = [formulas.arithmetic_ann(work, target) for work in works]
    else:
        return None
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _ratio(snn: float | None, ann: float | None) -> float | None:
    return snn / ann if snn is not None and ann else None


def _equal(counts: Counts, target: Target, works: list[Work], snn: float | None) -> EqualInformation | None:
    """The ANN twin at ceil(log2(T + 1)) bits, at the nearest width that is published (no source says how to scale).

    None under a target of another width: both networks are in the same arithmetic, or are not compared.
    """
    steps = _time_steps(counts)
    published = [t for t in load_targets() if isinstance(t, ArithmeticTarget) and t.number == "integer"]
    if not counts.spiking or not published:
        return None
    bits = ceil(log2(steps + 1))
    nearest = min(published, key=lambda t: (t.bits < bits, abs(t.bits - bits)))
    ann = _ann(works, nearest)
    if target.name != nearest.name or not ann:
        return None
    return EqualInformation(steps, bits, nearest.name, nearest.bits, ann, _ratio(snn, ann))


def _time_steps(counts: Counts) -> int:
    """T of the neurons; 1 without any."""
    layers = [layer.stats for layer in counts.layers if "neuron_updates" in layer.stats]
    return max((round(stats["time_steps"].high) for stats in layers if "time_steps" in stats), default=1)


def _not_priced(works: list[Work], target: Target) -> tuple[str, ...]:
    if not isinstance(target, OperationTarget):
        return ()
    return tuple(sorted({work.op for work in works if work.updates and formulas.update(work, target) is None}))


def _assumptions(target: Target, works: list[Work], ann: float | None, bound: float, rate: float | None) -> list[str]:
    linear = [work for work in works if work.events]
    kinds = {work.kind for work in linear}
    found = list(target.notes)
    if isinstance(target, EventTarget):
        if "real" in kinds:
            found.append(
                "the chip takes spikes: layers that read real numbers are charged one synaptic event for each nonzero "
                "weight that a nonzero input meets, at every time step (real_input_pj); leave that part out if they "
                "are computed off the chip"
            )
        if any(work.kind == "real" and work.ann_macs is None for work in linear):
            found.append(
                "layers of real numbers in which it cannot be told where time stands are charged as often as the graph "
                "runs them"
            )
        if kinds & {"integer", "scaled"}:
            found.append("sums of spikes and pooled spikes are charged as so many unit spikes")
        if not isfinite(bound):
            found.append("there is no upper bound, as nothing tells how many spikes a sum of them holds")
        if target.includes_static:
            found.append("static power is in the price of a synaptic event, at the rate that its source names")
        elif target.static_power is None:
            found.append("no static power is charged: there is no sourced figure")
        elif rate is None:
            found.append("static power is not in it: it takes a rate, --inferences-per-second")
        else:
            found.append(f"static power of one chip, shared by {rate:g} inferences a second")
    if isinstance(target, MemoryTarget) and any(not work.output_shape for work in linear):
        found.append("where a layer's shapes are not known, the access to the smallest memory is charged")
    if isinstance(target, OperationTarget) and any(work.ann_macs is None for work in works):
        found.append("the ANN twin has no price, as it cannot be told where time stands in what some layers read")
    elif isinstance(target, MemoryTarget) and ann is None:
        found.append("the ANN twin has no price, as the shapes of some layers are not known")
    if isinstance(target, OperationTarget) and ann is not None:
        found.append(
            "the ANN twin is charged the multiplications with padding zeros too, as published MAC figures count them; "
            "the network itself is not"
        )
    return [*found, *(f"no sourced figure, charged 0: {what}" for what in target.not_published)]
