"""count() against loops over every nonzero input element and every weight it meets."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from snnsc.energy import Counts, count, dense, read_graph

from .graphs import Builder, SnnBuilder, brute_conv, brute_matrix, by_sample, exported_net, neuron_function, run


def row(counts: Counts, name: str):
    return next(layer for layer in counts.layers if layer.name == name)


def assert_equals(counts: Counts, name: str, expected: np.ndarray) -> None:
    """`expected` is [samples, 3]: events, additions, magnitude."""
    stats = row(counts, name).stats
    for column, key in enumerate(("events", "acs", "event_magnitude")):
        values = expected[:, column]
        found = stats[key]
        assert (found.total, found.low, found.high) == (values.sum(), values.min(), values.max()), key


def real(expected: np.ndarray) -> np.ndarray:
    """For a real input no event is an addition, and the magnitude is the number of events."""
    return np.stack([expected[:, 0], np.zeros(len(expected)), expected[:, 0]], axis=1)


def weights(model: onnx.ModelProto, name: str) -> np.ndarray:
    return next(onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


CONV2 = {"strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
CONV1 = CONV2 | {"strides": (1, 1)}


@pytest.mark.parametrize("event", [False, True])
@pytest.mark.parametrize("pool", ["AveragePool", "MaxPool", "ReduceMean"])
def test_exported_net_equals_brute_force(rng, event, pool):
    model = exported_net(rng, event=event, pool=pool)
    shape = (3, 5, 2, 6, 6) if event else (5, 2, 6, 6)
    feeds = {"frames" if event else "images": rng.integers(-1, 3, shape).astype(np.float32)}
    names = ["lif1.spikes", "layer1.0.lif1.spikes", "layer1.0.lif2.spikes", "flat"]
    spikes1, spikes2, spikes3, flat = run(model, feeds, names)
    counts = count(read_graph(model), [feeds])
    assert not counts.not_counted
    assert not counts.violations
    images = next(iter(feeds.values())).reshape(-1, 2, 6, 6)
    assert_equals(counts, "conv1", real(by_sample(brute_conv(images, weights(model, "conv1.weight"), **CONV1), 5)))
    s1, s2 = spikes1.reshape(15, 3, 6, 6), spikes2.reshape(15, 4, 3, 3)
    assert_equals(counts, "conv2", by_sample(brute_conv(s1, weights(model, "conv2.weight"), **CONV2), 5))
    grouped = brute_conv(s2, weights(model, "layer1.0.conv2.weight"), **CONV1 | {"groups": 2})
    assert_equals(counts, "layer1.0.conv2", by_sample(grouped, 5))
    side = brute_conv(s1, weights(model, "layer1.0.shortcut.weight"), **CONV2 | {"pads": (0, 0, 0, 0)})
    assert_equals(counts, "layer1.0.shortcut", by_sample(side, 5))
    unit = {"AveragePool": 1 / 4, "MaxPool": 1.0, "ReduceMean": 1 / 9}[pool]
    head = by_sample(brute_matrix(flat, weights(model, "head.weight").T, unit), 5)
    assert_equals(counts, "head", head)
    kinds = [row(counts, n).input_kind for n in ("conv1", "conv2", "layer1.0.conv2", "head")]
    assert kinds == ["real", "binary", "binary", "binary" if pool == "MaxPool" else "scaled"]
    per_sample = spikes3.sum(axis=(0, 2, 3, 4))
    fired = row(counts, "layer1.0.lif2").stats["spikes"]
    assert (fired.total, fired.low, fired.high) == (per_sample.sum(), per_sample.min(), per_sample.max())


def test_static_first_layer_is_charged_once_and_shown_times_T(rng):
    model = exported_net(rng, T=3)
    stats = row(count(read_graph(model), [{"images": np.ones((2, 2, 6, 6), np.float32)}]), "conv1").stats
    assert stats["dense_macs"].total == 2 * 3 * 36 * 18
    assert stats["events_every_step"].total == 3 * stats["events"].total
    assert stats["events"].total == stats["max_events"].total
    later = row(count(read_graph(model), [{"images": np.ones((1, 2, 6, 6), np.float32)}]), "conv2").stats
    assert later["dense_macs"].total == 3 * later["ann_macs"].total == 3 * 4 * 9 * 27
    assert "events_every_step" not in later


def test_neuron_updates_are_neurons_times_steps(rng):
    model = exported_net(rng, T=5)
    counts = count(read_graph(model), [{"images": np.ones((2, 2, 6, 6), np.float32)}])
    assert row(counts, "lif1").stats["neuron_updates"].total == 2 * 5 * 3 * 36
    assert row(counts, "layer1.0.add").stats["residual_adds"].total == 2 * 5 * 4 * 9


def test_T_may_be_overridden_by_a_batch(rng):
    model = exported_net(rng, T=3)
    images = np.ones((2, 2, 6, 6), np.float32)
    counts = count(read_graph(model), [{"images": images, "T": np.array([7])}])
    assert row(counts, "lif1").stats["time_steps"].high == 7


def test_event_sequences_of_different_length_add_up(rng):
    graph = read_graph(exported_net(rng, event=True))
    parts = [rng.integers(0, 2, (t, 2, 2, 6, 6)).astype(np.float32) for t in (2, 6)]
    both = count(graph, [{"frames": p} for p in parts])
    alone = [count(graph, [{"frames": p}]) for p in parts]
    for index, layer in enumerate(both.layers):
        for key, stat in layer.stats.items():
            assert stat.total == sum(c.layers[index].stats[key].total for c in alone)
    assert (row(both, "lif1").stats["time_steps"].low, row(both, "lif1").stats["time_steps"].high) == (2, 6)


@pytest.mark.parametrize("sizes", [(7,), (1,) * 7, (3, 4), (2, 5)])
def test_batch_size_does_not_matter(rng, sizes):
    graph = read_graph(exported_net(rng))
    images = rng.standard_normal((7, 2, 6, 6)).round(1).astype(np.float32)
    whole = count(graph, [{"images": images}])
    parts = np.split(images, np.cumsum(sizes)[:-1])
    assert count(graph, ({"images": p} for p in parts)) == whole


def plain(b: Builder, source_shape, output: str, *, opset: int = 18, dtype=TensorProto.FLOAT) -> onnx.ModelProto:
    return b.model([("x", dtype, source_shape)], [(output, [None] * len(source_shape))], opset=opset)


CONVS = [
    {"shape": (2, 5, 6), "w": (3, 2, 3, 3), "pads": (1, 1, 1, 1)},
    {"shape": (2, 7, 6), "w": (3, 2, 3, 2), "strides": (2, 3)},
    {"shape": (4, 6, 6), "w": (6, 2, 3, 3), "pads": (0, 1, 2, 1), "groups": 2},
    {"shape": (4, 6, 6), "w": (4, 1, 3, 3), "pads": (1, 1, 1, 1), "groups": 4},
    {"shape": (2, 8, 8), "w": (2, 2, 3, 3), "dilations": (2, 2), "pads": (2, 2, 2, 2), "strides": (2, 1)},
    {"shape": (3, 4, 4), "w": (5, 3, 1, 1)},
    {"shape": (3, 5, 5), "w": (2, 3, 1, 1), "strides": (2, 2)},
    {"shape": (3, 9), "w": (4, 3, 4), "pads": (3, 0), "strides": (2,)},
    {"shape": (2, 3, 4, 3), "w": (2, 2, 2, 2, 2), "pads": (1, 0, 1, 0, 1, 0)},
    {"shape": (2, 2, 2), "w": (2, 2, 3, 3), "pads": (3, 3, 3, 3), "strides": (3, 3)},
]


@pytest.mark.parametrize("case", CONVS, ids=str)
@pytest.mark.parametrize("opset", [8, 11, 13, 18])
def test_convolutions_equal_brute_force(rng, case, opset):
    rank = len(case["shape"]) - 1
    attrs = {
        "strides": case.get("strides", (1,) * rank),
        "pads": case.get("pads", (0,) * 2 * rank),
        "dilations": case.get("dilations", (1,) * rank),
    }
    groups = case.get("groups", 1)
    w = np.where(rng.random(case["w"]) < 0.4, 0, rng.standard_normal(case["w"])).astype(np.float32)
    b = Builder()
    b.add("Conv", ["x", b.const("w", w)], "y", **attrs, group=groups)
    x = rng.integers(-1, 2, (3, *case["shape"])).astype(np.float32)
    counts = count(read_graph(plain(b, ["N", *case["shape"]], "y", opset=opset)), [{"x": x}])
    assert_equals(counts, "y", real(brute_conv(x, w, **attrs, groups=groups)))
    full = brute_conv(np.ones_like(x), w, **attrs, groups=groups)
    assert row(counts, "y").stats["max_events"].high == full[0, 0]
    dense_macs = run(plain(b, ["N", *case["shape"]], "y", opset=opset), {"x": x[:1]}, ["y"])[0].size * w[0].size
    assert row(counts, "y").stats["dense_macs"].low == dense_macs


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("size", [5, 6, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_auto_pad_fan_out_equals_the_runtime_itself(auto_pad, size, stride, kernel):
    """A single one convolved with ones gives the number of windows that see it."""
    w = np.ones((2, 1, kernel, kernel), np.float32)
    b = Builder()
    b.add("Conv", ["x", b.const("w", w)], "y", auto_pad=auto_pad, strides=[stride, stride])
    model = plain(b, ["N", 1, size, size], "y")
    positions = np.eye(size * size, dtype=np.float32).reshape(-1, 1, size, size)
    truth = run(model, {"x": positions}, ["y"])[0].sum(axis=(1, 2, 3))
    graph = read_graph(model)
    stats = row(count(graph, [{"x": positions}]), "y").stats["events"]
    assert (stats.total, stats.low, stats.high) == (truth.sum(), truth.min(), truth.max())


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_random_convolutions_on_integer_spikes(data):
    """Sums of two spike tensors, through any convolution: additions and multiplications element by element."""
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    rank, groups = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2]))
    channels = groups * draw(st.integers(1, 2))
    sizes = [draw(st.integers(5, 7)) for _ in range(rank)]
    w_shape = (groups * 2, channels // groups, *(draw(st.integers(1, 3)) for _ in range(rank)))
    attrs = {
        "strides": [draw(st.integers(1, 3)) for _ in range(rank)],
        "dilations": [draw(st.integers(1, 2)) for _ in range(rank)],
        "pads": [draw(st.integers(0, 2)) for _ in range(2 * rank)],
    }
    T, B = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    b = SnnBuilder(rng, T)
    b.neuron("x", "a")
    b.add("Mul", ["x", b.const("half", np.float32(0.5))], "x2")
    b.neuron("x2", "b")
    both = b.fold(b.add("Add", ["a.spikes", "b.spikes"], "sum"), [channels, *sizes])
    w = b.grid(*w_shape)
    b.add("Conv", [both, b.const("w", w)], "y", group=groups, **attrs)
    model = b.model(
        [("x", TensorProto.FLOAT, [T, "B", channels, *sizes])],
        [("y", [None] * (rank + 2))],
        functions=[neuron_function("LIF")],
        metadata={"snnsc.input": '{"layout": "TBCHW"}'},
    )
    feeds = {"x": rng.integers(0, 4, (T, B, channels, *sizes)).astype(np.float32)}
    counts = count(read_graph(model), [feeds])
    (x,) = run(model, feeds, [both])
    assert row(counts, "y").input_kind == "integer"
    assert_equals(counts, "y", by_sample(brute_conv(x, w, **attrs, groups=groups), B))


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "GemmT"])
def test_matrices_equal_brute_force(rng, op):
    w = np.where(rng.random((6, 4)) < 0.5, 0, 1).astype(np.float32)
    b = Builder()
    if op == "MatMul":
        b.add("MatMul", ["x", b.const("w", w)], "y")
    else:
        stored = w.T.copy() if op == "GemmT" else w
        bias = b.const("c", np.array([1, 0, 2, 3], np.float32))
        b.add("Gemm", ["x", b.const("w", stored), bias], "y", transB=int(op == "GemmT"), alpha=0.5)
    x = rng.integers(-1, 2, (5, 6)).astype(np.float32)
    counts = count(read_graph(plain(b, ["N", 6], "y")), [{"x": x}])
    assert_equals(counts, "y", real(brute_matrix(x, w)))
    assert row(counts, "y").stats["bias_adds"].total == (0 if op == "MatMul" else 5 * 3)


def test_matmul_over_tokens_counts_every_token(rng):
    w = b_w = rng.integers(0, 2, (4, 3)).astype(np.float32)
    b = Builder()
    b.add("MatMul", ["x", b.const("w", b_w)], "y")
    x = rng.integers(0, 2, (3, 5, 4)).astype(np.float32)
    counts = count(read_graph(plain(b, ["N", 5, 4], "y")), [{"x": x}])
    expected = brute_matrix(x.reshape(15, 4), w).reshape(3, 5, 3).sum(axis=1)
    assert_equals(counts, "y", real(expected))
    assert row(counts, "y").stats["time_steps"].high == 1


def test_batchnorm_and_constant_scale_are_one_multiplication_an_element():
    b = Builder()
    scale = b.const("scale", np.array([1, 0, 2], np.float32))
    others = [b.const(n, np.ones(3, np.float32)) for n in ("shift", "mean", "var")]
    b.add("BatchNormalization", ["x", scale, *others], "n")
    b.add("Mul", ["n", b.const("half", np.float32(0.5))], "y")
    x = np.ones((2, 3, 4, 4), np.float32)
    counts = count(read_graph(plain(b, ["N", 3, 4, 4], "y")), [{"x": x}])
    assert row(counts, "n").stats["events"].total == 2 * 2 * 16
    assert row(counts, "n").stats["dense_macs"].total == 2 * 3 * 16
    assert row(counts, "y").stats["dense_macs"].total == 2 * 3 * 16


def test_counts_above_two_to_the_24_are_exact():
    w = np.ones((512, 1, 3, 3), np.float32)
    b = Builder()
    b.add("Conv", ["x", b.const("w", w)], "y", pads=[1, 1, 1, 1])
    x = np.ones((2, 1, 201, 201), np.float32)
    x[1, 0, 100, 100] = 0
    stats = row(count(read_graph(plain(b, ["N", 1, 201, 201], "y")), [{"x": x}]), "y").stats["events"]
    full = 512 * (3 * 201 - 2) ** 2
    assert full > 2**24
    assert full % 2 == 0
    assert (stats.high, stats.low, stats.total) == (full, full - 512 * 9, 2 * full - 512 * 9)


def test_pool_events_are_windows_that_hold_a_nonzero():
    b = Builder()
    b.add("AveragePool", ["x"], "y", kernel_shape=[2, 2], pads=[1, 1, 0, 0])
    x = np.zeros((1, 1, 3, 3), np.float32)
    x[0, 0, 1, 1] = x[0, 0, 2, 2] = 5
    stats = row(count(read_graph(plain(b, ["N", 1, 3, 3], "y")), [{"x": x}]), "y").stats
    assert stats["pool_events"].total == 4 + 1


@pytest.mark.parametrize(("include", "kind"), [(0, "real"), (1, "scaled")])
def test_padded_average_is_scaled_only_with_one_divisor(rng, include, kind):
    b = SnnBuilder(rng, 2)
    x = b.fold(b.neuron("x", "lif"), [2, 4, 4])
    b.add("AveragePool", [x], "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=include)
    b.conv("p", "conv", (2, 2, 1, 1))
    model = b.model(
        [("x", TensorProto.FLOAT, [2, "B", 2, 4, 4])],
        [("conv.out", [None] * 4)],
        functions=[neuron_function("LIF")],
        metadata={"snnsc.input": '{"layout": "TBCHW"}'},
    )
    x = rng.integers(0, 3, (2, 3, 2, 4, 4)).astype(np.float32)
    counts = count(read_graph(model), [{"x": x}])
    assert row(counts, "conv").input_kind == kind
    assert not counts.violations


def test_a_graph_with_a_fixed_batch_takes_any_number_of_samples(rng):
    w = rng.integers(0, 2, (6, 4)).astype(np.float32)
    x = rng.integers(0, 2, (7, 6)).astype(np.float32)
    for batch in (1, 3):
        b = Builder()
        b.add("MatMul", ["x", b.const("w", w)], "y")
        counts = count(read_graph(plain(b, [batch, 6], "y")), [{"x": x}])
        assert counts.samples == 7
        assert_equals(counts, "y", real(brute_matrix(x, w)))


def test_a_broken_promise_is_reported_and_counted_element_by_element(rng):
    """A neuron whose spikes are 0.5 high: found on the data, and its events are multiplications."""
    model = exported_net(rng)
    function = model.functions[0]
    function.node[-1].output[1] = "raw"
    function.node.append(onnx.helper.make_node("Constant", [], ["height"], value_float=0.5))
    function.node.append(onnx.helper.make_node("Mul", ["raw", "height"], ["spikes"]))
    images = rng.integers(0, 3, (3, 2, 6, 6)).astype(np.float32)
    counts = count(read_graph(model), [{"images": images}])
    broken = {v["value"]: v for v in counts.violations}
    assert broken["lif1.spikes"]["kind"] == "binary"
    (spikes,) = run(model, {"images": images}, ["lif1.spikes"])
    assert broken["lif1.spikes"]["elements"] == np.count_nonzero(spikes)
    stats = row(counts, "conv2").stats
    expected = brute_conv(spikes.reshape(9, 3, 6, 6), weights(model, "conv2.weight"), **CONV2, unit=0.5)
    assert stats["events"].total == expected[:, 0].sum() > 0
    assert stats["acs"].total == 0


def test_unknown_operators_are_listed_never_zero():
    b = Builder()
    b.add("MatMul", ["x", "x"], "square")
    b.add("Einsum", ["square"], "e", equation="bij->bji")
    b.add("Sigmoid", ["x4"], "t")
    b.nodes.insert(0, onnx.helper.make_node("Unsqueeze", ["x", b.const("one", np.array([1]))], ["x4"]))
    b.add("Softmax", ["e"], "y")
    b.add("Relu", ["t"], "z")
    model = b.model([("x", TensorProto.FLOAT, ["N", 3, 3])], [("y", [None] * 3), ("z", [None] * 4)])
    counts = count(read_graph(model), [{"x": np.ones((2, 3, 3), np.float32)}])
    reasons = {entry["op"]: entry["reason"] for entry in counts.not_counted}
    assert reasons.keys() == {"Einsum", "Sigmoid", "Softmax"}
    assert reasons["Einsum"] == "its equation is not a product of two operands"


def test_unused_layers_are_not_counted():
    b = Builder()
    w = b.const("w", np.ones((3, 3), np.float32))
    b.add("MatMul", ["x", w], "y")
    b.add("MatMul", ["x", w], "dead")
    assert [layer.name for layer in dense(read_graph(plain(b, ["N", 3], "y"))).layers] == ["y"]


def test_weights_computed_in_the_graph_are_constants():
    b = Builder()
    shape = b.const("shape", np.array([4, 3], np.int64))
    b.add("Reshape", [b.const("flat", np.arange(12, dtype=np.float32)), shape], "w")
    b.add("MatMul", ["x", "w"], "y")
    assert dense(read_graph(plain(b, ["N", 4], "y"))).layers[0].weights == 11


@pytest.mark.parametrize(("kind", "high"), [("binary", 1), ("integer", 3), ("real", 3)])
def test_event_frames_may_declare_their_kind(rng, kind, high):
    model = exported_net(rng, event=True)
    entry = next(p for p in model.metadata_props if p.key == "snnsc.input")
    entry.value = '{"layout": "TBCHW", "kind": "' + kind + '"}'
    frames = rng.integers(0, high + 1, (2, 3, 2, 6, 6)).astype(np.float32)
    counts = count(read_graph(model), [{"frames": frames}])
    assert row(counts, "conv1").input_kind == kind
    assert not counts.violations
    expected = brute_conv(frames.reshape(6, 2, 6, 6), weights(model, "conv1.weight"), **CONV1)
    assert_equals(counts, "conv1", by_sample(real(expected) if kind == "real" else expected, 3))
    entry.value = '{"layout": "TBCHW", "kind": "binary"}'
    broken = count(read_graph(model), [{"frames": frames}]).violations
    assert [v["value"] for v in broken] == (["frames"] if high > 1 else [])


def test_a_known_network_has_its_known_size():
    """ResNet-50 with the stride in the 3x3 convolutions: 4,089,184,256 multiply-accumulates at 224x224."""
    model = Path(os.environ.get("SNNSC_DATA", "nowhere")) / "models/onnx_light/light_resnet50.onnx"
    if not model.is_file():
        pytest.skip("SNNSC_DATA has no models")
    layers = dense(read_graph(model)).layers
    assert sum(x.stats["dense_macs"].total for x in layers if x.op in ("Conv", "Gemm")) == 4_089_184_256


def test_a_graph_too_large_to_optimise_counts_the_same(rng, monkeypatch):
    graph = read_graph(exported_net(rng))
    feeds = {"images": rng.integers(-1, 3, (4, 2, 6, 6)).astype(np.float32)}
    optimised = count(graph, [feeds])
    monkeypatch.setattr("snnsc.energy.counting.counting._LARGEST_OPTIMISED", 0)
    assert count(graph, [feeds]) == optimised
