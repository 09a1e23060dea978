"""Each surrogate gradient against its closed form (methods, section 2), written out again in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from snnsc.model.surrogates import build_surrogate
from snnsc.recipe.schema import Recipe


def sig(x):
    return 1 / (1 + np.exp(-x))


def dspike(d, _threshold, b):
    return np.where(np.abs(d) <= 0.5, b * (1 - np.tanh(b * d) ** 2) / (2 * np.tanh(b / 2)), 0.0)


FORMS = {
    "triangle": ("gamma", lambda d, th, g: g * np.maximum(0, 1 - np.abs(d) / th)),
    "rectangle": ("a", lambda d, _, a: np.where(np.abs(d) < a / 2, 1 / a, 0.0)),
    "tanh": ("k", lambda d, _, k: k / np.cosh(d) ** 2),
    "sigmoid": ("alpha", lambda d, _, a: a * sig(a * d) * (1 - sig(a * d))),
    "dspike": ("b", dspike),
    "atan": ("alpha", lambda d, _, a: a / (2 * (1 + (np.pi / 2 * a * d) ** 2))),
    "piecewise-linear": ("alpha", lambda d, _, a: np.where(np.abs(d) > 1 / a, 0.0, a - a**2 * np.abs(d))),
}
PEAKS = {  # at threshold, with the default constants
    "triangle": 1.0, "rectangle": 1.0, "tanh": 1.0, "sigmoid": 1.0, "dspike": 3 / (2 * np.tanh(1.5)), "atan": 1.0,
    "piecewise-linear": 2.0,
}  # fmt: skip
# a grid of binary fractions holds the corners (0, 1/2, 1/4, the threshold) exactly
GRID = np.arange(-640, 641) / 128


def values(make_recipe: Callable[..., Recipe], table: str, d: np.ndarray, threshold: float = 1.0) -> np.ndarray:
    surrogate = build_surrogate(make_recipe(f"model.surrogate={{{table}}}").model.surrogate)
    found = surrogate(torch.from_numpy(d), threshold)
    assert found.dtype == torch.from_numpy(d).dtype
    return found.numpy()


@pytest.mark.parametrize("threshold", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("constant", [0.25, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("name", FORMS)
def test_closed_form(make_recipe: Callable[..., Recipe], name: str, constant: float, threshold: float) -> None:
    key, form = FORMS[name]
    found = values(make_recipe, f"type='{name}', {key}={constant}", GRID, threshold)
    np.testing.assert_allclose(found, form(GRID, threshold, constant), rtol=1e-12, atol=1e-15)
    assert (found >= 0).all()
    assert found.argmax() in np.flatnonzero(found == found[GRID == 0])  # nothing is above the value at threshold
    assert found[GRID == 0] > 0
    np.testing.assert_allclose(found, found[::-1], rtol=1e-12)  # even in d, all seven


@pytest.mark.parametrize("name", FORMS)
def test_default_peak_and_extremes(make_recipe: Callable[..., Recipe], name: str) -> None:
    far = np.array([0, -1e30, 1e30, -1e4, 1e4, 1e-30], dtype=np.float32)
    found = values(make_recipe, f"type='{name}'", far)
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(PEAKS[name], rel=1e-6)
    assert (found[1:3] == 0).all()  # no gradient far from threshold, below it either
    assert (found[3:5] < 1e-8).all()


@pytest.mark.parametrize("name", ["rectangle", "tanh", "sigmoid", "dspike", "atan", "piecewise-linear"])
def test_area(make_recipe: Callable[..., Recipe], name: str) -> None:
    """All but triangle's gamma and tanh's k are normalised: the integral is a step of height 1 (tanh: 2)."""
    d = np.linspace(-2000, 2000, 4_000_001)
    area = values(make_recipe, f"type='{name}'", d).sum() * 1e-3
    assert area == pytest.approx(2.0 if name == "tanh" else 1.0, abs=2e-3)


@pytest.mark.parametrize("name", FORMS)
def test_a_compiler_knows_all_numbers(make_recipe: Callable[..., Recipe], name: str) -> None:
    inputs: list[torch.Tensor] = []

    def noting(graph: torch.fx.GraphModule, given: list[torch.Tensor]) -> torch.fx.GraphModule:
        inputs.extend(x for x in given if isinstance(x, torch.Tensor))
        return graph

    surrogate = build_surrogate(
        make_recipe(f"model.surrogate={{type='{name}', {FORMS[name][0]}=1.75}}").model.surrogate
    )
    torch.compile(lambda d: surrogate(d, 1.0), backend=noting, dynamic=True)(torch.zeros(5))
    assert [tuple(x.shape) for x in inputs] == [(5,)]
