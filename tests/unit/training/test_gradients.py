"""The histogram of the first layer's gradient: hand-placed values, against numpy, and over a run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from snnsc.model import build_model
from snnsc.recipe.schema import Recipe
from snnsc.training.gradients import BINS, EDGES, GradientSums, signed_histogram


def test_bins_are_five_a_decade_from_1e_9_to_10() -> None:
    assert (len(EDGES), EDGES[0], EDGES[-1]) == (51, 1e-9, 10.0)
    np.testing.assert_allclose(np.diff(np.log10(EDGES)), 0.2, rtol=1e-9)


def test_values_placed_by_hand() -> None:
    # 1 begins bin 45; 2e-9 lies in bin 1, as log10(2) = 0.301 is past one fifth; 100 is beyond the last edge
    counts = signed_histogram(torch.tensor([0.0, -0.0, 9e-10, -9e-10, 1.0, 1.5, 2e-9, -2e-9, -100.0, 9.99]))
    found = {i - BINS: int(n) for i, n in enumerate(counts) if n}
    assert found == {0: 4, 46: 2, 2: 1, -2: 1, -50: 1, 50: 1}


def test_against_numpy() -> None:
    rng = np.random.default_rng(0)
    values = (10.0 ** rng.uniform(-10, 0.9, (7, 5, 3, 3)) * rng.choice([-1, 1], (7, 5, 3, 3))).astype(np.float32)
    counts = signed_histogram(torch.from_numpy(values)).numpy()
    edges = np.array(EDGES, np.float32)
    positive = np.histogram(values[values > 0], edges)[0]
    negative = np.histogram(-values[values < 0], edges)[0]
    np.testing.assert_array_equal(counts, [*negative[::-1], (np.abs(values) < edges[0]).sum(), *positive])
    assert counts.sum() == values.size
    assert 0 < counts[BINS] < values.size / 3


def test_sums_over_steps_and_goes_on_from_a_state(make_recipe: Callable[..., Recipe]) -> None:
    model = build_model(make_recipe())
    weight = model.stem.convs[0].conv.weight
    sums = GradientSums(torch.device("cpu"))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weight.grad = torch.full_like(weight, 2e-9)
    sums.add(model)
    again = GradientSums(torch.device("cpu"))
    again.restore(sums.state())
    weight.grad = torch.full_like(weight, -1.0)
    again.add(model)
    found = again.first_layer()
    assert found["edges"] == list(EDGES)
    assert (found["zero"], found["positive"][1], found["negative"][45]) == (0, weight.numel(), weight.numel())
    assert sum(found["positive"]) == sum(found["negative"]) == weight.numel()
    assert len(found["positive"]) == len(found["negative"]) == len(found["edges"]) - 1
    # (2e-9 + 1) * sqrt(n) / 2
    assert abs(again.norm()["stem.convs.0.conv"] - weight.numel() ** 0.5 / 2) < 1e-6


def test_a_state_of_snnsc_0_1_has_no_histogram() -> None:
    sums = GradientSums(torch.device("cpu"))
    sums.restore({"gradient_norms": {"head": torch.tensor([3.0, 2.0])}})
    assert sums.norm() == {"head": 1.5}
    assert sums.first_layer()["zero"] == 0
