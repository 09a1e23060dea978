import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from snnsc.checkpoint import Checkpoint
from snnsc.energy import estimate
from snnsc.errors import CheckError
from snnsc.export.export import export
from snnsc.export.functions import function
from snnsc.export.onnx import fold_norms, to_onnx
from snnsc.export.runtime import OnnxNetwork
from snnsc.export.verify import Bounds, verify
from snnsc.model import build_model
from snnsc.model.neurons import lif_step, run_steps
from snnsc.recipe.load import load_recipe
from snnsc.recipe.schema import IfSpec, LifSpec

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


def network(arch, kind, norm="bn", neuron="lif", extra=""):
    model = f"model={{arch='{arch}',T=3,norm={{type='{norm}'}},neuron={{type='{neuron}'}}{extra}}}"
    recipe = load_recipe("digits", [DATA[kind], model, "train.compile=off"])
    net = build_model(recipe, branches=False)
    with torch.no_grad():
        for _ in range(3):  # running statistics, and affine parameters, that are not those of a fresh network
            net(inputs(recipe, 2, 4))
        for name, parameter in net.named_parameters():
            if ".norm." in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return net.eval(), recipe


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


@pytest.mark.parametrize("spec", [LifSpec(type="lif", decay=0.7, threshold=0.8), IfSpec(type="if", threshold=1.3)])
def test_the_function_is_the_step_function(spec):
    """Same floats in, same spikes out, to the bit, ties included."""
    definition = function(spec)
    attributes = {"decay": spec.decay, "threshold": spec.threshold}
    node = onnx.helper.make_node(
        definition.name, ["x"], ["s"], domain="snnsc", **{k: attributes[k] for k in definition.attribute}
    )
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, ["T", "N"])], [value("s", 1, ["T", "N"])])
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("snnsc", 1)]
    model = onnx.helper.make_model(graph, functions=[definition], opset_imports=opsets, ir_version=10)
    x = torch.randn(20, 1000) * 2
    x[0, :100] = spec.threshold  # at threshold: no spike
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x.numpy()})
    expected, _ = run_steps(lambda v, x: lif_step(v, x, decay=spec.decay, threshold=spec.threshold), x, 20)
    assert not expected[0, :100].any()
    assert expected.mean() > 0.1
    np.testing.assert_array_equal(got, expected.numpy())


def test_folding_keeps_the_function():
    net, recipe = network("resnet20-thin", "static", "tdbn")
    x = inputs(recipe, 0, 2)
    conv = net.stages[1][0].conv1
    spikes = (torch.rand(3, 2, 16, 16, 16) < 0.2).float()
    with torch.inference_mode():
        before = conv(spikes)
        fold_norms(net)
        torch.testing.assert_close(conv(spikes), before, atol=1e-4, rtol=1e-4)
        assert net(x).shape == (2, 10)


def checkpoint_of(net, recipe):
    return Checkpoint("stripped", recipe, FACTS, net.state_dict())


def test_a_failed_bound_writes_no_file(tmp_path, monkeypatch):
    net, recipe = network("tiny", "static")
    fold = fold_norms

    def wrong(copied):
        fold(copied)
        copied.stem.convs[0].conv.bias.data += 0.5
        return copied

    monkeypatch.setattr("snnsc.export.onnx.fold_norms", wrong)
    batches = [(inputs(recipe, 0, 8), torch.zeros(8, dtype=torch.int64))]
    with pytest.raises(CheckError, match=r"of the spikes of layer .* differ"):
        export(checkpoint_of(net, recipe), batches, "test", tmp_path / "model.onnx", Bounds())
    assert list(tmp_path.iterdir()) == []


def test_the_file_answers_for_itself(tmp_path):
    net, recipe = network("tiny", "static")
    batches = [(inputs(recipe, 0, 8), torch.zeros(8, dtype=torch.int64))]
    done = export(checkpoint_of(net, recipe), batches, "the test's samples", tmp_path / "model.onnx", Bounds(1.0, 0.0))
    embedded = estimate(done.model)
    assert embedded.source == "embedded"
    assert json.loads(done.energy.read_text()) == embedded.to_dict()
    np.savez(tmp_path / "x.npz", images=batches[0][0].numpy())
    measured = estimate(done.model, tmp_path / "x.npz").to_dict()
    assert measured["totals"] == embedded.to_dict()["totals"]
    assert measured["samples"] == 8
    props = {p.key: p.value for p in onnx.load(done.model).metadata_props}
    assert json.loads(props["snnsc.neuron"])["threshold"] == 1.0
    assert json.loads(props["snnsc.recipe"])["model"]["T"] == 3
    assert "root" not in json.loads(props["snnsc.recipe"])["data"]
