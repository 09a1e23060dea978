"""The losses against log-softmax written out in numpy; legend T time steps, B batch, K classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from snnsc.model import Logits, build_model
from snnsc.recipe.schema import EvolutionarySpec, Recipe, ShortcutSpec, VanillaSpec
from snnsc.training.losses import build_loss

T, B, K = 3, 5, 4
LABELS = torch.tensor([0, 3, 1, 1, 2])
COMBINES = ["logits", "losses"]


def some_logits() -> Logits:
    made = torch.randn(3, T, B, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    made.requires_grad_()
    return Logits(made[0], {"0_0": made[1], "1_0": made[2]})


def ce(logits_BK: np.ndarray, smoothing: float) -> float:
    log_p = logits_BK - np.log(np.exp(logits_BK).sum(1, keepdims=True))
    target = np.full((B, K), smoothing / K) + (1 - smoothing) * np.eye(K)[LABELS.numpy()]
    return float(-(target * log_p).sum(1).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_closed_forms(weight: float, smoothing: float) -> None:
    logits = some_logits()
    o = logits.main_TBK.detach().numpy().mean(0)
    o1, o2 = (b.detach().numpy().mean(0) for b in logits.branches_TBK.values())
    vanilla = build_loss(VanillaSpec(mode="vanilla"), smoothing)(logits, LABELS, weight)
    assert vanilla.item() == pytest.approx(ce(o, smoothing), rel=1e-12)
    expected = {
        "logits": ce(o + weight * (o1 + o2), smoothing),
        "losses": ce(o, smoothing) + weight * (ce(o1, smoothing) + ce(o2, smoothing)),
    }
    for combine in COMBINES:
        for method in (
            ShortcutSpec(mode="shortcut", combine=combine),
            EvolutionarySpec(mode="evolutionary", combine=combine),
        ):
            found = build_loss(method, smoothing)(logits, LABELS, weight)
            assert found.shape == ()
            assert found.item() == pytest.approx(expected[combine], rel=1e-12)


def test_gradient_of_the_summed_logits() -> None:
    """d CE(o + w * sum o_l) / d o_l[t] = w * (softmax - onehot) / (B T); the head's has no w."""
    logits = some_logits()
    leaves = [logits.main_TBK, *logits.branches_TBK.values()]
    loss = build_loss(EvolutionarySpec(mode="evolutionary"))(logits, LABELS, 0.25)
    grads = torch.autograd.grad(loss, leaves)
    total = sum(w * leaf.detach().numpy().mean(0) for w, leaf in zip((1, 0.25, 0.25), leaves, strict=True))
    softmax = np.exp(total) / np.exp(total).sum(1, keepdims=True)
    expected = (softmax - np.eye(K)[LABELS.numpy()]) / (B * T)
    for w, grad in zip((1, 0.25, 0.25), grads, strict=True):
        np.testing.assert_allclose(grad, np.broadcast_to(w * expected, (T, B, K)), rtol=1e-10)


@pytest.mark.parametrize("combine", COMBINES)
def test_at_weight_zero_the_network_gets_vanillas_gradient(make_recipe: Callable[..., Recipe], combine: str) -> None:
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = build_model(make_recipe())
    build_loss(VanillaSpec(mode="vanilla"))(plain(x), LABELS, 0.0).backward()
    recipe = make_recipe(f"method={{mode='evolutionary', combine={combine!r}}}")
    full = build_model(recipe)
    build_loss(recipe.method)(full(x), LABELS, 0.0).backward()
    grads = dict(full.named_parameters())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(grads[name].grad, parameter.grad, rtol=1e-6, atol=1e-9)
    assert plain.stem.convs[0].conv.weight.grad.abs().max() > 0
    assert full.shortcuts["0_0"].linear.weight.grad.abs().max() == 0
