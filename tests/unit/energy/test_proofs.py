"""What is proven of a value from the nodes alone; what is not must be looked at."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import helper

from snnsc.energy import count, read_graph
from snnsc.energy.counting.counting import plan_without_samples
from snnsc.energy.counting.instrument import instrument
from snnsc.energy.plan.kinds import BINARY, INTEGER, Kind
from snnsc.energy.plan.proofs import proven

from .graphs import exported_net

GRAPH = """
<ir_version: 9, opset_import: ["": 18]>
net (float[2,4,4,4] x) => (float[2] y) <float one = {1.0}, float[2] low = {0.0, 0.0}> {
    fired = Greater(x, one)
    spikes = Cast<to = 1>(fired)
    again = Cast<to = 11>(spikes)
    moved = Transpose<perm = [1, 0, 2, 3]>(spikes)
    pair = Concat<axis = 0>(spikes, spikes)
    mixed = Concat<axis = 0>(spikes, x)
    sum = Add(spikes, moved2)
    moved2 = Identity(spikes)
    three = Sum(sum, spikes, moved2)
    difference = Sub(spikes, moved2)
    outside = Add(spikes, x)
    text = Cast<to = 6>(x)
    scaled = Mul(spikes, one)
    dropped = Dropout(spikes)
    pooled = AveragePool<kernel_shape = [2, 2]>(spikes)
    deeper = AveragePool<kernel_shape = [2, 2]>(pooled)
    flat = Flatten(pooled)
    mean = GlobalAveragePool(moved)
    realmean = GlobalAveragePool(x)
    y = ReduceSum<keepdims = 0>(scaled)
}
"""


@pytest.mark.parametrize(
    ("value", "kind", "largest"),
    [
        ("spikes", BINARY, 1),
        ("again", BINARY, 1),
        ("moved", BINARY, 1),
        ("pair", BINARY, 1),
        ("mixed", BINARY, 0),
        ("sum", BINARY, 0),
        ("sum", INTEGER, 2),
        ("three", INTEGER, 4),
        ("difference", INTEGER, 2),
        ("outside", INTEGER, 0),
        ("text", INTEGER, 0),
        ("scaled", BINARY, 0),
        ("dropped", BINARY, 0),
        ("x", BINARY, 0),
        ("gone", BINARY, 0),
        ("pooled", Kind("scaled", Fraction(1, 4)), 4),
        ("flat", Kind("scaled", Fraction(1, 4)), 4),
        ("deeper", Kind("scaled", Fraction(1, 16)), 0),
        ("mean", Kind("scaled", Fraction(1, 16)), 16),
        ("realmean", Kind("scaled", Fraction(1, 16)), 0),
    ],
)
def test_proofs_by_node(value, kind, largest):
    found = proven(onnx.parser.parse_model(GRAPH), {value: kind})
    assert found == ({value: largest} if largest else {})


def test_spikes_of_our_functions_are_proven_through_their_scan(rng):
    graph = read_graph(exported_net(rng))
    roots = plan_without_samples(graph).roots
    assert set(proven(graph.model, roots)) == {"lif1.spikes", "layer1.0.lif1.spikes", "layer1.0.lif2.spikes", "pool"}
    assert roots.keys() == set(proven(graph.model, roots))


def lif_with_height(rng, height: float) -> onnx.ModelProto:
    model = exported_net(rng)
    function = model.functions[0]
    function.node[-1].output[1] = "raw"
    function.node.append(helper.make_node("Constant", [], ["height"], value_float=height))
    function.node.append(helper.make_node("Mul", ["raw", "height"], ["spikes"]))
    return model


def test_spikes_that_are_scaled_are_looked_at(rng):
    images = rng.integers(0, 3, (3, 2, 6, 6)).astype(np.float32)
    for height, violated in ((1.0, False), (0.5, True)):
        graph = read_graph(lif_with_height(rng, height))
        assert not proven(graph.model, plan_without_samples(graph).roots)
        counts = count(graph, [{"images": images}])
        assert bool(counts.violations) is violated


def test_a_state_of_a_scan_is_not_proven(rng):
    """The last membrane is not a spike, whatever the body does."""
    model = exported_net(rng)
    model.functions[0].output[0] = "last"
    assert not proven(model, {"lif1.spikes": BINARY})


def test_with_and_without_proofs_the_counts_are_the_same(rng, monkeypatch):
    model = exported_net(rng)
    images = {"images": rng.integers(-1, 3, (4, 2, 6, 6)).astype(np.float32)}
    fast = count(read_graph(model), [images])
    monkeypatch.setattr("snnsc.energy.counting.counting.proven", lambda *_: {})
    assert count(read_graph(model), [images]) == fast


def test_what_is_proven_is_not_checked(rng):
    graph = read_graph(exported_net(rng))
    plan = plan_without_samples(graph)
    known = proven(graph.model, plan.roots)
    assert not instrument(graph.model, plan, graph.opset, trust=True, proven=known).checks
    assert instrument(graph.model, plan, graph.opset, trust=True).checks.keys() == plan.roots.keys()
