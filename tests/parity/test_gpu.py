"""The same code on a GPU: same spikes, same losses; skipped where there is none."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from snnsc.data import build_loaders
from snnsc.model.neurons import run_sequence
from snnsc.recipe.load import load_recipe
from snnsc.recipe.schema import LifSpec, TriangleSpec
from snnsc.training.distributed import Place
from snnsc.training.loop import StepDone, Training

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
LIF, TRIANGLE = LifSpec(type="lif"), TriangleSpec(type="triangle")


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neurons_spike_as_on_the_cpu(compiled, dtype):
    current = (torch.randn(4, 100_003) * 1.5).to(dtype)
    grad = torch.randn(4, 100_003).to(dtype)
    results = []
    for device in ("cpu", "cuda"):
        x = current.to(device).requires_grad_()
        spikes = run_sequence(LIF, TRIANGLE, x, 4, compiled and device == "cuda")
        spikes.backward(grad.to(device))
        results.append((spikes.detach().cpu(), x.grad.cpu()))
    assert torch.equal(results[0][0], results[1][0])  # decay 0.5: every product is exact, fused or not
    torch.testing.assert_close(results[0][1], results[1][1])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_first_losses_are_those_of_the_cpu(precision):
    recipe = load_recipe("digits", [f"train.precision={precision}"])
    losses = []
    for device in ("cpu", "cuda"):
        training = Training(recipe, build_loaders(recipe, Path("unused")), Place(torch.device(device)))
        losses.append([e.loss for e in islice(training.events(), 3) if isinstance(e, StepDone)])
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)
