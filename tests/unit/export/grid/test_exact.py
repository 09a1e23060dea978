import math

import numpy as np
import pytest
from onnx import helper

from snnsc.errors import CheckError, RecipeError
from snnsc.export.grid.exact import Graph, Membrane, check
from snnsc.export.grid.spans import Span, exponent, rounded
from snnsc.neuron_functions import DOMAIN

from .by_hand_graphs import dense_graph, graph_of, tensor


@pytest.mark.parametrize(
    ("values", "e"), [([1.0], 0), ([0.5, 3], 1), ([8.0, 24], -3), ([0.0], -math.inf), ([0.0, -0.75], 2)]
)
def test_the_finest_grid_of_numbers(values, e):
    assert exponent(np.array(values)) == e


def test_the_finest_grid_of_float32_has_its_24_bits():
    assert exponent(np.array(np.float32(0.7))) == 24
    assert exponent(rounded(np.array(np.float32(0.7)), 10)) <= 10


def neurons(kind, **attributes):
    return helper.make_node(kind, ["c"], ["s"], "n", domain=DOMAIN, **attributes)


@pytest.mark.parametrize(
    ("kind", "attributes", "T", "low", "high"),
    [
        # by hand, from a current of -1..2 and a threshold of 1: a hard reset leaves at most 1, a soft one u - 1
        ("IF", {}, 3, -3, 3),
        ("LIF", {"decay": 0.5}, 3, -1.75, 2.5),
        ("SoftIF", {}, 3, -3, 4),  # 2, left 1; 3, left 2; 4
        ("SoftLIF", {"decay": 0.5}, 2, -1.5, 2.5),
        ("GainIF", {"gain": 0.5}, 2, -1, 2),
        ("SignedIF", {}, 3, -3, 6),
        ("SoftSignedIF", {}, 2, -4, 4),  # fires at -1: leaves -2; then -3, and leaves -4
    ],
)
def test_bounds_of_a_membrane(kind, attributes, T, low, high):
    membrane = Membrane(neurons(kind, threshold=1.0, **attributes), Span(-1, 2, 4), T)
    assert (membrane.span.low, membrane.span.high) == (low, high)
    assert membrane.span.e == 4 + membrane.c * (T - 1) + ("gain" in attributes)


def test_an_operator_reaches_the_sum_of_what_pulls_one_way():
    weights = [np.array([[1.0, -2.0, 0.5], [4, -8, 0]]), np.array([[4.0, -8.0]])]
    model = dense_graph(weights, [np.array([0.25, -1]), np.array([0.25])], "IF", threshold=1.0)
    found = Graph(model, 1, {"fc0": (-1, 3)}).spans()
    assert (found["p0"].low, found["p0"].high) == (-28, 20)
    assert (found["c0"].low, found["c0"].high) == (-29, 20.25)
    assert found["p1"] == Span(-8, 4, -2)
    assert found["c1"] == Span(-8, 4.25, 2)


def test_a_graph_is_proven_from_its_weights():
    w, b = [np.full((2, 4), 0.75)], [np.zeros(2)]
    entry = [
        helper.make_node("Clip", ["x", "low", "high"], ["y"], "clip"),
        helper.make_node("Mul", ["y", "up"], ["z"], "mul"),
        helper.make_node("Round", ["z"], ["r"], "round"),
        helper.make_node("Mul", ["r", "down"], ["q"], "mul_2"),
    ]
    constants = [tensor(v, n) for v, n in ((-4, "low"), (4, "high"), (2**8, "up"), (2**-8, "down"))]
    model = dense_graph(w, b, "IF", threshold=1.0)
    with pytest.raises(CheckError, match="layer fc0: its sums are multiples of 2\\^-inf"):
        check(model, 2)  # any float may come in
    model.graph.node[0].input[0] = "q"
    model = graph_of([*entry, *model.graph.node], [*constants, *model.graph.initializer], "s0")
    found = Graph(model, 2).spans()
    assert found["q"] == Span(-4, 4, 8)
    assert found["p0"] == Span(-12, 12, 10)
    check(model, 2)
    check(model, 2**9)  # 12 x 512 < 2^13
    with pytest.raises(
        CheckError, match="layer n0: its sums are multiples of 2\\^-10 and reach 2\\^15, which needs 25"
    ):
        check(model, 2**11)


REFUSED = [
    (neurons("LIF", decay=0.7, threshold=1.0), r"layer n: decay = 0\.7 is no power of two"),
    (neurons("GainIF", gain=0.3, threshold=1.0), r"layer n: input gain = 0\.3 is no power of two"),
    (neurons("CLIF", decay=0.5, rate=0.5, threshold=1.0), "layer n: clif neurons multiply by sigmoids"),
    (neurons("GLIF"), "layer n: glif neurons multiply by sigmoids"),
]


@pytest.mark.parametrize(("node", "words"), REFUSED, ids=lambda x: getattr(x, "op_type", ""))
def test_constants_without_a_grid_are_refused(node, words):
    with pytest.raises(RecipeError, match=words):
        Membrane(node, Span(-1, 1, 4), 2)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("AveragePool", ["x"], ["c"], "stem.pool", kernel_shape=[3, 3]), r"stem\.pool: .* 9, is no"),
        (helper.make_node("ReduceMean", ["x", "axes"], ["c"], "head.mean"), r"head\.mean: .* 49, is no power of two"),
        (helper.make_node("Sigmoid", ["x"], ["c"], "gate"), "gate: --exact-grid does not know the operator Sigmoid"),
        (
            helper.make_node("AveragePool", ["x"], ["c"], "pool", kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
            "pool: it divides by fewer values at the border",
        ),
    ],
)
def test_operators_without_a_grid_are_refused_before_neurons(node, words):
    axes = tensor([2, 3], "axes")
    with pytest.raises(CheckError, match=words):
        Graph(graph_of([node, neurons("IF", threshold=1.0)], [axes], "s"), 1).spans()
    after = helper.make_node(node.op_type, ["s", *node.input[1:]], ["y"], "after")
    after.attribute.extend(node.attribute)
    current = helper.make_node("Identity", ["x"], ["c"], "current")
    Graph(graph_of([current, neurons("IF", threshold=1.0), after], [axes], "y"), 1).spans()  # no neuron reads it


def test_averages_take_bits():
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["c"], "mean")
    pool = helper.make_node("AveragePool", ["x"], ["c"], "pool", kernel_shape=[2, 2])
    for node, bits in ((mean, 6), (pool, 2)):
        graph = Graph(graph_of([node, neurons("IF", threshold=1.0)], [tensor([2, 3], "axes")], "s", size=8), 1)
        assert graph.averaged(node) == bits
        rounding = helper.make_node("Round", ["raw"], ["x"], "round")
        graph.nodes, graph.input = [rounding, *graph.nodes], "raw"
        assert graph.spans()["c"].e == bits


def test_a_network_of_rectifiers_has_no_spikes():
    with pytest.raises(RecipeError, match="no spikes that could differ"):
        Graph(graph_of([helper.make_node("Relu", ["x"], ["y"])], [], "y"), 1)
