"""Sums of rounded weights, taken in any order in float32, against float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnsc.errors import CheckError
from snnsc.export.grid.exact import Graph
from snnsc.export.grid.plan import Reads, plan
from snnsc.export.grid.spans import rounded

from .by_hand_graphs import dense_graph

READS = {"fc0": Reads(-2.0, 3.0, whole=False)}


def net(seed, sizes=(9, 7, 5), scale=1.0):
    rng = np.random.default_rng(seed)
    pairs = list(zip(sizes[1:], sizes[:-1], strict=True))
    weights = [(rng.normal(size=s) * scale).astype(np.float32) for s in pairs]
    return weights, [(rng.normal(size=out) * 0.3).astype(np.float32) for out, _ in pairs]


def snapped(weights, biases, grid, finer=0):
    """Weights and biases on a grid, or on one finer than the plan allows."""
    on = list(grid.linear.values())
    return (
        [rounded(w, x.a + finer).astype(np.float32) for w, x in zip(weights, on, strict=True)],
        [rounded(b, x.a + x.b + finer).astype(np.float32) for b, x in zip(biases, on, strict=True)],
    )


def run(x_TN, weights, biases, dtype, rng, *, decay=1.0, gain=1.0, threshold=1.0, soft=False):
    """Membrane potentials and spikes of all steps and layers, every sum added up one by one in an order of `rng`."""
    found, v = [], [np.zeros(len(b), dtype) for b in biases]
    for x in x_TN.astype(dtype):
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            terms = np.concatenate([w.astype(dtype) * x, b.astype(dtype)[:, None]], axis=1)
            u = np.zeros(len(b), dtype)
            for j in rng.permutation(terms.shape[1]):
                u = u + terms[:, j]
            u = dtype(decay) * v[i] + dtype(gain) * u
            s = (u > dtype(threshold)).astype(dtype)
            v[i] = u - dtype(threshold) * s if soft else u * (1 - s)
            found += [u, s]
            x = s
    return np.concatenate(found).astype(np.float64)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    T=st.integers(1, 6),
    decay=st.sampled_from([1.0, 0.5, 0.25]),
    gain=st.sampled_from([None, 0.5, 2.0]),
    soft=st.booleans(),
    scale=st.sampled_from([0.05, 1.0, 9.0]),
)
def test_every_order_gives_the_same_bits_and_keeps_the_bounds(seed, T, decay, gain, soft, scale):
    weights, biases = net(seed, scale=scale)
    constants = {"threshold": 1.0} | ({} if gain is None else {"gain": gain}) | ({} if decay == 1 else {"decay": decay})
    kind = ("Soft" if soft else "") + ("Gain" if gain else "") + ("IF" if decay == 1 else "LIF")
    model = dense_graph(weights, biases, kind, **constants)
    grid = plan(model, T, READS)
    rng = np.random.default_rng(seed)
    x = np.clip(rng.normal(size=(T, 9)) * 3, -2, 3)
    x = rounded(x, grid.linear["fc0"].b)
    w, b = snapped(weights, biases, grid)
    how = {"decay": decay, "gain": gain or 1.0, "soft": soft}
    exact = run(x, w, b, np.float64, rng, **how)
    for _ in range(3):
        np.testing.assert_array_equal(run(x, w, b, np.float32, rng, **how), exact)
    reached = max(n.m for n in grid.neurons.values())
    assert np.abs(exact).max() <= 2.0**reached


def test_without_a_grid_orders_differ_and_with_one_they_do_not():
    weights, biases = [np.array([[2.0**24, 1, 1, -(2.0**24)]], np.float32)], [np.zeros(1, np.float32)]
    x, rng = np.ones((1, 4)), np.random.default_rng(0)
    assert len({tuple(run(x, weights, biases, np.float32, rng)) for _ in range(20)}) > 1
    grid = plan(dense_graph(weights, biases, "IF", threshold=1.0), 1, {"fc0": Reads(0.0, 1.0, whole=True)})
    w, b = snapped(weights, biases, grid)
    assert len({tuple(run(x, w, b, np.float32, rng)) for _ in range(20)}) == 1


def test_a_grid_finer_than_the_bounds_allow_is_not_exact():
    """What the plan would do if it ignored a bound."""
    weights, biases = net(3, sizes=(40, 20, 5), scale=3.0)
    grid = plan(dense_graph(weights, biases, "LIF", decay=0.5, threshold=1.0), 4, READS)
    rng = np.random.default_rng(0)
    x = rounded(rng.uniform(-2, 3, size=(4, 40)), grid.linear["fc0"].b)
    for finer in (0, 6):
        w, b = snapped(weights, biases, grid, finer)
        found = {run(x, w, b, np.float32, rng, decay=0.5).tobytes() for _ in range(10)}
        assert (len(found) > 1) == (finer > 0)


def test_all_of_the_room_is_used():
    weights, biases = net(1)
    model = dense_graph(weights, biases, "LIF", decay=0.5, threshold=1.0)
    grid = plan(model, 4, READS)
    for (name, neurons), linear in zip(grid.neurons.items(), grid.linear.values(), strict=True):
        assert neurons.e + neurons.c * 3 + neurons.m == 24, name
        assert linear.a + linear.b == neurons.e
    assert grid.linear["fc1"].b == 0
    shorter = plan(model, 1, READS)
    assert shorter.linear["fc1"].a > grid.linear["fc1"].a
    whole = plan(model, 4, {"fc0": Reads(0.0, 4.0, whole=True)})
    assert whole.linear["fc0"].b == 0
    found = Graph(model, 4, {"fc0": (0.0, 4.0)}).spans()
    assert found["s0"].high == 1


def test_too_many_steps_are_refused_with_the_numbers():
    weights, biases = net(1)
    with pytest.raises(CheckError, match=r"layer fc0: .* largest, .* membrane of n0 .* c \(T-1\) = 1 x 21 bits; train"):
        plan(dense_graph(weights, biases, "LIF", decay=0.5, threshold=1.0), 22, READS)
    plan(dense_graph(weights, biases, "IF", threshold=1.0), 22, READS)


def test_a_soft_reset_needs_a_threshold_on_the_grid():
    weights, biases = net(1)
    with pytest.raises(CheckError, match=r"layer n1: its soft reset subtracts .* 2\^-24 only"):
        plan(dense_graph(weights, biases, "SoftIF", threshold=0.7), 4, READS)
    plan(dense_graph(weights, biases, "SoftIF", threshold=0.75), 4, READS)
    plan(dense_graph(weights, biases, "IF", threshold=0.7), 4, READS)


def test_weights_that_are_no_numbers_are_refused():
    weights, biases = net(1)
    weights[1][0, 0] = np.nan
    with pytest.raises(CheckError, match="layer fc1: its weights are not finite"):
        plan(dense_graph(weights, biases, "IF", threshold=1.0), 4, READS)
