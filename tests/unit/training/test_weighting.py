"""The weights of the temporally weighted output, by hand."""

from __future__ import annotations

import pytest
import torch

from snnsc.training.weighting import updated_step_weights


def test_closed_form() -> None:
    # mean accuracy 0.5: 0.7 * 1 + 0.3 * (0.2, 0.8) / 0.5
    found = updated_step_weights(torch.ones(2), torch.tensor([0.2, 0.8], dtype=torch.float64), 0.7)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([0.82, 1.18])
    again = updated_step_weights(found, torch.tensor([0.5, 0.5]), 0.7)
    assert again.tolist() == pytest.approx([0.7 * 0.82 + 0.3, 0.7 * 1.18 + 0.3])
    assert again.mean().item() == pytest.approx(1)


def test_momentum_at_its_ends() -> None:
    a, acc = torch.tensor([1.5, 0.5]), torch.tensor([0.25, 0.75])
    assert updated_step_weights(a, acc, 1.0).tolist() == a.tolist()
    assert updated_step_weights(a, acc, 0.0).tolist() == [0.5, 1.5]


def test_where_no_step_is_ever_right_the_weights_stay() -> None:
    a = torch.tensor([1.5, 0.5])
    assert torch.equal(updated_step_weights(a, torch.zeros(2), 0.7), a)
