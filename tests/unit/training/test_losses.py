"""The losses against log-softmax written out in numpy; legend T time steps, B batch, K classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from snnsc.model import Logits, build_model
from snnsc.recipe.schema import DistillSpec, EvolutionarySpec, Recipe, ShortcutSpec, TetSpec, VanillaSpec
from snnsc.training.losses import build_loss, kl_divergence, self_distillation

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


def tet(logits_TBK: np.ndarray, smoothing: float, lamb: float, target: float) -> float:
    each = np.mean([ce(o_BK, smoothing) for o_BK in logits_TBK])
    return float((1 - lamb) * each + lamb * ((logits_TBK - target) ** 2).mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


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


# ------------------------------------------------------------------------------------------------------------- TET


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("lamb", "target"), [(1e-3, 1.0), (0.4, 2.5)])
def test_tet(lamb: float, target: float, smoothing: float) -> None:
    logits, weight = some_logits(), 0.25
    spec = TetSpec(type="tet", lamb=lamb, target=target)
    o, o1, o2 = (x.detach().numpy() for x in (logits.main_TBK, *logits.branches_TBK.values()))

    def expected(x: np.ndarray) -> float:
        return tet(x, smoothing, lamb, target)

    cases = {
        VanillaSpec(mode="vanilla", loss=spec): expected(o),
        EvolutionarySpec(mode="evolutionary", loss=spec): expected(o + weight * (o1 + o2)),
        ShortcutSpec(mode="shortcut", loss=spec, combine="losses"): expected(o)
        + weight * (expected(o1) + expected(o2)),
    }
    for method, value in cases.items():
        assert build_loss(method, smoothing)(logits, LABELS, weight).item() == pytest.approx(value, rel=1e-12)


def test_tet_by_hand() -> None:
    # one sample, two classes, two steps of logits (0, 0) and (0, ln 3): CE of class 0 is ln 2 and ln 4, mean 1.5 ln 2;
    # with lamb = 1/2 and target 1 the squares are 1, 1, 1 and (ln 3 - 1)^2
    o = torch.tensor([[[0.0, 0.0]], [[0.0, np.log(3)]]])
    method = VanillaSpec(mode="vanilla", loss=TetSpec(type="tet", lamb=0.5))
    found = build_loss(method)(Logits(o, {}), torch.tensor([0]), 0.0).item()
    assert found == pytest.approx(0.75 * np.log(2) + 0.125 * (3 + (np.log(3) - 1) ** 2), rel=1e-6)


# ---------------------------------------------------------------------------------------------- shares of classes


METHODS = [
    VanillaSpec(mode="vanilla"),
    VanillaSpec(mode="vanilla", loss=TetSpec(type="tet", lamb=0.1)),
    EvolutionarySpec(mode="evolutionary"),
    ShortcutSpec(mode="shortcut", combine="losses"),
    DistillSpec(mode="distill"),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.mode}-{m.loss.type}")
def test_a_label_is_the_share_1_of_its_class(method) -> None:
    logits, shares = some_logits(), torch.eye(K, dtype=torch.float64)[LABELS]
    loss = build_loss(method, 0.1)
    assert loss(logits, shares, 0.25).item() == pytest.approx(loss(logits, LABELS, 0.25).item(), rel=1e-12)


@pytest.mark.parametrize("method", METHODS[:-1], ids=lambda m: f"{m.mode}-{m.loss.type}")
def test_mixed_labels_mix_the_cross_entropies(method) -> None:
    logits, other = some_logits(), LABELS.roll(1)
    eye = torch.eye(K, dtype=torch.float64)
    loss = build_loss(method)
    mixed = loss(logits, 0.3 * eye[LABELS] + 0.7 * eye[other], 0.25).item()
    apart = 0.3 * loss(logits, LABELS, 0.25).item() + 0.7 * loss(logits, other, 0.25).item()
    assert mixed == pytest.approx(apart, rel=1e-12)


# ---------------------------------------------------------------------------------------------- self-distillation


def test_distill_against_numpy() -> None:
    logits, weight, alpha, tau = some_logits(), 0.25, 0.8, 3.0
    o = np.stack([x.detach().numpy().mean(0) for x in (logits.main_TBK, *logits.branches_TBK.values())])
    labels = LABELS.numpy()
    right = o.argmax(-1) == labels
    assert {0, 1, 3} == set(right.sum(0).tolist()), "the data has samples of no teacher, of one, and of a mean"
    kl = np.zeros((3, B))
    for b in range(B):
        if right[:, b].any():
            p = softmax(o[right[:, b], b].mean(0) / tau)
            for i in range(3):
                kl[i, b] = (p * (np.log(p) - np.log(softmax(o[i, b] / tau)))).sum()
    expected = [alpha * tau**2 * k for k in kl.mean(1)]
    for loss, term in (
        (None, lambda x: ce(x.mean(0), 0.1)),
        (TetSpec(type="tet", lamb=0.1), lambda x: tet(x, 0.1, 0.1, 1.0)),
    ):
        method = DistillSpec(mode="distill", alpha=alpha, temperature=tau, **({"loss": loss} if loss else {}))
        x = [a.detach().numpy() for a in (logits.main_TBK, *logits.branches_TBK.values())]
        value = term(x[0]) + expected[0] + weight * sum(term(x[i]) + expected[i] for i in (1, 2))
        assert build_loss(method, 0.1)(logits, LABELS, weight).item() == pytest.approx(value, rel=1e-10)


def test_no_gradient_goes_through_the_teacher() -> None:
    """The output that is right is its own teacher; the wrong one learns from it, d KL / d o = (q - p) / tau."""
    outputs = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    kl = self_distillation(outputs, torch.tensor([0]), 3.0)
    p, q = softmax(np.array([2, 0]) / 3), softmax(np.array([0, 1]) / 3)
    assert kl.tolist() == pytest.approx([0, (p * np.log(p / q)).sum()])
    (grad,) = torch.autograd.grad(kl.sum(), outputs)
    np.testing.assert_allclose(grad[0], 0, atol=1e-15)
    np.testing.assert_allclose(grad[1, 0], (q - p) / 3, rtol=1e-12)


def test_a_sample_that_no_output_gets_right_counts_as_0() -> None:
    outputs = torch.tensor([[[2.0, 0.0], [5.0, 0.0]], [[0.0, 1.0], [6.0, 0.0]]], dtype=torch.float64)
    both = self_distillation(outputs, torch.tensor([0, 1]), 3.0)
    alone = self_distillation(outputs[:, :1], torch.tensor([0]), 3.0)
    assert both.tolist() == pytest.approx((alone / 2).tolist())


def test_kl_divergence_by_hand() -> None:
    # teacher (0, ln 9) at temperature 2 is (1/4, 3/4), the student's even logits are (1/2, 1/2)
    found = kl_divergence(torch.tensor([[0.0, np.log(9.0)]]), torch.tensor([[7.0, 7.0]]), 2.0)
    assert found.shape == (1,)
    assert found.item() == pytest.approx(0.25 * np.log(0.5) + 0.75 * np.log(1.5), rel=1e-6)
