"""What is learned for each time step alone: the weights of the output, and networks that run for one T only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from snnsc.errors import RecipeError
from snnsc.model import SpikingNetwork, build_model
from snnsc.recipe.schema import Recipe

WEIGHTED = ("method.weighting={warmup_epochs=0}",)
EVENTS = "data={type='nmnist', size=8}"


def test_every_logit_is_weighted_by_its_step(make_recipe: Callable[..., Recipe]) -> None:
    plain = build_model(make_recipe("method={mode='shortcut'}"))
    model = build_model(make_recipe("method={mode='shortcut'}", *WEIGHTED))
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(model.step_weights, torch.ones(4))
    with torch.no_grad():
        for a, b in zip(model(x), plain(x), strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else all(torch.equal(a[n], b[n]) for n in a)
        model.step_weights.copy_(torch.tensor([0.0, 0.5, 1.0, 2.5]))
        found, expected = model(x), plain(x)
        for t, weight in enumerate([0.0, 0.5, 1.0, 2.5]):
            assert torch.equal(found.main_TBK[t], weight * expected.main_TBK[t])
            assert torch.equal(found.branches_TBK["0_0"][t], weight * expected.branches_TBK["0_0"][t])
        model.eval()
        assert torch.equal(model(x), model.logits(x).main_TBK.mean(0))


def test_the_weights_are_a_buffer_of_weighted_networks_only(make_recipe: Callable[..., Recipe]) -> None:
    plain, recipe = make_recipe("method={mode='shortcut'}"), make_recipe("method={mode='shortcut'}", *WEIGHTED)
    extra = build_model(recipe).state_dict().keys() - build_model(plain).state_dict().keys()
    assert extra == {"step_weights"}
    model, stripped = build_model(recipe), build_model(recipe, branches=False)
    assert "step_weights" in stripped.state_dict()
    assert "step_weights" not in dict(model.named_parameters())
    model.step_weights.copy_(torch.tensor([0.0, 0.5, 1.0, 2.5]))
    kept = {name: t for name, t in model.state_dict().items() if not name.startswith("shortcuts.")}
    stripped.load_state_dict(kept)
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(model.eval()(x), stripped.eval()(x))
    for name, tensor in build_model(plain).state_dict().items():
        assert torch.equal(tensor, build_model(recipe).state_dict()[name]), "the seed alone makes the weights"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        (WEIGHTED[0], "method.weighting"),
        ("model.norm.type=tebn", "model.norm.type = 'tebn'"),
        ("model.norm.type=bntt", "model.norm.type = 'bntt'"),
        ("model.neuron.type=glif", "model.neuron.type = 'glif'"),
    ],
)
@pytest.mark.parametrize("T", [1, 3, 7])
def test_another_T_is_one_clear_error(make_recipe: Callable[..., Recipe], override: str, key: str, T: int) -> None:
    model, frames = build_model(make_recipe(override)), build_model(make_recipe(EVENTS, override))

    def refused(network: SpikingNetwork, x: torch.Tensor, *args: int) -> None:
        with pytest.raises(RecipeError, match=rf"^T = {T}: .*T = 4 only.*\({key}\).*model.T = {T}$"):
            network.logits(x, *args)

    refused(model, torch.randn(2, 1, 8, 8), T)
    refused(frames, torch.randn(T, 2, 2, 8, 8))
    assert model.logits(torch.randn(2, 1, 8, 8), 4).main_TBK.shape == (4, 2, 10)
    assert frames.logits(torch.randn(4, 2, 2, 8, 8)).main_TBK.shape == (4, 2, 10)


def test_all_reasons_are_told_at_once(make_recipe: Callable[..., Recipe]) -> None:
    model = build_model(make_recipe(*WEIGHTED, "model.norm.type=tebn"))
    with pytest.raises(RecipeError, match=r"\(model\.norm\.type = 'tebn', method\.weighting\)"):
        model.logits(torch.randn(2, 1, 8, 8), 2)
    assert build_model(make_recipe()).logits(torch.randn(2, 1, 8, 8), 9).main_TBK.shape == (9, 2, 10)
