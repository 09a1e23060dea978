"""Events of every linear operator against the operator itself, run on zeros and ones; products of two activations.

With x and the weight replaced by where they are not zero, each output element is the number of products that it sums
up, borders, strides and groups included: their sum is the number of events.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnsc.energy import count, read_graph

from .graphs import brute_conv, brute_matrix, run

OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]


def model_of(nodes, shapes, weights, output=("y", 4), *, opsets=OPSETS, kind=TensorProto.FLOAT) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]
    result = helper.make_tensor_value_info(output[0], TensorProto.FLOAT, [None] * output[1])
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "net", inputs, [result], tensors)
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def sparse(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.where(rng.random(shape) < 0.4, 0, rng.integers(-3, 4, shape) / 4).astype(np.float32)


def nonzero_run(model: onnx.ModelProto, x: dict[str, np.ndarray], weights: list[str], y: str) -> int:
    """Sum of the outputs on where weights and inputs are not zero; biases are none."""
    ones = onnx.ModelProto()
    ones.CopyFrom(model)
    for tensor in ones.graph.initializer:
        if tensor.name in weights:
            there = (numpy_helper.to_array(tensor) != 0).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(there, tensor.name))
    (result,) = run(ones, {name: (value != 0).astype(np.float32) for name, value in x.items()}, [y])
    return int(result.astype(np.float64).sum())


def row(counts, name: str):
    return next(layer for layer in counts.layers if layer.name == name)


def check(model, feeds, weight: str, name: str = "layer", y: str = "y"):
    counts = count(read_graph(model), [feeds])
    assert not counts.not_counted
    found = row(counts, name)
    assert found.stats["events"].total == nonzero_run(model, feeds, [weight], y) > 0
    full = {key: np.ones_like(value) for key, value in feeds.items()}
    assert found.stats["max_events"].total == nonzero_run(model, full, [weight], y)
    return found


CONVOLUTIONS = {
    "1d": ((6, 4, 3), (4, 11), {"pads": [1, 1], "strides": [2]}),
    "3d": ((4, 2, 2, 3, 2), (2, 4, 5, 4), {"pads": [0, 1, 0, 1, 1, 0], "strides": [1, 2, 1]}),
    "depthwise": ((6, 1, 3, 3), (6, 7, 5), {"group": 6, "pads": [1, 1, 1, 1]}),
    "multiplier": ((12, 1, 3, 3), (6, 7, 5), {"group": 6}),
    "grouped": ((6, 2, 3, 3), (4, 7, 5), {"group": 2, "pads": [2, 0, 1, 1]}),
    "dilated": ((3, 2, 3, 3), (2, 9, 8), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
    "same upper": ((3, 2, 4, 3), (2, 9, 8), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    "same lower": ((3, 2, 4, 3), (2, 9, 8), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
}
TRANSPOSED = {
    "plain": ((3, 4, 2, 2), (3, 4, 5), {"strides": [2, 2]}),
    "padded": ((3, 4, 3, 3), (3, 4, 5), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "one sided": ((3, 4, 3, 3), (3, 4, 5), {"strides": [1, 2], "pads": [0, 1, 2, 0]}),
    "more output": ((3, 4, 3, 3), (3, 4, 5), {"strides": [2, 3], "pads": [1, 1, 1, 1], "output_padding": [1, 2]}),
    "grouped": ((4, 3, 3, 2), (4, 4, 5), {"group": 2, "strides": [2, 1]}),
    "dilated": ((2, 3, 3, 2), (2, 4, 5), {"dilations": [2, 3], "strides": [2, 1], "pads": [1, 1, 2, 1]}),
    "shape": ((2, 3, 3, 3), (2, 4, 5), {"strides": [2, 2], "output_shape": [8, 9]}),
    "same upper": ((2, 3, 4, 3), (2, 4, 5), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "same lower": ((2, 3, 4, 3), (2, 4, 5), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    "1d": ((2, 3, 5), (2, 6), {"strides": [3], "pads": [2, 1]}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(rng, name):
    weight, space, attributes = CONVOLUTIONS[name]
    node = helper.make_node("Conv", ["x", "w"], ["y"], "layer", **attributes)
    w = sparse(rng, *weight)
    model = model_of([node], {"x": ["N", *space]}, {"w": w}, ("y", len(weight)))
    found = check(model, {"x": sparse(rng, 3, *space)}, "w")
    assert found.facts["groups"] == attributes.get("group", 1)
    assert found.facts["kernel"] == list(weight[2:])
    assert found.facts["fan_in"] == (w != 0).reshape(weight[0], -1).sum(1).max()


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolutions(rng, name):
    weight, space, attributes = TRANSPOSED[name]
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], "layer", **attributes)
    model = model_of([node], {"x": ["N", *space]}, {"w": sparse(rng, *weight)}, ("y", len(weight)))
    found = check(model, {"x": sparse(rng, 3, *space)}, "w")
    assert found.stats["dense_macs"].total == 3 * np.prod(space) * np.prod(weight[1:])
    (most,) = run(
        model_of([node], {"x": ["N", *space]}, {"w": np.ones(weight, np.float32)}, ("y", len(weight))),
        {"x": np.ones((1, *space), np.float32)},
        ["y"],
    )
    dense = model_of([node], {"x": ["N", *space]}, {"w": np.ones(weight, np.float32)}, ("y", len(weight)))
    assert (
        row(count(read_graph(dense), [{"x": np.ones((1, *space), np.float32)}]), "layer").facts["fan_in"] == most.max()
    )


PRODUCTS = {
    # operator, weight, one sample, rank of the result, weight on the left, attributes
    "matrix": ("MatMul", (5, 7), (4, 5), 3, False, {}),
    "batched weight": ("MatMul", (4, 5, 7), (4, 2, 5), 4, False, {}),
    "broadcast weight": ("MatMul", (3, 1, 5, 7), (3, 2, 4, 5), 5, False, {}),
    "weight used again": ("MatMul", (3, 5, 7), (1, 4, 5), 4, False, {}),
    "vector": ("MatMul", (5,), (4, 5), 2, False, {}),
    "left": ("MatMul", (6, 4), (4, 5), 3, True, {}),
    "left batched": ("MatMul", (3, 6, 4), (3, 4, 5), 4, True, {}),
    "left vector": ("MatMul", (4,), (4, 5), 2, True, {}),
    "Gemm": ("Gemm", (5, 7), (5,), 2, False, {}),
    "Gemm turned": ("Gemm", (7, 5), (5,), 2, False, {"transB": 1, "alpha": 0.5}),
    "Gemm left": ("Gemm", (6, 4), (4,), 2, True, {"transB": 1}),
    "Gemm left turned": ("Gemm", (4, 6), (4,), 2, True, {"transA": 1, "transB": 1}),
    "einsum": ("Einsum", (5, 7), (4, 5), 3, False, {"equation": "bij,jk->bik"}),
    "einsum left": ("Einsum", (3, 4, 2), (3, 4), 3, True, {"equation": "hjk,bhj->bhk"}),
    "einsum twice": ("Einsum", (4, 5, 2), (4, 5), 2, False, {"equation": "bij,ijk->bk"}),
    "einsum implicit": ("Einsum", (5, 7), (4, 5), 3, False, {"equation": "bij,jk"}),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_with_a_constant(rng, name):
    op, weight, sample, rank, left, attributes = PRODUCTS[name]
    node = helper.make_node(op, ["w", "x"] if left else ["x", "w"], ["y"], "layer", **attributes)
    x = sparse(rng, 3, *sample)

    def model(w: np.ndarray) -> onnx.ModelProto:
        return model_of([node], {"x": ["N", *sample]}, {"w": w}, ("y", rank))

    w, alpha = sparse(rng, *weight), attributes.get("alpha", 1)
    counts = count(read_graph(model(w)), [{"x": x}])
    assert not counts.not_counted
    stats = row(counts, "layer").stats
    ones, there = np.ones(weight, np.float32), (w != 0).astype(np.float32)
    expected = {
        "events": run(model(there), {"x": (x != 0).astype(np.float32)}, ["y"])[0].sum() / alpha,
        "max_events": run(model(there), {"x": np.ones_like(x)}, ["y"])[0].sum() / alpha,
        "dense_macs": run(model(ones), {"x": np.ones_like(x)}, ["y"])[0].sum() / alpha,
    }
    assert {key: stats[key].total for key in expected} == expected
    assert 0 < expected["events"] < expected["max_events"] < expected["dense_macs"]
    one = np.zeros(weight, np.float32)
    one.flat[0] = 1
    assert row(count(read_graph(model(one)), [{"x": x}]), "layer").facts["fan_in"] == 1


def test_a_constant_that_differs_from_sample_to_sample_is_not_counted(rng):
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "layer")
    model = model_of([node], {"x": [2, 4, 5]}, {"w": sparse(rng, 2, 5, 7)}, ("y", 3))
    (entry,) = count(read_graph(model), [{"x": sparse(rng, 2, 4, 5)}]).not_counted
    assert (entry["reason"], entry["share"]) == ("its constant varies along time or samples", 1.0)


@pytest.mark.parametrize("weight", ["left", "right"])
def test_samples_as_columns_are_not_counted(rng, weight):
    """x [K, N], whose axis K is summed over: neither the samples nor time stand in front."""
    names = ["w", "x"] if weight == "left" else ["x", "w"]
    node = helper.make_node("Gemm", names, ["y"], "layer", transA=1)
    model = model_of([node], {"x": [6, "batch"]}, {"w": sparse(rng, 6, 4)}, ("y", 2))
    (entry,) = count(read_graph(model), [{"x": sparse(rng, 6, 3)}]).not_counted
    assert entry["reason"] == "its samples are columns: they stand behind the axis that it sums over"


@pytest.mark.parametrize("alpha", [1e-30, 1e-45])
def test_a_weight_that_a_factor_makes_too_small_for_float32_is_a_weight(rng, alpha):
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "layer", alpha=alpha)
    w = (sparse(rng, 6, 4) * np.float32(1e-15)).astype(np.float32)
    x = sparse(rng, 5, 6)
    found = row(count(read_graph(model_of([node], {"x": ["batch", 6]}, {"w": w}, ("y", 2))), [{"x": x}]), "layer")
    assert found.stats["events"].total == brute_matrix(x, w)[:, 0].sum() > 0
    assert found.weights == np.count_nonzero(w)


# ------------------------------------------------------------------------------------- products of two activations


@pytest.mark.parametrize("binary", ["left", "right", "both", "none"])
@pytest.mark.parametrize("heads", [(), (2,)])
def test_attention_counts_pairs_of_nonzeros(rng, binary, heads):
    nodes, names = [], {}
    for side in ("left", "right"):
        names[side] = side
        if binary in (side, "both"):
            nodes.append(helper.make_node("Greater", [side, "threshold"], [f"{side}.fires"]))
            nodes.append(helper.make_node("Cast", [f"{side}.fires"], [f"{side}.spikes"], f"{side}.spikes", to=1))
            names[side] = f"{side}.spikes"
    nodes.append(helper.make_node("MatMul", [names["left"], names["right"]], ["y"], "pairs"))
    shapes = {"left": ["N", *heads, 4, 6], "right": ["N", *heads, 6, 5]}
    model = model_of(nodes, shapes, {"threshold": np.float32(0.1)}, ("y", 3 + len(heads)))
    feeds = {name: sparse(rng, 3, *shape[1:]) for name, shape in shapes.items()}
    seen = {s: (feeds[s] > 0.1 if binary in (s, "both") else feeds[s] != 0).astype(np.int64) for s in feeds}
    counts = count(read_graph(model), [feeds])
    assert not counts.not_counted
    assert not counts.violations
    found = row(counts, "pairs")
    events = (seen["left"] @ seen["right"]).reshape(3, -1).sum(1)
    assert (found.stats["events"].low, found.stats["events"].high) == (events.min(), events.max())
    assert found.stats["events"].total == events.sum() > 0
    assert found.stats["acs"].total == (0 if binary == "none" else events.sum())
    assert found.stats["dense_macs"].total == found.stats["max_events"].total == 3 * np.prod(heads) * 4 * 5 * 6


def test_a_product_with_spikes_selects_and_costs_nothing(rng):
    nodes = [
        helper.make_node("Greater", ["x", "threshold"], ["fires"]),
        helper.make_node("Cast", ["fires"], ["spikes"], "spikes", to=1),
        helper.make_node("MatMul", ["spikes", "w"], ["a"], "a"),
        helper.make_node("Mul", ["a", "spikes"], ["y"], "gate"),
    ]
    weights = {"threshold": np.float32(0.1), "w": np.eye(4, dtype=np.float32)}
    counts = count(read_graph(model_of(nodes, {"x": ["N", 4]}, weights, ("y", 2))), [{"x": sparse(rng, 3, 4)}])
    assert not counts.not_counted
    assert [layer.name for layer in counts.layers] == ["spikes", "a"]


# ------------------------------------------------------------------------------------------------ 8-bit operators


def quantized(rng: np.random.Generator, form: str) -> tuple[onnx.ModelProto, str]:
    """A convolution and a matrix on uint8 with zero point 3 and 2."""
    scale, zero = {"s": np.float32(0.25), "xz": np.uint8(3), "yz": np.uint8(2), "wz": np.int8(1)}, {}
    w = rng.integers(-1, 3, (4, 2, 3, 3)).astype(np.int8)
    m = rng.integers(-1, 3, (36, 5)).astype(np.int8)
    quantize = helper.make_node("QuantizeLinear", ["x", "s", "xz"], ["xq"])
    shape = {"flat": np.array([-1, 36])}
    match form:
        case "QLinear":
            nodes = [
                helper.make_node("QLinearConv", ["xq", "s", "xz", "w", "s", "wz", "s", "yz"], ["c"], "conv"),
                helper.make_node("Reshape", ["c", "flat"], ["f"]),
                helper.make_node("QLinearMatMul", ["f", "s", "yz", "m", "s", "wz", "s", "yz"], ["o"], "matrix"),
                helper.make_node("DequantizeLinear", ["o", "s", "yz"], ["y"]),
            ]
        case "Integer":
            nodes = [
                helper.make_node("ConvInteger", ["xq", "w", "xz", "wz"], ["c"], "conv"),
                helper.make_node("Cast", ["c"], ["cf"], to=TensorProto.FLOAT),
                helper.make_node("Reshape", ["cf", "flat"], ["fr"]),
                helper.make_node("DynamicQuantizeLinear", ["fr"], ["f", "fs", "fz"]),
                helper.make_node("MatMulInteger", ["f", "m", "fz", "wz"], ["o"], "matrix"),
                helper.make_node("Cast", ["o"], ["y"], to=TensorProto.FLOAT),
            ]
        case _:
            nodes = [
                helper.make_node("DequantizeLinear", ["xq", "s", "xz"], ["xd"]),
                helper.make_node("DequantizeLinear", ["w", "s", "wz"], ["wd"]),
                helper.make_node("Conv", ["xd", "wd"], ["c"], "conv"),
                helper.make_node("QuantizeLinear", ["c", "s", "yz"], ["cq"]),
                helper.make_node("Reshape", ["cq", "flat"], ["f"]),
                helper.make_node("DequantizeLinear", ["f", "s", "yz"], ["fd"]),
                helper.make_node("DequantizeLinear", ["m", "s", "wz"], ["md"]),
                helper.make_node("MatMul", ["fd", "md"], ["y"], "matrix"),
            ]
    weights = scale | zero | {"w": w, "m": m} | shape
    return model_of([quantize, *nodes], {"x": ["N", 2, 5, 5]}, weights, ("y", 2)), "f"


@pytest.mark.parametrize("form", ["QDQ", "QLinear", "Integer"])
def test_zero_of_a_quantized_value_is_its_zero_point(rng, form):
    model, value = quantized(rng, form)
    x = np.where(rng.random((3, 2, 5, 5)) < 0.5, 0, rng.integers(-2, 3, (3, 2, 5, 5)) / 4).astype(np.float32)
    counts = count(read_graph(model), [{"x": x}])
    assert not counts.not_counted
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    padded = brute_conv(x, weights["w"].astype(int) - 1, strides=(1, 1), pads=(0,) * 4, dilations=(1, 1), groups=1)
    conv, matrix = row(counts, "conv"), row(counts, "matrix")
    assert conv.stats["events"].total == padded[:, 0].sum() > 0
    f, zero = run(model, {"x": x}, [value, "fz"]) if form == "Integer" else (*run(model, {"x": x}, [value]), 2)
    assert (
        matrix.stats["events"].total
        == brute_matrix(f.astype(int) - int(zero), weights["m"].astype(int) - 1)[:, 0].sum()
    )
    assert conv.facts["weight_bits"] == matrix.facts["weight_bits"] == 8
    assert (conv.op, matrix.op) == ("Conv", "MatMul")


@pytest.mark.parametrize(
    ("scale", "zero", "kind"), [(1.0, 0, "binary"), (0.5, 0, "integer"), (0.3, 0, "real"), (1.0, 1, "real")]
)
def test_spikes_stay_spikes_where_the_scale_fits(rng, scale, zero, kind):
    nodes = [
        helper.make_node("Greater", ["x", "threshold"], ["fires"]),
        helper.make_node("Cast", ["fires"], ["spikes"], "spikes", to=1),
        helper.make_node("QuantizeLinear", ["spikes", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"], "layer"),
    ]
    constants = {"threshold": np.float32(0), "scale": np.float32(scale), "zero": np.uint8(zero), "w": sparse(rng, 6, 4)}
    x = sparse(rng, 5, 6)
    counts = count(read_graph(model_of(nodes, {"x": ["N", 6]}, constants, ("y", 2))), [{"x": x}])
    assert not counts.violations
    found = row(counts, "layer")
    events = brute_matrix((x > 0).astype(np.float32), constants["w"])[:, 0].sum()
    assert (found.input_kind, found.stats["events"].total) == (kind, events)
    assert found.stats["acs"].total == (0 if kind == "real" else events)


FUSED = {
    "FusedConv": (["x4", "w4"], {"activation": "Relu", "kernel_shape": [1, 1]}),
    "FusedGemm": (["x", "w"], {"activation": "Relu"}),
    "FusedMatMul": (["x", "w"], {"alpha": 2.0}),
}


@pytest.mark.parametrize("op", FUSED)
def test_operators_that_an_optimiser_fused(rng, op):
    inputs, attributes = FUSED[op]
    w = sparse(rng, 6, 4)
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["x4"]),
        helper.make_node(op, inputs, ["y"], "layer", domain="com.microsoft", **attributes),
    ]
    constants = {"axes": np.array([2, 3]), "w": w, "w4": w.T[..., None, None].copy()}
    x = sparse(rng, 5, 6)
    model = model_of(nodes, {"x": ["N", 6]}, constants, ("y", 4 if op == "FusedConv" else 2))
    counts = count(read_graph(model), [{"x": x}])
    assert not counts.not_counted
    assert row(counts, "layer").stats["events"].total == brute_matrix(x, w)[:, 0].sum()


def test_what_a_fused_operator_adds_is_not_silently_left_out(rng):
    node = helper.make_node(
        "FusedConv", ["x", "w", "", "x"], ["y"], "layer", domain="com.microsoft", kernel_shape=[1, 1]
    )
    model = model_of([node], {"x": ["N", 3, 4, 4]}, {"w": sparse(rng, 3, 3, 1, 1)})
    (entry,) = count(read_graph(model), [{"x": sparse(rng, 2, 3, 4, 4)}]).not_counted
    assert (entry["op"], entry["share"]) == ("FusedConv", None)


# ------------------------------------------------------------------------------------------ where weights come from


def constant_weight(form: str, w: np.ndarray) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Nodes and initializers that give the value `w`."""
    tensor = numpy_helper.from_array(w)
    at = np.flatnonzero(w)
    match form:
        case "Constant":
            return [helper.make_node("Constant", [], ["w"], value=tensor)], {}
        case "sparse":
            values = numpy_helper.from_array(w.flat[at], "w.values")
            sparse_tensor = helper.make_sparse_tensor(values, numpy_helper.from_array(at, "w.at"), list(w.shape))
            return [helper.make_node("Constant", [], ["w"], sparse_value=sparse_tensor)], {}
        case "chain":
            nodes = [
                helper.make_node("Identity", ["stored"], ["a"]),
                helper.make_node("Reshape", ["a", "turned"], ["b"]),
                helper.make_node("Transpose", ["b"], ["c"], perm=[1, 0]),
                helper.make_node("Cast", ["c"], ["w"], to=TensorProto.FLOAT),
            ]
            return nodes, {"stored": w.T.astype(np.float64).reshape(-1), "turned": np.array(w.T.shape)}
        case _:
            half = helper.make_node("Cast", ["half"], ["w"], to=TensorProto.FLOAT)
            return [half], {"half": w.astype(np.float16)}


@pytest.mark.parametrize("form", ["Constant", "sparse", "chain", "half"])
def test_weights_from_anywhere(rng, form):
    w, x = sparse(rng, 6, 4), sparse(rng, 5, 6)
    nodes, constants = constant_weight(form, w)
    nodes.append(helper.make_node("MatMul", ["x", "w"], ["y"], "layer"))
    counts = count(read_graph(model_of(nodes, {"x": ["N", 6]}, constants, ("y", 2))), [{"x": x}])
    assert not counts.not_counted
    found = row(counts, "layer")
    assert found.stats["events"].total == brute_matrix(x, w)[:, 0].sum()
    assert (found.weights, found.facts["parameters"]) == (np.count_nonzero(w), 24)
    assert found.facts["weight_bits"] == (16 if form == "half" else 32)


def test_shares_of_what_is_not_counted(rng):
    """Softmax over 3 x 8 elements hides at most 24 operations, beside 3 x 8 x 6 multiply-accumulates."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "matrix"),
        helper.make_node("Softmax", ["a"], ["b"]),
        helper.make_node("LSTM", ["b", "W", "R"], ["y"], hidden_size=2),
    ]
    constants = {"w": np.ones((6, 8), np.float32), "W": sparse(rng, 1, 8, 8), "R": sparse(rng, 1, 8, 2)}
    counts = count(read_graph(model_of(nodes, {"x": [3, "batch", 6]}, constants)), [{"x": sparse(rng, 3, 5, 6)}])
    shares = {entry["op"]: entry["share"] for entry in counts.not_counted}
    assert shares == {"Softmax": pytest.approx(24 / (144 + 24)), "LSTM": pytest.approx(240 / (144 + 240))}
