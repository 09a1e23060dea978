"""What is minimised: the losses of the head and of the branches, combined as the method says.

Legend: T time steps, B batch, K classes, O outputs. o_n is the head's output, o_l those of the branches. Labels are
classes, int64 [B], or shares of classes, float32 [B, K], as Mixup and CutMix make them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from snnsc.model.network import Logits
from snnsc.recipe.schema import (
    CeSpec,
    DistillSpec,
    EvolutionarySpec,
    LossSpec,
    MethodSpec,
    ShortcutSpec,
    TetSpec,
    VanillaSpec,
)
from snnsc.training.metrics import class_labels

OutputLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits of one output [T, B, K], labels) -> scalar."""
Loss = Callable[[Logits, Tensor, float], Tensor]
"""(logits, labels, weight of the branches) -> scalar."""


def build_output_loss(spec: LossSpec, label_smoothing: float = 0.0) -> OutputLoss:
    """The loss of one output.

        ce     CE(mean over t of o[t], y)
        tet    (1 - lamb) * mean over t of CE(o[t], y) + lamb * mean over t, samples and classes of (o[t] - target)^2

    Source: Deng et al., Temporal Efficient Training, ICLR 2022 (arXiv 2202.11946), Eq. 10-12, for tet.
    """

    def cross_entropy(logits_BK: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits_BK, labels, label_smoothing=label_smoothing)

    def ce(logits_TBK: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits_TBK.mean(0), labels)

    match spec:
        case CeSpec():
            return ce
        case TetSpec(lamb=lamb, target=target):

            def tet(logits_TBK: Tensor, labels: Tensor) -> Tensor:
                every_step = labels.repeat(len(logits_TBK), *(1 for _ in labels.shape[1:]))
                each = cross_entropy(logits_TBK.flatten(0, 1), every_step)
                return (1 - lamb) * each + lamb * (logits_TBK - target).square().mean()

            return tet
        case _:
            assert_never(spec)


def build_loss(method: MethodSpec, label_smoothing: float = 0.0) -> Loss:
    """The training loss of a method, where L is the loss of one output that `method.loss` names.

        vanilla                    L(o_n)
        combine = "logits"         L(o_n + weight * sum of o_l)         (Guo et al., arXiv 2401.04486, Eq. 6 and 10)
        combine = "losses"         L(o_n) + weight * sum of L(o_l)      (their introduction)
        distill                    D(o_n) + weight * sum of D(o_l),  D(o) = L(o) + alpha tau^2 KL(teacher, o)

    Args:
        method: Which method; its weight over the iterations is `schedules.branch_weight`.
        label_smoothing: Of every cross-entropy.
    """
    of_output = build_output_loss(method.loss, label_smoothing)

    def vanilla(logits: Logits, labels: Tensor, weight: float) -> Tensor:  # noqa: ARG001
        return of_output(logits.main_TBK, labels)

    def sum_of_logits(logits: Logits, labels: Tensor, weight: float) -> Tensor:
        branches = torch.stack(list(logits.branches_TBK.values())).sum(0)
        return of_output(logits.main_TBK + weight * branches, labels)

    def sum_of_losses(logits: Logits, labels: Tensor, weight: float) -> Tensor:
        branches = [of_output(o_TBK, labels) for o_TBK in logits.branches_TBK.values()]
        return of_output(logits.main_TBK, labels) + weight * torch.stack(branches).sum()

    match method:
        case VanillaSpec():
            return vanilla
        case ShortcutSpec(combine=combine) | EvolutionarySpec(combine=combine):
            return sum_of_logits if combine == "logits" else sum_of_losses
        case DistillSpec(alpha=alpha, temperature=temperature):

            def distill(logits: Logits, labels: Tensor, weight: float) -> Tensor:
                outputs_OBK = torch.stack([o_TBK.mean(0) for o_TBK in (logits.main_TBK, *logits.branches_TBK.values())])
                kl_O = alpha * temperature**2 * self_distillation(outputs_OBK, labels, temperature)
                return sum_of_losses(logits, labels, weight) + kl_O[0] + weight * kl_O[1:].sum()

            return distill
        case _:
            assert_never(method)


def self_distillation(outputs_OBK: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """KL of each output from those that are right, mean over the batch: [O].

    The teacher of a sample is the mean of those outputs whose arg-max is its label, through a softmax at `temperature`;
    no gradient goes through it. A sample that none gets right has no teacher and counts as 0.

    Source: Deng et al., Surrogate Module Learning, ICML 2023, and Enhanced Self-Distillation, NeurIPS 2025
    (arXiv 2510.06254), for branches that teach each other and for taking the right ones only.
    """
    right_OB = outputs_OBK.argmax(-1) == class_labels(labels)
    count_B = right_OB.sum(0)
    teacher_BK = (outputs_OBK * right_OB[..., None]).sum(0) / count_B.clamp(min=1)[:, None]
    kl_OB = kl_divergence(teacher_BK.detach(), outputs_OBK, temperature)
    return (kl_OB * (count_B > 0)).mean(1)


def kl_divergence(teacher_BK: Tensor, student_BK: Tensor, temperature: float) -> Tensor:
    """Sum over classes of p log(p / q), p and q the softmaxes of teacher and student at `temperature`: [..., B].

    Args:
        teacher_BK: Logits [..., B, K].
        student_BK: Logits of that shape, or one that it broadcasts to.
        temperature: What both are divided by.
    """
    log_p = F.log_softmax(teacher_BK / temperature, -1)
    log_q = F.log_softmax(student_BK / temperature, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
