"""Temporally weighted output (TWO): each time step's logits count as much as they were right in training.

Legend: T time steps.
"""

from __future__ import annotations

import torch
from torch import Tensor


def updated_step_weights(weights_T: Tensor, accuracy_T: Tensor, momentum: float) -> Tensor:
    """The weights after an epoch: a <- momentum * a + (1 - momentum) * acc / mean(acc); as they were if mean(acc) is 0.

    Args:
        weights_T: a, [T].
        accuracy_T: Training accuracy of each step alone over the epoch, [T].
        momentum: Share of the old weights that is kept.

    Returns:
        New weights [T], in the type of `weights_T`; their mean stays 1 where it was 1.

    Source: Li et al., Neural Networks 2024 (arXiv 2406.19645; authors' code Brain-Cog-Lab/msg).
    """
    mean = accuracy_T.mean()
    updated_T = momentum * weights_T + (1 - momentum) * accuracy_T / mean
    return torch.where(mean > 0, updated_T, weights_T).to(weights_T.dtype)
