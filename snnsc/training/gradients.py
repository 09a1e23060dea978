"""What the gradients of an epoch look like: the norm of each block's, and how the first layer's are spread.

Both are sums on the device over sampled steps, read once an epoch, and part of the state that a resumed run goes on
with. They are of what the method lets through (masked, averaged over the processes), before clipping.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from snnsc.model import SpikingNetwork

FIRST_LAYER = "stem.convs.0.conv"
"""The first convolution; every architecture has it."""
DECADES = (-9, 1)
"""Powers of ten between which magnitudes are told apart; the bins are the same in every run, to compare runs."""
BINS_A_DECADE = 5
BINS = (DECADES[1] - DECADES[0]) * BINS_A_DECADE
EDGES = tuple(10.0 ** (DECADES[0] + i / BINS_A_DECADE) for i in range(BINS + 1))
"""Magnitudes between the bins, rising."""


def signed_histogram(values: Tensor) -> Tensor:
    """How many of `values` lie in each signed logarithmic bin; nothing waits for the device.

    Args:
        values: Any shape, float.

    Returns:
        Counts, int64 [2 BINS + 1], in rising order of value: negative bins from the largest magnitude on, zero,
        positive bins. Bin i of a sign holds magnitudes in [EDGES[i], EDGES[i + 1]), the last also those beyond; zero
        holds those below EDGES[0].
    """
    values = values.flatten()  # contiguous, as bucketize wants it
    place = torch.bucketize(values.abs(), _edges(values.device), right=True).clamp(max=BINS)
    place = BINS + torch.where(values < 0, -place, place)
    counts = torch.zeros(2 * BINS + 1, dtype=torch.int64, device=values.device)
    return counts.scatter_add_(0, place, torch.ones_like(place))


@functools.cache
def _edges(device: torch.device) -> Tensor:
    return torch.tensor(EDGES, dtype=torch.float32, device=device)


def gradient_blocks(model: SpikingNetwork) -> Iterator[tuple[str, nn.Module]]:
    """The parts of a network whose gradient norms are told apart: first convolution, stem, every block, head."""
    yield FIRST_LAYER, model.get_submodule(FIRST_LAYER)
    yield "stem", model.stem
    for s, blocks in enumerate(model.stages):
        for b, block in enumerate(blocks.children()):
            yield f"stages.{s}.{b}", block
    yield "head", model.head


class GradientSums:
    """Adds up the gradients of the sampled steps of an epoch.

    Args:
        device: Where the network stands.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.norms: dict[str, Tensor] = {}
        self.histogram = torch.zeros(2 * BINS + 1, dtype=torch.int64, device=device)

    def add(self, model: SpikingNetwork) -> None:
        """Add the gradients that stand in `model` now."""
        for name, block in gradient_blocks(model):
            norm = nn.utils.get_total_norm([p.grad for p in block.parameters() if p.grad is not None])
            total = torch.stack([norm.detach().double(), torch.ones_like(norm, dtype=torch.float64)])
            self.norms[name] = self.norms.get(name, torch.zeros_like(total)) + total
        gradient = model.get_parameter(f"{FIRST_LAYER}.weight").grad
        if gradient is not None:
            self.histogram += signed_histogram(gradient)

    def norm(self) -> dict[str, float]:
        """Mean norm of the gradient of each block."""
        return {name: float(total[0] / total[1]) for name, total in self.norms.items()}

    def first_layer(self) -> dict[str, Any]:
        """Signed logarithmic histogram of the first convolution's weight gradient, as metrics.jsonl has it."""
        counts = self.histogram.tolist()
        return {
            "edges": list(EDGES),
            "negative": counts[:BINS][::-1],
            "zero": counts[BINS],
            "positive": counts[BINS + 1 :],
        }

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        return {
            "gradient_norms": {name: norm.cpu() for name, norm in self.norms.items()},
            "gradient_histogram": self.histogram.cpu(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave; states of snnsc 0.1 have no histogram."""
        self.norms = {name: norm.to(self.device) for name, norm in state["gradient_norms"].items()}
        histogram = state.get("gradient_histogram", self.histogram)
        if histogram.shape != self.histogram.shape:
            raise ValueError("gradient_histogram has other bins")
        self.histogram = histogram.to(self.device)
