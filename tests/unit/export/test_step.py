"""The model of one time step: the same spikes as the whole sequence, with functions and without."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from snnsc.errors import ModelFileError, RecipeError
from snnsc.export.fold import fold
from snnsc.export.inline import inline
from snnsc.export.metadata import set_metadata, step_entries
from snnsc.export.runtime import StepNetwork, load
from snnsc.export.step import to_step
from snnsc.export.verify import Bounds, verify
from snnsc.model import build_model
from snnsc.recipe.load import load_recipe

DATA = {"static": "data={type='cifar10',size=8}", "event": "data={type='nmnist',size=8}"}
NETS = [
    ("tiny", "event", "mpbn", "if", ""),
    ("tiny", "event", "bn", "clif", ""),
    ("tiny", "static", "bn", "plif", ""),
    ("tiny", "static", "bn", "real-spike", ""),
    ("tiny", "static", "bn", "relu", ""),
    ("resnet20-thin", "event", "tdbn", "lif", ",residual='ms'"),
    ("resnet19", "event", "bn", "lif", ",variant='tet'"),
    ("vggsnn", "event", "bn", "lif", ""),
]


def network(arch, kind, norm="bn", neuron="lif", extra="", more=()):
    T = 1 if neuron == "relu" else 3
    data = DATA[kind].replace("8", "16") if arch == "vggsnn" else DATA[kind]
    model = f"model={{arch='{arch}',T={T},norm={{type='{norm}'}},neuron={{type='{neuron}'}}{extra}}}"
    recipe = load_recipe("digits", [data, model, "train.compile=off", *more])
    torch.manual_seed(0)
    net = build_model(recipe, branches=False)
    with torch.no_grad():
        for _ in range(3):
            net(inputs(recipe, 4))
    return net.eval(), recipe


def inputs(recipe, B):
    shape = (recipe.data.channels, recipe.data.size, recipe.data.size)
    if recipe.data.is_event:
        return torch.poisson(torch.full((recipe.model.T, B, *shape), 0.7))
    return torch.randn(B, *shape)


def step_of(net, recipe):
    model = to_step(fold(net)[0], recipe)
    about = {"snnsc.T": str(recipe.model.T), **step_entries(model)}
    if net.step_weights is not None:
        about["snnsc.step_weights"] = json.dumps(net.step_weights.tolist())
    set_metadata(model, about)
    return model


def hold_equal(net, recipe, model):
    batches = [(inputs(recipe, B), torch.zeros(B, dtype=torch.int64)) for B in (4, 1)]
    found = verify(net, load(model, "step"), batches, Bounds(max_spike_flip_rate=3e-3, min_argmax_agreement=0.8))
    assert found.neuron_steps > 1_000
    return found


@pytest.mark.parametrize(("arch", "kind", "norm", "neuron", "extra"), NETS)
def test_steps_give_the_spikes_of_the_sequence(arch, kind, norm, neuron, extra):
    net, recipe = network(arch, kind, norm, neuron, extra)
    model = step_of(net, recipe)
    found = hold_equal(net, recipe, model)
    assert len(found.spike_flip_rate) == len(StepNetwork(model, "step").layers)
    plain = inline(model)
    assert not plain.functions
    assert {o.domain for o in plain.opset_import} == {""}
    assert hold_equal(net, recipe, plain) == found


def test_the_graph_is_what_the_readme_says():
    net, recipe = network("resnet20-thin", "static")
    model = step_of(net, recipe)
    hold_equal(net, recipe, model)
    ops = [node.op_type for node in model.graph.node]
    assert set(ops) == {"Conv", "LIFStep", "Add", "ReduceMean", "MatMul"}
    assert [i.name for i in model.graph.input][:2] == ["image", "stem.neurons.0.v"]
    assert [o.name for o in model.graph.output][:2] == ["logits", "stem.neurons.0.v_next"]
    assert len(model.graph.input) == len(model.graph.output) == 20
    states = json.loads({p.key: p.value for p in model.metadata_props}["snnsc.states"])
    assert states["stages.2.2.neuron2.v"] == {
        "next": "stages.2.2.neuron2.v_next",
        "shape": ["B", 64, 2, 2],
        "initial": 0.0,
    }


def test_the_loop_of_the_readme(tmp_path):
    net, recipe = network("tiny", "event", neuron="clif")
    frames = inputs(recipe, 2).numpy()
    onnx.save(step_of(net, recipe), tmp_path / "model.step.onnx")

    session = onnxruntime.InferenceSession(tmp_path / "model.step.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map["snnsc.states"])
    B = frames.shape[1]
    states = {name: np.full((B, *s["shape"][1:]), s["initial"], np.float32) for name, s in about.items()}
    outputs = ["logits", *(s["next"] for s in about.values())]
    logits = 0
    for frame in frames:
        now, *new = session.run(outputs, {"frame": frame, **states})
        states, logits = dict(zip(states, new, strict=True)), logits + now / len(frames)

    with torch.inference_mode():
        np.testing.assert_allclose(logits, net(torch.from_numpy(frames)).numpy(), atol=1e-4)


def test_an_engine_that_is_not_onnxruntime():
    net, recipe = network("tiny", "event")
    model = inline(step_of(net, recipe))
    x = inputs(recipe, 2)
    logits, spikes = load(model, "step", lambda model, _: ReferenceEvaluator(model)).run(x.numpy())
    expected, expected_spikes = load(model, "step").run(x.numpy())
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert all((spikes[layer] == expected_spikes[layer]).all() for layer in spikes)
    assert len(spikes) == 3


def test_a_step_made_for_one_sample_takes_them_one_by_one():
    net, recipe = network("tiny", "static")
    model = step_of(net, recipe)
    x = inputs(recipe, 3).numpy()
    logits, spikes = StepNetwork(model, "step").run(x, 5)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    single_logits, single = StepNetwork(model, "single").run(x, 5)
    assert single_logits.shape == (5, 3, 10)
    np.testing.assert_allclose(single_logits, logits, atol=1e-5)
    assert all(single[layer].shape == spikes[layer].shape for layer in spikes)


def test_step_weights_are_the_callers():
    net, recipe = network("tiny", "static", more=("method.weighting={warmup_epochs=1}",))
    net.step_weights.copy_(torch.tensor([0.5, 0.25, 4.0]))
    hold_equal(net, recipe, step_of(net, recipe))


@pytest.mark.parametrize(
    ("norm", "neuron", "key"), [("tebn", "lif", "norm"), ("bntt", "lif", "norm"), ("bn", "glif", "neuron")]
)
def test_what_was_learned_for_each_step_is_refused(norm, neuron, key):
    net, recipe = network("tiny", "static", norm, neuron)
    with pytest.raises(RecipeError, match=rf"learned something for each one \(model\.{key}.*--format onnx"):
        to_step(fold(net)[0], recipe)


@pytest.mark.parametrize("states", [None, "x", "[]", '{"v": 1}', '{"v": {"next": "v_next", "shape": "B"}}'])
def test_damaged_metadata_is_one_error(states):
    net, recipe = network("tiny", "static")
    model = step_of(net, recipe)
    entries = {p.key: p.value for p in model.metadata_props if p.key != "snnsc.states"}
    set_metadata(model, entries | ({} if states is None else {"snnsc.states": states}))
    with pytest.raises(ModelFileError, match=r"^m: "):
        StepNetwork(model, "m").run(inputs(recipe, 1).numpy())


@pytest.fixture(scope="module")
def edited():
    net, recipe = network("tiny", "static")
    return step_of(net, recipe), inputs(recipe, 4).numpy()


NOT_WEIGHTS = ("[]", "[1, 2]", "[[1, 2], [3, 4]]", '["a"]', "{}", "0", "[1, NaN, 1]")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("snnsc.states", "[" * 100_000),
        ("snnsc.states", '{"stem.neurons.0.v": {"next": "logits", "initial": 1' + "0" * 400 + "}}"),
        ("snnsc.states", '{"stem.neurons.0.v": {"next": "logits", "initial": NaN}}'),
        ("snnsc.T", "0"),
        *(("snnsc.step_weights", text) for text in NOT_WEIGHTS),
    ],
    ids=lambda text: text[:40],
)
def test_edited_metadata_are_one_error(edited, key, value):
    model, images = edited
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    set_metadata(changed, {p.key: p.value for p in model.metadata_props} | {key: value})
    with pytest.raises(ModelFileError, match=r"^m: "):
        StepNetwork(changed, "m").run(images)


def test_samples_that_do_not_fill_a_fixed_batch(edited):
    model, images = edited
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    with pytest.raises(ModelFileError, match="m: takes 3 samples at a time, not 4"):
        StepNetwork(fixed, "m").run(images)
