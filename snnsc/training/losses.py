"""What is minimised: the cross-entropy of the head and of the branches, combined as the method says.

Legend: T time steps, B batch, K classes. o_n is the head's output, o_l those of the branches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from snnsc.model.network import Logits
from snnsc.recipe.schema import EvolutionarySpec, MethodSpec, ShortcutSpec, VanillaSpec

Loss = Callable[[Logits, Tensor, float], Tensor]
"""(logits, labels [B], weight of the branches) -> scalar."""


def build_loss(method: MethodSpec, label_smoothing: float = 0.0) -> Loss:
    """The training loss of a method; logits are averaged over time before the cross-entropy CE.

        vanilla                    CE(o_n)
        combine = "logits"         CE(o_n + weight * sum of o_l)        (Guo et al., arXiv 2401.04486, Eq. 6 and 10)
        combine = "losses"         CE(o_n) + weight * sum of CE(o_l)    (their introduction)

    Args:
        method: Which method; its weight over the iterations is `schedules.branch_weight`.
        label_smoothing: Of every cross-entropy.
    """

    def ce(logits_BK: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits_BK, labels, label_smoothing=label_smoothing)

    def vanilla(logits: Logits, labels: Tensor, weight: float) -> Tensor:  # noqa: ARG001
        return ce(logits.main_TBK.mean(0), labels)

    def sum_of_logits(logits: Logits, labels: Tensor, weight: float) -> Tensor:
        branches = torch.stack(list(logits.branches_TBK.values())).sum(0)
        return ce((logits.main_TBK + weight * branches).mean(0), labels)

    def sum_of_losses(logits: Logits, labels: Tensor, weight: float) -> Tensor:
        branches = [ce(o_TBK.mean(0), labels) for o_TBK in logits.branches_TBK.values()]
        return ce(logits.main_TBK.mean(0), labels) + weight * torch.stack(branches).sum()

    match method:
        case VanillaSpec():
            return vanilla
        case ShortcutSpec(combine=combine) | EvolutionarySpec(combine=combine):
            return sum_of_logits if combine == "logits" else sum_of_losses
        case _:
            assert_never(method)
