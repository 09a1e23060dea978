"""At how many time steps a layer runs, and what is said where that cannot be told."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from snnsc.energy import count, price, read_graph
from snnsc.energy.counting.counts import Counts

from .graphs import Builder

FLOAT = TensorProto.FLOAT
T, B, C, M, K = 4, 3, 5, 6, 3


class Layers(Builder):
    """Layers over all time steps at once, neurons step by step between them."""

    def __init__(self, rng: np.random.Generator, axis: int = 1) -> None:
        super().__init__()
        self.rng, self.axis = rng, axis
        for name, number in {"decay": 0.5, "threshold": 0.5, "nought": 0.0}.items():
            self.const(name, np.float32(number))
        self.const("at", np.array([axis], np.int64))

    def grid(self, *shape: int) -> np.ndarray:
        return np.where(self.rng.random(shape) < 0.2, 0, self.rng.integers(-2, 4, shape) / 4).astype(np.float32)

    def product(self, source: str, name: str, *shape: int) -> str:
        return self.add("MatMul", [source, self.const(f"{name}.w", self.grid(*shape))], f"{name}.out", name=name)

    def parts(self, source: str, steps: int = T) -> list[str]:
        return [
            self.add("Gather", [source, self.const(f"{source}.{t}.at", np.int64(t))], f"{source}.{t}", axis=self.axis)
            for t in range(steps)
        ]

    def neurons(self, currents: list[str], name: str) -> list[str]:
        v, spikes = None, []
        for t, current in enumerate(currents):
            kept = v and self.add("Mul", [v, "decay"], f"{name}.kept{t}")
            u = self.add("Add", [kept, current], f"{name}.u{t}") if kept else current
            s = self.add("Cast", [self.add("Greater", [u, "threshold"], f"{name}.g{t}")], f"{name}.{t}", to=FLOAT)
            v = self.add("Sub", [u, self.add("Mul", [s, "threshold"], f"{name}.lost{t}")], f"{name}.v{t}")
            spikes.append(s)
        return spikes

    def scanned(self, source: str, name: str) -> str:
        """Neurons as a Scan over the first axis, which stays one node."""
        nodes = [
            helper.make_node("Mul", ["v", "decay"], ["kept"]),
            helper.make_node("Add", ["kept", "x"], ["u"]),
            helper.make_node("Greater", ["u", "threshold"], ["fires"]),
            helper.make_node("Cast", ["fires"], ["s"], to=FLOAT),
            helper.make_node("Mul", ["s", "threshold"], ["lost"]),
            helper.make_node("Sub", ["u", "lost"], ["next"]),
        ]
        values = [helper.make_tensor_value_info(value, FLOAT, None) for value in ("v", "x", "next", "s")]
        body = helper.make_graph(nodes, "step", values[:2], values[2:])
        first = self.add("Gather", [source, self.const(f"{name}.first", np.int64(0))], f"{name}.now", axis=0)
        rest = self.add("Mul", [first, "nought"], f"{name}.rest")
        outputs = [f"{name}.last", f"{name}.all"]
        self.nodes.append(helper.make_node("Scan", [rest, source], outputs, name, body=body, num_scan_inputs=1))
        return outputs[1]

    def together(self, values: list[str], name: str) -> str:
        tops = [self.add("Unsqueeze", [value, "at"], f"{value}.top") for value in values]
        return self.add("Concat", tops, name, axis=self.axis)

    def mean(self, source: str) -> str:
        return self.add("ReduceMean", [source, "at"], "y", keepdims=0)

    def counted(self, outputs: list[str], ranks: list[int] | None = None, **samples: np.ndarray) -> Counts:
        """Samples stand on the first axis; on the second where time is the first."""
        first = 1 - min(self.axis, 1)
        dims = {n: [("batch" if a == first else size) for a, size in enumerate(x.shape)] for n, x in samples.items()}
        results = [(name, [None] * rank) for name, rank in zip(outputs, ranks or [2] * len(outputs), strict=True)]
        model = self.model([(name, FLOAT, shape) for name, shape in dims.items()], results)
        onnx.checker.check_model(model)
        return count(read_graph(model), [samples])


def frames(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(-1, 4, shape).astype(np.float32) / 4


def row(counts: Counts, name: str):
    return next(layer for layer in counts.layers if layer.name == name)


def expect(counts: Counts, name: str, *, macs: int, steps: int = T) -> None:
    """A layer that runs at each of so many steps, and is not repeated."""
    layer = row(counts, name)
    assert (layer.stats["time_steps"].total, len(layer.steps["events"])) == (B * steps, steps)
    assert (layer.stats["ann_macs"].total, layer.stats["dense_macs"].total) == (B * macs, B * steps * macs)
    assert "events_every_step" not in layer.stats


def expect_unknown(counts: Counts, name: str) -> None:
    stats = row(counts, name).stats
    assert stats["time_steps"].total == B
    assert not stats.keys() & {"ann_macs", "events_every_step"}


def convolved(rng, form: str) -> Counts:
    """Frames through a convolution, a norm and a pool; time is an axis of its own, or folded into the samples."""
    x, weight, norm = frames(T, B, 2, 4, 4), Layers(rng).grid(M, 2, 3, 3), Layers(rng).grid(3, M)
    b = Layers(rng, 2 if form == "an axis" else 0)
    norms = [b.const(f"norm{i}", values) for i, values in enumerate([*norm, np.ones(M, np.float32)])]
    if form == "an axis":
        b.add("Conv", ["x", b.const("w", weight[:, :, None])], "c", name="conv", pads=[0, 1, 1, 0, 1, 1])
        b.add("BatchNormalization", ["c", *norms], "n", name="norm")
        b.add("AveragePool", ["n"], "p", name="pool", kernel_shape=[1, 2, 2], strides=[1, 2, 2])
        x = np.ascontiguousarray(x.transpose(1, 2, 0, 3, 4))
    else:
        rows = b.add("Reshape", ["x", b.const("fold", np.array([-1, 2, 4, 4]))], "rows")
        b.add("Conv", [rows, b.const("w", weight)], "c", name="conv", pads=[1, 1, 1, 1])
        b.add("BatchNormalization", ["c", *norms], "n", name="norm")
        pooled = b.add("AveragePool", ["n"], "rows.p", name="pool", kernel_shape=[2, 2], strides=[2, 2])
        b.add("Reshape", [pooled, b.const("unfold", np.array([T, -1, M, 2, 2]))], "p")
    return b.counted(b.neurons(b.parts("p"), "lif")[-1:], [4], x=x)


def test_a_window_of_one_along_time_is_followed():
    found, truth = (convolved(np.random.default_rng(1), form) for form in ("an axis", "folded"))
    expect(found, "conv", macs=16 * M * 2 * 9)
    for one, other in zip(found.layers, truth.layers, strict=True):
        assert (one.name, one.stats, one.steps, one.facts) == (other.name, other.stats, other.steps, other.facts)
    assert [(p.snn_pj, p.ann_pj) for p in price(found)] == [(p.snn_pj, p.ann_pj) for p in price(truth)]


def test_a_matrix_as_a_convolution_of_one_step_over_time(rng):
    b = Layers(rng, 2)
    b.add("Conv", ["x", b.const("w", b.grid(M, C, 1))], "c", name="conv")
    counts = b.counted(b.neurons(b.parts("c"), "lif"), x=frames(B, C, T))
    expect(counts, "conv", macs=C * M)
    facts = row(counts, "conv").facts
    assert (facts["input_shape"], facts["output_shape"], facts["kernel"]) == ([C], [M], [])


def test_a_window_over_several_steps_is_charged_as_it_runs(rng):
    """Each step is there already; what the layer is at one of them is not known, and neither are twin and repeats."""
    b = Layers(rng, 2)
    b.add("Conv", ["x", b.const("w", b.grid(M, C, 3))], "c", name="conv", pads=[1, 1])
    counts = b.counted(b.neurons(b.parts("c"), "lif"), x=frames(B, C, T))
    expect_unknown(counts, "conv")
    (loihi,) = price(counts, ["loihi"])
    events = row(counts, "conv").stats["events"].total / B
    assert loihi.terms["real_input_pj"] == pytest.approx(23.6 * events)
    assert any("as often as the graph runs them" in line for line in loihi.assumptions)


def test_halves_at_two_steps_are_not_repeated(rng):
    b = Layers(rng)
    b.const("sizes", np.array([3, 3]))
    c = b.product("x", "lin", C, 6)
    b.nodes.append(helper.make_node("Split", [c, "sizes"], ["h0", "h1"], "split", axis=1))
    expect_unknown(b.counted(b.neurons(["h0", "h1"], "lif"), x=frames(B, C)), "lin")


@pytest.mark.parametrize("axis", [0, 1])
def test_layer_by_layer(rng, axis):
    """Each spike is of its own step, also behind a layer that waits for all of them."""
    b = Layers(rng, axis)
    source = "x"
    for name, size in {"lin1": C, "lin2": M, "lin3": M}.items():
        source = b.together(b.neurons(b.parts(b.product(source, name, size, M)), f"{name}.s"), f"{name}.all")
    b.mean(b.product(source, "head", M, K))
    counts = b.counted(["y"], x=frames(*((B, T) if axis else (T, B)), C))
    expect(counts, "lin1", macs=C * M)
    for name in ("lin2", "lin3"):
        expect(counts, name, macs=M * M)
    expect(counts, "head", macs=M * K)


@pytest.mark.parametrize("form", [["written", "written"], ["written", "scan"], ["scan", "scan"]], ids="-".join)
def test_steps_of_two_layers_that_are_summed(rng, form):
    """Sums of each step, put together behind the samples, before a layer of all steps."""
    b = Layers(rng, 0)
    source, steps = "x", []
    for i, (size, way) in enumerate(zip((C, M), form, strict=True)):
        currents = b.product(source, f"lin{i}", size, M)
        spikes = b.neurons(b.parts(currents), f"lif{i}") if way == "written" else []
        source = b.together(spikes, f"all{i}") if spikes else b.scanned(currents, f"lif{i}")
        steps.append(spikes or b.parts(source))
    sums = [b.add("Add", [x, y], f"sum{t}") for t, (x, y) in enumerate(zip(*steps, strict=True))]
    tops = [b.add("Unsqueeze", [value, "behind"], f"{value}.top") for value in sums]
    b.const("behind", np.array([1]))
    head = b.product(b.add("Concat", tops, "turned", axis=1), "head", M, K)
    expect(b.counted([head], [3], x=frames(T, B, C)), "head", macs=M * K)


def test_spikes_of_two_layers_side_by_side_are_no_steps(rng):
    """Two steps: the second layer's spikes of the first, beside the first layer's of the second."""
    b = Layers(rng)
    first = b.neurons(b.parts(b.product("x", "lin", C, M), 2), "one")
    b.const("w", b.grid(M, M)), b.const("w2", b.grid(2 * M, M))
    start = b.add("MatMul", [first[0], "w"], "d0", name="start")
    fires = b.add("Cast", [b.add("Greater", [start, "threshold"], "two.g0")], "two.0", to=FLOAT)
    left = b.add("Sub", [start, b.add("Mul", [fires, "threshold"], "lost")], "left")
    both = b.add("Concat", [fires, first[1]], "both", axis=1)
    u = b.add("Add", [left, b.add("MatMul", [both, "w2"], "d1", name="recurrent")], "u1")
    last = b.add("Cast", [b.add("Greater", [u, "threshold"], "two.g1")], "two.1", to=FLOAT)
    counts = b.counted([last], x=frames(B, 2, C))
    assert row(counts, "recurrent").stats["ann_macs"].total == B * 2 * M * M


def test_two_parts_with_another_number_of_steps_each(rng):
    b, ends = Layers(rng), []
    for name, steps in {"x": 4, "z": 2}.items():
        spikes = b.neurons(b.parts(b.product(name, f"lin.{name}", C, M), steps), f"lif.{name}")
        ends.append(b.add("Sum", spikes, f"count.{name}"))
    head = b.product(b.add("Concat", ends, "both", axis=1), "head", 2 * M, K)
    counts = b.counted([head], x=frames(B, 4, C), z=frames(B, 2, C))
    expect(counts, "lin.x", macs=C * M)
    expect(counts, "lin.z", macs=C * M, steps=2)
    expect(counts, "head", macs=2 * M * K, steps=1)


def test_fewer_frames_than_steps_that_overlap_have_no_twin(rng):
    b = Layers(rng)
    parts = b.parts(b.product("x", "lin", C, M), 3)
    between = [b.add("Add", [one, other], f"{one}+") for one, other in pairwise(parts)]
    expect_unknown(b.counted(b.neurons([parts[0], *between, parts[2]], "lif"), x=frames(B, 3, C)), "lin")


def test_layers_step_by_step_around_a_scan(rng):
    b = Layers(rng, 0)
    b.const("w", b.grid(C, M)), b.const("v", b.grid(M, K))
    currents = [b.add("MatMul", [x, "w"], f"c{t}", name=f"first.{t}") for t, x in enumerate(b.parts("x"))]
    spikes = b.scanned(b.together(currents, "c"), "lif")
    ys = [b.add("MatMul", [s, "v"], f"y{t}", name=f"second.{t}") for t, s in enumerate(b.parts(spikes))]
    counts = b.counted([b.add("Sum", ys, "y")], x=frames(T, B, C))
    assert [layer.name for layer in counts.layers] == ["first.0", "lif", "second.0", "y"]
    expect(counts, "first.0", macs=C * M)
    expect(counts, "second.0", macs=M * K)


def test_two_layers_that_read_one_value_beside_a_scan_are_no_steps(rng):
    """As many as there are steps, with equal weights: each is a layer."""
    b = Layers(rng, 0)
    spikes = b.scanned(b.product("x", "lin", C, M), "lif")
    b.const("v", b.grid(M, K))
    ys = [b.add("MatMul", [spikes, "v"], f"y{i}", name=f"head{i}") for i in range(T)]
    counts = b.counted([b.add("Sum", ys, "y")], [3], x=frames(T, B, C))
    assert [layer.name for layer in counts.layers] == ["lin", "lif", *(f"head{i}" for i in range(T)), "y"]
