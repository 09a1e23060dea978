"""Layers with weights for each time step, integer and real-valued shortcut paths, and pools with padding."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from snnsc.energy import STATISTICS_KEY, Counts, count, estimate, price, read_graph
from snnsc.energy.report.rows import layer_row
from snnsc.errors import ModelFileError

from .graphs import SnnBuilder, brute_conv, brute_matrix, by_sample, neuron_function, run

PADDED = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
ATTRIBUTES = {"pads": [1, 1, 1, 1]}


def row(counts: Counts, name: str):
    return next(layer for layer in counts.layers if layer.name == name)


def totals(counts: Counts, name: str, *keys: str) -> list[float]:
    return [row(counts, name).stats[key].total for key in keys]


def per_step_conv(b: SnnBuilder, source: str, name: str, shape: tuple[int, ...], *, held: bool) -> str:
    """As `PerStepConv` exports: T convolutions, each of one slice of time or all of one image, side by side."""
    outputs = []
    for t in range(b.T):
        at = b.const(f"{name}.t{t}", np.array(t, np.int64))
        x = source if held else b.add("Gather", [source, at], f"{name}.x{t}", axis=0)
        y = b.conv(x, f"{name}.steps.{t}", shape, **ATTRIBUTES)
        b.nodes[-1].metadata_props.add(key="snnsc.time_step", value=str(t))
        outputs.append(b.add("Unsqueeze", [y, "zero"], f"{name}.u{t}"))
    return b.add("Concat", outputs, f"{name}.out", axis=0)


def model_of(b: SnnBuilder, spikes: str, features: int, *, event: bool) -> onnx.ModelProto:
    """The head on spikes [T, B, C, 6, 6], and the model around it."""
    pooled = b.add("ReduceMean", [spikes, b.const("hw", np.array([3, 4], np.int64))], "pooled", keepdims=0)
    w = b.const("head.weight", b.grid(features, 5))
    b.add("ReduceMean", [b.add("MatMul", [pooled, w], "head.out", name="head"), "zero"], "logits", keepdims=0)
    name, shape = ("frames", [b.T, "batch", 2, 6, 6]) if event else ("images", ["batch", 2, 6, 6])
    metadata = {"snnsc.T": str(b.T), "snnsc.input": json.dumps({"layout": "TBCHW" if event else "BCHW"})}
    return b.model(
        [(name, TensorProto.FLOAT, shape)],
        [("logits", ["batch", 5])],
        functions=[neuron_function("LIF")],
        metadata=metadata,
    )


def per_step_net(rng: np.random.Generator, *, event: bool, told: bool = True) -> onnx.ModelProto:
    b = SnnBuilder(rng, T=3)
    x = per_step_conv(b, "frames" if event else "images", "conv1", (3, 2, 3, 3), held=not event)
    x = per_step_conv(b, b.neuron(x, "lif1"), "conv2", (4, 3, 3, 3), held=False)
    model = model_of(b, b.neuron(x, "lif2"), 4, event=event)
    if not told:
        for node in model.graph.node:
            del node.metadata_props[:]
    return model


def feeds_of(rng: np.random.Generator, *, event: bool) -> dict[str, np.ndarray]:
    shape = (3, 5, 2, 6, 6) if event else (5, 2, 6, 6)
    return {"frames" if event else "images": rng.integers(-1, 3, shape).astype(np.float32)}


@pytest.mark.parametrize("event", [False, True])
def test_per_step_layers_equal_brute_force(rng, event):
    model, feeds = per_step_net(rng, event=event), feeds_of(rng, event=event)
    counts = count(read_graph(model), [feeds])
    assert not counts.not_counted
    assert not counts.violations
    (spikes,) = run(model, feeds, ["lif1.spikes"])
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    inputs = next(iter(feeds.values()))
    assert 0.05 < spikes.mean() < 0.95
    for t in range(3):
        first = brute_conv(inputs[t] if event else inputs, weights[f"conv1.steps.{t}.weight"], **PADDED)
        assert totals(counts, f"conv1.steps.{t}", "events", "acs") == [first[:, 0].sum(), 0]
        later = brute_conv(spikes[t], weights[f"conv2.steps.{t}.weight"], **PADDED)
        assert totals(counts, f"conv2.steps.{t}", "events", "acs") == [later[:, 0].sum()] * 2
    assert [row(counts, f"conv{i}.steps.1").input_kind for i in (1, 2)] == ["real", "binary"]


@pytest.mark.parametrize("event", [False, True])
def test_the_ann_twin_has_a_per_step_layer_once_and_it_is_not_repeated(rng, event):
    counts = count(read_graph(per_step_net(rng, event=event)), [feeds_of(rng, event=event)])
    dense = {"conv1": 5 * 3 * 36 * 18, "conv2": 5 * 4 * 36 * 27}
    for name, macs in dense.items():
        for t in range(3):
            expected = [macs, macs if t == 0 else 0, 5]
            assert totals(counts, f"{name}.steps.{t}", "dense_macs", "ann_macs", "time_steps") == expected
            assert "events_every_step" not in row(counts, f"{name}.steps.{t}").stats
    ann = sum(layer.stats["ann_macs"].total for layer in counts.layers if "ann_macs" in layer.stats)
    assert ann == sum(dense.values()) + 5 * 4 * 5
    (entry,) = price(counts, ["horowitz-fp32"])
    assert entry.ann_pj == pytest.approx(ann / 5 * 4.6)


def test_without_the_mark_every_step_is_a_layer(rng):
    """What the mark is for: convolutions side by side are else so many layers."""
    counts = count(read_graph(per_step_net(rng, event=False, told=False)), [feeds_of(rng, event=False)])
    assert totals(counts, "conv2.steps.2", "ann_macs") == [5 * 4 * 36 * 27]
    assert "events_every_step" in row(counts, "conv1.steps.2").stats


def test_embedded_statistics_of_per_step_layers_are_read_back(rng, tmp_path):
    model = per_step_net(rng, event=False)
    counts = count(read_graph(model), [feeds_of(rng, event=False)])
    model.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
    onnx.save(model, tmp_path / "model.onnx")
    report = estimate(tmp_path / "model.onnx")
    assert report.source == "embedded"
    assert report.counts == counts
    rows = {r["name"]: r for r in report.to_dict()["layers"]}
    assert [rows[f"conv1.steps.{t}"]["ann_macs"] for t in range(3)] == [3 * 36 * 18, 0, 0]
    assert rows["conv1.steps.1"]["macs_every_step"] == rows["conv1.steps.1"]["macs"] > 0


@pytest.mark.parametrize("text", ["", "-1", "1.0", "one", "65536", "9" * 5000, "\u0663"])
def test_a_damaged_time_step_is_one_error(rng, text):
    model = per_step_net(rng, event=False)
    node = next(n for n in model.graph.node if n.metadata_props)
    node.metadata_props[0].value = text
    with pytest.raises(ModelFileError, match=r"snnsc\.time_step of node 'conv1\.steps\.0'.*export the model again"):
        read_graph(model)


# --------------------------------------------------------------------------------------------------- shortcut paths


def residual_net(rng: np.random.Generator, form: str) -> onnx.ModelProto:
    """Two blocks of `sew-add` or `ms` on a static image, as they are exported."""
    b = SnnBuilder(rng, T=3)
    x = b.repeat(b.conv("images", "stem", (3, 2, 3, 3), **ATTRIBUTES), "stem")
    x = b.neuron(x, "stem.lif") if form == "sew-add" else x
    for i in range(2):
        y = b.neuron(x, f"{i}.lif1") if form == "ms" else x
        y = b.unfold(b.conv(b.fold(y, [3, 6, 6]), f"{i}.conv", (3, 3, 3, 3), **ATTRIBUTES))
        y = b.neuron(y, f"{i}.lif2") if form == "sew-add" else y
        x = b.add("Add", [y, x], f"{i}.sum", name=f"{i}.add")
    return model_of(b, b.neuron(x, "last") if form == "ms" else x, 3, event=False)


def test_sew_add_is_integers(rng):
    model, feeds = residual_net(rng, "sew-add"), feeds_of(rng, event=False)
    counts = count(read_graph(model), [feeds])
    assert not counts.not_counted
    assert not counts.violations
    sums, pooled = run(model, feeds, ["0.sum", "pooled"])
    assert set(np.unique(sums)) == {0.0, 1.0, 2.0}
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    expected = by_sample(brute_conv(sums.reshape(15, 3, 6, 6), weights["1.conv.weight"], **PADDED), 5).sum(0)
    assert totals(counts, "1.conv", "events", "acs", "event_magnitude") == expected.tolist()
    assert expected[1] < expected[0] < expected[2], "a 2 is one event, no addition, and two unit spikes"
    head = by_sample(brute_matrix(pooled.reshape(15, 3), weights["head.weight"], 1 / 36), 5).sum(0)
    assert totals(counts, "head", "events", "acs", "event_magnitude") == head.tolist()
    kinds = {name: row(counts, name).input_kind for name in ("0.conv", "0.add", "1.conv", "1.add", "head")}
    assert kinds == {"0.conv": "binary", "0.add": "binary", "1.conv": "integer", "1.add": "integer", "head": "scaled"}
    assert totals(counts, "1.add", "residual_adds", "bias_adds") == [5 * 3 * 3 * 36, 0]


def test_ms_is_real_adds_around_binary_convolutions(rng):
    model, feeds = residual_net(rng, "ms"), feeds_of(rng, event=False)
    counts = count(read_graph(model), [feeds])
    assert not counts.not_counted
    assert not counts.violations
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for i, spikes in enumerate(run(model, feeds, ["0.lif1.spikes", "1.lif1.spikes"])):
        assert 0.05 < spikes.mean() < 0.95
        expected = by_sample(brute_conv(spikes.reshape(15, 3, 6, 6), weights[f"{i}.conv.weight"], **PADDED), 5)
        assert totals(counts, f"{i}.conv", "events", "acs") == [expected[:, 0].sum()] * 2
        assert totals(counts, f"{i}.add", "residual_adds") == [5 * 3 * 3 * 36]
        assert (row(counts, f"{i}.conv").input_kind, row(counts, f"{i}.add").input_kind) == ("binary", "real")
    assert totals(counts, "stem", "time_steps") == [5], "the held image is convolved once"
    assert row(counts, "head").input_kind == "scaled"


@pytest.mark.parametrize("include_pad", [1, 0])
def test_padded_pool_of_spikes(rng, include_pad):
    """3x3 of stride 2 with padding 1: one unit of 1/9 where padding counts, and no unit where it does not."""
    b = SnnBuilder(rng, T=3)
    spikes = b.neuron(b.repeat(b.conv("images", "stem", (3, 2, 3, 3), **ATTRIBUTES), "stem"), "lif")
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "count_include_pad": include_pad} | ATTRIBUTES
    x = b.add("AveragePool", [b.fold(spikes, [3, 6, 6])], "pool.out", name="pool", **attributes)
    model = model_of(b, b.neuron(b.unfold(b.conv(x, "conv", (4, 3, 3, 3), **ATTRIBUTES)), "last"), 4, event=False)
    feeds = feeds_of(rng, event=False)
    counts = count(read_graph(model), [feeds])
    assert not counts.not_counted
    assert not counts.violations
    fired, pooled = run(model, feeds, ["lif.spikes", "pool.out"])
    windows = PADDED | {"strides": (2, 2)}
    each = [brute_conv(fired.reshape(15, 3, 6, 6)[:, c : c + 1], np.ones((1, 1, 3, 3)), **windows) for c in range(3)]
    assert totals(counts, "pool", "pool_events") == [sum(e[:, 0].sum() for e in each)]
    weight = next(onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "conv.weight")
    events, acs, magnitude = brute_conv(pooled, weight, **PADDED, unit=1 / 9).sum(0)
    if include_pad:
        assert (row(counts, "conv").input_kind, row(counts, "conv").unit) == ("scaled", pytest.approx(1 / 9))
        assert totals(counts, "conv", "events", "acs", "event_magnitude") == [events, acs, magnitude]
        assert 0 < acs < events
    else:
        assert row(counts, "conv").input_kind == "real"
        assert totals(counts, "conv", "events", "acs") == [events, 0]


def test_weights_of_the_output_are_multiplications_of_each_step(rng):
    b = SnnBuilder(rng, T=3)
    spikes = b.neuron(b.repeat(b.conv("images", "stem", (3, 2, 3, 3), **ATTRIBUTES), "stem"), "lif")
    model = model_of(b, spikes, 3, event=False)
    weighted = onnx.helper.make_node("Mul", ["head.out", "step_weights"], ["weighted"], "weigh")
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array([0.5, 1, 1.5], np.float32).reshape(3, 1, 1), "step_weights")
    )
    last = model.graph.node.pop()
    last.input[0] = "weighted"
    model.graph.node.extend([weighted, last])
    counts = count(read_graph(model), [feeds_of(rng, event=False)])
    assert not counts.not_counted
    assert totals(counts, "weigh", "dense_macs", "max_events") == [5 * 3 * 5] * 2


def test_spikes_of_a_held_image_are_no_multiplications_at_every_step(rng):
    """1 and 2 in one input: the first is an addition, the second a multiplication, at each of four steps."""
    b = SnnBuilder(rng, 4)
    b.const("w", np.ones((4, 3), np.float32))
    held = b.repeat(b.add("MatMul", ["x", "w"], "c", name="lin"), "held", rank=2)
    model = b.model(
        [("x", TensorProto.FLOAT, ["B", 4])],
        [(b.neuron(held, "lif"), [None] * 3)],
        functions=[neuron_function("LIF")],
        metadata={"snnsc.input": json.dumps({"layout": "BC", "kind": "integer"})},
    )
    counts = count(read_graph(model), [{"x": np.array([[1, 2, 0, 2], [1, 1, 0, 0]], np.float32)}])
    first = layer_row(counts.layers[0], counts)
    assert (first["acs"], first["macs"], first["macs_every_step"]) == (4.5, 3, 12)
