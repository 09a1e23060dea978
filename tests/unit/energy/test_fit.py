"""Chips: every limit by hand, mappings, and that what is not known is not checked."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnsc.energy.counting.counts import Counts, LayerCount, Stat
from snnsc.energy.pricing.conv_cores import Window
from snnsc.energy.pricing.fit import fit
from snnsc.energy.pricing.packing import Piece, first_fit, match
from snnsc.energy.pricing.populations import populations
from snnsc.energy.pricing.targets import find_targets, load_targets

T = 4


def linear(name, op, sources, **facts):
    """A convolution or a matrix without zero weights whose output has no borders: synapses = outputs * fan-in."""
    outputs = 1
    for size in facts["output_shape"]:
        outputs *= size
    synapses = facts.pop("synapses", outputs * facts["fan_in"])
    stats = {"max_events": synapses * T, "dense_macs": synapses * T, "time_steps": T}
    facts = {"kernel": [], "strides": [], "pads": [], "groups": 1, "weight_bits": 8, "sources": sources} | facts
    return LayerCount(name, op, "binary", 1.0, 1, {k: Stat(v, v, v) for k, v in stats.items()}, facts=facts)


def spiking(name, sources, shape, op="IF", steps=T):
    elements = 1
    for size in shape:
        elements *= size
    stats = {"neuron_updates": elements * steps, "time_steps": steps}
    facts = {"sources": sources, "output_shape": shape}
    return LayerCount(name, op, "binary", 1.0, 0, {k: Stat(v, v, v) for k, v in stats.items()}, facts=facts)


def plain(name, op, sources, shape, **facts):
    """A sum or a pool."""
    stats = {"time_steps": T} | ({"input_elements": 1} if "Pool" in op else {})
    facts = {"sources": sources, "output_shape": shape} | facts
    return LayerCount(name, op, "binary", 1.0, 0, {k: Stat(v, v, v) for k, v in stats.items()}, facts=facts)


def dense_net(inputs=100, hidden=2000, classes=10):
    """fc -> neurons -> fc."""
    return Counts(0, (
        linear("fc1", "Gemm", [], input_shape=[inputs], output_shape=[hidden], fan_in=inputs,
               parameters=inputs * hidden),
        spiking("if1", ["fc1"], [hidden]),
        linear("fc2", "Gemm", ["if1"], input_shape=[hidden], output_shape=[classes], fan_in=hidden,
               parameters=hidden * classes),
    ))  # fmt: skip


def conv_net(channels=8, size=32, op="IF", pool="AveragePool"):
    """conv -> neurons -> pool -> conv -> neurons -> fc."""
    half = size // 2
    window = {"kernel": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}
    return Counts(0, (
        linear("conv1", "Conv", [], input_shape=[2, size, size], output_shape=[channels, size, size], fan_in=18,
               parameters=18 * channels, **window),
        spiking("n1", ["conv1"], [channels, size, size], op),
        plain("pool", pool, ["n1"], [channels, half, half], kernel=[2, 2], strides=[2, 2]),
        linear("conv2", "Conv", ["pool"], input_shape=[channels, half, half], output_shape=[16, half, half],
               fan_in=9 * channels, parameters=144 * channels, **window),
        spiking("n2", ["conv2"], [16, half, half], op),
        linear("fc", "Gemm", ["n2"], input_shape=[16 * half * half], output_shape=[10], fan_in=16 * half * half,
               parameters=160 * half * half),
    ))  # fmt: skip


def checked(counts, name):
    (target,) = find_targets([name])
    found = fit(counts, target)
    assert found.target == name
    assert len({check.name for check in found.checks}) == len(found.checks)
    for check in found.checks:
        assert check.source
        assert check.detail or check.verdict == "fits"
        assert (check.more_chips is None) == (check.verdict != "does not fit")
        if check.overflow is not None:
            assert check.overflow == check.needed - check.available
            assert check.overflow > 0
    return found, {check.name: check for check in found.checks}


def test_populations():
    hidden, readout = populations(dense_net())
    assert (hidden.name, hidden.neurons, hidden.synapses, hidden.fan_in, hidden.inputs) == (
        "if1",
        2000,
        200_000,
        100,
        100,
    )
    assert (readout.name, readout.neurons, readout.synapses, readout.fan_in) == ("fc2", 10, 20_000, 2000)


def test_a_residual_sum_adds_up_fan_ins():
    fc = dense_net(100, 100).layers[0]
    rows = (
        fc, spiking("a", ["fc1"], [100]),
        linear("left", "Gemm", ["a"], input_shape=[100], output_shape=[100], fan_in=60, parameters=1),
        linear("right", "Gemm", ["a"], input_shape=[100], output_shape=[100], fan_in=100, parameters=1),
        plain("add", "Add", ["left", "right"], [100]), spiking("b", ["add"], [100]),
    )  # fmt: skip
    first, second = populations(Counts(0, rows))
    assert (first.fan_in, second.fan_in, second.synapses) == (100, 160, 16_000)
    assert [row.name for row in second.linear] == ["left", "right"]


def test_loihi_by_hand():
    """2000 neurons of 100 8-bit synapses: 800 bits each, so that 1310 fit into 128 KiB, and 1024 places count."""
    found, checks = checked(dense_net(), "loihi")
    assert found.cores_used == 2, "1024 and 976; the 10 outputs of 16,000 bits each join the second core"
    assert (checks["neurons"].needed, checks["neurons"].available) == (2010, 128 * 1024)
    assert (checks["cores"].verdict, checks["cores"].available) == ("fits", 128)
    assert checks["synapses of one neuron, on average of the layer"].needed == pytest.approx(16_000 / 8192)
    assert (checks["axons into a core"].verdict, checks["axons into a core"].needed) == ("fits", 2000)
    assert checks["axons out of a core"].verdict == "not checked"
    assert (checks["bits of a weight"].verdict, checks["bits of a weight"].needed) == ("fits", 8)
    assert (found.verdict, found.more_chips) == ("not checked", None)


def test_loihi_overflows():
    """A fan-in of 40,000 takes 39 KiB a neuron: three in a core, and more axons than there are."""
    found, checks = checked(dense_net(inputs=40_000, hidden=600), "loihi")
    assert found.cores_used == 200 + 1, "the 10 outputs of 600 synapses have a core of their own: all others are full"
    assert (checks["cores"].verdict, checks["cores"].overflow, checks["cores"].more_chips) == ("does not fit", 73, True)
    assert checks["cores"].detail == "2 chips would hold them"
    assert (checks["axons into a core"].verdict, checks["axons into a core"].overflow) == ("does not fit", 35_904)
    assert checks["axons into a core"].more_chips is False
    assert (found.verdict, found.more_chips) == ("does not fit", False)
    found, checks = checked(dense_net(inputs=200_000, hidden=2), "loihi")
    one = checks["synapses of one neuron, on average of the layer"]
    assert (one.verdict, one.more_chips) == ("does not fit", False)
    assert one.overflow == pytest.approx(200_000 / 1024 - 128)
    assert (checks["cores"].verdict, found.cores_used) == ("not checked", None)


def test_axons_depend_on_the_placement():
    _, checks = checked(conv_net(), "loihi")
    assert checks["axons into a core"].verdict == "fits", "2048, 2048 and 4096 inputs"
    _, checks = checked(conv_net(size=64), "loihi")
    assert checks["axons into a core"].verdict == "does not fit", "the classifier reads 16,384"
    wide = conv_net(size=64)
    _, checks = checked(Counts(0, wide.layers[:5]), "loihi")
    assert checks["axons into a core"].verdict == "not checked"
    assert "which neurons share a core" in checks["axons into a core"].detail


def test_wide_weights_are_counted_at_the_width_of_the_chip():
    counts = dense_net()
    floats = Counts(0, tuple(replace(x, facts={**x.facts, "weight_bits": 32}) for x in counts.layers))
    _, checks = checked(floats, "loihi")
    assert (checks["bits of a weight"].verdict, checks["bits of a weight"].overflow) == ("does not fit", 23)
    assert "quantise" in checks["bits of a weight"].detail
    assert checks["synapses of one neuron, on average of the layer"].needed == pytest.approx(2000 * 9 / 8192)


def test_the_remedy_for_wide_weights_can_be_followed():
    """`--int8` leaves a first layer that reads real numbers in float32."""
    net = conv_net()
    first = replace(net.layers[0], input_kind="real", facts={**net.layers[0].facts, "weight_bits": 32})
    _, checks = checked(replace(net, layers=(first, *net.layers[1:])), "loihi")
    assert checks["bits of a weight"].detail.endswith("compute it off the chip: conv1")
    all_wide = [replace(row, facts={**row.facts, "weight_bits": 32}) for row in (first, *net.layers[1:])]
    _, checks = checked(replace(net, layers=tuple(all_wide)), "loihi")
    assert checks["bits of a weight"].detail.startswith("quantise the weights first: conv1")


def test_truenorth_has_a_hard_fan_in():
    found, checks = checked(dense_net(inputs=256, hidden=256), "truenorth")
    assert (checks["fan-in"].verdict, checks["fan-in"].needed) == ("fits", 256)
    assert (found.cores_used, found.verdict) == (2, "fits")
    found, checks = checked(dense_net(inputs=257, hidden=256), "truenorth")
    assert (checks["fan-in"].verdict, checks["fan-in"].overflow, found.more_chips) == ("does not fit", 1, False)


def test_brainscales():
    found, checks = checked(dense_net(inputs=100, hidden=600), "brainscales2")
    assert (checks["neurons"].overflow, checks["neurons"].more_chips) == (98, True)
    assert (checks["synapses"].verdict, checks["synapses"].needed) == ("fits", 66_000)
    assert (checks["fan-in"].overflow, checks["fan-in"].more_chips) == (344, False)
    assert checks["bits of a weight"].overflow == 2
    assert (found.cores, found.cores_used, found.more_chips) == (None, None, False)
    found, _ = checked(dense_net(inputs=100, hidden=250), "brainscales2")
    assert found.more_chips is False, "weights of 8 bits"


def test_more_chips_help_where_only_room_is_short():
    found, checks = checked(dense_net(inputs=256, hidden=256, classes=156 * 256), "tianjic")
    assert (checks["cores"].needed, checks["cores"].overflow) == (157, 1)
    assert checks["neurons"].overflow == 256
    assert (found.verdict, found.more_chips) == ("does not fit", True)


def test_loihi2_and_odin():
    found, checks = checked(dense_net(hidden=8192), "loihi2")
    assert checks["synapses"].needed == 8192 * 110
    assert (checks["neurons"].available, found.verdict) == (128 * 8192, "fits")
    assert found.cores_used == 5, "of 192 KiB, 1966 neurons of 800 bits each; 10 outputs of 65,536 bits: 24 a core"
    assert checked(dense_net(200, 256, 1), "odin")[1]["neurons"].overflow == 1


def test_spinnaker2_holds_shared_weights_once():
    _, checks = checked(conv_net(), "spinnaker2")
    parameters = 18 * 8 + 144 * 8 + 160 * 256
    assert checks["weights"].needed == pytest.approx(parameters / 1024)
    assert checks["weights"].available == 152 * 128
    assert "programs" in checks["weights"].detail


def test_speck_words():
    """The worked example of sinabs: 16 channels to 32, 3 x 3, 64 x 64 maps: 8 Ki kernel words, 128 Ki neuron words."""
    window = Window("conv", 16, 32, (3, 3), (1, 1), 1, (64, 64), (64, 64))
    assert (window.kernel_words, window.neuron_words) == (8 * 1024, 128 * 1024)
    odd = Window("conv", 3, 5, (5, 5), (1, 1), 1, (64, 64), (17, 33))
    assert (odd.kernel_words, odd.neuron_words) == (3 * 32 * 8, 5 * 32 * 64)


def test_speck_fits():
    found, checks = checked(conv_net(), "speck")
    assert found.verdict == "fits"
    cores = checks["cores, one a layer, with room in both memories"]
    assert (cores.needed, cores.available) == (3, 9)
    assert checks["kinds of neurons"].detail == "IF"
    assert (checks["side of an input"].needed, checks["destinations of a layer"].needed) == (32, 1)


@pytest.mark.parametrize(
    ("counts", "name", "told"),
    [
        (conv_net(op="LIF"), "kinds of neurons", "LIF neurons; the chip has IF"),
        (conv_net(pool="MaxPool"), "sum pools", "pool: MaxPool; windows are added up, of 1, 2, 4"),
        (conv_net(size=128), "side of an output", "conv1"),
        (conv_net(size=256), "side of an input", "conv1"),
        (conv_net(size=64), "square kernels", "fc: 32"),
        (
            conv_net(channels=32, size=64),
            "cores, one a layer, with room in both memories",
            "conv1: 1,024 kernel words and 131,072 neuron words",
        ),
    ],
)
def test_speck_does_not_fit(counts, name, told):
    found, checks = checked(counts, "speck")
    assert (checks[name].verdict, checks[name].more_chips, found.more_chips) == ("does not fit", False, False)
    assert told in checks[name].detail


def test_many_layers_beyond_a_limit_are_the_worst_and_a_number():
    """`detail` names all of them."""
    convs = [
        linear(f"conv{i}", "Conv", [], input_shape=[size, 8, 8], output_shape=[4, 8, 8], fan_in=9 * size,
               kernel=[size, size], strides=[3, 1], pads=[1, 1, 1, 1], weight_bits=32)
        for i, size in enumerate((2000, 5000, 3000))
    ]  # fmt: skip
    _, checks = checked(Counts(0, tuple(convs)), "speck")
    assert (checks["channels"].detail, checks["channels"].short) == ("conv1, conv2, conv0", "conv1 and 2 more layers")
    kernels = "conv1: 5000", "conv2: 3000", "conv0: 2000"
    assert checks["square kernels"].detail.startswith("; ".join(kernels) + "; there are 1, 2,")
    assert checks["square kernels"].short.startswith("conv1: 5000 and 2 more layers; there are 1, 2,")
    cores = checks["cores, one a layer, with room in both memories"]
    assert cores.short.startswith("no core holds conv1: ")
    assert cores.short.endswith(" neuron words and 2 more layers")
    assert all(name in cores.detail for name in ("conv0", "conv1", "conv2"))
    assert checks["bits of a weight"].short == "quantise the weights first: conv0 and 2 more layers"
    _, checks = checked(Counts(0, tuple(convs[:2])), "truenorth")
    assert checks["fan-in"].short == "more chips do not help: conv1 and 1 more layer"
    assert checks["axons into a core"].detail == "more chips do not help: conv1, conv0"
    assert checks["neurons"].short == ""


def test_speck_has_nine_cores():
    """Ten layers that any core holds find nine."""
    rows = []
    for index in range(10):
        before = [f"n{index - 1}"] if index else []
        rows += [
            linear(f"fc{index}", "Gemm", before, input_shape=[8], output_shape=[8], fan_in=8, parameters=64),
            spiking(f"n{index}", [f"fc{index}"], [8]),
        ]
    found, checks = checked(Counts(0, tuple(rows)), "speck")
    cores = checks["cores, one a layer, with room in both memories"]
    assert (cores.overflow, cores.more_chips, cores.detail) == (1, True, "9 of 10 layers find a core")
    assert found.more_chips is True
    assert checked(Counts(0, tuple(rows[:18])), "speck")[0].verdict == "fits"


def test_speck_feeds_two_layers_from_one():
    conv = conv_net().layers[:2]
    fed = [
        linear(f"to{i}", "Conv", ["n1"], input_shape=[8, 32, 32], output_shape=[4, 32, 32], fan_in=72, parameters=288,
               kernel=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
        for i in range(3)
    ]  # fmt: skip
    assert checked(Counts(0, (*conv, *fed[:2])), "speck")[1]["destinations of a layer"].verdict == "fits"
    _, checks = checked(Counts(0, (*conv, *fed)), "speck")
    assert (checks["destinations of a layer"].overflow, checks["destinations of a layer"].detail) == (1, "n1")


def test_akida_keeps_no_state():
    found, checks = checked(conv_net(), "akida")
    assert (checks["no state"].verdict, checks["no state"].more_chips) == ("does not fit", False)
    assert "4 time steps" in checks["no state"].detail
    single = Counts(0, (dense_net().layers[0], spiking("if1", ["fc1"], [2000], steps=1)))
    assert checked(single, "akida")[1]["no state"].verdict == "not checked"
    assert checked(Counts(0, conv_net().layers[:1]), "akida")[1]["no state"].verdict == "fits"
    assert found.verdict == "does not fit"


DEFAULTS = {
    "input_shape": [], "output_shape": [], "kernel": [], "strides": [], "pads": [], "groups": 1, "fan_in": 0,
    "parameters": 0, "weight_bits": 32, "sources": [], "arithmetic": None,
}  # fmt: skip


@pytest.mark.parametrize("facts", [{}, DEFAULTS], ids=["none", "defaults"])
def test_what_is_not_known_is_not_checked(facts):
    """Of every chip: without facts only what needs none is checked."""
    counts = Counts(0, tuple(replace(layer, facts=facts) for layer in conv_net(size=16).layers))
    free = {"kinds of neurons", "no state"}
    for target in load_targets():
        found = fit(counts, target)
        if found is None:
            assert target.kind in ("arithmetic", "memory") or target.name == "spinnaker"
            continue
        decided = {check.name for check in found.checks if check.verdict != "not checked"}
        assert decided <= (free | {"neurons"} if target.name in ("odin", "brainscales2") else free), target.name
        assert found.verdict in ("not checked", "does not fit")
        for check in found.checks:
            assert check.detail or check.verdict == "fits"


def test_a_foreign_neuron_is_not_checked():
    rows = conv_net(op="spike").layers
    known = tuple(replace(x, facts={**x.facts, "arithmetic": [1, 1]}) if x.op == "spike" else x for x in rows)
    _, checks = checked(Counts(0, known), "speck")
    assert checks["kinds of neurons"].verdict == "not checked"


def test_scales_are_folded():
    conv, neurons = conv_net().layers[:2]
    norm = linear("bn", "BatchNormalization", ["conv1"], input_shape=[8, 32, 32], output_shape=[8, 32, 32], fan_in=1,
                  parameters=16)  # fmt: skip
    (population,) = populations(Counts(0, (conv, norm, replace(neurons, facts={**neurons.facts, "sources": ["bn"]}))))
    assert (population.fan_in, [row.name for row in population.linear]) == (18, ["conv1"])


def test_a_cycle_of_sources_ends():
    rows = plain("a", "Add", ["b"], [3]), plain("b", "Add", ["a"], [3]), spiking("n", ["a"], [3])
    (population,) = populations(Counts(0, rows))
    assert (population.neurons, population.synapses) == (3, 0)


def test_first_fit_by_hand():
    assert first_fit([], 10, None) == 0
    assert first_fit([Piece(25, 0), Piece(5, 0)], 10, None) == 3, "10, 10, 5 + 5"
    assert first_fit([Piece(25, 0), Piece(6, 0)], 10, None) == 4
    assert first_fit([Piece(25, 10)], 10, 50) == 5, "5 a core by memory"
    assert first_fit([Piece(3, 10), Piece(2, 10), Piece(1, 20)], 10, 50) == 2
    assert first_fit([Piece(1, 51)], 10, 50) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 40)), max_size=6), st.integers(1, 20))
def test_first_fit_has_room_for_all(sizes, places):
    pieces = [Piece(neurons, bits) for neurons, bits in sizes]
    cores = first_fit(pieces, places, 100)
    assert cores is not None
    assert cores * places >= sum(piece.neurons for piece in pieces)
    assert cores * 100 >= sum(piece.neurons * piece.bits for piece in pieces)
    assert cores <= sum(piece.neurons for piece in pieces)
    assert first_fit([*pieces, Piece(1, 1)], places, 100) >= cores


def test_match_moves_layers_to_other_cores():
    """The small layer goes first and takes the large core; the large layer needs it, and the small one moves."""
    assert match([(1, 1), (9, 9)], [(10, 10), (2, 2)]) == 2
    assert match([(9, 9), (9, 9)], [(10, 10), (2, 2)]) == 1
    assert match([(9, 1), (1, 9)], [(1, 10), (10, 1)]) == 2
    assert match([], [(1, 1)]) == 0


def test_a_fit_is_plain_data():
    found, _ = checked(conv_net(), "loihi")
    plainly = asdict(found)
    assert plainly["target"] == "loihi"
    assert plainly["checks"][0].keys() == {
        *("name", "verdict", "needed", "available", "unit", "overflow", "more_chips", "detail", "source", "short")
    }
