"""Lines of metrics.jsonl made by hand."""

from __future__ import annotations

from typing import Any

EDGES = [1e-3, 1e-2, 1e-1, 1.0]


def line(epoch: int, accuracy: float, **more: Any) -> dict[str, Any]:
    """What metrics.jsonl says of an epoch, as far as it is compared."""
    return {
        "epoch": epoch,
        "accuracy": accuracy,
        "seconds": 10.0 * epoch,
        "gradient_norm": {"stem.convs.0.conv": 0.5 / epoch, "head": 1.0},
        "firing_rate": {"stem.neurons.0": 0.1, "stages.0.0.neuron": 0.3},
        "first_layer_gradient": {"edges": EDGES, "negative": [1, 2, 0], "zero": 4, "positive": [0, 2, 1]},
        **more,
    }
