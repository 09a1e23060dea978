"""Which layers are one at several time steps, and at how many a first layer has to deliver its current."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto

from snnsc.energy import count, price, read_graph

from .graphs import brute_matrix
from .test_neurons import B, K, M, T, Unrolled, feed, names, row, weight_of


def test_a_first_layer_with_weights_of_its_own_at_each_step_is_not_repeated(rng):
    b = Unrolled(rng)
    b.const("out", b.grid(M, 2))
    v, ys = None, {}
    for t in range(T):
        b.const(f"w{t}", b.grid(K, M))
        s, v = b.neuron(b.product(b.at(t), f"w{t}", f"first.{t}"), v, f"lif.{t}", "cast")
        ys[b.product(s, "out", f"second.{t}")] = 2
    counts = count(read_graph(b.finish(ys)), [feed(rng)])
    first = [row(counts, f"first.{t}") for t in range(T)]
    assert not [layer.name for layer in first if "events_every_step" in layer.stats]
    (loihi,) = price(counts, ["loihi"])
    events = sum(layer.stats["events"].total for layer in first) / B
    assert loihi.terms["real_input_pj"] == pytest.approx(23.6 * events)


def test_a_layer_is_repeated_as_often_as_its_current_is_taken(rng):
    """One of a layer of its own, through a second one without neurons between, at all steps but the first."""
    b = Unrolled(rng)
    b.const("w1", b.grid(K, M)), b.const("w2", b.grid(M, M)), b.const("w0", b.grid(K, M))
    held = b.product(b.product(b.at(0), "w1", "first"), "w2", "second")
    v, ys = None, {}
    for t in range(T):
        current = b.product(b.at(1), "w0", "start") if t == 0 else held
        s, v = b.neuron(current, v, f"lif.{t}", "cast")
        ys[s] = 2
    counts = count(read_graph(b.finish(ys)), [feed(rng)])
    for name in ("first", "second"):
        layer = row(counts, name)
        assert layer.stats["events_every_step"].total == (T - 1) * layer.stats["events"].total > 0
    assert "events_every_step" not in row(counts, "start").stats


def towers(rng, *, second: bool) -> onnx.ModelProto:
    """Two inputs through equal weights and neurons that keep nothing, then one matrix over both."""
    b = Unrolled(rng)
    b.const("w", b.grid(K, K)), b.const("out", b.grid(2 * K, 2))
    ends = []
    for name in ("left", "right"):
        s, _ = b.neuron(b.product(name, "w", f"{name}.1"), None, f"{name}.s1", "cast")
        if second:
            s, _ = b.neuron(b.product(s, "w", f"{name}.2"), None, f"{name}.s2", "cast")
        ends.append(s)
    b.product(b.add("Concat", ends, "both", axis=1), "out", "head")
    inputs = [(name, TensorProto.FLOAT, ["batch", K]) for name in ("left", "right")]
    return b.model(inputs, [("head.out", [None, 2])])


def test_towers_of_equal_weights_are_no_time_steps(rng):
    feeds = {name: feed(rng)["x"][0] for name in ("left", "right")}
    counts = count(read_graph(towers(rng, second=False)), [feeds])
    assert names(counts) == ["left.1", "left.s1", "right.1", "right.s1", "head"]
    assert [layer.stats["time_steps"].total for layer in counts.layers] == [B] * 5
    assert not [layer.name for layer in counts.layers if "events_every_step" in layer.stats]


def test_a_chain_in_each_tower_is_one_layer_over_time(rng):
    """Tied weights in a chain are those of a recurrent layer; the two towers still are two."""
    feeds = {name: feed(rng)["x"][0] for name in ("left", "right")}
    counts = count(read_graph(towers(rng, second=True)), [feeds])
    found = {layer.name: layer.stats["time_steps"].total // B for layer in counts.layers}
    assert (found["left.s1"], found["right.s1"]) == (2, 2)
    assert "left.s2" not in found


@pytest.mark.parametrize("middle", [False, True], ids=["remembering", "after one without memory"])
def test_one_input_of_the_graph_for_each_time_step(rng, middle):
    b = Unrolled(rng)
    b.const("w1", b.grid(K, K)), b.const("w2", b.grid(K, K))
    v, ys = None, {}
    for t in range(T):
        s = f"x{t}"
        if middle:
            s, _ = b.neuron(b.product(s, "w1", f"first.{t}"), None, f"sign.{t}", "cast")
        s, v = b.neuron(b.product(s, "w2", f"second.{t}"), v, f"lif.{t}", "cast")
        ys[s] = 2
    inputs = [(f"x{t}", TensorProto.FLOAT, ["batch", K]) for t in range(T)]
    x = feed(rng)["x"]
    model = b.model(inputs, [(name, [None, K]) for name in ys])
    counts = count(read_graph(model), [{f"x{t}": x[t] for t in range(T)}])
    assert names(counts) == (["first.0", "sign.0"] if middle else []) + ["second.0", "lif.0"]
    assert [layer.stats["time_steps"].total for layer in counts.layers] == [T * B] * len(counts.layers)
    first = counts.layers[0]
    assert first.stats["ann_macs"].total == B * K * K
    weight = weight_of(model, "w1" if middle else "w2")
    assert first.steps["events"] == tuple(brute_matrix(x[t], weight)[:, 0].sum() for t in range(T))
    assert sum(first.steps["events"]) > 0


@pytest.mark.parametrize("style", ["cast", "if"], ids=["a soft reset", "a reset that chooses by truth"])
def test_only_the_last_spikes_are_read(rng, style):
    b = Unrolled(rng)
    b.const("w1", b.grid(K, M)), b.const("w2", b.grid(M, 2))
    v, s = None, ""
    for t in range(T):
        s, v = b.neuron(b.product(b.at(t), "w1", f"first.{t}"), v, f"lif.{t}", style)
    counts = count(read_graph(b.finish({b.product(s, "w2", "second"): 2})), [feed(rng)])
    first, lif, second = counts.layers
    assert [layer.stats["time_steps"].total for layer in counts.layers] == [T * B, T * B, B]
    assert lif.stats["neuron_updates"].total == T * B * M
    assert first.stats["ann_macs"].total == B * K * M
    assert lif.steps["spikes"][-1] == second.stats["input_nonzeros"].total > 0


def test_a_counter_that_a_reset_chooses_by_is_no_step_of_its_neurons(rng):
    """After a spike the current is let through at the next step but one only: a state and a comparison of its own."""
    b = Unrolled(rng)
    b.const("w", b.grid(K, M)), b.const("w2", b.grid(M, 2))
    v = waits = None
    ys = {}
    for t in range(T):
        current = b.product(b.at(t), "w", f"first.{t}")
        if waits is not None:
            asleep = b.add("Greater", [waits, "half"], f"asleep.{t}")
            current = b.add("Where", [asleep, "nought", current], f"let.{t}")
        s, v = b.neuron(current, v, f"lif.{t}", "cast")
        kept = waits and b.add("Mul", [waits, "half"], f"less.{t}")
        waits = b.add("Add", [kept, s], f"waits.{t}") if kept else s
        ys[b.product(s, "w2", f"second.{t}")] = 2
    counts = count(read_graph(b.finish(ys)), [feed(rng)])
    fired = [layer for layer in counts.layers if "neuron_updates" in layer.stats and layer.name.startswith("lif")]
    assert [layer.stats["neuron_updates"].total for layer in fired] == [T * B * M]


def test_a_membrane_that_is_kept_above_0_is_compared_once_a_step(rng):
    b = Unrolled(rng)
    b.const("w", b.grid(K, M))
    v, ys = None, {}
    for t in range(T):
        s, v = b.neuron(b.product(b.at(t), "w", f"first.{t}"), v, f"lif.{t}", "if")
        v = b.add("Where", [b.add("Less", [v, "nought"], f"below.{t}"), "nought", v], f"kept.{t}")
        ys[s] = 2
    lif = count(read_graph(b.finish(ys)), [feed(rng)]).layers[-1]
    assert (lif.name, lif.stats["neuron_updates"].total) == ("lif.0", T * B * M)


def test_towers_of_equal_weights_before_neurons_that_remember(rng):
    """Two inputs, neurons that keep nothing, then each tower's own over T steps."""
    b = Unrolled(rng)
    b.const("w", b.grid(K, M)), b.const("w2", b.grid(M, M)), b.const("out", b.grid(2 * M, 2))
    ends = []
    for name in ("left", "right"):
        s, _ = b.neuron(b.product(name, "w", f"{name}.1"), None, f"{name}.sign", "cast")
        current, v, spikes = b.product(s, "w2", f"{name}.2"), None, []
        for t in range(T):
            s, v = b.neuron(current, v, f"{name}.lif.{t}", "cast")
            spikes.append(s)
        ends.append(b.add("Sum", spikes, f"{name}.count"))
    b.product(b.add("Concat", ends, "both", axis=1), "out", "head")
    inputs = [(name, TensorProto.FLOAT, ["batch", K]) for name in ("left", "right")]
    feeds = {name: feed(rng)["x"][0] for name in ("left", "right")}
    counts = count(read_graph(b.model(inputs, [("head.out", [None, 2])])), [feeds])
    found = {layer.name: layer.stats["time_steps"].total // B for layer in counts.layers}
    for name in ("left", "right"):
        assert [found[f"{name}.{part}"] for part in ("1", "sign", "2", "lif.0")] == [1, 1, 1, T]


def test_towers_of_equal_weights_that_take_an_input_each_step(rng):
    b = Unrolled(rng)
    b.const("w", b.grid(K, M)), b.const("w2", b.grid(M, M))
    ys = {}
    for name in ("left", "right"):
        v = None
        for t in range(T):
            s, _ = b.neuron(b.product(f"{name}{t}", "w", f"{name}.1.{t}"), None, f"{name}.sign.{t}", "cast")
            s, v = b.neuron(b.product(s, "w2", f"{name}.2.{t}"), v, f"{name}.lif.{t}", "cast")
            ys[s] = 2
    feeds = {f"{name}{t}": x for name in ("left", "right") for t, x in enumerate(feed(rng)["x"])}
    inputs = [(name, TensorProto.FLOAT, ["batch", K]) for name in feeds]
    counts = count(read_graph(b.model(inputs, [(name, [None, M]) for name in ys])), [feeds])
    found = {layer.name: layer.stats["time_steps"].total // B for layer in counts.layers}
    assert {name: found.get(f"{name}.sign.0") for name in ("left", "right")} == {"left": T, "right": T}
