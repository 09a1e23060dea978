"""Turn counts into energy under each price model of `targets/*.toml`.

    E_snn = macs * (E_multiply + E_add) + acs * E_add + updates * (m * E_multiply + a * E_add)
    E_ann = dense MACs of one time step * (E_multiply + E_add)

m and a are the operations of one neuron in one step: LIF 1 and 1 (leak, integrate), IF 0 and 1. The ANN twin has the
same layers with ReLU and runs once; every multiplication of it is charged. For a graph without neuron layers E_snn
is the same network with its zero inputs skipped.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from snnsc.energy.counts import Counts, LayerCount
from snnsc.errors import RecipeError


@dataclass(frozen=True)
class Quantity:
    """One published number.

    Attributes:
        value: The number.
        unit: Its unit.
        source: Where it was published.
        process: Semiconductor process.
        voltage: Supply, in volt.
        grade: `measured`, `simulated`, `vendor` or `secondary`.
    """

    value: float
    unit: str
    source: str
    process: str
    voltage: float
    grade: str


@dataclass(frozen=True)
class Target:
    """One price model.

    Attributes:
        name: Its name, that of its file.
        summary: One line.
        precision: Number format that it prices.
        multiply: Energy of a multiplication.
        add: Energy of an addition.
        neuron: Kind of neuron -> (multiplications, additions) of one update.
    """

    name: str
    summary: str
    precision: str
    multiply: Quantity
    add: Quantity
    neuron: dict[str, tuple[int, int]]

    @property
    def mac_pj(self) -> float:
        """Energy of a multiplication and an addition, in pJ."""
        return self.multiply.value + self.add.value


@dataclass(frozen=True)
class Price:
    """One network under one price model; picojoule per sample, mean over the samples.

    Attributes:
        model: Name of the price model.
        snn_pj: The network as counted; None without samples.
        ann_pj: Its ANN twin, dense, run once.
        ratio: snn_pj / ann_pj; None without samples or without an ANN twin to divide by.
        mac_pj: Part of snn_pj: multiplications of real, graded and scaled inputs.
        ac_pj: Part of snn_pj: additions of spikes.
        neuron_pj: Part of snn_pj: neuron updates.
        snn_pj_bound: As snn_pj if every input element were an event.
        not_priced: Neuron kinds whose updates the model does not price.
        target: The constants with their sources.
    """

    model: str
    snn_pj: float | None
    ann_pj: float
    ratio: float | None
    mac_pj: float | None
    ac_pj: float | None
    neuron_pj: float
    snn_pj_bound: float
    not_priced: tuple[str, ...]
    target: Target


def load_targets() -> tuple[Target, ...]:
    """Every price model that ships, by name."""
    folder = resources.files("snnsc.energy") / "targets"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return tuple(_read(tomllib.loads(f.read_text(encoding="utf-8"))) for f in files)


def price(counts: Counts, models: Sequence[str] | None = None) -> list[Price]:
    """Price counts under the named models, or all.

    Raises:
        RecipeError: A model of that name does not exist.
    """
    targets = {target.name: target for target in load_targets()}
    for name in models or ():
        if name not in targets:
            msg = f"price model {name!r} does not exist; there are {', '.join(targets)}"
            raise RecipeError(msg)
    return [_price(counts, targets[name]) for name in (models or targets)]


def _price(counts: Counts, target: Target) -> Price:
    divisor = counts.samples or 1
    mac, add = target.mac_pj, target.add.value
    neuron = sum(_updates_pj(layer, target) for layer in counts.layers) / divisor
    ann = _total(counts, "ann_macs") * mac / divisor
    bound = neuron + sum(_bound_pj(layer, target) for layer in counts.layers) / divisor
    unpriced = {x.op for x in counts.layers if "neuron_updates" in x.stats and x.op not in target.neuron}
    not_priced = tuple(sorted(unpriced))
    if not counts.samples:
        return Price(target.name, None, ann, None, None, None, neuron, bound, not_priced, target)
    acs = _total(counts, "acs")
    mac_pj, ac_pj = (_total(counts, "events") - acs) * mac / divisor, acs * add / divisor
    snn = mac_pj + ac_pj + neuron
    ratio = snn / ann if ann else None
    return Price(target.name, snn, ann, ratio, mac_pj, ac_pj, neuron, bound, not_priced, target)


def _total(counts: Counts, key: str) -> float:
    return sum(layer.stats[key].total for layer in counts.layers if key in layer.stats)


def _updates_pj(layer: LayerCount, target: Target) -> float:
    if "neuron_updates" not in layer.stats:
        return 0.0
    multiplies, adds = target.neuron.get(layer.op, (0, 0))
    return layer.stats["neuron_updates"].total * (multiplies * target.multiply.value + adds * target.add.value)


def _bound_pj(layer: LayerCount, target: Target) -> float:
    if "max_events" not in layer.stats:
        return 0.0
    each = target.add.value if layer.input_kind == "binary" else target.mac_pj
    return layer.stats["max_events"].total * each


def _read(table: dict[str, object]) -> Target:
    neuron = table["neuron"]
    assert isinstance(neuron, dict)
    return Target(
        name=str(table["name"]),
        summary=str(table["summary"]),
        precision=str(table["precision"]),
        multiply=_quantity(table["multiply"]),
        add=_quantity(table["add"]),
        neuron={kind: (int(row["multiplies"]), int(row["adds"])) for kind, row in neuron.items()},
    )


def _quantity(table: object) -> Quantity:
    assert isinstance(table, dict)
    return Quantity(**table)
