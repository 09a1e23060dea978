"""Spikes are kept as bits for the backward pass, and come back as they were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snnsc.model.bits import Bits, mark, spikes_as_bits


class Kept:
    """What autograd keeps within the context, as it is when the backward pass begins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from snnsc.model import bits

        self.items: list[Tensor | Bits] = []
        pack = bits._pack

        def watched(tensor: Tensor) -> Tensor | Bits:
            self.items.append(pack(tensor))
            return self.items[-1]

        monkeypatch.setattr(bits, "_pack", watched)

    @property
    def bits(self) -> list[Bits]:
        return [item for item in self.items if isinstance(item, Bits)]


def spikes(dtype: torch.dtype = torch.float32, *, last: bool = False) -> Tensor:
    made = (torch.rand(4, 2, 3, 6, 6) > 0.6).to(dtype)
    if last:
        made = made.flatten(0, 1).contiguous(memory_format=torch.channels_last).view(made.shape)
    return mark(made)


@pytest.mark.parametrize("last", [False, True], ids=["channels-first", "channels-last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_those_of_the_spikes_themselves(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, *, last: bool
) -> None:
    torch.manual_seed(0)
    conv, x, kept = nn.Conv2d(3, 5, 3, dtype=dtype), spikes(dtype, last=last), Kept(monkeypatch)
    grads = []
    for wanted in (False, True):
        with spikes_as_bits(wanted=wanted):
            y = conv(x.flatten(0, 1))
        grads.append(torch.autograd.grad(y.float().square().sum(), list(conv.parameters())))
    assert len(kept.bits) == 1
    assert kept.bits[0].words.numel() * 8 == x.numel()
    for one, other in zip(*grads, strict=True):
        assert torch.equal(one, other)


def test_spikes_that_several_layers_read_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kept = spikes(), Kept(monkeypatch)
    with spikes_as_bits():
        y = nn.Conv2d(3, 2, 3)(x.flatten(0, 1)).sum() + nn.Conv2d(3, 2, 1)(x.flatten(0, 1)).sum()
    y.backward()
    assert len(kept.bits) == 2
    assert kept.bits[0].words is kept.bits[1].words


def test_what_is_no_spikes_or_a_part_of_them_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kept = spikes(), Kept(monkeypatch)
    real = torch.rand(8, 3, 6, 6)
    with spikes_as_bits():
        y = nn.Conv2d(3, 2, 3)(real).sum() + nn.Conv2d(3, 2, 3)(x[0]).sum()
    y.backward()
    assert kept.items
    assert not kept.bits


def test_a_number_of_spikes_that_bytes_do_not_hold_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kept = mark((torch.rand(3, 5) > 0.5).float()), Kept(monkeypatch)
    with spikes_as_bits():
        nn.Linear(5, 2)(x).sum().backward()
    assert kept.items
    assert not kept.bits
