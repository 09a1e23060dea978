"""What a graph that was made straight keeps of the graph as read."""

from __future__ import annotations

import numpy as np
import pytest

from snnsc.energy import count, read_graph
from snnsc.energy.counting.inputs import Samples, load_told

from .test_flatten import B, K, T, loop_net, rows, scan_net

NETS = {"loop": loop_net, "scan": scan_net}


@pytest.mark.parametrize("net", NETS)
def test_what_the_samples_tell_of_an_input_is_kept(rng, net):
    x = (rng.random((T, B, K)) < 0.4).astype(np.float32)
    graph, batches = load_told(Samples("frames", lambda _: [{"x": x}]), read_graph(NETS[net](rng)))
    first = rows(count(graph, batches))["loop/first"]
    assert first.input_kind == "binary"
    assert first.stats["acs"].total == first.stats["events"].total > 0


@pytest.mark.parametrize("net", NETS)
def test_nodes_of_a_body_need_no_names(rng, net):
    made = NETS[net](rng)
    x = rng.integers(-1, 3, (T, B, K)).astype(np.float32)
    truth = count(read_graph(made), [{"x": x}])
    for node in next(a.g for n in made.graph.node for a in n.attribute if a.name == "body").node:
        node.name = ""
    found = count(read_graph(made), [{"x": x}])
    assert [(layer.op, layer.stats) for layer in found.layers] == [(layer.op, layer.stats) for layer in truth.layers]
