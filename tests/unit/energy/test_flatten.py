"""Loop, Scan and If: the counts of a graph with them are those of the straight graph that it runs as."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnsc.energy import count, read_graph
from snnsc.energy.counting.counting import dense
from snnsc.energy.graph.flatten import LONGEST, Flattener, specialise
from snnsc.errors import DataError, ModelFileError

from .graphs import brute_matrix, run

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
T, B, K, M = 3, 5, 6, 4
node = helper.make_node


def value(name: str, kind: int = FLOAT, shape=None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, constants, *, opset: int = 18) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def step(rng, *, fires: bool = True) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """One step: v <- decay v + x W; spikes; reset; spikes V."""
    constants = {"W": grid(rng, K, M), "V": grid(rng, M, 2), "decay": np.float32(0.5), "one": np.float32(0.5)}
    nodes = [
        node("MatMul", ["x_t", "W"], ["current"], "first"),
        node("Mul", ["v", "decay"], ["kept"], "leak"),
        node("Add", ["kept", "current"], ["u"], "charge"),
        node("Greater", ["u", "one"], ["fires"], "compare"),
        node("Cast", ["fires"], ["s"], "spikes", to=FLOAT),
        node("Mul", ["s", "one"], ["lost"], "threshold"),
        node("Sub", ["u", "lost"], ["v_next"], "reset"),
        node("MatMul", ["s" if fires else "u", "V"], ["y_t"], "second"),
    ]
    return nodes, constants


def grid(rng, *shape: int) -> np.ndarray:
    return np.where(rng.random(shape) < 0.3, 0, rng.integers(-3, 4, shape) / 4).astype(np.float32)


def scan_net(rng, **attributes) -> onnx.ModelProto:
    nodes, constants = step(rng)
    body = helper.make_graph(nodes, "step", [value("v"), value("x_t")], [value("v_next"), value("y_t")])
    outer = [
        node("Shape", ["x"], ["batch"], start=1, end=2),
        node("Concat", ["batch", "size"], ["shape"], axis=0),
        node("ConstantOfShape", ["shape"], ["v0"]),
        node("Scan", ["v0", "x"], ["last", "y"], "loop", num_scan_inputs=1, body=body, **attributes),
    ]
    return model(
        outer, [value("x", FLOAT, ["t", "batch", K])], [value("y", FLOAT, [None] * 3)], constants | {"size": [M]}
    )


def loop_net(rng, *, trips="shape", go_on: str = "pass") -> onnx.ModelProto:
    nodes, constants = step(rng)
    pick = node("Gather", ["x", "i"], ["x_t"], axis=0)
    again = {
        "pass": [node("Identity", ["go"], ["again"])],
        "true": [node("Constant", [], ["again"], value=helper.make_tensor("", BOOL, [], [True]))],
        "false": [node("Constant", [], ["again"], value=helper.make_tensor("", BOOL, [], [False]))],
        "data": [node("ReduceMax", ["u"], ["peak"], keepdims=0), node("Less", ["peak", "limit"], ["again"])],
    }[go_on]
    body = helper.make_graph(
        [pick, *nodes, *again],
        "step",
        [value("i", INT64, []), value("go", BOOL, []), value("v")],
        [value("again", BOOL, []), value("v_next"), value("y_t")],
    )
    outer = [
        node("Shape", ["x"], ["steps"], start=0, end=1),
        node("Shape", ["x"], ["batch"], start=1, end=2),
        node("Concat", ["batch", "size"], ["shape"], axis=0),
        node("ConstantOfShape", ["shape"], ["v0"]),
        node("Loop", ["steps" if trips == "shape" else "trips", "true", "v0"], ["last", "y"], "loop", body=body),
    ]
    constants |= {"size": [M], "true": True, "limit": np.float32(1e9)}
    constants |= {} if trips == "shape" else {"trips": np.int64(trips)}
    return model(outer, [value("x", FLOAT, [T, "batch", K])], [value("y", FLOAT, [None] * 3)], constants)


def feed(rng) -> dict[str, np.ndarray]:
    return {"x": np.where(rng.random((T, B, K)) < 0.4, 0, rng.integers(-2, 4, (T, B, K)) / 4).astype(np.float32)}


def rows(counts) -> dict:
    return {layer.name: layer for layer in counts.layers}


def simulate(net: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """Spikes [T, B, M] of the net, in numpy."""
    weights = {t.name: numpy_helper.to_array(t) for t in net.graph.initializer}
    v, spikes = np.zeros((x.shape[1], M), np.float32), []
    for x_t in x:
        u = v * np.float32(0.5) + x_t @ weights["W"]
        s = (u > 0.5).astype(np.float32)
        v = u - s * np.float32(0.5)
        spikes.append(s)
    return np.stack(spikes)


def expect_unrolled(net, x, counts, steps: int = T) -> None:
    weights = {t.name: numpy_helper.to_array(t) for t in net.graph.initializer}
    spikes = simulate(net, x)
    assert not counts.not_counted
    assert not counts.violations
    found = rows(counts)
    assert list(found) == ["loop/first", "loop/spikes", "loop/second"]
    first = brute_matrix(x.reshape(-1, K), weights["W"])[:, 0].reshape(steps, -1).sum(1)
    second = brute_matrix(spikes.reshape(-1, M), weights["V"])[:, 0].reshape(steps, -1).sum(1)
    assert found["loop/first"].steps["events"] == tuple(first)
    assert found["loop/second"].steps["events"] == found["loop/second"].steps["acs"] == tuple(second)
    assert found["loop/spikes"].steps["spikes"] == tuple(spikes.reshape(steps, -1).sum(1))
    assert second.sum() > 0
    assert found["loop/first"].stats["dense_macs"].total == steps * B * K * M
    assert found["loop/first"].stats["ann_macs"].total == B * K * M
    assert found["loop/spikes"].stats["neuron_updates"].total == steps * B * M
    assert found["loop/spikes"].facts["arithmetic"] == [1, 1]
    assert found["loop/second"].weights == np.count_nonzero(weights["V"])
    assert found["loop/second"].facts["sources"] == ["loop/spikes"]


def test_scan_is_unrolled(rng):
    net, feeds = scan_net(rng), feed(rng)
    expect_unrolled(net, feeds["x"], count(read_graph(net), [feeds]))


def test_a_scan_may_run_backwards(rng):
    net, feeds = scan_net(rng, scan_input_directions=[1], scan_output_directions=[1]), feed(rng)
    expect_unrolled(net, feeds["x"][::-1], count(read_graph(net), [feeds]))
    graph, _ = specialise(read_graph(net), feeds)
    np.testing.assert_array_equal(run(graph.model, feeds, ["y"])[0], run(net, feeds, ["y"])[0])


def test_a_scan_along_another_axis(rng):
    nodes, constants = step(rng)
    body = helper.make_graph(nodes, "step", [value("v"), value("x_t")], [value("v_next"), value("y_t")])
    outer = [
        node("Shape", ["x"], ["batch"], start=0, end=1),
        node("Concat", ["batch", "size"], ["shape"], axis=0),
        node("ConstantOfShape", ["shape"], ["v0"]),
        node("Scan", ["v0", "x"], ["last", "y"], "loop", num_scan_inputs=1, body=body, **axes(1)),
    ]
    net = model(outer, [value("x", FLOAT, ["batch", T, K])], [value("y", FLOAT, [None] * 3)], constants | {"size": [M]})
    x = feed(rng)["x"]
    feeds = {"x": np.ascontiguousarray(x.transpose(1, 0, 2))}
    expect_unrolled(net, x, count(read_graph(net), [feeds]))
    graph, _ = specialise(read_graph(net), feeds)
    np.testing.assert_array_equal(run(graph.model, feeds, ["y"])[0], run(net, feeds, ["y"])[0])


def axes(axis: int) -> dict[str, list[int]]:
    return {"scan_input_axes": [axis], "scan_output_axes": [axis]}


@pytest.mark.parametrize("go_on", ["pass", "true"])
@pytest.mark.parametrize("trips", ["shape", T])
def test_loop_is_unrolled(rng, go_on, trips):
    net, feeds = loop_net(rng, trips=trips, go_on=go_on), feed(rng)
    expect_unrolled(net, feeds["x"], count(read_graph(net), [feeds]))


def test_a_loop_that_ends_after_one_iteration(rng):
    net, feeds = loop_net(rng, go_on="false"), feed(rng)
    counts = count(read_graph(net), [feeds])
    assert [row.name.rpartition("/")[2] for row in counts.layers] == ["first", "spikes", "second"]
    assert all(row.stats["time_steps"].total == B for row in counts.layers)


def test_without_samples_the_bounds_of_a_loop_are_known(rng):
    counts = dense(read_graph(loop_net(rng)))
    assert rows(counts)["loop/first"].stats["dense_macs"].total == T * K * M


def test_a_loop_whose_end_depends_on_data_is_told(rng):
    (entry,) = count(read_graph(loop_net(rng, go_on="data")), [feed(rng)]).not_counted
    assert (entry["op"], entry["share"]) == ("Loop", None)
    assert "decides" in entry["reason"]


def test_loops_in_loops_and_lists(rng):
    """As TorchScript writes `for t: for k: h = h @ W; ys.append(h)`, then `stack(ys)`."""
    inner = helper.make_graph(
        [node("MatMul", ["h", "W"], ["h2"], "product"), node("Identity", ["go2"], ["again2"])],
        "inner",
        [value("k", INT64, []), value("go2", BOOL, []), value("h")],
        [value("again2", BOOL, []), value("h2")],
    )
    listed = helper.make_tensor_sequence_value_info
    body = helper.make_graph(
        [
            node("Gather", ["x", "i"], ["x_t"], axis=0),
            node("Loop", ["two", "", "x_t"], ["h_last"], "inner", body=inner),
            node("SequenceInsert", ["list", "h_last"], ["longer"]),
            node("Identity", ["go"], ["again"]),
        ],
        "outer",
        [value("i", INT64, []), value("go", BOOL, []), listed("list", FLOAT, None)],
        [value("again", BOOL, []), listed("longer", FLOAT, None)],
    )
    nodes = [
        node("SequenceEmpty", [], ["empty"]),
        node("Loop", ["three", "", "empty"], ["full"], "outer", body=body),
        node("ConcatFromSequence", ["full"], ["y"], axis=0, new_axis=1),
    ]
    weight = grid(rng, K, K)
    constants = {"W": weight, "two": np.int64(2), "three": np.int64(T)}
    net = model(nodes, [value("x", FLOAT, [T, "batch", K])], [value("y", FLOAT, [None] * 3)], constants)
    feeds = feed(rng)
    counts = count(read_graph(net), [feeds])
    assert not counts.not_counted
    (row,) = counts.layers
    seen = [brute_matrix(m, weight)[:, 0].sum() for x in feeds["x"] for m in (x, x @ weight)]
    assert row.name == "outer/inner/product"
    assert row.steps["events"] == tuple(seen)


# --------------------------------------------------------------------------------------------------------- branches


def branch_net(rng, condition: list[onnx.NodeProto], constants: dict[str, object], **dims) -> onnx.ModelProto:
    def branch(name: str, weight: str) -> onnx.GraphProto:
        return helper.make_graph([node("MatMul", ["x", weight], [f"{name}.y"], name)], name, [], [value(f"{name}.y")])

    choice = node("If", ["condition"], ["y"], "choice", then_branch=branch("yes", "V"), else_branch=branch("no", "W"))
    weights = {"V": grid(rng, K, M), "W": grid(rng, K, M)}
    x = value("x", FLOAT, dims.get("x", ["batch", K]))
    return model([*condition, choice], [x], [value("y", FLOAT, [None] * 2)], weights | constants)


@pytest.mark.parametrize("taken", [True, False])
def test_a_constant_branch(rng, taken):
    net = branch_net(rng, [], {"condition": np.bool_(taken)})
    counts = count(read_graph(net), [{"x": grid(rng, B, K)}])
    assert [layer.name.rpartition("/")[2] for layer in counts.layers] == ["yes" if taken else "no"]
    assert not counts.not_counted


def test_a_branch_by_shape(rng):
    condition = [node("Shape", ["x"], ["s"], start=1), node("Equal", ["s", "six"], ["condition"])]
    net = branch_net(rng, condition, {"six": np.array([6])})
    assert [layer.op for layer in count(read_graph(net), [{"x": grid(rng, B, K)}]).layers] == ["MatMul"]


def test_a_branch_by_data_is_that_of_each_batch(rng):
    condition = [node("ReduceSum", ["x"], ["sum"], keepdims=0), node("Greater", ["sum", "zero"], ["condition"])]
    net = branch_net(rng, condition, {"zero": np.float32(0)})
    weights = {t.name: numpy_helper.to_array(t) for t in net.graph.initializer}
    batches = [grid(rng, B, K) for _ in range(4)]
    batches = [abs(x) * sign for x, sign in zip(batches, (1, -1, 1, 1), strict=True)]
    counts = count(read_graph(net), [{"x": x} for x in batches])
    found = {name.rpartition("/")[2]: row.stats["events"] for name, row in rows(counts).items() if row.op == "MatMul"}
    expected = {w: [brute_matrix(x, weights[w])[:, 0].sum() for x in batches] for w in ("V", "W")}
    assert found["yes"].total == sum(n for n, x in zip(expected["V"], batches, strict=True) if x.sum() > 0)
    assert found["no"].total == expected["W"][1]
    assert counts.samples == 4 * B
    assert found["yes"].low == found["no"].low == 0, "it is 0 in the samples that took the other branch"


def test_straight_graphs_are_made_once(rng):
    graph = read_graph(scan_net(rng))
    flattener = Flattener(graph)
    first, second = flattener.straight(feed(rng)), flattener.straight(feed(rng))
    assert first[0] is second[0]
    assert first[1] == second[1]
    longer = {"x": np.zeros((T + 1, B, K), np.float32)}
    assert flattener.straight(longer)[1] != first[1]
    assert specialise(graph, longer)[1] == flattener.straight(longer)[1]


# ------------------------------------------------------------------------------------------------------ without end


def fails_at_once(kind, net, feeds, *words):
    start = time.perf_counter()
    with pytest.raises(kind) as error:
        count(read_graph(net), [feeds])
    assert time.perf_counter() - start < 2
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("trips", [2**62, 2**31, 2**21])
def test_a_loop_too_long_to_run(rng, trips):
    fails_at_once(ModelFileError, loop_net(rng, trips=trips), feed(rng), "'loop'", str(trips))
    fails_at_once(ModelFileError, loop_net(rng, trips=trips, go_on="data"), feed(rng), "'loop'", str(trips))


def test_a_loop_without_a_number_of_iterations(rng):
    net = loop_net(rng, go_on="data")
    net.graph.node[-1].input[0] = ""
    fails_at_once(ModelFileError, net, feed(rng), "'loop'", "might never end")


def test_a_long_loop_is_run_but_told(rng):
    net = loop_net(rng, trips=LONGEST + 1)
    gather = net.graph.node[-1].attribute[0].g.node[0]
    gather.input[1] = "nought"
    net.graph.initializer.append(numpy_helper.from_array(np.int64(0), "nought"))
    (entry,) = count(read_graph(net), [feed(rng)]).not_counted
    assert str(LONGEST + 1) in entry["reason"]


def test_a_loop_that_reads_past_its_input(rng):
    fails_at_once(DataError, loop_net(rng, trips=T + 1), feed(rng), "inputs")


def test_deep_nesting():
    body = helper.make_graph([node("Identity", ["x"], ["z0"])], "b", [], [value("z0")])
    for depth in range(1, 19):
        inner = node("If", ["c"], [f"z{depth}"], f"if{depth}", then_branch=body, else_branch=empty(depth))
        body = helper.make_graph([inner], "b", [], [value(f"z{depth}")])
    top = node("If", ["c"], ["y"], "top", then_branch=body, else_branch=empty(99))
    net = model([top], [value("x", FLOAT, ["n", 2])], [value("y", FLOAT, [None] * 2)], {"c": True})
    fails_at_once(ModelFileError, net, {"x": np.zeros((2, 2), np.float32)}, "deep")


def empty(depth: int) -> onnx.GraphProto:
    return helper.make_graph([node("Identity", ["x"], [f"e{depth}"])], "e", [], [value(f"e{depth}")])
