"""Networks of ours as NIR files: what is in them, what fires, and what is refused.

Legend: T time steps, B batch.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("h5py")

from snnsc import build_model
from snnsc.errors import CheckError, RecipeError
from snnsc.export.fold import fold
from snnsc.export.step import to_step
from snnsc.model import SpikingNetwork
from snnsc.nir.encode import neuron
from snnsc.nir.limits import Encoding
from snnsc.nir.read import parse_nir
from snnsc.nir.run import NirNetwork
from snnsc.nir.write import to_nir
from snnsc.recipe.schema import Recipe
from snnsc.training.evaluate import neuron_outputs

MakeRecipe = Callable[..., Recipe]
ABOUT = {"snnsc.T": "4"}
ENCODINGS: tuple[Encoding, ...] = ("r", "folded", "sinabs")


@cache
def network_of(make: MakeRecipe, *overrides: str) -> tuple[SpikingNetwork, onnx.ModelProto]:
    recipe = make("model.stages=[[4,6],[8]]", *overrides)
    torch.manual_seed(1)
    network = build_model(recipe)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.fill_(4)
                module.bias.fill_(0.6)
    network(torch.rand(8, recipe.data.channels, recipe.data.size, recipe.data.size))
    folded, _ = fold(network.eval())
    return folded, to_step(folded, recipe)


def kinds(content: bytes) -> list[tuple[str, str]]:
    return [(name, node.kind) for name, node in parse_nir(content, "n.nir").nodes.items()]


def test_what_is_written(make_recipe: MakeRecipe) -> None:
    _, model = network_of(make_recipe)
    head = [("head.reducemean", "AvgPool2d"), ("head.reducemean.flatten", "Flatten"), ("head.linear", "Affine")]
    row = [
        ("input", "Input"),
        ("stem.convs.0", "Conv2d"),
        ("stem.neurons.0", "LIF"),
        ("stages.0.0.conv", "Conv2d"),
        ("stages.0.0.neuron", "LIF"),
        ("stages.1.0.averagepool", "AvgPool2d"),
        ("stages.1.0.conv", "Conv2d"),
        ("stages.1.0.neuron", "LIF"),
        *head,
        ("output", "Output"),
    ]
    assert kinds(to_nir(model, encoding="r", dt=1e-4, metadata=ABOUT)) == row
    summed = [(name, kind.replace("Avg", "Sum")) for name, kind in row if (name, kind) not in head]
    summed[-1:] = [("head.linear.flatten", "Flatten"), ("head.linear", "Affine"), ("output", "Output")]
    for encoding in ("folded", "sinabs"):
        assert kinds(to_nir(model, encoding=encoding, dt=1e-4, metadata=ABOUT)) == summed


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_neurons_are_said_as_the_encoding_tells(encoding: Encoding, make_recipe: MakeRecipe) -> None:
    graph = parse_nir(to_nir(network_of(make_recipe)[1], encoding=encoding, dt=1e-3, metadata=ABOUT), "n.nir")
    given = {name: np.unique(value) for name, value in graph.nodes["stages.0.0.neuron"].parameters.items()}
    tau, r, threshold = {"r": (2e-3, 2, 1), "folded": (2e-3, 1, 0.5), "sinabs": (1 / np.log(2), 1, 1)}[encoding]
    expected = {"tau": tau, "r": r, "v_leak": 0, "v_threshold": threshold, "v_reset": 0}
    assert {name: value.tolist() for name, value in given.items()} == {
        k: [pytest.approx(v)] for k, v in expected.items()
    }
    shape = graph.nodes["stages.0.0.neuron"].parameters["tau"].shape
    assert shape == ((1,) if encoding == "sinabs" else (6, 8, 8))
    assert graph.metadata["snnsc.dt"] == ("1.0" if encoding == "sinabs" else "0.001")
    assert graph.metadata["snnsc.T"] == "4"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "overrides", [(), ("model.neuron.decay=0.3", "model.neuron.input_gain=0.7"), ("model.neuron.type=if",)]
)
def test_what_is_read_back_fires_as_the_network(
    overrides: tuple[str, ...], encoding: Encoding, make_recipe: MakeRecipe
) -> None:
    network, model = network_of(make_recipe, *overrides)
    if "model.neuron.type=if" in overrides and encoding == "sinabs":
        with pytest.raises(RecipeError, match=r"stem.neurons.0: Sinabs reads IF neurons"):
            to_nir(model, encoding=encoding, dt=1e-4, metadata=ABOUT)
        return
    content = to_nir(model, encoding=encoding, dt=1e-4, metadata=ABOUT)
    images, spikes = torch.rand(32, 1, 8, 8), {}
    with torch.inference_mode(), neuron_outputs(network, spikes.__setitem__):
        network(images)
    _, found = NirNetwork(parse_nir(content, "n.nir")).run(images.numpy())
    assert found.keys() == spikes.keys()
    for layer, fired in spikes.items():
        assert fired.mean() > 0.005, layer
        assert (found[layer] != fired.numpy()).mean() < 1e-4, layer


def test_the_file_is_the_same_every_time(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    _, model = network_of(make_recipe)
    first = to_nir(model, encoding="r", dt=1e-4, metadata=ABOUT)
    onnx.save(model, tmp_path / "step.onnx")
    program = (
        "import sys, onnx, pathlib; from snnsc.nir.write import to_nir; "
        "b = to_nir(onnx.load(sys.argv[1]), encoding='r', dt=1e-4, metadata={'snnsc.T': '4'}); "
        "assert 'torch' not in sys.modules; pathlib.Path(sys.argv[2]).write_bytes(b)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "step.onnx", tmp_path / "n.nir"], check=True)
    assert (tmp_path / "n.nir").read_bytes() == first
    assert str(Path.home()).encode() not in first
    assert str(Path.cwd()).encode() not in first


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_nir_package_reads_it(encoding: Encoding, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")
    path = tmp_path / "n.nir"
    path.write_bytes(to_nir(network_of(make_recipe)[1], encoding=encoding, dt=1e-4, metadata=ABOUT))
    graph = nir.read(path, type_check=encoding != "sinabs")  # whose neurons have parameters of one element
    assert list(graph.nodes)[:3] == ["input", "stem.convs.0", "stem.neurons.0"]
    assert graph.metadata["snnsc.T"] == "4"
    assert isinstance(graph.nodes["stages.0.0.neuron"], nir.LIF)


CONSTANTS = {"decay": 0.5, "threshold": 1.0}


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("SoftLIFStep", r"layer a: NIR cannot say a soft reset.*--format onnx"),
        ("SoftGainIFStep", r"layer a: NIR cannot say a soft reset"),
        ("CLIFStep", r"layer a: NIR cannot say clif"),
        ("GLIFStep", r"layer a: NIR cannot say glif"),
        ("SignedLIFStep", r"layer a: NIR cannot say a normalisation of its membrane"),
    ],
)
def test_neurons_that_nir_cannot_say_are_refused(function: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as raised:
        neuron("a", function, CONSTANTS, 1.0, (2,), "r", 1e-4)
    assert "\n" not in str(raised.value)


def test_neurons_without_a_decay_or_gain_that_nir_has() -> None:
    for name, constants in {
        "LIFStep": {"decay": 1.25, "threshold": 1.0},
        "GainLIFStep": {"decay": 0.5, "threshold": 1.0, "gain": -1.0},
    }.items():
        with pytest.raises(RecipeError, match="layer a: "):
            neuron("a", name, constants, 1.0, (2,), "r", 1e-4)
    kind, given = neuron("a", "LIFStep", {"decay": 1.0, "threshold": 2.0}, 1.0, (2,), "r", 1e-3)
    assert (kind, given["r"].tolist(), given["v_threshold"].tolist()) == ("IF", [1000, 1000], [2, 2])


def step_graph(*nodes: onnx.NodeProto, output: str, size: int = 8, **constants: object) -> onnx.ModelProto:
    """A step of `image [B, 2, size, size]`."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 2, size, size])
    last = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "step", [image], [last], tensors))


WEIGHT = np.ones((2, 2, 3, 3), np.float32)


def conv(source: str, made: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, "w"], [made], made, **{"pads": [1, 1, 1, 1], **attributes})


def average(source: str, made: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(
        "AveragePool", [source], [made], made, **{"kernel_shape": [2, 2], "strides": [2, 2], **attributes}
    )


REFUSED = {
    "rectifiers": ([helper.make_node("Relu", ["image"], ["y"], "relu")], "r", r"NIR cannot say rectifiers \(relu\)"),
    "snapped inputs": ([helper.make_node("Round", ["image"], ["y"], "snap")], "r", "operator Round .*exact grid"),
    "one-sided padding": ([conv("image", "y", pads=[0, 0, 1, 1])], "r", "a padding that differs between two sides"),
    "the border of a pool": (
        [average("image", "y", pads=[1, 1, 1, 1])],
        "r",
        "how this average pool treats the border",
    ),
    "padded sum": (
        [average("image", "y", pads=[1, 1, 1, 1], count_include_pad=1)],
        "folded",
        "ignore the padding of pools",
    ),
    "an average to the output": ([average("image", "y")], "folded", "no layer of weights can take the factor"),
    "a sum of an average": (
        [average("image", "a"), conv("image", "b", strides=[2, 2]), helper.make_node("Add", ["a", "b"], ["y"], "sum")],
        "folded",
        "sum: reads an average .* take --encoding r",
    ),
    "a sum for Sinabs": (
        [conv("image", "a"), helper.make_node("Add", ["image", "a"], ["y"], "sum")],
        "sinabs",
        "sum: Sinabs mistakes paths that join",
    ),
    "a value twice": (
        [helper.make_node("Add", ["image", "image"], ["x"], "sum"), conv("x", "y")],
        "r",
        "reads a value twice",
    ),
    "a bias alone": ([helper.make_node("Add", ["image", "w"], ["y"], "sum")], "r", "a bias without weights"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_operators_without_a_nir_node_are_refused(name: str) -> None:
    nodes, encoding, words = REFUSED[name]
    with pytest.raises((CheckError, RecipeError), match=words):
        to_nir(step_graph(*nodes, output="y", w=WEIGHT), encoding=encoding, dt=1e-4, metadata={})


def test_weights_of_time_steps_are_refused(make_recipe: MakeRecipe) -> None:
    _, model = network_of(make_recipe)
    with pytest.raises(RecipeError, match="weights of time steps"):
        to_nir(model, encoding="r", dt=1e-4, metadata={"snnsc.step_weights": "[1, 1]"})


def test_a_pool_before_neurons_goes_into_their_threshold() -> None:
    model = step_graph(
        average("image", "a"),
        helper.make_node("LIFStep", ["a", "v"], ["s", "v_next"], "n", domain="snnsc", decay=0.5, threshold=1.0),
        helper.make_node("Flatten", ["s"], ["f"], "flat", axis=1),
        helper.make_node("Gemm", ["f", "g"], ["y"], "fc", transB=1),
        output="y",
        g=np.eye(32, dtype=np.float32),
    )
    x = (np.random.default_rng(0).random((5, 3, 2, 8, 8)) * 4).astype(np.float32)
    found = [
        NirNetwork(parse_nir(to_nir(model, encoding=encoding, dt=1e-4, metadata={}), "n.nir")).run(x)[0]
        for encoding in ENCODINGS
    ]
    u, wanted = np.zeros((3, 2, 4, 4)), []
    for frame in x.reshape(5, 3, 2, 4, 2, 4, 2).mean((4, 6)):
        u = 0.5 * u + frame
        wanted.append(u > 1)
        u = np.where(u > 1, 0, u)
    for one in found:
        np.testing.assert_array_equal(one, np.stack(wanted).reshape(5, 3, 32))


@pytest.mark.parametrize("names", [("input", "output", "metadata"), ("metadata", "input", "a.flatten", "a")])
def test_nodes_may_be_called_what_is_made(names: tuple[str, ...]) -> None:
    def written(conv_name: str, neuron_name: str, mean_name: str, last_name: str = "y") -> NirNetwork:
        first = conv("image", "c")
        first.name = conv_name
        lif = helper.make_node("LIFStep", ["c", "v"], ["s", "n"], neuron_name, domain="snnsc", decay=0.5, threshold=1.0)
        mean = helper.make_node("ReduceMean", ["s", "axes"], ["m"], mean_name, keepdims=0)
        last = helper.make_node("Gemm", ["m", "g"], ["y"], last_name, transB=1)
        constants = {"w": WEIGHT / 9, "axes": np.array([2, 3]), "g": np.eye(2, dtype=np.float32)}
        model = step_graph(first, lif, mean, last, output="y", **constants)
        return NirNetwork(parse_nir(to_nir(model, encoding="folded", dt=1e-4, metadata={}), "n.nir"))

    x = (np.random.default_rng(0).random((5, 3, 2, 8, 8)) * 4).astype(np.float32)
    network, plain = written(*names), written("c", "n", "m")
    assert list(network.layers) == [names[1]]
    np.testing.assert_array_equal(network.run(x)[0], plain.run(x)[0])
