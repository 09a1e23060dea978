"""Blocks that are run again in the backward pass train as those whose values are kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnsc import build_model
from snnsc.model import Logits, bits
from snnsc.model.bits import mark, spikes_as_bits
from snnsc.model.masking import masks_of, set_masks
from snnsc.model.recompute import recomputed
from snnsc.recipe.schema import Recipe

T, B = 2, 3


def recipe(memory: str, model: dict[str, Any], **train: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "memory",
            "data": {"type": "cifar10dvs", "size": 32},
            "model": {"T": T, **model},
            "method": {"mode": "evolutionary"},
            "train": {"epochs": 1, "batch_size": B, "memory": memory, **train},
        }
    )


def trained(memory: str, model: dict[str, Any], *, precision: str = "fp32", **train: Any) -> dict[str, Tensor]:
    """Loss, gradients and buffers of a step."""
    network = build_model(recipe(memory, model, **train)).train()
    torch.manual_seed(0)
    x = torch.poisson(torch.full((T, B, 2, 32, 32), 0.5))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = network(x)
    assert isinstance(logits, Logits)
    loss = sum((y.square().sum() for y in logits.branches_TBK.values()), logits.main_TBK.square().sum())
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert len(gradients) == len(list(network.parameters()))
    return {"loss": loss.detach(), **gradients, **dict(network.named_buffers())}


THIN = {"arch": "resnet20-thin"}
NETWORKS: dict[str, dict[str, Any]] = {
    "standard": THIN,
    "sew-add": THIN | {"residual": "sew-add"},
    "ms": THIN | {"residual": "ms"},
    "plain": {"arch": "tiny", "stages": ((8, 8), (16,))},
    "tdbn": THIN | {"norm": {"type": "tdbn"}},
    "tebn": THIN | {"norm": {"type": "tebn"}},
    "bntt": THIN | {"norm": {"type": "bntt"}},
    "mpbn": THIN | {"norm": {"type": "mpbn"}},
    "plif": THIN | {"neuron": {"type": "plif"}},
}


@pytest.mark.parametrize("memory", ["balanced", "small"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_is_the_same_to_the_last_bit(name: str, memory: str) -> None:
    eager = {} if name == "standard" else {"compile": "off"}  # compiling takes long, and is the same for all
    expected, found = (trained(m, NETWORKS[name], **eager) for m in ("speed", memory))
    assert expected["loss"] > 0
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_reduced_precision_is_the_same_in_both_passes() -> None:
    expected, found = (trained(m, THIN, precision="bf16") for m in ("speed", "small"))
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


class Watched(nn.Module):
    """Counts its passes, and holds what it made in the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.passes = 0

    def forward(self, x: Tensor, times: int) -> Tensor:
        self.passes += 1
        return mark((self.linear(x) * times > 0).to(x.dtype) + 0 * self.linear(x))


def test_only_the_input_is_kept() -> None:
    block, x = Watched(), torch.rand(8, 16, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = recomputed(block, x, 3)
    assert [t.data_ptr() for t in kept] == [x.data_ptr()]
    assert block.passes == 1
    y.sum().backward()
    assert block.passes == 2


def test_spikes_of_one_block_are_bits_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Watched(), Watched()
    kept = []
    monkeypatch.setattr(bits, "_pack", lambda tensor, pack=bits._pack: kept.append(pack(tensor)) or kept[-1])
    with spikes_as_bits():
        y = recomputed(second, recomputed(first, torch.rand(8, 16), 1), 1)
    y.sum().backward()
    assert [type(item) for item in kept] == [Tensor, bits.Bits]
    assert kept[1].words.numel() == 8 * 16 // 8


def test_a_block_that_nothing_before_it_learns() -> None:
    """The first one reads the data."""
    block = Watched()
    recomputed(block, torch.rand(8, 16), 1).sum().backward()
    assert block.linear.weight.grad is not None


@pytest.mark.parametrize("memory", ["speed", "small"])
def test_normalisations_that_are_fixed_stay_so(memory: str) -> None:
    """Fine-tuning: statistics in evaluation mode, or not tracked."""
    network = build_model(recipe(memory, NETWORKS["plain"])).train()
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eval()
    before = {name: b.clone() for name, b in network.named_buffers()}
    expected = network.stem(torch.ones(T, B, 2, 32, 32), T)
    network(torch.ones(T, B, 2, 32, 32)).main_TBK.sum().backward()
    for name, b in network.named_buffers():
        assert torch.equal(b, before[name]), name
    assert torch.equal(expected, network.eval().stem(torch.ones(T, B, 2, 32, 32), T))


@pytest.mark.parametrize("memory", ["speed", "small"])
def test_second_derivatives_are_refused(memory: str) -> None:
    network = build_model(recipe(memory, NETWORKS["plain"], compile="off")).train()
    loss = network(torch.ones(T, B, 2, 32, 32)).main_TBK.square().sum()
    wanted = [network.head.get_parameter("linear.weight"), network.get_parameter("stem.convs.0.conv.weight")]
    gradients = torch.autograd.grad(loss, wanted, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradients[1].square().sum().backward()


def test_each_pass_has_its_own_masks_and_leaves_those_that_are_set() -> None:
    """Two passes before their gradients, as where these are accumulated."""
    found = []
    for memory in ("speed", "small"):
        network = build_model(recipe(memory, NETWORKS["plain"], compile="off")).train()
        losses = []
        for seed in (1, 2):
            set_masks(network, 0.5, (seed,))
            losses.append(network(torch.full((T, B, 2, 32, 32), 0.7)).main_TBK.square().sum())
        before = [mask.clone() for _, mask in masks_of(network) if mask is not None]
        sum(losses).backward()
        assert all(torch.equal(a, b) for a, (_, b) in zip(before, masks_of(network), strict=True))
        found.append([p.grad for p in network.parameters() if p.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
