"""The same code on a GPU: same spikes, same losses; skipped where there is none."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from snnsc.data import build_loaders
from snnsc.model.masking import set_masks
from snnsc.model.neurons import Neuron
from snnsc.recipe.load import load_recipe
from snnsc.recipe.schema import NeuronSpec, TriangleSpec
from snnsc.training.distributed import Place
from snnsc.training.loop import StepDone, Training

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
TRIANGLE = TriangleSpec(type="triangle")
# where every product is exact, fused or not, spikes are equal; elsewhere one in ten thousand may differ
EXACT = [{"type": "lif"}, {"type": "lif", "reset": "soft"}, {"type": "if"}]
ROUNDED = [{"type": "plif", "tau": 1.7}, {"type": "diet-lif", "decay": 0.7}, {"type": "glif"}, {"type": "clif"}]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("keys", [*EXACT, *ROUNDED], ids=str)
def test_neurons_spike_as_on_the_cpu(keys, dtype, compiled, masked):
    spec = TypeAdapter(NeuronSpec).validate_python(keys)
    current = (torch.randn(4, 5, 16, 9, 11) * 1.5).to(dtype)
    grad = torch.randn(4, 5, 16, 9, 11).to(dtype)
    results = []
    for device in ("cpu", "cuda"):
        layer = Neuron(spec, TRIANGLE, channels=16, T=4, compiled=compiled and device == "cuda").to(device)
        if masked:
            set_masks(torch.nn.Sequential(torch.nn.Linear(1, 1).to(device), layer), 0.5, (0, 1))
        x = current.to(device).requires_grad_()
        spikes = layer(x)
        spikes.backward(grad.to(device))
        results.append((spikes.detach().cpu(), x.grad.cpu()))
    different = float((results[0][0] != results[1][0]).float().mean())
    assert different <= (0 if keys in EXACT else 1e-4)
    if different == 0:
        torch.testing.assert_close(results[0][1], results[1][1])


OPTIONS = {
    "fp32": ["train.precision=fp32"],
    "bf16": ["train.precision=bf16"],
    "balanced": ["train.memory=balanced"],
    "small": ["train.memory=small"],
    "masked": ["method.masking={ratio=0.5}"],
    "model": ["train.compile=model"],
    "graphs": ["train.compile=model", "train.cuda_graphs=true"],
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_first_losses_are_those_of_the_cpu(options):
    losses = []
    for device in ("cpu", "cuda"):
        here = [key for key in options if device == "cuda" or not key.startswith(("train.compile", "train.cuda"))]
        recipe = load_recipe("digits", here)
        training = Training(recipe, build_loaders(recipe, Path("unused")), Place(torch.device(device)))
        losses.append([e.loss for e in islice(training.events(), 3) if isinstance(e, StepDone)])
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)
