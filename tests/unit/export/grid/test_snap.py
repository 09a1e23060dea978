"""Networks of every kind put on a grid: traced, proven, and run in torch, float64 and onnxruntime."""

import json

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from snnsc.errors import CheckError, RecipeError
from snnsc.export.fold import fold
from snnsc.export.grid.exact import check
from snnsc.export.grid.prove import LEVELS, THREADS, prove, reference
from snnsc.export.grid.snap import RoundingConv, exact_grid
from snnsc.export.grid.spans import exponent
from snnsc.model import build_model

EVENTS = ("data.type=nmnist", "data.size=8")
NETS = {
    "images, tebn, soft reset": ["model.norm.type=tebn", "model.neuron.reset=soft", "model.stages=[[3,4],[4]]"],
    "events, mpbn, if": [*EVENTS, "model.norm.type=mpbn", "model.neuron.type=if", "model.stages=[[3,4],[4]]"],
    "events, sew-add": [*EVENTS, "model.arch=resnet20-thin", "model.residual=sew-add", "model.neuron.decay=0.25"],
    "images, ms": ["model.arch=resnet20-thin", "model.residual=ms"],
}


def facts(recipe):
    event = recipe.data.is_event
    mean, std = (None, None) if event else ([0.3053], [0.3759])
    return {"mean": mean, "std": std, "whole_counts": event}


def samples(recipe, B, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (B, recipe.data.channels, recipe.data.size, recipe.data.size)
    if recipe.data.is_event:
        x = torch.poisson(torch.full((recipe.model.T, *shape), 0.7), generator=generator)
    else:
        x = (torch.rand(shape, generator=generator) - 0.3053) / 0.3759
    return x, torch.zeros(B, dtype=torch.int64)


def folded(make_recipe, *overrides):
    """A folded network with statistics and constants that are not those of a fresh one, and its recipe."""
    recipe = make_recipe("model.T=3", *overrides)
    network = build_model(recipe, branches=False)
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            network(samples(recipe, 4)[0])
        for name, parameter in network.named_parameters():
            if "norm" in name or name.endswith("factor"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
            if "norm" in name and name.endswith("bias"):
                parameter.add_(0.5)  # so that deep layers fire
    return fold(network.eval())[0], recipe


@pytest.mark.parametrize(("name", "overrides"), NETS.items(), ids=NETS)
def test_every_runtime_fires_the_same_spikes(make_recipe, name, overrides):
    network, recipe = folded(make_recipe, *overrides)
    batches = [samples(recipe, 4), samples(recipe, 1, seed=1)]
    snapped, model, grid = exact_grid(network, recipe, facts(recipe), batches)
    wild = [(x * 50 - 3.3, labels) for x, labels in batches[:1]]  # not only for what it was planned with
    found = prove(network, snapped, model, [*batches, *wild])
    assert found.samples == 9
    assert len(found.runtimes) == 1 + len(LEVELS) * len(THREADS)
    spikes = spikes_of(snapped, batches[0][0])
    assert found.neuron_steps == sum(s.numel() for s in spikes.values()) * 9 // 4
    assert [layer for layer, s in spikes.items() if not s.any()] == [], f"{name}: silent layers"
    assert set(grid.neurons) == set(spikes)
    json.dumps([grid.to_dict(), found.to_dict()], allow_nan=False)
    for layer, on in grid.linear.items():
        module = snapped.get_submodule(layer)
        weight = (module if isinstance(module, nn.Conv2d | nn.Linear) else module.conv).weight
        assert exponent(weight.detach().numpy()) <= on.a
    reading = sum(isinstance(m, RoundingConv) for m in snapped.modules())
    assert reading == sum(on.clamp is not None for on in grid.linear.values()) > 0


def spikes_of(network, x):
    from snnsc.training.evaluate import neuron_outputs

    found = {}
    with torch.inference_mode(), neuron_outputs(network, found.__setitem__):
        network(x)
    return found


def test_a_network_that_is_not_on_the_grid_is_caught(make_recipe):
    network, recipe = folded(make_recipe, "model.stages=[[3,4],[4]]")
    batches = [samples(recipe, 4)]
    snapped, model, _ = exact_grid(network, recipe, facts(recipe), batches)
    with pytest.raises(CheckError, match="no samples"):
        prove(network, snapped, model, [])
    with torch.no_grad():
        snapped.stages[0][0].conv.conv.bias += 0.5
    with pytest.raises(CheckError, match=r"layer stages\.0\.0\.neuron: \d+ of \d+ spikes differ .* onnxruntime"):
        prove(network, snapped, model, batches)
    (weight,) = (t for t in model.graph.initializer if t.name == "stages.0.0.conv.conv.weight")
    off = numpy_helper.to_array(weight) + np.float32(2.0**-24)
    weight.CopyFrom(numpy_helper.from_array(off, weight.name))
    with pytest.raises(CheckError, match=r"layer stages\.0\.0\.conv: its sums are multiples of 2\^-2\d"):
        check(model, recipe.model.T)


def test_learned_constants_are_refused(make_recipe):
    recipe = make_recipe("model.stages=[[2],[2]]", "model.neuron.type=plif", "model.neuron.tau=3.0")
    network = fold(build_model(recipe, branches=False).eval())[0]
    with pytest.raises(RecipeError, match=r"layer stem\.neurons\.0: decay = 0\.66"):
        exact_grid(network, recipe, facts(recipe), [samples(recipe, 2)])


def test_the_reference_is_wholly_in_float64(make_recipe):
    network, recipe = folded(make_recipe, "model.norm.type=mpbn")
    exact, types = reference(network), set()
    for module in exact.modules():
        module.register_forward_hook(lambda _m, _i, output: types.add(output.dtype))
    with torch.inference_mode():
        exact(samples(recipe, 2)[0].double())
    assert types == {torch.float64}
    assert {t.dtype for t in network.state_dict().values() if t.is_floating_point()} == {torch.float32}


def test_the_input_is_brought_onto_its_grid():
    conv = RoundingConv(nn.Conv2d(1, 1, 1, bias=False), 2, (-1.0, 1.5))
    nn.init.ones_(conv.weight)
    x = torch.tensor([-9.0, -0.125, 0.125, 0.375, 0.3, 1.6]).view(1, 1, 1, -1)
    assert conv(x).flatten().tolist() == [-1, 0, 0, 0.5, 0.25, 1.5]
