"""Eight bits: spikes stay exact, the first layer too, and the result is a model like any other."""

import json
import tempfile

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from snnsc.errors import CheckError, SnnscError
from snnsc.export.fold import fold
from snnsc.export.metadata import set_metadata
from snnsc.export.onnx import to_onnx
from snnsc.export.quantize import QUANTIZED, quantize
from snnsc.export.runtime import OnnxNetwork
from snnsc.model import build_model

STATIC, EVENT = "data={type='digits'}", "data={type='nmnist',size=16}"


def exported(make_recipe, *overrides):
    """A network that fires, its model, and real-like inputs of 8 samples."""
    recipe = make_recipe("model.T=3", *overrides)
    network = build_model(recipe, branches=False).train()
    generator = torch.Generator().manual_seed(3)

    def inputs():
        shape = recipe.data.channels, recipe.data.size, recipe.data.size
        if recipe.data.is_event:
            return torch.poisson(torch.full((recipe.model.T, 8, *shape), 0.7), generator=generator)
        return torch.randn(8, *shape, generator=generator)

    with torch.no_grad():
        for _ in range(12):
            network(inputs())
        for name, parameter in network.named_parameters():
            if ".norm." in name and name.endswith("bias"):
                parameter.add_(0.4)
    model = to_onnx(fold(network.eval())[0], recipe)
    layout, kind = ("TBCHW", "integer") if recipe.data.is_event else ("BCHW", "real")
    about = {"snnsc.input": json.dumps({"layout": layout, "kind": kind}), "snnsc.T": str(recipe.model.T)}
    set_metadata(model, about)
    return model, [inputs().numpy() for _ in range(3)]


@pytest.fixture(scope="module")
def static(make_recipe):
    return exported(make_recipe, STATIC)


@pytest.fixture(scope="module")
def event(make_recipe):
    return exported(make_recipe, EVENT)


def grids(model):
    """What is quantized -> (scale, zero point)."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {
        n.input[0]: (float(constants[n.input[1]]), int(constants[n.input[2]]))
        for n in model.graph.node
        if n.op_type == "QuantizeLinear"
    }


def read_by_weights(model):
    """Layer of weights -> what it read before quantization."""
    made = {output: node for node in model.graph.node for output in node.output}
    read = {}
    for node in model.graph.node:
        if node.op_type in {"Conv", "MatMul", "Gemm"}:
            source = node.input[0]
            while source in made and made[source].op_type in {"QuantizeLinear", "DequantizeLinear"}:
                source = made[source].input[0]
            read[node.name] = source
    return read


def watched(model, names, feeds):
    """The values of these names."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    import onnxruntime

    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (EVENT, ()),
        (EVENT, ("model.norm.type=tebn",)),
        (STATIC, ("model.arch=resnet20-thin", "model.residual=sew-add")),
        pytest.param(STATIC, ("model.arch=resnet20-thin", "model.residual=ms"), marks=pytest.mark.slow),
    ],
)
def test_what_layers_read_of_spikes_is_exact(make_recipe, event, data, options):
    model, calibration = exported(make_recipe, data, *options) if options else event
    quantized = quantize(model, calibration[:2], model.graph.input[0].name)
    found, read = grids(quantized), read_by_weights(quantized)
    real = [name for name in read if "downsample" in name or "shortcut" in name] if "ms" in str(options) else []
    stem = [name for name in read if name.startswith("stem.")]
    assert all((read[name] in found) == (data != STATIC) for name in stem)
    assert all(read[name] in found for name in read if name not in stem)
    exact = {source for name, source in read.items() if source in found and name not in real}
    inputs = {model.graph.input[0].name: calibration[2]}
    values = watched(quantized, [*exact], inputs)
    for source in exact:
        scale, zero = found[source]
        units = values[source] / scale
        assert zero == 0
        assert np.abs(units - np.rint(units)).max() < 1e-3
        assert 0 < units.max() <= 255


def test_it_is_a_model_like_any_other(static, capfd):
    model, calibration = static
    before = model.SerializeToString(deterministic=True)
    quantized = quantize(model, iter(calibration), "images")
    again = quantize(model, calibration, "images").SerializeToString(deterministic=True)
    content = quantized.SerializeToString(deterministic=True)
    assert content == again
    assert model.SerializeToString(deterministic=True) == before
    assert len(content) < 0.4 * len(before)
    assert not any(secret in content for secret in (b"/tmp", b"/home", b"/work", b"quantized.onnx"))
    onnx.checker.check_model(quantized, full_check=True)
    about = {p.key: p.value for p in quantized.metadata_props}
    assert about.keys() == {"snnsc.input", "snnsc.T", QUANTIZED}
    assert json.loads(about[QUANTIZED])["float32"] == ["stem.convs.0"]
    assert json.loads(about[QUANTIZED])["calibration_samples"] == 24
    assert [f.name for f in quantized.functions] == ["LIF"]
    ours, theirs = OnnxNetwork(model, "float"), OnnxNetwork(quantized, "int8")
    x = calibration[0]
    for T, images in ((None, x), (1, x[:1]), (6, x[:3])):
        logits_TBK, spikes = ours.run(images, T)
        other_TBK, other_spikes = theirs.run(images, T)
        assert logits_TBK.shape == other_TBK.shape
        assert np.abs(logits_TBK - other_TBK).mean() < 0.2 * np.abs(logits_TBK).mean()
        np.testing.assert_array_equal(other_spikes["stem.neurons.0"], spikes["stem.neurons.0"])
        assert set(other_spikes) == set(spikes)
        for layer, spikes_TB in spikes.items():
            assert (spikes_TB != other_spikes[layer]).mean() < 0.05
            assert T == 1 or 0.01 < spikes_TB.mean() < 0.99
    assert capfd.readouterr() == ("", "")


def test_currents_of_32_bits_flip_fewer_spikes(event):
    model, calibration = event
    expected = OnnxNetwork(model, "float").run(calibration[2])[1]
    flips = {}
    for currents in ("int8", "float32"):
        quantized = quantize(model, calibration[:2], "frames", currents=currents)
        found = OnnxNetwork(quantized, currents).run(calibration[2])[1]
        flips[currents] = sum((found[layer] != expected[layer]).mean() for layer in expected)
        given = {n.input[0] for n in quantized.graph.node if n.op_type == "QuantizeLinear"}
        convs = {o for n in quantized.graph.node if n.op_type == "Conv" for o in n.output}
        assert bool(given & convs) == (currents == "int8")
    assert 0 < flips["float32"] < flips["int8"]


def test_the_twin_of_rectifiers(make_recipe):
    model, calibration = exported(make_recipe, STATIC, "model.neuron.type=relu", "model.T=1")
    quantized = quantize(model, calibration, "images")
    ours, theirs = (OnnxNetwork(m, "twin").run(calibration[0])[0] for m in (model, quantized))
    assert 0 < np.abs(ours - theirs).max() < 0.1 * np.abs(ours).max()


@pytest.mark.parametrize("batches", [[], [np.zeros((0, 1, 8, 8), np.float32)]])
def test_no_samples_are_an_error(static, batches):
    with pytest.raises(CheckError, match="no training samples"):
        quantize(static[0], batches, "images")


def test_values_that_are_no_numbers_are_an_error(static):
    model, calibration = onnx.ModelProto(), static[1]
    model.CopyFrom(static[0])
    bias = next(t for t in model.graph.initializer if t.name == "stages.0.0.conv.conv.bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(bias.dims, np.nan, np.float32), bias.name))
    with pytest.raises(CheckError, match=r"stages\.0\.0\.conv\.conv\.bias holds values"):
        quantize(model, calibration, "images")


def test_a_smaller_last_batch_is_left_out(static):
    model, calibration = static
    quantized = quantize(model, [*calibration[:2], calibration[2][:3]], "images")
    about = {p.key: p.value for p in quantized.metadata_props}
    assert json.loads(about[QUANTIZED])["calibration_samples"] == 16


def test_a_full_temporary_folder_is_named(static, monkeypatch, tmp_path):
    def full(*_args, **_keys):
        raise OSError(28, "No space left on device")

    model, batches = static
    monkeypatch.setattr("snnsc.export.quantize.quantize_static", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SnnscError, match=rf"^{tmp_path}: the temporary folder cannot be used: No space left on device"):
        quantize(model, batches, "images")
    assert list(tmp_path.iterdir()) == []
