"""Surrogate gradients: ds/du as a function of d = u - threshold, in place of the spike's own derivative.

Each is >= 0, finite and largest at threshold. Sources: Guo et al., NeurIPS 2024 (arXiv 2401.04486), Eq. 4, for
triangle, rectangle and tanh (printed there as k (1 - tanh d)^2, which grows without bound below threshold: a misprint);
Zenke & Ganguli 2018 for sigmoid; Li et al., Dspike, NeurIPS 2021; Fang et al., PLIF, ICCV 2021, for atan;
Li et al., Neural Networks 2024 (code Brain-Cog-Lab/msg), for piecewise-linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import assert_never

import torch
from torch import Tensor

from snnsc.model.equations import Constant, Slope, known
from snnsc.recipe.schema import (
    AtanSpec,
    DspikeSpec,
    PiecewiseLinearSpec,
    RectangleSpec,
    SigmoidSpec,
    SurrogateSpec,
    TanhSpec,
    TriangleSpec,
)


def build_surrogate(spec: SurrogateSpec) -> Slope:
    """The gradient that `spec` names, as a function of d = u - threshold and of the threshold."""
    match spec:
        case TriangleSpec(gamma=gamma):
            return _with(_triangle, gamma=gamma)
        case RectangleSpec(a=a):
            return _with(_rectangle, a=a)
        case TanhSpec(k=k):
            return _with(_tanh, k=k)
        case SigmoidSpec(alpha=alpha):
            return _with(_sigmoid, alpha=alpha)
        case DspikeSpec(b=b):
            return _with(_dspike, b=b, peak=b / (2 * math.tanh(b / 2)))
        case AtanSpec(alpha=alpha):
            return _with(_atan, alpha=alpha, rate=math.pi / 2 * alpha)
        case PiecewiseLinearSpec(alpha=alpha):
            return _with(_piecewise_linear, alpha=alpha)
        case _:
            assert_never(spec)


def _with(slope: Callable[..., Tensor], **numbers: float) -> Slope:
    fixed = known(**numbers)
    return lambda d, threshold: slope(d, threshold, **fixed())


def _triangle(d: Tensor, threshold: Constant, gamma: float) -> Tensor:
    return gamma * torch.clamp(1 - d.abs() / threshold, min=0)


def _rectangle(d: Tensor, _threshold: Constant, a: float) -> Tensor:
    return (d.abs() < a / 2).to(d.dtype) / a


def _tanh(d: Tensor, _threshold: Constant, k: float) -> Tensor:
    return k * (1 - torch.tanh(d) ** 2)


def _sigmoid(d: Tensor, _threshold: Constant, alpha: float) -> Tensor:
    return alpha * torch.sigmoid(alpha * d) * torch.sigmoid(-alpha * d)


def _dspike(d: Tensor, _threshold: Constant, b: float, peak: float) -> Tensor:
    return (d.abs() <= 0.5).to(d.dtype) * peak * (1 - torch.tanh(b * d) ** 2)


def _atan(d: Tensor, _threshold: Constant, alpha: float, rate: float) -> Tensor:
    return alpha / (2 * (1 + (rate * d) ** 2))


def _piecewise_linear(d: Tensor, _threshold: Constant, alpha: float) -> Tensor:
    return torch.clamp(alpha - alpha**2 * d.abs(), min=0)
