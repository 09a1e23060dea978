"""A NIR graph as ONNX: every kind of node against its equation by hand, and the NIR paper's own networks.

Legend: T time steps, B batch, C channels, H W space.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("h5py")

from nir_files import Edges, Nodes, affine, conv, end, entry, flatten, lif, neurons, pool, write

from snnsc.errors import ModelFileError, RecipeError
from snnsc.neuron_functions import DOMAIN
from snnsc.nir.graph import Graph
from snnsc.nir.lower import to_onnx
from snnsc.nir.read import parse_nir, read_nir
from snnsc.nir.run import NirNetwork

DATA = Path(os.environ.get("SNNSC_DATA", "data"))
DT = 1e-4


def made(tmp_path: Path, nodes: Nodes, edges: Edges | None = None, **metadata: object) -> Graph:
    path = write(tmp_path / "n.nir", nodes, edges, **metadata)
    return parse_nir(path.read_bytes(), "n.nir")


def run(graph: Graph, x: np.ndarray, dt: float | None = None) -> np.ndarray:
    network = NirNetwork(graph, dt)
    onnx.checker.check_model(network.model, full_check=True)
    return network.run(x)[0]


def calls(graph: Graph, dt: float | None = None) -> list[str]:
    return [node.op_type for node in to_onnx(graph, dt=dt).graph.node if node.domain == DOMAIN]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


# ------------------------------------------------------------------------------------------------------- neurons


def by_hand(node: dict[str, object], x: np.ndarray, dt: float) -> np.ndarray:
    """Forward Euler of NIR's equations, [T, B, N]."""
    p = {k: np.asarray(v) for k, v in node.items() if k != "type"}
    v = i = np.zeros(x.shape[1:])
    out = []
    for now in x.astype(float):
        current = now
        if node["type"] == "CubaLIF":
            i = i + dt / p["tau_syn"] * (p["w_in"] * now - i)
            current = i
        tau = p.get("tau_mem", p.get("tau"))
        if node["type"] == "IF":
            v = v + current * (p["r"] if (p["r"] == 1).all() else p["r"] * dt)
        elif node["type"] != "Threshold":
            v = v + dt / tau * (p["v_leak"] - v + p["r"] * current)
        if node["type"] == "LI":
            out.append(v)
            continue
        s = (now > p["threshold"]) if node["type"] == "Threshold" else v > p["v_threshold"]
        v = np.where(s, p.get("v_reset", 0), v)
        out.append(s)
    return np.stack(out).astype(np.float32)


LAYERS = {
    "LIF": (lif(4), "LIF"),
    "LIF with gain": (lif(4, r=3.0), "GainLIF"),
    "LIF with a resting potential": (lif(4, v_leak=0.4), "AnyLIF"),
    "LIF with a reset": (lif(4, v_reset=-0.3), "AnyLIF"),
    "LIF, each neuron its own": (
        lif(4, tau=np.array([2e-4, 3e-4, 1e-3, 1e-4]), v_threshold=np.arange(4) / 4),
        "AnyLIF",
    ),
    "LIF of one element": (lif(1), "LIF"),
    "IF of a jump a step": (neurons("IF", r=[1] * 4, v_threshold=[1] * 4, v_reset=[0] * 4), "IF"),
    "IF": (neurons("IF", r=[1 / DT] * 4, v_threshold=[1] * 4, v_reset=[0] * 4), "IF"),
    "IF with gain": (neurons("IF", r=[5e3] * 4, v_threshold=[1] * 4, v_reset=[0] * 4), "GainIF"),
    "IF, each its own": (neurons("IF", r=[1e3, 2e3, 1e4, 2e4], v_threshold=[1] * 4, v_reset=[0.1] * 4), "AnyIF"),
    "CubaLIF": (
        neurons(
            "CubaLIF",
            tau_syn=[2e-4] * 4,
            tau_mem=[4e-4, 2e-4, 3e-4, 1e-3],
            r=[2] * 4,
            v_leak=[0.1] * 4,
            v_threshold=[0.5] * 4,
            v_reset=[0] * 4,
            w_in=[2] * 4,
        ),
        "CubaLIF",
    ),
    "LI": (neurons("LI", tau=[2e-4] * 4, r=[2, 1, 2, 3], v_leak=[0.1] * 4), "LI"),
    "Threshold": (neurons("Threshold", threshold=[0.1, 0.5, 1, 2]), "Threshold"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_neurons_step_by_their_equation(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    node, expected = LAYERS[name]
    graph = made(tmp_path, {"input": entry(4), "n": node, "output": end(4)})
    x = rng.normal(0.5, 1, (9, 5, 4)).astype(np.float32)
    found, wanted = run(graph, x), by_hand(node, x, DT)
    assert calls(graph) == [expected]
    if name == "LI":
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        return
    np.testing.assert_array_equal(found, wanted)
    assert 0.05 < found.mean() < 0.95


def test_the_time_step_is_the_files_the_callers_or_a_tenth_of_a_millisecond(tmp_path: Path) -> None:
    nodes = {"input": entry(1), "n": lif(1, tau=1e-2, r=100.0), "output": end(1)}

    def decay(graph: Graph, dt: float | None = None) -> float:
        (node,) = (n for n in to_onnx(graph, dt=dt).graph.node if n.domain == DOMAIN)
        return next(a.f for a in node.attribute if a.name == "decay")

    graph = made(tmp_path, nodes)
    assert decay(graph) == pytest.approx(0.99)
    assert decay(graph, 5e-3) == 0.5
    assert decay(made(tmp_path, nodes, **{"snnsc.dt": "0.001"})) == pytest.approx(0.9)
    with pytest.raises(RecipeError, match=r"'n' \(LIF\): tau is 0.01 s, shorter than the time step of 0.02 s"):
        to_onnx(graph, dt=0.02)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match="must be a number of seconds from 1e-12 to 1e\\+06"):
            to_onnx(graph, dt=wrong)
    with pytest.raises(ModelFileError, match=r"n.nir: metadata snnsc.dt is 'soon'"):
        to_onnx(made(tmp_path, nodes, **{"snnsc.dt": "soon"}))
    with pytest.raises(ModelFileError, match=r"n.nir: metadata snnsc.input is damaged"):
        to_onnx(made(tmp_path, nodes, **{"snnsc.input": "[1"}))


def test_constants_that_float32_cannot_hold_are_named(tmp_path: Path) -> None:
    graph = made(tmp_path, {"input": entry(2), "n": affine([[1e300, 0]], [0]), "output": end(1)})
    with pytest.raises(ModelFileError, match=r"n.nir: node 'n' \(Affine\): weight is too large for float32"):
        to_onnx(graph)


# -------------------------------------------------------------------------------------------------- other operators


def step(graph: Graph, x: np.ndarray) -> torch.Tensor:
    """What each time step of each sample gives, [T, B, ...], of a graph without memory."""
    return torch.from_numpy(run(graph, x))


def test_convolutions_and_pools(tmp_path: Path, rng: np.random.Generator) -> None:
    w1, w2 = rng.normal(size=(4, 2, 3, 2)), rng.normal(size=(6, 2, 3, 3))
    bias, w3 = rng.normal(size=6), rng.normal(size=(3, 12))
    nodes = {
        "input": entry(2, 9, 9),
        "same": conv(w1, padding="same", dilation=np.array([1, 2])),
        "grouped": conv(w2, stride=np.array([2, 1]), padding=np.array([1, 0]), groups=2, bias=bias),
        "sum": pool("SumPool2d"),
        "average": pool("AvgPool2d", 3, 2, 1),
        "flat": flatten(),
        "linear": {"type": "Linear", "weight": w3},
        "scale": {"type": "Scale", "scale": np.array([1.0, -2.0, 0.5])},
        "output": end(3),
    }
    graph = made(tmp_path, nodes)
    x = rng.normal(size=(3, 2, 2, 9, 9)).astype(np.float32)
    y = torch.from_numpy(x).flatten(0, 1).double()
    y = F.conv2d(y, torch.from_numpy(w1), padding="same", dilation=(1, 2))
    y = F.conv2d(y, torch.from_numpy(w2), torch.from_numpy(bias), stride=(2, 1), padding=(1, 0), groups=2)
    y = F.avg_pool2d(F.avg_pool2d(y, 2) * 4, 3, 2, 1).flatten(1)
    y = F.linear(y, torch.from_numpy(w3)) * torch.tensor([1.0, -2.0, 0.5])
    torch.testing.assert_close(step(graph, x).double(), y.unflatten(0, (3, 2)), atol=1e-4, rtol=1e-5)


def test_several_edges_are_a_sum(tmp_path: Path, rng: np.random.Generator) -> None:
    nodes = {
        "input": entry(1, 4, 4),
        "a": pool("SumPool2d"),
        "b": pool("AvgPool2d"),
        "c": conv(np.full((1, 1, 2, 2), 0.5), stride=2),
        "f": flatten(),
        "output": end(4),
    }
    edges = [("input", "a"), ("input", "b"), ("input", "c"), ("a", "f"), ("b", "f"), ("c", "f"), ("f", "output")]
    x = rng.normal(size=(2, 3, 1, 4, 4)).astype(np.float32)
    mean = F.avg_pool2d(torch.from_numpy(x).flatten(0, 1), 2).reshape(2, 3, 4)
    torch.testing.assert_close(step(made(tmp_path, nodes, edges), x), mean * (4 + 1 + 2))


def test_summed_pools_of_two_sizes_keep_their_factors(tmp_path: Path, rng: np.random.Generator) -> None:
    nodes = {"input": entry(1, 4, 4), "a": pool("SumPool2d"), "b": pool("SumPool2d", 1, 2), "f": flatten()}
    edges = [("input", "a"), ("input", "b"), ("a", "f"), ("b", "f"), ("f", "output")]
    x = rng.normal(size=(2, 3, 1, 4, 4)).astype(np.float32)
    images = torch.from_numpy(x).flatten(0, 1)
    total = F.avg_pool2d(images, 2) * 4 + images[..., ::2, ::2]
    got = step(made(tmp_path, {**nodes, "output": end(4)}, edges), x)
    torch.testing.assert_close(got, total.reshape(2, 3, 4))


def test_two_summed_pools_of_more_than_one_element(tmp_path: Path, rng: np.random.Generator) -> None:
    nodes = {"input": entry(1, 4, 4), "a": pool("SumPool2d", 2, 2), "b": pool("SumPool2d", 3, 1), "f": flatten()}
    edges = [("input", "a"), ("input", "b"), ("a", "f"), ("b", "f"), ("f", "output")]
    x = rng.normal(size=(2, 3, 1, 4, 4)).astype(np.float32)
    images = torch.from_numpy(x).flatten(0, 1)
    total = F.avg_pool2d(images, 2) * 4 + F.avg_pool2d(images, 3, 1) * 9
    got = step(made(tmp_path, {**nodes, "output": end(4)}, edges), x)
    torch.testing.assert_close(got, total.reshape(2, 3, 4))


def test_one_element_of_any_rank_is_a_number(tmp_path: Path, rng: np.random.Generator) -> None:
    scale = {"type": "Scale", "scale": np.full((1, 1, 1, 1), 3.0)}
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    got = step(made(tmp_path, {"input": entry(4), "s": scale, "output": end(4)}), x)
    torch.testing.assert_close(got, torch.from_numpy(x) * 3)


def test_a_summed_pool_is_right_wherever_it_goes(tmp_path: Path, rng: np.random.Generator) -> None:
    x = (rng.random((4, 2, 1, 6, 6)) < 0.3).astype(np.float32)
    total = F.avg_pool2d(torch.from_numpy(x).flatten(0, 1), 3).reshape(4, 2, 4).double() * 9
    start, flat = {"input": entry(1, 6, 6), "p": pool("SumPool2d", 3, 3)}, {"f": flatten()}
    torch.testing.assert_close(step(made(tmp_path, {**start, **flat, "output": end(4)}), x).double(), total)
    thresholds = {"t": neurons("Threshold", threshold=[2.5] * 4)}
    torch.testing.assert_close(
        step(made(tmp_path, {**start, **flat, **thresholds, "output": end(4)}), x).double(), (total > 2.5).double()
    )
    weights = rng.normal(size=(2, 4))
    torch.testing.assert_close(
        step(made(tmp_path, {**start, **flat, "l": affine(weights, [1, 2]), "output": end(2)}), x).double(),
        total @ torch.from_numpy(weights).T + torch.tensor([1.0, 2.0]),
        atol=1e-5,
        rtol=1e-5,
    )


# ------------------------------------------------------------------------------------------------------ the network


def test_T_and_B_are_dynamic_and_layers_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    nodes = {"input": entry(1, 4, 4), "c": conv(np.ones((2, 1, 3, 3))), "a.b": lif(2, 2, 2), "f": flatten()}
    network = NirNetwork(made(tmp_path, {**nodes, "l": affine(np.eye(8), np.zeros(8)), "output": end(8)}))
    for T, B in ((1, 1), (5, 1), (1, 3), (4, 2)):
        logits, spikes = network.run(rng.random((T, B, 1, 4, 4), np.float32))
        assert logits.shape == (T, B, 8)
        assert {layer: value.shape for layer, value in spikes.items()} == {"a.b": (T, B, 2, 2, 2)}
        np.testing.assert_array_equal(spikes["a.b"].reshape(T, B, 8), logits)
    assert network.layers == {"a.b": "a.b.spikes"}
    with pytest.raises(ModelFileError, match=r"takes inputs \[T,B,1,4,4\], not \(1, 1, 5, 5\)"):
        network.run(np.zeros((1, 1, 5, 5), np.float32))
    with pytest.raises(ModelFileError, match="does not say for how many time steps"):
        network.run(np.zeros((3, 1, 4, 4), np.float32))
    held, _ = network.run(np.ones((3, 1, 4, 4), np.float32), T=2)
    assert held.shape == (2, 3, 8)


NAMES = [
    ["x", "a", "a.add", "a.product", "a.spikes", "a.value", "y"],
    ["metadata", "input", "output", "logits", "logits_by_step", "T", "input.value"],
    ["a.value.sequence", "a", "a.value", "a.spikes.spikes", "a.spikes", "shape_4", "steps_and_batch"],
]


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[2])
def test_nodes_may_be_called_what_is_made(names: list[str], tmp_path: Path, rng: np.random.Generator) -> None:
    first, second = rng.normal(size=(4, 2)), rng.normal(size=(4, 4))

    def network_of(names: list[str]) -> NirNetwork:
        layers = [entry(2), affine(first, [1, 0, 0, 1]), affine(second, [0, 1, 0, 0]), lif(4), lif(4), lif(4), end(4)]
        i, a, b, n1, n2, n3, o = names
        edges = [(i, a), (a, b), (a, n1), (b, n1), (n1, n2), (b, n2), (n1, n3), (n2, n3), (n3, o)]
        return NirNetwork(made(tmp_path, dict(zip(names, layers, strict=True)), edges))

    x = rng.normal(size=(6, 3, 2)).astype(np.float32) * 2
    plain, network = network_of(list("iabnmlo")), network_of(names)
    onnx.checker.check_model(network.model, full_check=True)
    given = [node.name for node in network.model.graph.node]
    assert len(set(given)) == len(given)
    assert list(network.layers) == names[3:6]
    (expected, fired), (found, spikes) = plain.run(x), network.run(x)
    np.testing.assert_array_equal(found, expected)
    assert 0.05 < found.mean() < 0.95
    for ours, theirs in zip(spikes.values(), fired.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_output_that_is_no_vector_is_refused_to_classify(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"its output has shape \[1, 2\]"):
        NirNetwork(made(tmp_path, {"input": entry(1, 2), "output": end(1, 2)}))


def test_no_torch() -> None:
    program = "import sys; from snnsc.nir import lower, read, run, write; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


# ------------------------------------------------------------------------------------------ the NIR paper's networks

needs_models = pytest.mark.skipif(
    not (DATA / "models" / "nir").is_dir(), reason="needs the NIR paper's files in $SNNSC_DATA/models/nir"
)


@needs_models
@pytest.mark.parametrize("simulator", ["norse", "snntorch", "nengo", "exact"])
def test_a_single_neuron_fires_as_in_the_papers_simulators(simulator: str) -> None:
    """Those with NIR's reset and no delay: Spyx fires a step later, Sinabs and Rockpool step exactly."""
    folder = DATA / "models" / "nir"
    recorded = np.loadtxt(folder / f"lif_{simulator}.csv", delimiter=",", dtype=np.float32)
    given = np.loadtxt(folder / "lif_norse.csv", delimiter=",", dtype=np.float32)[:, 0]  # others scale their input
    found, _ = NirNetwork(read_nir(folder / "lif_norse.nir")).run(given[:, None, None])
    np.testing.assert_array_equal(found[:, 0, 0] != 0, recorded[:, 2] != 0)
    assert found.sum() == 4


@needs_models
def test_the_membrane_is_that_of_norse(tmp_path: Path) -> None:
    folder = DATA / "models" / "nir"
    recorded = np.loadtxt(folder / "lif_norse.csv", delimiter=",", dtype=np.float32)
    first = int(np.flatnonzero(recorded[:, 2])[0])  # after which an integrator goes on where a neuron is reset
    given = read_nir(folder / "lif_norse.nir").nodes["1"].parameters
    node = neurons("LI", **{name: given[name] for name in ("tau", "r", "v_leak")})
    found = run(made(tmp_path, {"input": entry(1), "n": node, "output": end(1)}), recorded[:first, :1, None])
    np.testing.assert_allclose(found[:, 0, 0], recorded[:first, 1], atol=1e-7)


@needs_models
@pytest.mark.parametrize("name", ["nir/cnn_sinabs", "sinabs/scnn_mnist", "nir/two_lif_neurons", "nir/lif_rockpool"])
def test_the_papers_networks_are_read(name: str) -> None:
    network = NirNetwork(read_nir(DATA / "models" / f"{name}.nir"))
    found, _ = network.run(np.ones((2, 1, *network.shape), np.float32))
    assert found.shape == (2, 1, network.classes)


@needs_models
@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "nmnist" / "Test").is_dir(), reason="needs N-MNIST recordings in $SNNSC_DATA/nmnist")
def test_the_papers_network_classifies_nmnist() -> None:
    """Frames of 1 ms, channel 0 OFF; the paper has 98 % (Norse) on the whole test set."""
    from snnsc.data.events import read_recording

    network = NirNetwork(read_nir(DATA / "models" / "nir" / "cnn_sinabs.nir"))
    right = total = 0
    for folder in sorted((DATA / "nmnist" / "Test").iterdir()):
        for path in sorted(folder.iterdir()):
            events = read_recording(path, None)
            frame = (events.t_N - events.t_N[0]) // 1000
            x = np.zeros((int(frame[-1]) + 1, 1, 2, 34, 34), np.float32)
            np.add.at(x, (frame, 0, events.on_N.astype(int), events.y_N, events.x_N), 1)
            found, _ = network.run(x)
            right, total = right + (found.sum((0, 1)).argmax() == int(folder.name)), total + 1
    assert total == 100
    assert right >= 0.98 * total
