import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from pydantic import TypeAdapter

from snnsc.checkpoint import Checkpoint
from snnsc.energy import estimate
from snnsc.energy.pricing.pricing import load_targets
from snnsc.errors import CheckError, ModelFileError
from snnsc.export.export import export
from snnsc.export.fold import fold
from snnsc.export.functions import call
from snnsc.export.onnx import to_onnx as trace
from snnsc.export.read import read_onnx
from snnsc.export.runtime import OnnxNetwork
from snnsc.export.verify import Bounds, verify
from snnsc.model import build_model
from snnsc.model.neurons import Neuron
from snnsc.neuron_functions import function
from snnsc.recipe.load import load_recipe
from snnsc.recipe.schema import NeuronSpec, TriangleSpec

DATA = {"static": "data={type='cifar10',size=16}", "event": "data={type='nmnist',size=16}"}
NETS = [
    ("tiny", "static", "bn", "lif"),
    ("tiny", "event", "tdbn", "if"),
    ("resnet20-thin", "static", "tdbn", "lif"),
    ("resnet20-thin", "event", "bn", "lif"),
    ("resnet20", "static", "bn", "lif"),
    ("vggsnn", "event", "bn", "lif"),
    ("resnet19", "static", "tdbn", "lif"),
]
FACTS = {"classes": list("0123456789"), "mean": None, "std": None, "whole_counts": False, "type": "test"}


def network(arch, kind, norm="bn", neuron="lif", extra="", more=()):
    model = f"model={{arch='{arch}',T=3,norm={{type='{norm}'}},neuron={{type='{neuron}'}}{extra}}}"
    recipe = load_recipe("digits", [DATA[kind], model, "train.compile=off", *more])
    net = build_model(recipe, branches=False)
    with torch.no_grad():
        for _ in range(3):  # running statistics, and affine parameters, that are not those of a fresh network
            net(inputs(recipe, 3, 4))
        for name, parameter in net.named_parameters():
            if "norm" in name or "neuron" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
        if net.step_weights is not None:
            net.step_weights.copy_(torch.tensor([0.7, 1.1, 1.2]))
    return net.eval(), recipe


def to_onnx(net, recipe):
    return trace(fold(net)[0], recipe)


def inputs(recipe, T, B):
    shape = (recipe.data.channels, recipe.data.size, recipe.data.size)
    if recipe.data.is_event:
        return torch.poisson(torch.full((T, B, *shape), 0.7))
    return torch.randn(B, *shape)


@pytest.mark.parametrize(("arch", "kind", "norm", "neuron"), NETS)
def test_onnxruntime_gives_the_same_spikes(arch, kind, norm, neuron):
    net, recipe = network(arch, kind, norm, neuron)
    model = to_onnx(net, recipe)
    exported = OnnxNetwork(model, "test")
    batches = [(inputs(recipe, T, B), torch.zeros(B, dtype=torch.int64)) for T, B in ((3, 4), (5, 1), (1, 3))]
    found = verify(net, exported, batches, Bounds(max_spike_flip_rate=2e-3, min_argmax_agreement=0.8))
    assert set(found.spike_flip_rate) == set(exported.layers)
    assert found.neuron_steps > 10_000


def test_a_static_network_runs_for_another_T():
    net, recipe = network("tiny", "static")
    exported = OnnxNetwork(to_onnx(net, recipe), "test")
    x = inputs(recipe, 0, 2)
    for T in (1, 3, 7):
        logits_TBK, spikes = exported.run(x.numpy(), T)
        with torch.inference_mode():
            expected = net.logits(x, T).main_TBK
        assert logits_TBK.shape == (T, 2, 10)
        assert all(len(s) == T for s in spikes.values())
        np.testing.assert_allclose(logits_TBK, expected.numpy(), atol=1e-4)
    default, _ = exported.run(x.numpy())
    assert len(default) == recipe.model.T == 3


@pytest.mark.parametrize("kind", ["static", "event"])
def test_the_graph_is_what_the_readme_says(kind):
    net, recipe = network("resnet20-thin", kind)
    model = to_onnx(net, recipe)
    ops = [node.op_type for node in model.graph.node]
    assert ops.count("LIF") == 19
    assert ops.count("Conv") == 21
    assert "BatchNormalization" not in ops
    assert {f.domain for f in model.functions} == {"snnsc"}
    dims = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == (["B", 3, 16, 16] if kind == "static" else ["T", "B", 2, 16, 16])
    assert [d.dim_param or d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == ["B", 10]
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {"stem.convs.0", "stages.2.2.neuron2", "head.linear"} <= set(names)
    if kind == "static":  # the first convolution stands before the time axis
        at = names.index("stem.convs.0")
        assert "Expand" not in ops[:at]
        assert "Expand" in ops[at : names.index("stem.neurons.0")]


def test_no_path_of_this_machine_and_the_same_bytes_twice(tmp_path):
    net, recipe = network("tiny", "static")
    first, second = (to_onnx(net, recipe).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    for secret in (b"/home", b"/work", b"/root", b"site-packages", b".py", str(tmp_path).encode()):
        assert secret not in first


def test_the_model_is_plain_onnx_for_others():
    """The checker, the inliner, the reference evaluator and onnxruntime all take it."""
    net, recipe = network("tiny", "event")
    model = to_onnx(net, recipe)
    x = inputs(recipe, 3, 2)
    inlined = onnx.inliner.inline_local_functions(model)
    onnx.checker.check_model(inlined, full_check=True)
    assert not inlined.functions
    (by_reference,) = ReferenceEvaluator(inlined).run(None, {"frames": x.numpy()})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (by_runtime,) = session.run(None, {"frames": x.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(net(x).numpy(), by_runtime, atol=1e-4)
        np.testing.assert_allclose(net(x).numpy(), by_reference, atol=1e-4)


OPTIONS = [
    *(("tiny", kind, norm, "lif", "", ()) for norm in ("tebn", "bntt", "mpbn") for kind in ("static", "event")),
    ("resnet20-thin", "event", "bntt", "lif", "", ()),
    ("resnet20-thin", "static", "mpbn", "lif", "", ()),
    *(("tiny", "event", "bn", neuron, "", ()) for neuron in ("plif", "clif", "diet-lif", "real-spike")),
    *(("tiny", kind, "bn", "glif", "", ()) for kind in ("static", "event")),
    ("resnet20-thin", "static", "bn", "glif", "", ()),
    ("resnet20-thin", "static", "bn", "clif", "", ()),
    ("tiny", "static", "bn", "lif',reset='soft", "", ()),
    ("tiny", "event", "mpbn", "if',reset='soft", "", ()),
    ("vggsnn", "static", "tdbn", "real-spike", "", ()),
    ("resnet20-thin", "event", "tdbn", "lif", ",residual='sew-add'", ()),
    ("resnet20-thin", "static", "tdbn", "lif", ",residual='ms'", ()),
    ("resnet20-thin", "event", "tebn", "plif", ",residual='ms'", ()),
    ("cifarnet", "static", "bn", "lif", "", ()),
    ("vgg11", "event", "bn", "lif", "", ()),
    ("resnet18", "static", "bn", "lif", ",stem='imagenet'", ("data.size=32",)),
    *(("tiny", kind, "bn", "lif", "", ("method.weighting={warmup_epochs=1}",)) for kind in ("static", "event")),
]


@pytest.mark.parametrize(("arch", "kind", "norm", "neuron", "extra", "more"), OPTIONS, ids=lambda o: str(o) or "-")
def test_every_option_gives_the_same_spikes(arch, kind, norm, neuron, extra, more):
    net, recipe = network(arch, kind, norm, neuron, extra, more)
    exported = OnnxNetwork(to_onnx(net, recipe), "test")
    batches = [(inputs(recipe, 3, B), torch.zeros(B, dtype=torch.int64)) for B in (4, 1)]
    found = verify(net, exported, batches, Bounds(max_spike_flip_rate=2e-3, min_argmax_agreement=0.8))
    assert found.neuron_steps > 10_000
    assert set(found.spike_flip_rate) == set(exported.layers)


def test_a_network_bound_to_its_steps_takes_no_other():
    for kind, shape in (("static", ["B", 3, 16, 16]), ("event", [3, "B", 2, 16, 16])):
        net, recipe = network("tiny", kind, "bntt")
        model = to_onnx(net, recipe)
        (given,) = model.graph.input
        assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == shape
        marks = [p.value for n in model.graph.node for p in n.metadata_props if p.key == "snnsc.time_step"]
        assert sorted(marks) == ["0"] * 3 + ["1"] * 3 + ["2"] * 3, "three convolutions, three steps"
        if kind == "event":
            with pytest.raises(ModelFileError, match="test: onnxruntime cannot run the model"):
                OnnxNetwork(model, "test").run(inputs(recipe, 2, 1).numpy())


@pytest.mark.parametrize("kind", ["static", "event"])
def test_time_steps_of_equal_weights_keep_their_names(kind):
    """The exporter makes one initializer of equal weights; two convolutions may read it."""
    net, recipe = network("tiny", kind, "tebn", extra=",stages=[[4,5],[6]]")
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(".k"):
                parameter.copy_(torch.tensor([1.0, 0.8, 1.0]))
    model = to_onnx(net, recipe)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    for node in model.graph.node:
        marks = [p.value for p in node.metadata_props if p.key == "snnsc.time_step"]
        assert marks == ([node.name.rpartition(".")[2]] if node.op_type == "Conv" else [])
    found = verify(
        net, OnnxNetwork(model, "test"), [(inputs(recipe, 3, 4), torch.zeros(4, dtype=torch.int64))], Bounds()
    )
    assert found.samples == 4


def test_every_neuron_is_priced_or_known_not_to_be():
    names = set()
    for keys in NEURONS:
        spec = TypeAdapter(NeuronSpec).validate_python(keys)
        for membrane_norm in (False, True) if spec.type in {"lif", "if"} else (False,):
            layer = Neuron(spec, TriangleSpec(type="triangle"), membrane_norm=membrane_norm)
            names.add(call(layer, "layer").name)
    assert names >= {"LIF", "SoftIF", "GainSignedLIF", "SoftSignedIF", "GLIF"}
    for target in (t for t in load_targets() if t.kind in ("arithmetic", "memory")):
        assert names - target.neuron.keys() == {"CLIF"}, "a sigmoid has no published price"


def test_a_gamma_of_zero_is_refused():
    net, recipe = network("tiny", "static", "mpbn")
    with torch.no_grad():
        net.stages[1][0].neuron.membrane_norm.weight[5] = 0
    with pytest.raises(CheckError, match=r"layer stages\.1\.0\.neuron: gamma of mpbn is 0 in channel 5"):
        to_onnx(net, recipe)


def test_the_ann_twin_is_exported_with_relu():
    net, recipe = network("resnet20-thin", "static", "bn", "relu", more=("model.T=1",))
    model = to_onnx(net, recipe)
    assert not model.functions
    assert [n.op_type for n in model.graph.node].count("Relu") == 19
    exported = OnnxNetwork(model, "test")
    assert "stages.2.2.neuron2" in exported.layers
    found = verify(net, exported, [(inputs(recipe, 1, 4), torch.zeros(4, dtype=torch.int64))], Bounds())
    assert found.max_spike_flip_rate < 1e-3


NEURONS = [
    {"type": "lif", "decay": 0.7, "threshold": 0.8},
    {"type": "lif", "decay": 0.7, "threshold": 0.8, "reset": "soft"},
    {"type": "lif", "input_gain": 0.3, "threshold": 0.5},
    {"type": "if", "threshold": 1.3},
    {"type": "if", "threshold": 1.3, "reset": "soft"},
    {"type": "plif", "tau": 1.6},
    {"type": "plif", "tau": 3.0, "reset": "soft"},
    {"type": "diet-lif", "decay": 0.6},
    {"type": "glif"},
    {"type": "clif", "decay": 0.3},
]


@pytest.mark.parametrize("keys", NEURONS, ids=str)
def test_the_function_is_the_step_function(keys):
    """Same floats in, same spikes out, to the bit, ties included (but for a sigmoid's last bit in clif)."""
    spec = TypeAdapter(NeuronSpec).validate_python(keys)
    torch.manual_seed(0)
    layer = Neuron(spec, TriangleSpec(type="triangle"), channels=10, T=20, compiled=False)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.rand_like(parameter) * 0.2)
    made = call(layer, "layer")
    definition = function(made)
    node = onnx.helper.make_node(made.name, ["x", *made.inputs], ["s"], domain="snnsc", **made.attributes)
    value = onnx.helper.make_tensor_value_info
    constants = [onnx.numpy_helper.from_array(v[..., None], name) for name, v in made.inputs.items()]
    graph = onnx.helper.make_graph(
        [node], "g", [value("x", 1, ["T", "B", "C", "N"])], [value("s", 1, ["T", "B", "C", "N"])], constants
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("snnsc", 1)]
    model = onnx.helper.make_model(graph, functions=[definition], opset_imports=opsets, ir_version=10)
    x = torch.randn(20, 2, 10, 100) * 2
    if spec.type in {"lif", "if"} and getattr(spec, "input_gain", 1) == 1:
        x[0, 0] = spec.threshold  # at threshold: no spike
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x.numpy()})
    with torch.inference_mode():
        expected = layer(x)
    assert expected.mean() > 0.05
    if spec.type in {"lif", "if"} and getattr(spec, "input_gain", 1) == 1:
        assert not expected[0, 0].any()
    assert float((torch.from_numpy(got) != expected).float().mean()) <= (1e-4 if spec.type in {"clif", "glif"} else 0)


def test_folding_keeps_the_function():
    net, recipe = network("resnet20-thin", "static", "tdbn")
    x = inputs(recipe, 0, 2)
    conv = net.stages[1][0].conv1
    spikes = (torch.rand(3, 2, 16, 16, 16) < 0.2).float()
    with torch.inference_mode():
        before = conv(spikes)
        folded, _ = fold(net)
        torch.testing.assert_close(folded.stages[1][0].conv1(spikes), before, atol=1e-4, rtol=1e-4)
        assert torch.equal(conv(spikes), before), "the network itself is as it was"
        assert folded(x).shape == (2, 10)


def checkpoint_of(net, recipe):
    return Checkpoint("stripped", recipe, FACTS, net.state_dict())


def test_a_failed_bound_writes_no_file(tmp_path, monkeypatch):
    net, recipe = network("tiny", "static")

    def wrong(network):
        folded, words = fold(network)
        folded.stem.convs[0].conv.bias.data += 0.5
        return folded, words

    monkeypatch.setattr("snnsc.export.export.fold", wrong)
    batches = [(inputs(recipe, 0, 8), torch.zeros(8, dtype=torch.int64))]
    with pytest.raises(CheckError, match=r"of the spikes of layer .* differ"):
        export(checkpoint_of(net, recipe), batches, "test", tmp_path / "model.onnx", Bounds())
    assert list(tmp_path.iterdir()) == []


def test_the_file_answers_for_itself(tmp_path):
    net, recipe = network("tiny", "static")
    batches = [(inputs(recipe, 0, 8), torch.zeros(8, dtype=torch.int64))]
    done = export(checkpoint_of(net, recipe), batches, "the test's samples", tmp_path / "model.onnx", Bounds(1.0, 0.0))
    embedded = estimate(done.files[0])
    assert embedded.source == "embedded"
    assert json.loads(done.files[1].read_text()) == {**embedded.to_dict(), "model": "model.onnx"}
    np.savez(tmp_path / "x.npz", images=batches[0][0].numpy())
    measured = estimate(done.files[0], tmp_path / "x.npz").to_dict()
    assert measured["totals"] == embedded.to_dict()["totals"]
    assert measured["samples"] == 8
    props = {p.key: p.value for p in onnx.load(done.files[0]).metadata_props}
    assert json.loads(props["snnsc.neuron"])["threshold"] == 1.0
    assert json.loads(props["snnsc.recipe"])["model"]["T"] == 3
    assert "root" not in json.loads(props["snnsc.recipe"])["data"]


@pytest.mark.parametrize(("told", "words"), [("99", "newer snnsc: it has format 99, .*update"), ("x", "a number is")])
def test_a_file_of_another_format(tmp_path, told, words):
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    onnx.helper.set_model_props(model, {"snnsc.format": told})
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match=rf"m\.onnx: .*{words}"):
        read_onnx(tmp_path / "m.onnx")
