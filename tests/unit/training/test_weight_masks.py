"""Masks of weight gradients: what is masked, how much, and that it is a function of the seed alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from snnsc.model import build_model
from snnsc.recipe.schema import Recipe
from snnsc.training.weight_masks import mask_weight_gradients


def masked(recipe: Recipe, ratio: float, seed: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Gradients of 2 everywhere, masked."""
    model = build_model(recipe)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    mask_weight_gradients(model, ratio, seed)
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe]) -> Recipe:
    return make_recipe("method={mode='shortcut'}", "model={arch='resnet20-thin'}")


def test_masks_the_main_paths_convolutions_and_linears_and_nothing_else(recipe: Recipe) -> None:
    model = build_model(recipe)
    wanted = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    wanted = {name for name in wanted if not name.startswith("shortcuts.")}
    grads = masked(recipe, 0.5, (0, 0))
    assert {name for name, grad in grads.items() if (grad == 0).any()} == wanted
    kept = torch.cat([grads[name].flatten() for name in wanted])
    assert set(kept.unique().tolist()) == {0.0, 2.0}, "what is kept is not rescaled"
    assert (kept == 0).double().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / len(kept) ** 0.5)


def test_is_a_function_of_seed_and_iteration(recipe: Recipe) -> None:
    one, same = masked(recipe, 0.3, (5, 7)), masked(recipe, 0.3, (5, 7))
    assert all(torch.equal(one[name], same[name]) for name in one)
    for other in ((5, 8), (6, 7), (7, 5), (5 + 2**31, 7)):
        found = masked(recipe, 0.3, other)
        different = (found["stages.2.2.conv2.conv.weight"] != one["stages.2.2.conv2.conv.weight"]).double().mean()
        assert different.item() == pytest.approx(2 * 0.3 * 0.7, abs=0.02)


def test_draws_nothing_from_the_global_generator(recipe: Recipe) -> None:
    before = torch.get_rng_state()
    masked(recipe, 0.3, (5, 7))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("ratio", "left"), [(0.0, 2.0), (1.0, 0.0)])
def test_ends(recipe: Recipe, ratio: float, left: float) -> None:
    grads = masked(recipe, ratio, (0, 0))
    assert (grads["head.linear.weight"] == left).all()
    assert (grads["head.linear.bias"] == 2).all()
