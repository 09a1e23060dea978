"""The equations once more, in plain torch: what the networks are compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NORM = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


def lif(current: Tensor, T: int) -> Tensor:
    v, spikes = torch.zeros_like(current[0]), []
    for t in range(T):
        u = 0.5 * v + current[t if len(current) > 1 else 0]
        s = (u > 1).float()
        v = u * (1 - s)
        spikes.append(s)
    return torch.stack(spikes)


def conv_bn(weights: dict[str, Tensor], prefix: str, x: Tensor, factor: float = 1.0, **conv) -> Tensor:
    y = F.conv2d(x.flatten(0, 1), weights[f"{prefix}.conv.weight"], **conv)
    norm = [weights[f"{prefix}.norm.{name}"].view(-1, 1, 1) for name in NORM[:4]]
    y = factor * norm[0] * (y - norm[2]) / torch.sqrt(norm[3] + 1e-5) + norm[1]
    return y.view(*x.shape[:2], *y.shape[1:])


def randomise(model: torch.nn.Module) -> dict[str, Tensor]:
    """Weights and statistics at which every layer fires."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "norm" in name and "num" not in name:
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_({"weight": 1 + noise, "bias": noise, "running_mean": noise - 0.5}.get(
                    name.rpartition(".")[2], 0.2 + noise))  # fmt: skip
    return model.state_dict()


def pool(x: Tensor) -> Tensor:
    T, B, C, H, width = x.shape
    return x.view(T, B, C, H // 2, 2, width // 2, 2).mean((4, 6))
