"""Neurons that are written out over time, in the ways that exporters write them, and what is none."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from snnsc.energy import count, read_graph

from .graphs import Builder, brute_matrix, run

T, B, K, M = 4, 5, 6, 6


class Unrolled(Builder):
    """A network step by step: x [T, B, K] taken apart, one matrix a layer, neurons between."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        self.rng = rng
        for name, number in {"decay": 0.5, "half": 0.5, "nought": 0.0, "one": 1.0}.items():
            self.const(name, np.float32(number))

    def grid(self, *shape: int) -> np.ndarray:
        return np.where(self.rng.random(shape) < 0.3, 0, self.rng.integers(-2, 4, shape) / 4).astype(np.float32)

    def at(self, t: int) -> str:
        return self.add("Gather", ["x", self.const(f"t{t}", np.int64(t))], f"x{t}", axis=0)

    def product(self, source: str, weight: str, name: str) -> str:
        return self.add("MatMul", [source, weight], f"{name}.out", name=name)

    def neuron(self, current: str, state: str | None, name: str, style: str) -> tuple[str, str]:
        """Spikes and the next state."""
        u = current
        if state is not None:
            kept = state if style == "if" else self.add("Mul", [state, "decay"], f"{name}.kept")
            u = self.add("Add", [kept, current], f"{name}.u", name=f"{name}.charge")
        return self.fire(u, name, style)

    def fire(self, u: str, name: str, style: str) -> tuple[str, str]:
        above = self.add("Sub", [u, "half"], f"{name}.above")
        match style:
            case "less":
                below = self.add("LessOrEqual", [above, "nought"], f"{name}.below")
                fires = self.add("Not", [below], f"{name}.fires")
                spikes = self.add("Cast", [fires], f"{name}.s", name=name, to=TensorProto.FLOAT)
            case "where":
                below = self.add("LessOrEqual", [above, "nought"], f"{name}.below")
                spikes = self.add("Where", [below, "nought", "one"], f"{name}.s", name=name)
                fires = self.add("Not", [below], f"{name}.fires")
            case _:
                fires = self.add("Greater", [above, "nought"], f"{name}.fires")
                spikes = self.add("Cast", [fires], f"{name}.s", name=name, to=TensorProto.FLOAT)
        match style:
            case "where" | "if":
                return spikes, self.add("Where", [fires, "nought", u], f"{name}.v")
            case "hard":
                rest = self.add("Sub", ["one", spikes], f"{name}.rest")
                zero = self.add("Mul", [spikes, "nought"], f"{name}.zero")
                return spikes, self.add("Add", [self.add("Mul", [rest, u], f"{name}.left"), zero], f"{name}.v")
            case _:
                lost = self.add("Mul", [spikes, "half"], f"{name}.lost")
                return spikes, self.add("Sub", [u, lost], f"{name}.v")

    def finish(self, outputs: dict[str, int]) -> onnx.ModelProto:
        return self.model(
            [("x", TensorProto.FLOAT, [T, "batch", K])], [(name, [None] * rank) for name, rank in outputs.items()]
        )


def feed(rng) -> dict[str, np.ndarray]:
    return {"x": rng.integers(-1, 4, (T, B, K)).astype(np.float32) / 4}


def row(counts, name: str):
    return next(layer for layer in counts.layers if layer.name == name)


def names(counts) -> list[str]:
    return [layer.name for layer in counts.layers]


def weight_of(model, name: str) -> np.ndarray:
    return onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def plain(rng, style: str, *, duplicated: bool = False) -> onnx.ModelProto:
    """first - lif1 - second - lif2, their spikes summed up."""
    b = Unrolled(rng)
    first, second = b.grid(K, M), b.grid(M, 3)
    v1 = v2 = total = None
    for t in range(T):
        names_t = [f"w1.{t}", f"w2.{t}"] if duplicated else ["w1", "w2"]
        if duplicated or t == 0:
            b.const(names_t[0], first), b.const(names_t[1], second)
        s1, v1 = b.neuron(b.product(b.at(t), names_t[0], f"first.{t}"), v1, f"lif1.{t}", style)
        s2, v2 = b.neuron(b.product(s1, names_t[1], f"second.{t}"), v2, f"lif2.{t}", style)
        total = s2 if total is None else b.add("Add", [total, s2], f"total.{t}")
    return b.finish({total: 2})


STYLES = {"cast": (1, 1), "less": (1, 1), "where": (1, 1), "hard": (1, 1), "if": (0, 1)}


@pytest.mark.parametrize("duplicated", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_one_row_a_layer_over_time(rng, style, duplicated):
    model, feeds = plain(rng, style, duplicated=duplicated), feed(rng)
    counts = count(read_graph(model), [feeds])
    assert not counts.not_counted
    assert not counts.violations
    assert names(counts) == ["first.0", "lif1.0", "second.0", "lif2.0", "total.1"]
    spikes = run(model, feeds, [f"lif1.{t}.s" for t in range(T)])
    assert 0.05 < np.mean(spikes) < 0.95
    lif, second = row(counts, "lif1.0"), row(counts, "second.0")
    assert lif.steps["spikes"] == tuple(s.sum() for s in spikes)
    assert (lif.op, lif.input_kind, tuple(lif.facts["arithmetic"])) == ("spike", "binary", STYLES[style])
    assert lif.stats["neuron_updates"].total == T * B * M
    weight = weight_of(model, "w2.0" if duplicated else "w2")
    assert second.steps["acs"] == tuple(brute_matrix(s, weight)[:, 0].sum() for s in spikes)
    assert second.weights == np.count_nonzero(weight)
    assert (second.stats["dense_macs"].total, second.stats["ann_macs"].total) == (T * B * M * 3, B * M * 3)
    assert row(counts, "total.1").stats["residual_adds"].total == (T - 1) * B * 3
    sources = {layer.name: layer.facts["sources"] for layer in counts.layers}
    assert sources == {
        "first.0": [],
        "lif1.0": ["first.0"],
        "second.0": ["lif1.0"],
        "lif2.0": ["second.0"],
        "total.1": ["lif2.0"],
    }


def test_two_layers_of_equal_weights_stay_two(rng):
    b = Unrolled(rng)
    b.const("w1", b.grid(K, K))
    b.const("w2", weight := onnx.numpy_helper.to_array(b.initializers[-1]))
    v1 = v2 = None
    for t in range(T):
        s1, v1 = b.neuron(b.product(b.at(t), "w1", f"first.{t}"), v1, f"lif1.{t}", "cast")
        s2, v2 = b.neuron(b.product(s1, "w2", f"second.{t}"), v2, f"lif2.{t}", "cast")
    counts = count(read_graph(b.finish({s2: 2})), [feed(rng)])
    assert weight.any()
    assert names(counts) == ["first.0", "lif1.0", "second.0", "lif2.0"]
    assert [layer.stats["time_steps"].total for layer in counts.layers] == [T * B] * 4


def test_a_layer_that_runs_once_is_repeated(rng):
    b = Unrolled(rng)
    b.const("w1", b.grid(K, M)), b.const("w2", b.grid(M, 3))
    current, v = b.product(b.at(0), "w1", "first"), None
    for t in range(T):
        s, v = b.neuron(current, v, f"lif.{t}", "cast")
        y = b.product(s, "w2", f"second.{t}")
    feeds = feed(rng)
    counts = count(read_graph(b.finish({y: 2, "second.0.out": 2})), [feeds])
    first = row(counts, "first")
    assert first.stats["events_every_step"].total == T * first.stats["events"].total > 0
    assert "events_every_step" not in row(counts, "second.0").stats


@pytest.mark.parametrize("form", ["ms", "sew", "spikes into the sum"])
def test_a_residual_sum_is_the_network_s(rng, form):
    b = Unrolled(rng)
    b.const("w1", b.grid(K, K)), b.const("w2", b.grid(K, K))
    v1 = v2 = None
    ys = {}
    for t in range(T):
        x = b.product(b.at(t), "w1", f"first.{t}")
        s1, v1 = b.neuron(x, v1, f"lif1.{t}", "cast")
        y = b.product(s1, "w2", f"second.{t}")
        if form == "sew":
            s2, v2 = b.neuron(y, v2, f"lif2.{t}", "cast")
            out = b.add("Add", [s2, s1], f"sum.{t}")
            ys[out] = 2
        else:
            side = x if form == "ms" else s1
            out, v2 = b.neuron(b.add("Add", [y, side], f"sum.{t}"), v2, f"lif2.{t}", "cast")
    counts = count(read_graph(b.finish(ys or {out: 2})), [feed(rng)])
    assert not counts.not_counted
    found = {layer.op: layer for layer in counts.layers}
    assert [layer.op for layer in counts.layers].count("Add") == 1
    assert [layer.op for layer in counts.layers].count("spike") == 2
    assert found["Add"].stats["residual_adds"].total == T * B * K
    assert all(tuple(layer.facts["arithmetic"]) == (1, 1) for layer in counts.layers if layer.op == "spike")


def test_a_synapse_that_remembers_is_the_neuron_s(rng):
    """i <- decay i + x; v <- decay v + i."""
    b = Unrolled(rng)
    b.const("w", b.grid(K, M)), b.const("out", b.grid(M, 2))
    i = v = None
    for t in range(T):
        x = b.product(b.at(t), "w", f"first.{t}")
        i = x if i is None else b.add("Add", [b.add("Mul", [i, "decay"], f"i.kept.{t}"), x], f"i.{t}")
        s, v = b.neuron(i, v, f"lif.{t}", "cast")
        y = b.product(s, "out", f"second.{t}")
    counts = count(read_graph(b.finish({y: 2, **{f"second.{t}.out": 2 for t in range(T - 1)}})), [feed(rng)])
    assert names(counts) == ["first.0", "lif.0", "second.0"]
    assert row(counts, "lif.0").facts["arithmetic"] == [2, 2]


def test_neurons_without_memory_are_one_layer_over_time(rng):
    b = Unrolled(rng)
    b.const("w", b.grid(K, M)), b.const("out", b.grid(M, 2))
    ys = {}
    for t in range(T):
        s, _ = b.neuron(b.product(b.at(t), "w", f"first.{t}"), None, f"step.{t}", "cast")
        ys[b.product(s, "out", f"second.{t}")] = 2
    counts = count(read_graph(b.finish(ys)), [feed(rng)])
    assert names(counts) == ["first.0", "step.0", "second.0"]
    assert len(row(counts, "step.0").steps["spikes"]) == T
    assert row(counts, "step.0").facts["arithmetic"] == [0, 0]


def test_an_adaptive_threshold(rng):
    """The threshold rises with each spike and decays: a state of the neuron like its membrane."""
    b = Unrolled(rng)
    b.const("w", b.grid(K, M)), b.const("out", b.grid(M, 2))
    v = theta = None
    ys = {}
    for t in range(T):
        x = b.product(b.at(t), "w", f"first.{t}")
        u = x if v is None else b.add("Add", [b.add("Mul", [v, "decay"], f"kept.{t}"), x], f"u.{t}")
        fires = b.add("Greater", [u, theta or "half"], f"fires.{t}")
        s = b.add("Cast", [fires], f"s.{t}", name=f"lif.{t}", to=TensorProto.FLOAT)
        v = b.add("Where", [fires, "nought", u], f"v.{t}")
        cool = "half" if theta is None else b.add("Mul", [theta, "decay"], f"cool.{t}")
        theta = b.add("Add", [cool, s], f"theta.{t}")
        ys[b.product(s, "out", f"second.{t}")] = 2
    counts = count(read_graph(b.finish(ys)), [feed(rng)])
    assert names(counts) == ["first.0", "lif.0", "second.0"]
    assert row(counts, "lif.0").facts["arithmetic"][0] == 2


def test_a_bias_before_the_neuron_is_the_network_s(rng):
    b = Unrolled(rng)
    b.const("w", b.grid(K, M)), b.const("bias", np.array([1, 0, 2, 0, 3, 1], np.float32) / 4)
    v, ys = None, {}
    for t in range(T):
        x = b.add("Add", [b.product(b.at(t), "w", f"first.{t}"), "bias"], f"biased.{t}")
        s, v = b.neuron(x, v, f"lif.{t}", "cast")
        ys[b.product(s, "w", f"second.{t}")] = 2
    counts = count(read_graph(b.finish(ys)), [feed(rng)])
    assert names(counts) == ["first.0", "biased.0", "lif.0", "second.0"]
    assert row(counts, "biased.0").stats["bias_adds"].total == T * B * 4


def test_a_graph_of_one_step_has_its_states_as_inputs(rng):
    b = Unrolled(rng)
    b.const("w", b.grid(K, M)), b.const("out", b.grid(M, 2))
    s, v = b.neuron(b.product("x", "w", "first"), "v", "lif", "cast")
    b.product(s, "out", "second")
    model = b.model(
        [("x", TensorProto.FLOAT, ["batch", K]), ("v", TensorProto.FLOAT, ["batch", M])],
        [("second.out", [None] * 2), (v, [None] * 2)],
    )
    feeds = {"x": feed(rng)["x"][0], "v": np.ones((B, M), np.float32)}
    counts = count(read_graph(model), [feeds])
    assert names(counts) == ["first", "lif", "second"]
    assert row(counts, "lif").facts["arithmetic"] == [1, 1]
    assert row(counts, "lif").stats["neuron_updates"].total == B * M


@pytest.mark.parametrize("form", ["leaky relu", "mask", "sign"])
def test_a_comparison_that_does_not_fire(rng, form):
    b = Unrolled(rng)
    b.const("w", b.grid(K, M)), b.const("out", b.grid(M, 2)), b.const("minus", np.float32(-1))
    x = b.product(b.at(0), "w", "first")
    above = b.add("Greater", [x, "nought"], "above")
    match form:
        case "leaky relu":
            y = b.add("Where", [above, x, b.add("Mul", [x, "half"], "small")], "y")
        case "mask":
            y = b.add("Mul", [x, b.add("Cast", [above], "mask", to=TensorProto.FLOAT)], "y")
        case _:
            y = b.add("Where", [above, "one", "minus"], "y")
    counts = count(read_graph(b.finish({b.product(y, "out", "second"): 2})), [feed(rng)])
    assert not any("neuron_updates" in layer.stats for layer in counts.layers)
    second = row(counts, "second")
    assert second.input_kind == ("integer" if form == "sign" else "real")
    assert second.stats["acs"].total == (second.stats["events"].total if form == "sign" else 0)


def test_logic_on_spikes_is_no_neuron(rng):
    """(a + b) > 0 of two spikes is `or`."""
    b = Unrolled(rng)
    b.const("w1", b.grid(K, M)), b.const("w2", b.grid(K, M)), b.const("out", b.grid(M, 2))
    x = b.at(0)
    spikes = [b.neuron(b.product(x, f"w{i}", f"first.{i}"), None, f"lif.{i}", "cast")[0] for i in (1, 2)]
    either = b.add("Greater", [b.add("Add", spikes, "sum"), "nought"], "either")
    y = b.product(b.add("Cast", [either], "or", to=TensorProto.FLOAT), "out", "second")
    counts = count(read_graph(b.finish({y: 2})), [feed(rng)])
    assert [layer.name for layer in counts.layers if layer.op == "spike"] == ["lif.1", "lif.2"]
    assert row(counts, "second").input_kind == "binary"


def test_an_ordinary_network_with_shared_weights_has_no_time(rng):
    b = Unrolled(rng)
    b.const("w", b.grid(K, K))
    ys = {b.add("Relu", [b.product(b.at(t), "w", f"twin.{t}")], f"y.{t}"): 2 for t in range(2)}
    assert names(count(read_graph(b.finish(ys)), [feed(rng)])) == ["twin.0", "twin.1"]


AXES = [
    (["batch", T, K], 0),
    ([T, "batch", K], 1),
    (["t", "B", K], 1),
    (["s0", "s1", K], 0),
    ([T, "s77", K], 1),
    ([T, B, K], 1),
]


@pytest.mark.parametrize(("dims", "axis"), AXES)
def test_which_axis_counts_samples(rng, dims, axis):
    """What its symbol says, else the only open one, else the first that is not taken apart step by step."""
    model = plain(rng, "cast")
    shape = model.graph.input[0].type.tensor_type.shape
    shape.CopyFrom(onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, dims).type.tensor_type.shape)
    assert read_graph(model).inputs[0].batch_axis == axis


def test_a_fixed_batch_of_a_sequence(rng):
    """As torch.onnx.export writes it when no dynamic shape is asked for: [T, B, K], all fixed."""
    model = plain(rng, "cast")
    feeds = feed(rng)
    whole = count(read_graph(model), [feeds])
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2
    parts = count(read_graph(model), [feeds])
    assert parts.samples == whole.samples == B
    assert [row.stats["events"] for row in parts.layers if "events" in row.stats] == [
        row.stats["events"] for row in whole.layers if "events" in row.stats
    ]
