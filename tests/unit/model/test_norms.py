"""Normalisation against its formula, and as scale and shift."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from snnsc.model.norms import Bntt, Norm, Tebn, build_norm
from snnsc.recipe.schema import BnSpec, BnttSpec, MpbnSpec, TdbnSpec, TebnSpec

BN, TDBN, TEBN, BNTT = BnSpec(type="bn"), TdbnSpec(type="tdbn", alpha=1.5), TebnSpec(type="tebn"), BnttSpec(type="bntt")
CASES = [  # spec, threshold, summands, the factor by hand
    (BN, 0.5, 2, 1.0),
    (MpbnSpec(type="mpbn"), 0.5, 2, 1.0),  # its second normalisation is the neuron's
    (TdbnSpec(type="tdbn"), 1.0, 1, 1.0),
    (TDBN, 0.5, 1, 0.75),
    (TDBN, 2.0, 2, 3 / np.sqrt(2)),
]
GAMMA, BETA = torch.tensor([0.5, -2.0, 1.5]), torch.tensor([0.1, 0.2, -0.3])
K = torch.tensor([1.3, -0.4])


def sequence() -> torch.Tensor:
    """[2, 3, 3, 4, 5], with a mean and a spread of each channel's and of each step's own."""
    x = torch.randn(2, 3, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 3
    return x * torch.tensor([1.0, 2.0]).view(2, 1, 1, 1, 1) + torch.tensor([1.0, -2.0, 0.0]).view(3, 1, 1)


def trained(spec, threshold: float, summands: int) -> tuple[Norm, torch.Tensor]:
    norm = build_norm(spec, 3, threshold=threshold, T=2, summands=summands)
    assert isinstance(norm, Norm)
    with torch.no_grad():
        norm.weight.copy_(GAMMA)
        norm.bias.copy_(BETA)
    return norm, sequence()


def per_step(spec) -> Tebn | Bntt:
    norm = build_norm(spec, 3, threshold=1.0, T=2)
    assert isinstance(norm, Tebn | Bntt)
    with torch.no_grad():
        if isinstance(norm, Tebn):
            norm.bn.weight.copy_(GAMMA)
            norm.bn.bias.copy_(BETA)
            norm.k.copy_(K)
        else:
            norm.weight.copy_(torch.stack([GAMMA, BETA + 1]))
    return norm


@pytest.mark.parametrize(("spec", "threshold", "summands", "factor"), CASES)
def test_training_mode_formula(spec, threshold: float, summands: int, factor: float) -> None:
    norm, x = trained(spec, threshold, summands)
    found = norm(x).detach().numpy()
    a = x.double().numpy()
    mean, var = a.mean((0, 1, 3, 4)), a.var((0, 1, 3, 4))
    gamma, beta = GAMMA.double().numpy(), BETA.double().numpy()
    column = (slice(None), None, None)
    expected = factor * gamma[column] * (a - mean[column]) / np.sqrt(var[column] + 1e-5) + beta[column]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # the running statistics: a tenth of the way from (0, 1); the variance unbiased
    np.testing.assert_allclose(norm.running_mean, 0.1 * mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norm.running_var, 0.9 + 0.1 * a.var((0, 1, 3, 4), ddof=1), rtol=1e-5)
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize(("spec", "threshold", "summands", "factor"), CASES)
def test_scale_and_shift_are_the_evaluation_mode(spec, threshold: float, summands: int, factor: float) -> None:
    norm, x = trained(spec, threshold, summands)
    norm(x)
    norm.eval()
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    found = norm(x)
    scale, shift = norm.scale_and_shift()
    torch.testing.assert_close(found, scale.view(3, 1, 1) * x + shift.view(3, 1, 1), rtol=1e-5, atol=1e-5)
    expected = factor * norm.weight.view(3, 1, 1) * (x - norm.running_mean.view(3, 1, 1)) / torch.sqrt(
        norm.running_var.view(3, 1, 1) + 1e-5
    ) + norm.bias.view(3, 1, 1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in norm.state_dict().items())


def test_bn_tdbn_and_mpbn_have_the_same_keys() -> None:
    keys = [build_norm(spec, 3, threshold=1.0, T=2).state_dict().keys() for spec in (BN, TDBN, MpbnSpec(type="mpbn"))]
    assert keys[0] == keys[1] == keys[2]


def test_tdbn_gradient_reaches_gamma_with_the_factor() -> None:
    norm, x = trained(TDBN, 2.0, 1)
    plain, _ = trained(BN, 2.0, 1)
    norm(x)[:, :, 0].square().sum().backward()
    # y = 3 * gamma * n + beta: with gamma three times as large, plain bn gives the same y
    with torch.no_grad():
        plain.weight.mul_(3)
    plain(x)[:, :, 0].square().sum().backward()
    torch.testing.assert_close(norm.weight.grad, 3 * plain.weight.grad, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------- time steps told apart


def test_tebn_is_a_factor_for_each_step_on_bn_over_all_steps() -> None:
    norm, (plain, x) = per_step(TEBN), trained(BN, 1.0, 1)
    y, bn = norm(x), plain(x)
    torch.testing.assert_close(y[0], 1.3 * bn[0])
    torch.testing.assert_close(y[1], -0.4 * bn[1])
    assert torch.equal(norm.bn.running_var, plain.running_var)
    y[1].sum().backward()
    torch.testing.assert_close(norm.k.grad, torch.stack([torch.zeros(()), bn[1].sum()]), rtol=1e-3, atol=1e-4)
    assert torch.equal(build_norm(TEBN, 3, threshold=1.0, T=2)(x), build_norm(BN, 3, threshold=1.0, T=2)(x))


def test_bntt_is_torchs_batch_normalisation_step_by_step() -> None:
    norm, x = per_step(BNTT), sequence()
    steps = [nn.BatchNorm2d(3) for _ in range(2)]
    for t, step in enumerate(steps):
        step.weight.data.copy_(norm.weight[t])  # its bias is 0
    for _ in range(2):
        y = norm(x)
        expected = torch.stack([step(x[t]) for t, step in enumerate(steps)])
        torch.testing.assert_close(y, expected)
    norm.eval()
    torch.testing.assert_close(norm(x), torch.stack([step.eval()(x[t]) for t, step in enumerate(steps)]))
    for t, step in enumerate(steps):
        torch.testing.assert_close(norm.running_mean[t], step.running_mean)
        torch.testing.assert_close(norm.running_var[t], step.running_var)
    assert {name: tuple(t.shape) for name, t in norm.state_dict().items()} == {
        "weight": (2, 3),
        "running_mean": (2, 3),
        "running_var": (2, 3),
    }
    assert torch.equal(build_norm(BNTT, 3, threshold=1.0, T=2).weight, torch.ones(2, 3))


def test_bntt_gradients_are_those_of_each_step() -> None:
    norm, x = per_step(BNTT), sequence().requires_grad_()
    other = x.detach().clone().requires_grad_()
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    (norm(x) * weight).sum().backward()
    steps = [nn.functional.batch_norm(other[t], None, None, norm.weight[t].detach(), training=True) for t in range(2)]
    (torch.stack(steps) * weight).sum().backward()
    torch.testing.assert_close(x.grad, other.grad)


@pytest.mark.parametrize("spec", [TEBN, BNTT])
def test_per_step_scale_and_shift_are_the_evaluation_mode(spec) -> None:
    norm, x = per_step(spec), sequence()
    norm(x)
    norm.eval()
    scale_TC, shift_TC = norm.scale_and_shift()
    assert scale_TC.shape == shift_TC.shape == (2, 3)
    expected = scale_TC[:, None, :, None, None] * x + shift_TC[:, None, :, None, None]
    torch.testing.assert_close(norm(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("spec", [TEBN, BNTT])
def test_a_held_current_is_normalised_for_every_step(spec, training: bool) -> None:
    held, given = per_step(spec).train(training), per_step(spec).train(training)
    x = sequence()[:1]
    y = held(x)
    assert y.shape == (2, 3, 3, 4, 5)
    torch.testing.assert_close(y, given(x.expand(2, -1, -1, -1, -1)))
    if training and isinstance(held, Bntt) and isinstance(given, Bntt):
        assert torch.equal(held.running_mean, given.running_mean)
        assert torch.equal(held.running_var[0], held.running_var[1])


@pytest.mark.parametrize("spec", [BN, TDBN])
def test_a_held_current_stays_held_where_all_steps_are_normalised_alike(spec) -> None:
    norm = build_norm(spec, 3, threshold=1.0, T=2)
    assert norm(sequence()[:1]).shape == (1, 3, 3, 4, 5)


@pytest.mark.parametrize("spec", [BN, TDBN, TEBN, BNTT])
def test_memory_order_and_precision_are_kept_in_the_result(spec) -> None:
    """Channels-last input, and bfloat16 under autocast, give the same numbers."""
    x = sequence()
    last = x.flatten(0, 1).to(memory_format=torch.channels_last).view(x.shape)
    expected = build_norm(spec, 3, threshold=1.0, T=2)(x)
    torch.testing.assert_close(build_norm(spec, 3, threshold=1.0, T=2)(last), expected, rtol=1e-5, atol=1e-5)
    low = build_norm(spec, 3, threshold=1.0, T=2)(x.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("norm", [Norm(3), Norm(3, 0.75), Tebn(3, 1), Bntt(3, 1)], ids=lambda n: n.__class__.__name__)
@pytest.mark.parametrize("given", [(1, 2, 3), (2, 3, 1)])
@pytest.mark.parametrize("wanted", [(1, 2, 3), (2, 3, 1)])
def test_gradients_of_a_single_image_in_any_memory_order(
    norm: nn.Module, given: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    def ordered(x: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:  # torch's CPU kernel took one for the other
        lying = x[0, 0].permute([i - 1 for i in order]).contiguous()
        return lying.permute([order.index(i) for i in (1, 2, 3)])[None, None]

    norm.double()
    x, gradient = torch.randn(2, 1, 1, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = ordered(x, given).requires_grad_()
    found = norm(x)
    d = x - x.mean((3, 4), keepdim=True)
    by_hand = d * torch.rsqrt((d * d).mean((3, 4), keepdim=True) + 1e-5) * getattr(norm, "factor", 1.0)
    torch.testing.assert_close(found, by_hand)
    parameters = dict(norm.named_parameters())
    g_x, *g_parameters = torch.autograd.grad(found, [x, *parameters.values()], ordered(gradient, wanted))
    torch.testing.assert_close(g_x, torch.autograd.grad(by_hand, x, gradient)[0])
    for (name, parameter), g in zip(parameters.items(), g_parameters, strict=True):
        if name.endswith("weight"):
            expected = (by_hand.detach() * gradient).sum((0, 1, 3, 4))
            torch.testing.assert_close(g, expected.view(parameter.shape))
        elif name.endswith("bias"):
            torch.testing.assert_close(g, gradient.sum((0, 1, 3, 4)))
