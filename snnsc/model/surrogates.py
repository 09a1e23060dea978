"""Surrogate gradients: ds/du as a function of d = u - threshold, in place of the spike's own derivative.

Each is >= 0, finite and largest at threshold. Sources: Guo et al., NeurIPS 2024 (arXiv 2401.04486), Eq. 4, for
triangle, rectangle and tanh (printed there as k (1 - tanh d)^2, which grows without bound below threshold: a misprint);
Zenke & Ganguli 2018 for sigmoid; Li et al., Dspike, NeurIPS 2021; Fang et al., PLIF, ICCV 2021, for atan;
Li et al., Neural Networks 2024 (code Brain-Cog-Lab/msg), for piecewise-linear.
"""

from __future__ import annotations

import math
from typing import assert_never

import torch

from snnsc.model.equations import Slope
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
            return lambda d, threshold: gamma * torch.clamp(1 - d.abs() / threshold, min=0)
        case RectangleSpec(a=a):
            return lambda d, threshold: (d.abs() < a / 2).to(d.dtype) / a  # noqa: ARG005
        case TanhSpec(k=k):
            return lambda d, threshold: k * (1 - torch.tanh(d) ** 2)  # noqa: ARG005
        case SigmoidSpec(alpha=alpha):
            return lambda d, threshold: alpha * torch.sigmoid(alpha * d) * torch.sigmoid(-alpha * d)  # noqa: ARG005
        case DspikeSpec(b=b):
            peak = b / (2 * math.tanh(b / 2))
            return lambda d, threshold: (d.abs() <= 0.5).to(d.dtype) * peak * (1 - torch.tanh(b * d) ** 2)  # noqa: ARG005
        case AtanSpec(alpha=alpha):
            return lambda d, threshold: alpha / (2 * (1 + (math.pi / 2 * alpha * d) ** 2))  # noqa: ARG005
        case PiecewiseLinearSpec(alpha=alpha):
            return lambda d, threshold: torch.clamp(alpha - alpha**2 * d.abs(), min=0)  # noqa: ARG005
        case _:
            assert_never(spec)
