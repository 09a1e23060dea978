"""Every price formula by hand, on counts made by hand; what a price says where it has no number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from snnsc.energy.counting.counts import Counts, LayerCount, Stat
from snnsc.energy.pricing.formulas import access_pj
from snnsc.energy.pricing.pricing import price
from snnsc.energy.pricing.schema import EventTarget
from snnsc.energy.pricing.targets import find_targets, load_targets
from snnsc.errors import RecipeError

SAMPLES = 10
T = 4


def row(name, op, kind="binary", facts=None, weights=0, **per_sample):
    """A row whose statistics are `per_sample` times the samples."""
    stats = {key: Stat(value * SAMPLES, value, value) for key, value in per_sample.items()}
    return LayerCount(name, op, kind, None if kind == "real" else 1.0, weights, stats, facts=facts or {})


CONV = {"input_shape": [2, 4, 4], "output_shape": [3, 4, 4], "kernel": [3, 3], "parameters": 57, "weight_bits": 32}
FC = {"input_shape": [48], "output_shape": [5], "kernel": [], "parameters": 245, "weight_bits": 32}
NEURONS = {"output_shape": [3, 4, 4]}


def network(op="LIF", facts=NEURONS):
    """Direct-coded convolution -> 48 neurons -> fully connected, of 4 time steps."""
    conv = row(
        "conv", "Conv", "real", CONV, 54,
        events=500, acs=0, event_magnitude=500, events_every_step=2000, input_nonzeros=30, input_elements=32,
        max_events=600, dense_macs=864, ann_macs=864, bias_adds=48, time_steps=1,
    )  # fmt: skip
    neurons = row("lif", op, "binary", facts, neuron_updates=192, spikes=20, time_steps=T)
    fc = row(
        "fc", "Gemm", "binary", FC, 240,
        events=100, acs=100, event_magnitude=100, input_nonzeros=20, input_elements=192,
        max_events=960, dense_macs=960, ann_macs=240, bias_adds=20, time_steps=T,
    )  # fmt: skip
    return Counts(SAMPLES, (conv, neurons, fc))


def without_samples(counts):
    measured = {"events", "acs", "event_magnitude", "events_every_step", "input_nonzeros", "spikes"}
    rows = [
        replace(x, stats={k: Stat(s.high, s.high, s.high) for k, s in x.stats.items() if k not in measured})
        for x in counts.layers
    ]
    return Counts(0, tuple(rows))


def one(counts, name, **options):
    (entry,) = price(counts, [name], **options)
    assert entry.model == name
    return entry


def test_arithmetic_by_hand():
    entry = one(network(), "horowitz-fp32")
    assert entry.terms == pytest.approx({"mac_pj": 500 * 4.6, "ac_pj": 100 * 0.9, "neuron_pj": 192 * 4.6})
    assert (entry.mac_pj, entry.ac_pj, entry.neuron_pj) == tuple(entry.terms.values())
    assert entry.snn_pj == pytest.approx(2300 + 90 + 883.2)
    assert entry.layers == pytest.approx({"conv": 2300, "lif": 883.2, "fc": 90})
    assert entry.ann_pj == pytest.approx((864 + 240) * 4.6)
    assert entry.ratio == pytest.approx(3273.2 / 5078.4)
    assert entry.snn_pj_bound == pytest.approx(600 * 4.6 + 960 * 0.9 + 883.2)
    assert one(network("IF"), "horowitz-fp32").neuron_pj == pytest.approx(192 * 0.9)


def test_a_foreign_neuron_is_priced_by_what_its_graph_shows():
    facts = {**NEURONS, "arithmetic": [3, 2]}
    entry = one(network("spike", facts), "horowitz-int8")
    assert entry.neuron_pj == pytest.approx(192 * (3 * 0.2 + 2 * 0.03))
    assert entry.not_priced == ()
    assert one(network("LIF", facts), "horowitz-int8").neuron_pj == pytest.approx(192 * 0.23), "the table comes first"
    nothing = one(network("spike"), "horowitz-int8")
    assert (nothing.neuron_pj, nothing.not_priced) == (0.0, ("spike",))


def test_the_energy_of_a_memory_access():
    """13.2 pJ and 1.09e-5 pJ a bit: a line near Horowitz's 10, 20 and 100 pJ for caches of 8, 32 and 1024 KiB."""
    (lemaire,) = find_targets(["lemaire"])
    assert access_pj(lemaire, 0) == 13.2
    for kib, told in ((8, 13.914), (32, 16.057), (1024, 104.636)):
        assert access_pj(lemaire, kib * 1024 // 4) == pytest.approx(told, abs=1e-3)


def test_memory_by_hand():
    """Each equation of arXiv 2210.13107 with the numbers of `network`, E_add 0.1 pJ and E_multiply 3.1 pJ."""
    entry = one(network(), "lemaire")

    def ram(words):
        return 1.09e-5 * words * 32 + 13.2

    operations = 500 * 3.2 + 100 * 0.1 + 192 * 3.2 + (48 + 20) * 0.1 + 20 * 0.1  # 1.3, 1.4, 2.4: bias, reset
    queues = (30 + 20) * ram(0) + 20 * ram(0)  # 5, 13
    weights = 500 * ram(57) + 100 * ram(245)  # 7, 8
    biases = 48 * ram(3) + 20 * ram(5)
    potentials = 2 * (500 * ram(48) + 100 * ram(5) + 192 * ram(48))  # 9, 10, 14, 15
    addressing = 500 * 0.1 + 30 * 2 * 3.2 + 100 * 0.1  # 16.2, 16.3, 17.2
    assert entry.terms == pytest.approx({
        "operations_pj": operations, "queues_pj": queues, "weights_pj": weights, "biases_pj": biases,
        "potentials_pj": potentials, "addressing_pj": addressing,
    })  # fmt: skip
    assert entry.snn_pj == pytest.approx(operations + queues + weights + biases + potentials + addressing)
    assert sum(entry.layers.values()) == pytest.approx(entry.snn_pj)
    leaky, integrating = entry.terms["operations_pj"], one(network("IF"), "lemaire").terms["operations_pj"]
    assert leaky - integrating == pytest.approx(192 * 3.2), "only a leak is an operation of its own"
    conv = 864 * (3.2 + ram(32) + ram(57)) + 48 * (0.1 + ram(3)) + 48 * ram(48) + (32 + 48 + 27) * 0.1
    fc = 240 * (3.2 + ram(245)) + 48 * ram(48) + 5 * (0.1 + ram(5)) + 5 * ram(5) + 240 * 0.1
    assert entry.ann_pj == pytest.approx(conv + fc)
    assert entry.mac_pj is None


def test_memory_without_shapes():
    counts = network()
    bare = Counts(SAMPLES, tuple(replace(layer, facts={}) for layer in counts.layers))
    entry = one(bare, "lemaire")
    assert entry.ann_pj is entry.ratio is None
    assert any("ANN twin has no price" in sentence for sentence in entry.assumptions)
    assert any("access to the smallest memory" in sentence for sentence in entry.assumptions)
    assert entry.terms["potentials_pj"] == pytest.approx(2 * (500 + 100 + 192) * 13.2)


def test_loihi_by_hand():
    entry = one(network(), "loihi")
    assert entry.terms == pytest.approx({
        "synaptic_pj": 100 * 23.6,
        "real_input_pj": 2000 * 23.6,  # at every step
        "neuron_pj": 20 * 81 + 172 * 52,
        "spike_pj": 20 * 1.7,
    })  # fmt: skip
    assert entry.layers == pytest.approx({"conv": 2000 * 23.6, "lif": 20 * 81 + 172 * 52 + 34, "fc": 2360})
    assert entry.ann_pj is entry.ratio is entry.equal is None
    assert any("every time step (real_input_pj)" in sentence for sentence in entry.assumptions)
    assert any("charged 0: static power" in sentence for sentence in entry.assumptions)
    assert entry.snn_pj_bound == pytest.approx(960 * 23.6 + 600 * T * 23.6 + 192 * (81 + 1.7))


@pytest.mark.parametrize(
    ("name", "event", "update"),
    [
        ("spinnaker", 13300, 26000), ("spinnaker2", 450, 2190), ("darwin3", 5.47, 0),
        ("tianjic", 1.54, 0), ("odin", 12.7, 0), ("truenorth", 2.297, 0),
    ],
)  # fmt: skip
def test_other_chips_by_hand(name, event, update):
    assert one(network(), name).snn_pj == pytest.approx((2000 + 100) * event + 192 * update)


def test_static_power_takes_a_rate():
    without, slow, fast = (one(network(), "truenorth", rate=rate) for rate in (None, 1, 1000))
    assert "static_pj" not in without.terms
    assert any("--inferences-per-second" in sentence for sentence in without.assumptions)
    assert slow.terms["static_pj"] == pytest.approx(64.4e-3 * 1e12)  # one second of 64.4 mW
    assert fast.snn_pj == pytest.approx(without.snn_pj + 64.4e9 / 1000)
    assert any("1000 inferences a second" in sentence for sentence in fast.assumptions)
    assert sum(fast.layers.values()) == pytest.approx(without.snn_pj), "it belongs to no layer"
    assert fast.snn_pj_bound == pytest.approx(without.snn_pj_bound + 64.4e6)
    odin = one(network(), "odin", rate=1)
    assert "static_pj" not in odin.terms
    assert any("in the price of a synaptic event" in sentence for sentence in odin.assumptions)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_wrong_rate(rate):
    with pytest.raises(RecipeError, match="--inferences-per-second: must be a number greater than 0"):
        price(network(), rate=rate)


def test_sums_of_spikes_are_sent_as_unit_spikes():
    conv, lif, fc = network().layers
    stats = fc.stats | {"event_magnitude": Stat(2300, 230, 230), "acs": Stat(500, 50, 50)}
    counts = Counts(SAMPLES, (conv, lif, replace(fc, input_kind="integer", stats=stats)))
    entry = one(counts, "loihi")
    assert entry.terms["synaptic_pj"] == pytest.approx(230 * 23.6)
    assert any("unit spikes" in sentence for sentence in entry.assumptions)
    assert entry.snn_pj_bound is None, "no integer has a largest magnitude"
    assert one(counts, "horowitz-fp32").mac_pj == pytest.approx((500 + 50) * 4.6)


@pytest.mark.parametrize("name", ["loihi2", "speck", "akida", "brainscales2"])
def test_nothing_published_is_never_zero(name):
    entry = one(network(), name, rate=10)
    assert entry.snn_pj is entry.ann_pj is entry.snn_pj_bound is entry.layers is None
    assert (entry.terms, entry.constants) == ({}, {})
    assert "no energy of a synaptic event is published" in entry.assumptions[0]


def test_without_samples_there_are_bounds_alone():
    counts = without_samples(network())
    for bare, full in zip(price(counts), price(network()), strict=True):
        assert bare.snn_pj is bare.ratio is bare.layers is None
        assert bare.ann_pj == pytest.approx(full.ann_pj)
        assert bare.snn_pj_bound == pytest.approx(full.snn_pj_bound)
        assert bare.terms == ({"neuron_pj": pytest.approx(full.neuron_pj)} if bare.kind == "arithmetic" else {})


def test_a_network_without_neurons():
    counts = Counts(SAMPLES, (network().layers[0],))
    for entry in price(counts):
        if entry.kind in ("arithmetic", "memory"):
            assert entry.ann_pj > 0
        if entry.kind != "arithmetic":
            assert entry.snn_pj is entry.snn_pj_bound is None
            assert entry.assumptions
        assert entry.equal is None
    assert one(counts, "horowitz-fp32").snn_pj == pytest.approx(2300)


@pytest.mark.parametrize(("steps", "bits"), [(1, 1), (3, 2), (4, 3), (5, 3), (7, 3), (8, 4), (255, 8), (256, 9)])
def test_equal_information(steps, bits):
    """T steps tell 0 to T spikes apart: ceil(log2(T + 1)) bits; 8 are the only width of integers with a price."""
    conv, lif, fc = network().layers
    stats = lif.stats | {"time_steps": Stat(steps * SAMPLES, steps, steps)}
    counts = Counts(SAMPLES, (conv, replace(lif, stats=stats), fc))
    entry = one(counts, "horowitz-int8")
    assert (entry.equal.time_steps, entry.equal.bits) == (steps, bits)
    assert (entry.equal.model, entry.equal.model_bits) == ("horowitz-int8", 8)
    assert entry.equal.ann_pj == pytest.approx((864 + 240) * 0.23)
    assert entry.equal.ratio == pytest.approx(entry.snn_pj / entry.equal.ann_pj)
    assert one(counts, "horowitz-fp32").equal is None, "no number format is compared with another"


def test_targets_by_name_or_as_they_are():
    assert [entry.model for entry in price(network())] == [target.name for target in load_targets()]
    assert price(network(), find_targets(["odin"])) == price(network(), ["odin"])
    with pytest.raises(RecipeError, match="'loihi-9' does not exist"):
        price(network(), ["loihi-9"])


def test_a_uniform_update_price():
    (loihi,) = find_targets(["loihi"])
    uniform = loihi.model_copy(update={
        "active_update": None, "inactive_update": None, "neuron_update": loihi.active_update, "spike": None,
    })  # fmt: skip
    assert isinstance(uniform, EventTarget)
    (entry,) = price(network(), [uniform])
    assert entry.terms.keys() == {"synaptic_pj", "real_input_pj", "neuron_pj"}
    assert entry.neuron_pj == 192 * 81


COUNTED = ("events", "spikes", "event_magnitude", "events_every_step", "input_nonzeros", "neuron_updates", "bias_adds")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(index=st.integers(0, 2), key=st.sampled_from(COUNTED), more=st.integers(1, 1000))
def test_more_never_costs_less_and_the_parts_add_up(index, key, more):
    before = network()
    layers = list(before.layers)
    stats = layers[index].stats
    assume(key in stats)
    assume(key != "spikes" or stats["neuron_updates"].high >= stats["spikes"].high + more)
    grown = {key: stats[key] + Stat(more * SAMPLES, more, more)}
    if key == "events" and layers[index].input_kind == "binary":
        grown["acs"] = grown[key]
    layers[index] = replace(layers[index], stats=stats | grown)
    targets = load_targets()
    pairs = zip(price(before, targets, 5), price(Counts(SAMPLES, tuple(layers)), targets, 5), strict=True)
    for less, bigger in pairs:
        if less.snn_pj is None:
            assert bigger.snn_pj is None
            continue
        assert bigger.snn_pj >= less.snn_pj
        assert bigger.snn_pj == pytest.approx(sum(bigger.terms.values()))
        static = bigger.terms.get("static_pj", 0.0)
        assert sum(bigger.layers.values()) + static == pytest.approx(bigger.snn_pj)
        assert all(value >= 0 for value in bigger.terms.values())
