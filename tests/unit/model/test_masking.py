"""Masked surrogate gradients: the right share, independent, the same for the same key, and nothing else changed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snnsc.model import sequence
from snnsc.model.masking import kept, set_masks
from snnsc.model.neurons import Neuron
from snnsc.model.sequence import can_compile
from snnsc.recipe.schema import LifSpec, TriangleSpec

LIF, TRIANGLE = LifSpec(type="lif"), TriangleSpec(type="triangle")


def network(*, compiled: bool = False) -> nn.Sequential:
    return nn.Sequential(nn.Linear(1, 1), *(Neuron(LIF, TRIANGLE, compiled=compiled) for _ in range(3)))


def layers(ratio: float, seed: tuple[int, ...], *, compiled: bool = False) -> list[Neuron]:
    whole = network(compiled=compiled)
    set_masks(whole, ratio, seed)
    return list(whole)[1:]


def gradient(layer: Neuron, x: Tensor, grad: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    layer(x).backward(grad)
    return x.grad


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_the_share_is_the_ratio_and_masks_are_independent(ratio: float) -> None:
    like = torch.zeros(400, 500)
    found = [kept(layer.mask, t, like) for layer in layers(ratio, (0, 7)) for t in range(3)]
    deviation = (ratio * (1 - ratio) / like.numel()) ** 0.5
    for mask in found:
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert abs(1 - float(mask.mean()) - ratio) < 5 * deviation
        # along rows and columns as well: no pattern in the places
        assert float(mask.mean(0).std()) == pytest.approx((ratio * (1 - ratio) / 400) ** 0.5, rel=0.15)
        assert float(mask.mean(1).std()) == pytest.approx((ratio * (1 - ratio) / 500) ** 0.5, rel=0.15)
    pairs = torch.corrcoef(torch.stack([m.flatten() for m in found]))
    assert float((pairs - torch.eye(len(found))).abs().max()) < 5 / like.numel() ** 0.5


def test_masks_are_a_function_of_the_seed() -> None:
    like = torch.zeros(1000)
    one, same, other = (kept(layers(0.5, seed)[0].mask, 0, like) for seed in ((3, 8, 0), (3, 8, 0), (3, 9, 0)))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_masked_gradient_by_hand() -> None:
    """One step: the gradient is the surrogate where it is kept, 0 where it is masked, not rescaled; spikes stay."""
    layer = layers(0.5, (0,))[0]
    x, grad = torch.rand(1, 1000) * 2, torch.rand(1, 1000) + 0.5
    found = gradient(layer, x, grad)
    surrogate = torch.relu(1 - (x - 1).abs())
    keep = kept(layer.mask, 0, x[0])
    torch.testing.assert_close(found, grad * surrogate * keep)
    assert 400 < int((found == 0).sum()) < 600
    assert torch.equal(layer(x), (x > 1).float())


def test_the_mask_is_on_every_ds_du_and_on_nothing_else() -> None:
    """Over time: ratio 1 leaves no gradient through spikes, resets included, only the path along the membrane: none."""
    x, grad = torch.rand(4, 200) * 2, torch.rand(4, 200) + 0.5
    assert not gradient(layers(1.0, (0,))[0], x, grad).any()
    plain = Neuron(LIF, TRIANGLE, compiled=False)
    layer = layers(0.0, (0,))[0]
    assert layer.mask is None
    assert torch.equal(gradient(layer, x, grad), gradient(plain, x, grad))


def test_each_part_of_a_long_sequence_has_its_own_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "UNROLLED_STEPS", 1)
    x = torch.full((2, 2000), 0.9)
    layer = layers(0.5, (0,))[0]
    x = x.clone().requires_grad_()
    layer(x)[1].sum().backward()  # a gradient at step 2 alone
    second = x.grad[1] != 0
    x.grad = None
    layer(x)[0].sum().backward()
    first = x.grad[0] != 0
    assert 900 < int(first.sum()) < 1100
    assert 900 < int(second.sum()) < 1100
    assert 900 < int((first != second).sum()) < 1100


@pytest.mark.skipif(not can_compile("cpu"), reason="no C++ compiler for torch.compile")
def test_compiled_is_eager() -> None:
    x, grad = torch.rand(4, 3, 50) * 2, torch.rand(4, 3, 50)
    eager, compiled = layers(0.5, (1, 2))[1], layers(0.5, (1, 2), compiled=True)[1]
    torch.testing.assert_close(gradient(compiled, x, grad), gradient(eager, x, grad))
    assert torch.equal(gradient(compiled, x, grad) == 0, gradient(eager, x, grad) == 0)
    set_masks(nn.Sequential(nn.Linear(1, 1), compiled), 0.9, (5,))  # another ratio and key need no other kernel
    assert float((gradient(compiled, x, grad) != 0).float().mean()) < 0.4
