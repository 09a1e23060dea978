"""Sums that become accuracies and rates; they stay on the device until they are read.

Legend: T time steps, B batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def class_labels(labels: Tensor) -> Tensor:
    """The class of every sample, int64 [B]: `labels` itself, or the largest share of each row of [B, K]."""
    return labels if labels.dim() == 1 else labels.argmax(-1)


@dataclass(frozen=True)
class LayerActivity:
    """How much a layer of neurons fires."""

    name: str
    firing_rate: float
    """Mean spikes a neuron and time step; of a layer of other values, such as ReLU's, the share that is not 0."""
    dead: float
    """Share of the neurons that never fired."""


@dataclass(frozen=True)
class Evaluation:
    """What a network does on a set of samples."""

    accuracy: float
    loss: float
    samples: int
    accuracy_by_timestep: list[float]
    """Entry t - 1: accuracy of the mean of the first t steps' logits."""
    branch_accuracy: dict[str, float]
    layers: list[LayerActivity]
    confusion: list[list[int]]
    """[true class][predicted class]."""

    @property
    def firing_rate(self) -> float:
        """Mean over the layers."""
        return sum(layer.firing_rate for layer in self.layers) / max(1, len(self.layers))


class Scores:
    """Adds up batches of an evaluation.

    Args:
        classes: K.
        device: Where the sums stand.
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu") -> None:
        self.classes = classes
        self.device = torch.device(device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
        self.correct_by_timestep: Tensor | None = None
        self.correct_by_branch: dict[str, Tensor] = {}
        self.spikes: dict[str, Tensor] = {}
        self.neuron_steps: dict[str, int] = {}

    def add_logits(self, logits_TBK: Tensor, labels: Tensor) -> None:
        """Count a batch by the head's logits of every step."""
        steps = torch.arange(1, len(logits_TBK) + 1, device=logits_TBK.device, dtype=logits_TBK.dtype)
        by_timestep_TBK = logits_TBK.cumsum(0) / steps[:, None, None]
        output_BK = logits_TBK.mean(0)
        self.loss += F.cross_entropy(output_BK, labels, reduction="sum").double()
        predicted = output_BK.argmax(-1)
        self.confusion.view(-1).scatter_add_(0, labels * self.classes + predicted, torch.ones_like(labels))
        correct_T = (by_timestep_TBK[:-1].argmax(-1) == labels).sum(1)
        correct_T = torch.cat([correct_T, (predicted == labels).sum()[None]])
        self.correct_by_timestep = (
            correct_T if self.correct_by_timestep is None else self.correct_by_timestep + correct_T
        )

    def add_branch(self, name: str, logits_TBK: Tensor, labels: Tensor) -> None:
        """Count a batch by a branch's logits."""
        correct = (logits_TBK.mean(0).argmax(-1) == labels).sum()
        self.correct_by_branch[name] = self.correct_by_branch.get(name, torch.zeros_like(correct)) + correct

    def add_spikes(self, layer: str, spikes_TB: Tensor) -> None:
        """Count the spikes [T, B, ...] of a layer of neurons: its values that are not 0."""
        counts = torch.zeros_like(spikes_TB[0, 0], dtype=torch.float64)
        for spikes_B in spikes_TB:  # up to 19 times as fast as count_nonzero on a CPU; exact up to 2^24 samples
            counts += spikes_B.sign().abs_().sum(0, dtype=torch.float32)
        self.spikes[layer] = counts if layer not in self.spikes else self.spikes[layer] + counts
        self.neuron_steps[layer] = self.neuron_steps.get(layer, 0) + spikes_TB.shape[0] * spikes_TB.shape[1]

    def reduce(self) -> None:
        """Add up over the processes of a distributed run."""
        correct = [self.correct_by_timestep, *self.correct_by_branch.values()]
        for tensor in (self.loss, self.confusion, *correct, *self.spikes.values()):
            if tensor is not None:
                dist.all_reduce(tensor)
        for layer, steps in self.neuron_steps.items():
            total = torch.tensor(steps, device=self.device)
            dist.all_reduce(total)
            self.neuron_steps[layer] = int(total)

    def result(self) -> Evaluation:
        """The accuracies and rates so far."""
        samples = int(self.confusion.sum())
        assert self.correct_by_timestep is not None, "no batch was added"
        return Evaluation(
            accuracy=int(self.confusion.diagonal().sum()) / samples,
            loss=float(self.loss) / samples,
            samples=samples,
            accuracy_by_timestep=[int(c) / samples for c in self.correct_by_timestep],
            branch_accuracy={name: int(c) / samples for name, c in self.correct_by_branch.items()},
            layers=[
                LayerActivity(name, float(s.mean()) / self.neuron_steps[name], float((s == 0).double().mean()))
                for name, s in self.spikes.items()
            ],
            confusion=self.confusion.tolist(),
        )
