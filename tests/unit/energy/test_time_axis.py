"""Time inside the samples, [B, T, C] and the like: the same network counts the same wherever its time axis stands."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from snnsc.energy import count, estimate, price, read_graph

from .graphs import Builder, SnnBuilder, brute_conv, neuron_function, run

T, B, C, M, K = 4, 3, 6, 8, 5
LETTERS = {"B": B, "T": T, "C": C}


class Net(Builder):
    """x - lin1 - neurons, step by step - lin2; everything but the neurons for all steps at once."""

    def __init__(self, rng: np.random.Generator, layout: str) -> None:
        super().__init__()
        self.rng, self.layout, self.axis = rng, layout, layout.index("T")
        for name, number in {"decay": 0.5, "threshold": 0.5}.items():
            self.const(name, np.float32(number))
        self.const("at", np.array([self.axis], np.int64))

    def grid(self, *shape: int) -> np.ndarray:
        return np.where(self.rng.random(shape) < 0.3, 0, self.rng.integers(-2, 4, shape) / 4).astype(np.float32)

    def steps(self, source: str, how: str) -> list[str]:
        """A value taken apart."""
        names = [f"c{t}" for t in range(T)]
        if how == "split":
            parts = [f"part{t}" for t in range(T)]
            node = onnx.helper.make_node("Split", [source], parts, "split", axis=self.axis, num_outputs=T)
            self.nodes.append(node)
            return [self.add("Squeeze", [part, "at"], name) for part, name in zip(parts, names, strict=True)]
        for t, name in enumerate(names):
            if how == "slice":
                bounds = [self.const(f"{name}.{i}", np.array([t + i])) for i in (0, 1)]
                self.add("Squeeze", [self.add("Slice", [source, *bounds, "at"], f"{name}.s"), "at"], name)
            else:
                self.add("Gather", [source, self.const(f"{name}.t", np.int64(t))], name, axis=self.axis)
        return names

    def neurons(self, currents: list[str]) -> list[str]:
        """Leak, charge, compare and reset at each step; their spikes."""
        v, spikes = None, []
        for t, current in enumerate(currents):
            kept = v and self.add("Mul", [v, "decay"], f"kept{t}")
            u = self.add("Add", [kept, current], f"u{t}") if kept else current
            s = self.add("Cast", [self.add("Greater", [u, "threshold"], f"g{t}")], f"s{t}", to=TensorProto.FLOAT)
            v = self.add("Sub", [u, self.add("Mul", [s, "threshold"], f"lost{t}")], f"v{t}")
            spikes.append(s)
        return spikes

    def together(self, spikes: list[str]) -> str:
        tops = [self.add("Unsqueeze", [s, "at"], f"top{t}") for t, s in enumerate(spikes)]
        return self.add("Concat", tops, "spikes", axis=self.axis)

    def product(self, source: str, weight: np.ndarray, name: str) -> str:
        """Over the axis C."""
        if self.layout[-1] == "C":
            return self.add("MatMul", [source, self.const(f"{name}.w", weight)], f"{name}.out", name=name)
        return self.add("MatMul", [self.const(f"{name}.w", weight.T.copy()), source], f"{name}.out", name=name)

    def finish(self, output: str, rank: int = 2) -> onnx.ModelProto:
        shape = ["batch" if a == "B" else LETTERS[a] for a in self.layout]
        return self.model([("x", TensorProto.FLOAT, shape)], [(output, [None] * rank)])


def network(layout: str, how: str = "gather") -> onnx.ModelProto:
    b = Net(np.random.default_rng(3), layout)
    b.product("x", b.grid(C, M), "lin1")
    spikes = b.together(b.neurons(b.steps("lin1.out", how)))
    b.product(spikes, b.grid(M, K), "lin2")
    return b.finish(b.add("ReduceMean", ["lin2.out", "at"], "y", keepdims=0))


def samples(layout: str) -> np.ndarray:
    x = np.random.default_rng(5).integers(-1, 4, (T, B, C)).astype(np.float32) / 4
    return np.ascontiguousarray(x.transpose(["TBC".index(a) for a in layout]))


@pytest.mark.parametrize("how", ["gather", "slice", "split"])
@pytest.mark.parametrize("layout", ["BTC", "BCT"])
def test_every_layout_counts_as_time_in_front(layout, how):
    truth = count(read_graph(network("TBC")), [{"x": samples("TBC")}])
    found = count(read_graph(network(layout, how)), [{"x": samples(layout)}])
    assert not found.not_counted
    assert [layer.name for layer in found.layers] == [layer.name for layer in truth.layers]
    for one, other in zip(found.layers, truth.layers, strict=True):
        assert (one.stats, one.steps, one.spread, one.facts) == (other.stats, other.steps, other.spread, other.facts)
    lin1 = found.layers[0]
    assert len(lin1.steps["events"]) == T
    assert lin1.stats["dense_macs"].total == T * lin1.stats["ann_macs"].total == B * T * C * M
    assert (lin1.facts["input_shape"], lin1.facts["output_shape"]) == ([C], [M])
    assert "events_every_step" not in lin1.stats
    assert [(p.snn_pj, p.ann_pj, p.terms) for p in price(found)] == [
        (p.snn_pj, p.ann_pj, p.terms) for p in price(truth)
    ]


def folded(rng: np.random.Generator) -> tuple[Net, np.ndarray]:
    """frames [B, T, 2, 4, 4] - [B*T, ...] - conv - [B, T, ...] - neurons, step by step."""
    b = Net(rng, "BTC")
    b.const("fold", np.array([-1, 2, 4, 4])), b.const("unfold", np.array([-1, T, 3, 4, 4]))
    weight = b.grid(3, 2, 3, 3)
    b.add("Reshape", ["frames", "fold"], "rows")
    b.add("Conv", ["rows", b.const("w", weight)], "conv.out", name="conv", pads=[1, 1, 1, 1])
    b.add("Reshape", ["conv.out", "unfold"], "currents")
    return b, weight


def test_time_folded_into_the_samples(rng):
    b, weight = folded(rng)
    spikes = b.together(b.neurons(b.steps("currents", "gather")))
    model = b.model([("frames", TensorProto.FLOAT, ["batch", T, 2, 4, 4])], [(spikes, [None] * 5)])
    frames = rng.integers(-1, 2, (B, T, 2, 4, 4)).astype(np.float32)
    conv = count(read_graph(model), [{"frames": frames}]).layers[0]
    one = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
    truth = brute_conv(frames.reshape(-1, 2, 4, 4), weight, **one)[:, 0].reshape(B, T).sum(axis=0)
    assert conv.steps["events"] == tuple(truth)
    assert conv.stats["ann_macs"].total == B * 3 * 16 * 18
    assert (conv.facts["input_shape"], conv.facts["output_shape"]) == ([2, 4, 4], [3, 4, 4])


@pytest.mark.parametrize("own", [True, False], ids=["a function", "written out"])
def test_a_transpose_between_batch_first_and_time_first(rng, own):
    b = SnnBuilder(rng, T)
    n = Net(rng, "TBC")
    b.const("w1", b.grid(C, M)), b.const("w2", b.grid(M, K))
    b.add("MatMul", ["x", "w1"], "lin1.out", name="lin1")
    b.add("Transpose", ["lin1.out"], "currents", perm=[1, 0, 2])
    if own:
        spikes = b.neuron("currents", "lif")
    else:
        spikes = n.together(n.neurons(n.steps("currents", "gather")))
        b.nodes += n.nodes
        b.initializers += n.initializers
    b.add("Transpose", [spikes], "turned", perm=[1, 0, 2])
    b.add("MatMul", ["turned", "w2"], "lin2.out", name="lin2")
    shapes = [("x", TensorProto.FLOAT, ["batch", T, C])], [("lin2.out", [None] * 3)]
    model = b.model(*shapes, functions=[neuron_function("LIF")] if own else ())
    x = samples("BTC")
    found = {layer.name: layer for layer in count(read_graph(model), [{"x": x}]).layers}
    (held,) = run(model, {"x": x}, ["turned"])
    weight = onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "w2"))
    events = (held != 0).astype(int) @ (weight != 0).astype(int)
    assert 0 < held.mean() < 1
    assert found["lin2"].steps["acs"] == tuple(events.sum(axis=(0, 2)))
    for name, macs in {"lin1": C * M, "lin2": M * K}.items():
        assert found[name].stats["ann_macs"].total == B * macs
        assert found[name].stats["time_steps"].total == B * T
        assert "events_every_step" not in found[name].stats


def test_weights_over_all_steps_at_once_have_no_twin(rng, tmp_path):
    """A readout of [B, T*C]: no part of it is the layer at one time step, so that no ratio is told."""
    b = Net(rng, "BTC")
    b.product("x", b.grid(C, M), "lin1")
    b.together(b.neurons(b.steps("lin1.out", "gather")))
    b.add("Flatten", ["spikes"], "flat", axis=1)
    b.product("flat", b.grid(T * M, K), "readout")
    onnx.save(b.finish("readout.out"), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", samples("BTC"))
    report = estimate(tmp_path / "net.onnx", tmp_path / "x.npy")
    found = {layer.name: layer for layer in report.counts.layers}
    assert found["lin1"].stats["ann_macs"].total == B * C * M
    assert "ann_macs" not in found["readout"].stats
    told = report.to_dict()
    assert [row["ann_macs"] for row in told["layers"]] == [C * M, 0, None]
    assert told["totals"]["ann_macs"] is None
    for entry in report.prices:
        assert entry.ann_pj is None
        assert entry.ratio is None
        assert entry.equal is None
    assert any("cannot be told where time stands" in line for line in report.prices[0].assumptions)


def test_parts_that_are_used_at_one_step_are_no_time(rng):
    """Four gates side by side, as many as there are time steps, of which one is the current."""
    b = Net(rng, "BTC")
    b.const("w", b.grid(C, T * M)), b.const("split", np.array([-1, T, M]))
    b.add("MatMul", ["x0", "w"], "lin.out", name="lin")
    b.add("Reshape", ["lin.out", "split"], "gates")
    gates = b.steps("gates", "gather")
    current = b.add("Sum", gates, "current")
    spikes = b.together(b.neurons([current] * T))
    model = b.model([("x0", TensorProto.FLOAT, ["batch", C])], [(spikes, [None] * 3)])
    layer = count(read_graph(model), [{"x0": samples("TBC")[0]}]).layers[0]
    assert layer.stats["time_steps"].total == B
    assert layer.stats["ann_macs"].total == B * C * T * M
    assert layer.stats["events_every_step"].total == T * layer.stats["events"].total


@pytest.mark.parametrize("overlap", [False, True])
def test_each_part_at_two_steps(rng, overlap):
    """Frames that are shown twice are time steps that are repeated; windows that overlap have no twin."""
    b = Net(rng, "BTC")
    b.product("x", b.grid(C, M), "lin1")
    parts = b.steps("lin1.out", "gather")
    currents = [part for part in parts for _ in (0, 1)]
    if overlap:
        currents = [b.add("Add", [one, other], f"{one}+") for one, other in pairwise(parts)]
        currents = [parts[0], *currents]
    model = b.finish(b.together(b.neurons(currents)), 3)
    layer = count(read_graph(model), [{"x": samples("BTC")}]).layers[0]
    stats = layer.stats
    if overlap:
        assert "ann_macs" not in stats
        return
    assert (stats["time_steps"].total, stats["ann_macs"].total) == (B * T, B * C * M)
    assert stats["events_every_step"].total == 2 * stats["events"].total
