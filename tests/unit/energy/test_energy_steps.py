"""Counts per time step, their spread over samples, and the network's totals, against brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from snnsc.energy import Counts, count, read_graph
from snnsc.energy.counting.counting import plan_without_samples
from snnsc.energy.counting.counts import BINS, Network, Stat, bin_of, histogram
from snnsc.energy.counting.indicators import Builder as NodeBuilder
from snnsc.energy.counting.instrument import _digits, instrument
from snnsc.energy.plan.groups import count_rows, make_rows
from snnsc.energy.plan.kinds import BINARY, REAL
from snnsc.energy.plan.layer import Layer, LayerFacts
from snnsc.energy.plan.plan import Plan
from snnsc.energy.plan.proofs import proven
from snnsc.sessions import open_session, run_session

from .graphs import Builder, SnnBuilder, brute_conv, brute_matrix, exported_net, neuron_function, run

KEYS = ("events", "acs", "event_magnitude")


def row(counts: Counts, name: str):
    return next(layer for layer in counts.layers if layer.name == name)


def assert_row(layer, truth_TBQ: np.ndarray) -> None:
    """Everything a row tells of events, additions and magnitude, [T, B, 3]."""
    samples = truth_TBQ.shape[1]
    for q, key in enumerate(KEYS):
        each = [int(n) for n in truth_TBQ[:, :, q].sum(axis=0)]
        assert layer.stats[key] == Stat(sum(each), min(each), max(each), sum(n * n for n in each)), key
        assert layer.steps[key] == tuple(int(n) for n in truth_TBQ[:, :, q].sum(axis=1)), key
        assert layer.stats[key].std(samples) == pytest.approx(np.std(each), abs=1e-9)
    largest = layer.stats["max_events"].high
    events = truth_TBQ[:, :, 0].sum(axis=0)
    bins = [sum(1 for n in events if b == min(int(BINS * n / largest), BINS - 1)) for b in range(BINS)]
    assert layer.spread["events"] == tuple(bins)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_spiking_convolutions(data):
    """Binary, integer and pooled spikes over several time steps through any convolution, in batches of any size."""
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    groups, source = draw(st.sampled_from([1, 2])), draw(st.sampled_from(["binary", "integer", "scaled"]))
    channels = groups * draw(st.integers(1, 2))
    size = draw(st.integers(5, 8))
    w_shape = (groups * 2, channels // groups, draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    attrs = {
        "strides": [draw(st.integers(1, 3)) for _ in range(2)],
        "dilations": [draw(st.integers(1, 2)) for _ in range(2)],
        "pads": [draw(st.integers(0, 2)) for _ in range(4)],
    }
    for axis in range(2):  # a window is no larger than what it reads
        extent = attrs["dilations"][axis] * (w_shape[2 + axis] - 1) + 1
        assume(extent <= size - (source == "scaled") + attrs["pads"][axis] + attrs["pads"][axis + 2])
    T, B = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    b = SnnBuilder(rng, T)
    b.neuron("x", "a")
    value = "a.spikes"
    if source == "integer":
        b.add("Mul", ["x", b.const("half", np.float32(0.5))], "x2")
        value = b.add("Add", [value, b.neuron("x2", "b")], "sum")
    value = b.fold(value, [channels, size, size])
    if source == "scaled":
        value = b.add("AveragePool", [value], "pooled", kernel_shape=[2, 2])
    w = b.grid(*w_shape, sparsity=draw(st.sampled_from([0.0, 0.5, 1.0])))
    b.add("Conv", [value, b.const("w", w)], "y", group=groups, **attrs)
    model = b.model(
        [("x", TensorProto.FLOAT, [T, "B", channels, size, size])],
        [("y", [None] * 4)],
        functions=[neuron_function("LIF")],
        metadata={"snnsc.input": '{"layout": "TBCHW"}'},
    )
    x = rng.integers(0, 4, (T, B, channels, size, size)).astype(np.float32)
    cut = draw(st.integers(1, B))
    parts = [part for part in (x[:, :cut], x[:, cut:]) if part.size]
    counts = count(read_graph(model), [{"x": part} for part in parts])
    (held,) = run(model, {"x": x}, [value])
    unit = 0.25 if source == "scaled" else 1.0
    truth = brute_conv(held, w, **attrs, groups=groups, unit=unit).reshape(T, B, 3)
    assert row(counts, "y").input_kind == source
    assert not counts.violations
    if row(counts, "y").stats["max_events"].high:
        assert_row(row(counts, "y"), truth)
    spikes = run(model, {"x": x}, ["a.spikes"])[0].reshape(T, B, -1).sum(axis=2)
    assert row(counts, "a").steps["spikes"] == tuple(int(n) for n in spikes.sum(axis=1))
    assert sum(row(counts, "a").spread["spikes"]) == B


@pytest.mark.parametrize("opset", [7, 12, 18])
def test_every_opset_counts_integer_inputs(rng, opset):
    b = Builder()
    b.add("MatMul", ["x", b.const("w", rng.integers(0, 2, (6, 4)).astype(np.float32))], "y")
    x = rng.integers(-2, 3, (5, 6)).astype(np.float32)
    model = b.model([("x", TensorProto.FLOAT, ["N", 6])], [("y", ["N", 4])], opset=opset)
    model.metadata_props.add(key="snnsc.input", value='{"layout": "BC", "kind": "integer"}')
    w = onnx.numpy_helper.to_array(model.graph.initializer[0])
    assert_row(row(count(read_graph(model), [{"x": x}]), "y"), brute_matrix(x, w)[np.newaxis])


def test_the_network_is_summed_sample_by_sample(rng):
    model = exported_net(rng)
    images = rng.integers(-1, 3, (9, 2, 6, 6)).astype(np.float32)
    graph = read_graph(model)
    counts = count(graph, [{"images": images[:4]}, {"images": images[4:]}])
    alone = [count(graph, [{"images": images[i : i + 1]}]) for i in range(9)]
    for key in ("events", "acs", "event_magnitude", "pool_events", "spikes"):
        each = [sum(x.stats[key].total for x in one.layers if key in x.stats) for one in alone]
        assert counts.network.stats[key] == Stat(sum(each), min(each), max(each), sum(n * n for n in each)), key
    macs = [one.network.stats["macs"].total for one in alone]
    assert counts.network.stats["macs"] == Stat(sum(macs), min(macs), max(macs), sum(n * n for n in macs))
    together = counts.network.stats["events"]
    assert together.low > sum(x.stats["events"].low for x in counts.layers if "events" in x.stats)
    most = sum(x.stats["max_events"].high for x in counts.layers if "max_events" in x.stats)
    events = np.array([one.network.stats["events"].total for one in alone])
    assert counts.network.spread["events"] == histogram(events.astype(float), most)


def test_batches_of_several_lengths_add_up_step_by_step(rng):
    model = exported_net(rng, event=True)
    frames = rng.integers(0, 3, (4, 3, 2, 6, 6)).astype(np.float32)
    graph = read_graph(model)
    long, short = ([{"frames": f}] for f in (frames, frames[:2, :1]))
    both = row(count(graph, long + short), "conv2").steps["events"]
    first, second = (row(count(graph, batches), "conv2").steps["events"] for batches in (long, short))
    assert [len(first), len(second), len(both)] == [4, 2, 4]
    assert both == (first[0] + second[0], first[1] + second[1], first[2], first[3])


def test_statistics_survive_json_exactly(rng):
    model = exported_net(rng)
    counts = count(read_graph(model), [{"images": rng.integers(-1, 3, (5, 2, 6, 6)).astype(np.float32)}])
    assert Counts.from_json(counts.to_json()) == counts
    big = Stat((2**53 - 1) * 3, 0, 2**53 - 1, (2**53 - 1) ** 2 * 2**20)
    layer = replace(
        counts.layers[0], stats=counts.layers[0].stats | {"events": big}, facts={"kernel": [3, 3], "a": None}
    )
    changed = replace(counts, layers=(layer, *counts.layers[1:]))
    assert Counts.from_json(changed.to_json()) == changed


def test_what_a_branch_lacks_is_zero_in_its_samples():
    one = Network({"events": Stat(6, 2, 4, 20), "spikes": Stat(3, 1, 2, 5)}, {"events": (2, *[0] * 19)})
    other = Network({"events": Stat(9, 9, 9, 81)}, {})
    merged = one.merge(other, 2, 1)
    assert merged.stats == {"events": Stat(15, 2, 9, 101), "spikes": Stat(3, 0, 2, 5)}
    assert merged.spread == {"events": (3, *[0] * 19)}


def test_std_does_not_cancel():
    values = np.array([2.0**52, 2.0**52 + 2])
    assert Stat.of(values).std(2) == 1.0
    assert Stat.constant(7, 1000).std(1000) == 0.0
    assert Stat.of(np.array([1.5, 2.5])).std(2) == pytest.approx(0.5)


@pytest.mark.parametrize(("value", "largest", "expected"), [(0, 0, 0), (0, 9, 0), (9, 9, 19), (1, 20, 1), (1, 21, 0)])
def test_bins(value, largest, expected):
    assert bin_of(value, largest) == expected


# ------------------------------------------------------------------------------------------------------- exactness


@settings(max_examples=60, deadline=None)
@given(
    inner=st.integers(1, 5000),
    high=st.integers(0, 2**20),
    limit=st.sampled_from([2**24, 2**20, 2**14]),
    seed=st.integers(0, 2**31),
)
def test_digits_are_the_weights_and_their_sums_stay_small(inner, high, limit, seed):
    weights = np.random.default_rng(seed).integers(0, high + 1, inner).astype(np.float64)
    found = _digits(weights, limit)
    if found is None:
        assert weights.sum() > limit
        return
    radix, columns = found
    assert all(column.sum() <= limit for column in columns)
    np.testing.assert_array_equal(sum(c * radix**i for i, c in enumerate(columns)), weights)


@pytest.mark.parametrize("high", [1, 600, 2**20, 2**26])
def test_sums_far_above_two_to_the_24_are_exact(high):
    """All ones, with weights whose sum needs one digit, several, and float64."""
    rng = np.random.default_rng(0)
    inner = 300_000
    fanout = rng.integers(high // 2, high + 1, inner).astype(np.float64)
    fanout[-1] = high | 1  # an odd one: float32 would lose it
    layer = Layer("y", "Conv", BINARY, {"time_steps": 2, "max_events": 1}, "x", fanout, inner, "events")
    plan = Plan((layer,), (), {"x": BINARY}, {"x": "tensor(float)"}, {})
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    graph = helper.make_graph([], "g", [info], [info])
    made = instrument(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), plan, 18, trust=True
    )
    x = np.ones((2, 3, inner), np.float32)
    x[1, 2, :-1] = 0
    session = open_session(made.model, "test")
    found = dict(zip(made.outputs, run_session(session, made.outputs, {"x": x} | made.weights, "test"), strict=True))
    whole = int(fanout.sum())
    np.testing.assert_array_equal(made.readings[0, "events"].of(found), [[whole] * 3, [whole, whole, high | 1]])
    assert found[made.checks["x"]] == 0


# ------------------------------------------------------------------------------------ rows out of several layers


def test_nodes_of_one_group_are_one_row():
    """Three time steps of one convolution, the second of which has no node: the graph folded it away."""
    facts = LayerFacts(input_shape=(2, 4), kernel=(3,), sources=("a",))

    def member(t: int) -> Layer:
        static = {"time_steps": 1, "max_events": 100, "dense_macs": 50, "ann_macs": 50 * (t == 0), "weights": 9}
        return Layer(f"conv.{t}", "Conv", BINARY, static, f"x{t}", role="events", group="conv", step=t, facts=facts)

    other = Layer("lif", "LIF", BINARY, {"time_steps": 3, "neuron_updates": 12}, "s", role="spikes")
    rows = make_rows([member(0), other, member(2)])
    found = [
        {"events": np.array([[10.0, 20.0]]), "input_nonzeros": np.array([[1.0, 2.0]])},
        {"spikes": np.array([[1.0, 2], [3, 4], [5, 6]])},
        {"events": np.array([[0.0, 100.0]]), "input_nonzeros": np.array([[0.0, 3.0]])},
    ]
    (conv, lif), network = count_rows(rows, found, 2)
    assert (conv.name, conv.op, conv.weights) == ("conv", "Conv", 9)
    assert conv.steps == dict.fromkeys(KEYS, (30, 0, 100))
    assert conv.stats["events"] == Stat(130, 10, 120, 10**2 + 120**2)
    assert conv.stats["max_events"] == Stat.constant(200, 2)
    assert conv.stats["ann_macs"] == Stat.constant(50, 2)
    assert conv.stats["time_steps"] == Stat.constant(2, 2)
    assert [b for b, n in enumerate(conv.spread["events"]) if n] == [1, 12]
    assert conv.facts["input_shape"] == [2, 4]
    assert conv.facts["sources"] == ["a"]
    assert lif.steps["spikes"] == (3, 7, 11)
    assert network.stats["events"] == conv.stats["events"]
    assert network.stats["macs"] == Stat(0, 0, 0, 0)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_pairs_of_two_activations(data):
    """Nonzero times nonzero, one by one, with heads that may be broadcast."""
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    T, B, heads, M, K, N = (draw(st.integers(1, 4)) for _ in range(6))
    binary, shared = draw(st.booleans()), draw(st.booleans())
    left = rng.integers(0, 2 if binary else 4, (T, B, heads, M, K)).astype(np.float32)
    right = rng.integers(-1, 2, (T, B, 1 if shared else heads, K, N)).astype(np.float32)
    truth = np.zeros((T, B))
    for t, b, h, _, k in np.argwhere(left):
        truth[t, b] += np.count_nonzero(right[t, b, 0 if shared else h, k])
    static = {"time_steps": T, "max_events": heads * M * K * N * T}
    layer = Layer(
        *("qk", "MatMul", BINARY if binary else REAL, static, "left", None, heads * K, "pairs"), second="right"
    )
    plan = Plan((layer,), (), {}, {"left": "tensor(float)", "right": "tensor(float)"}, {})
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("left", "right")]
    empty = helper.make_model(
        helper.make_graph([], "g", infos, infos[:1]), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    made = instrument(empty, plan, 18, trust=True)
    feeds = {"left": left, "right": right} | made.weights
    found = dict(zip(made.outputs, run_session(open_session(made.model, ""), made.outputs, feeds, ""), strict=True))
    measured = {q: reading.of(found) for (_, q), reading in made.readings.items()}
    (count_,), _ = count_rows(make_rows([layer]), [measured], B)
    assert count_.steps["events"] == tuple(int(n) for n in truth.sum(axis=1))
    assert count_.steps["acs"] == (count_.steps["events"] if binary else (0,) * T)
    assert count_.stats["events"].high == truth.sum(axis=0).max()


def test_equal_nodes_are_shared():
    builder = NodeBuilder(18, {"x": "tensor(float)"})
    assert builder.nonzero("x") == builder.nonzero("x")
    assert len(builder.nodes) == 2


def test_counting_spikes_is_one_product_a_value(rng):
    """What keeps counting cheap: no cast, no check and no second pass over values that are proven to be spikes."""
    graph = read_graph(exported_net(rng))
    plan = plan_without_samples(graph)
    proven_ = proven(graph.model, {layer.tensor: layer.kind for layer in plan.layers if layer.tensor} | plan.roots)
    made = instrument(graph.model, plan, graph.opset, trust=True, proven=proven_)
    added = made.model.graph.node[len(graph.model.graph.node) :]
    spikes = {layer.tensor for layer in plan.layers if layer.kind.name == "binary" and layer.tensor}
    assert len(spikes) == 3
    readers = [node for node in added if spikes & set(node.input)]
    assert sorted(node.op_type for node in readers) == ["Reshape"] * 3
    flat = {node.output[0] for node in readers}
    assert sorted(node.op_type for node in added if flat & set(node.input)) == ["MatMul"] * 3


def test_steps_that_share_weights_share_their_matrix():
    fanout = np.arange(6.0)
    layers = [
        Layer(f"c{t}", "Conv", BINARY, {"time_steps": 1}, f"x{t}", fanout.copy(), 6, "events", group="c", step=t)
        for t in range(4)
    ]
    infos = [helper.make_tensor_value_info(f"x{t}", TensorProto.FLOAT, None) for t in range(4)]
    empty = helper.make_model(
        helper.make_graph([], "g", infos, infos[:1]), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    plan = Plan(tuple(layers), (), {}, {f"x{t}": "tensor(float)" for t in range(4)}, {})
    (matrix,) = instrument(empty, plan, 18, trust=True).weights.values()
    np.testing.assert_array_equal(matrix, np.stack([np.ones(6), fanout], axis=1))
