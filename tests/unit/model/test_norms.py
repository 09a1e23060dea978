"""Normalisation against its formula, and as scale and shift."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snnsc.model.norms import Norm, build_norm
from snnsc.recipe.schema import BnSpec, TdbnSpec

BN, TDBN = BnSpec(type="bn"), TdbnSpec(type="tdbn", alpha=1.5)
CASES = [  # spec, threshold, summands, the factor by hand
    (BN, 0.5, 2, 1.0),
    (TdbnSpec(type="tdbn"), 1.0, 1, 1.0),
    (TDBN, 0.5, 1, 0.75),
    (TDBN, 2.0, 2, 3 / np.sqrt(2)),
]


def trained(spec, threshold: float, summands: int) -> tuple[Norm, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    norm = build_norm(spec, 3, threshold, summands)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, -2.0, 1.5]))
        norm.bias.copy_(torch.tensor([0.1, 0.2, -0.3]))
    return norm, torch.randn(6, 3, 4, 5, generator=generator) * 3 + torch.tensor([1.0, -2.0, 0.0]).view(3, 1, 1)


@pytest.mark.parametrize(("spec", "threshold", "summands", "factor"), CASES)
def test_training_mode_formula(spec, threshold: float, summands: int, factor: float) -> None:
    norm, x = trained(spec, threshold, summands)
    found = norm(x).detach().numpy()
    a = x.double().numpy()
    mean, var = a.mean((0, 2, 3)), a.var((0, 2, 3))
    gamma, beta = np.array([0.5, -2.0, 1.5]), np.array([0.1, 0.2, -0.3])
    column = (slice(None), None, None)
    expected = factor * gamma[column] * (a - mean[column]) / np.sqrt(var[column] + 1e-5) + beta[column]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # the running statistics: a tenth of the way from (0, 1); the variance unbiased
    np.testing.assert_allclose(norm.running_mean, 0.1 * mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norm.running_var, 0.9 + 0.1 * a.var((0, 2, 3), ddof=1), rtol=1e-5)
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


def test_tdbn_and_bn_have_the_same_keys() -> None:
    assert build_norm(BN, 3, 1.0).state_dict().keys() == build_norm(TDBN, 3, 1.0).state_dict().keys()


def test_tdbn_gradient_reaches_gamma_with_the_factor() -> None:
    norm, x = trained(TDBN, 2.0, 1)
    plain, _ = trained(BN, 2.0, 1)
    norm(x)[:, 0].square().sum().backward()
    # y = 3 * gamma * n + beta: with gamma three times as large, plain bn gives the same y
    with torch.no_grad():
        plain.weight.mul_(3)
    plain(x)[:, 0].square().sum().backward()
    torch.testing.assert_close(norm.weight.grad, 3 * plain.weight.grad, rtol=1e-4, atol=1e-4)
