"""IM-Loss by hand, and what the hooks collect; legend T time steps, B batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from snnsc.model import build_model
from snnsc.model.neurons import Neuron
from snnsc.recipe.schema import LifSpec, Recipe, TriangleSpec
from snnsc.training.im_loss import im_loss, input_means


def test_closed_form() -> None:
    # T = 4: 0.5 / T = 0.125; ((0.375)^2 + (-0.625)^2) / 2
    assert im_loss([torch.tensor(0.5), torch.tensor(-0.5)], 4).item() == pytest.approx((0.140625 + 0.390625) / 2)


def test_a_held_current_has_the_mean_of_its_repetition() -> None:
    neuron = Neuron(LifSpec(type="lif"), TriangleSpec(type="triangle"), compiled=False)
    x = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(0))
    with input_means(neuron) as means:
        neuron(x, T=4)
        neuron(x.expand(4, 2, 3).to(torch.bfloat16))
    assert means[0].item() == pytest.approx(x.mean().item(), rel=1e-6)
    assert means[1].item() == pytest.approx(x.to(torch.bfloat16).float().mean().item(), rel=1e-5)
    assert means[1].dtype == torch.float32


@pytest.mark.parametrize("neuron", ["lif", "real-spike", "plif"])
def test_every_layer_of_neurons_gives_its_mean_and_takes_its_gradient(
    make_recipe: Callable[..., Recipe], neuron: str
) -> None:
    model = build_model(make_recipe(f"model.neuron={{type={neuron!r}}}"))
    layers = [m for m in model.modules() if isinstance(m, Neuron)]
    assert len(layers) >= 3
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with input_means(model) as means:
        model(x)
    assert len(means) == len(layers)
    im_loss(means, 4).backward()
    first = model.stem.convs[0].conv.weight.grad
    assert first is None or torch.isfinite(first).all()  # bn holds the mean at beta, whatever the weights
    assert model.get_submodule("stem.convs.0.norm").bias.grad.abs().max() > 0
    assert model.head.linear.weight.grad is None
    with input_means(model, wanted=False) as none:
        model(x)
    model(x)
    assert none == []
    assert len(means) == len(layers), "the hooks are gone"
