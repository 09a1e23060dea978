"""Remove the shortcut branches and prove that the network's outputs are the same bits.

`strip` never changes its input: it builds the network without branches, loads the main path strictly, runs both
networks on real samples, and writes only if every output is equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from snnsc import checkpoint
from snnsc.checkpoint import Checkpoint, main_path
from snnsc.errors import CheckError
from snnsc.model.shortcuts import PREFIX


@dataclass(frozen=True)
class Stripped:
    """What was removed, and on how many samples the outputs were found equal."""

    output: Path
    parameters_before: int
    parameters_after: int
    removed: tuple[str, ...]
    """Names of the removed weights."""
    samples: int
    accuracy: float
    """On these samples, before and after alike."""


def branch_weights(source: Checkpoint) -> tuple[str, ...]:
    """Names of the weights of the shortcut branches; empty for a vanilla or stripped network."""
    return tuple(name for name in source.model if name.startswith(PREFIX))


def strip(source: Checkpoint, batches: Iterable[tuple[Tensor, Tensor]], output: Path) -> Stripped:
    """Write the main path of a checkpoint as a checkpoint of its own.

    Args:
        source: A checkpoint with branches.
        batches: Real samples: (frames [T, B, C, H, W] or images [B, C, H, W], labels [B]).
        output: The file to write.

    Raises:
        CheckError: an output differs; nothing is written.
        ModelFileError: the weights are not those of the recipe.
        SnnscError: the file cannot be written.
    """
    full, plain = source.build(compiled=False), source.build(branches=False, compiled=False)
    samples = correct = 0
    with torch.inference_mode():
        for inputs, labels in batches:
            expected, got = full(inputs), plain(inputs)
            if not torch.isfinite(expected).all():
                raise CheckError(
                    "the network's outputs are not finite numbers: its weights are spoilt; nothing is written"
                )
            if not torch.equal(expected, got):
                worst = float((expected - got).abs().max())
                raise CheckError(
                    f"the stripped network differs from the full one by up to {worst:g}; nothing is written"
                )
            samples += len(got)
            correct += int((got.argmax(-1) == labels).sum())
    if samples == 0:
        raise CheckError("there are no samples to compare the stripped network on; nothing is written")
    checkpoint.save(output, replace(source, kind="stripped", model=main_path(source.model), training=None))
    return Stripped(
        output, parameters(full), parameters(plain), branch_weights(source), samples, accuracy=correct / samples
    )


def parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters())
