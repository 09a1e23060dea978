"""What changes over training, as pure functions of the iteration: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from typing import assert_never

from snnsc.recipe.schema import (
    DistillSpec,
    EvolutionarySpec,
    MaskingSpec,
    MethodSpec,
    ShortcutSpec,
    TrainSpec,
    VanillaSpec,
)


def branch_weight(method: MethodSpec, iteration: int, iterations: int) -> float:
    """Weight of the shortcut branches at training iteration i of I (0 <= i < I).

        shortcut                 1
        evolutionary, distill    linear: lambda0 (1 - i/I);  cosine: lambda0 (1 + cos(pi i/I)) / 2;  constant: lambda0

    Source: Guo et al., NeurIPS 2024 (arXiv 2401.04486), Eq. 10 and Algorithm 1, for linear.
    """
    share = iteration / iterations
    match method:
        case VanillaSpec():
            return 0.0
        case ShortcutSpec():
            return 1.0
        case EvolutionarySpec(weight=weight, schedule=schedule) | DistillSpec(weight=weight, schedule=schedule):
            match schedule:
                case "linear":
                    return weight * (1 - share)
                case "cosine":
                    return weight * (1 + math.cos(math.pi * share)) / 2
                case "constant":
                    return weight
                case _:
                    assert_never(schedule)
        case _:
            assert_never(method)


def masking_ratio(masking: MaskingSpec, iteration: int, steps_per_epoch: int, epochs: int) -> float:
    """Share of the gradients that is masked at an iteration.

    `ratio`; with a ramp, `ratio` for its first `start` epochs, then along a straight line that is at the ramp's ratio
    when training ends.
    """
    if masking.ramp is None:
        return masking.ratio
    start = masking.ramp.start
    share = max(0.0, (iteration / steps_per_epoch - start) / (epochs - start))
    return masking.ratio + share * (masking.ramp.ratio - masking.ratio)


def learning_rate(train: TrainSpec, iteration: int, steps_per_epoch: int) -> float:
    """Learning rate at an iteration: linear warm-up to the peak, then along a cosine to 0, or constant."""
    iterations = train.epochs * steps_per_epoch
    warmup = round(train.warmup_epochs * steps_per_epoch)
    peak = train.optimizer.lr
    if iteration < warmup:
        return peak * (iteration + 1) / (warmup + 1)
    match train.lr_schedule:
        case "cosine":
            return peak * (1 + math.cos(math.pi * (iteration - warmup) / max(1, iterations - warmup))) / 2
        case "constant":
            return peak
        case _:
            assert_never(train.lr_schedule)
