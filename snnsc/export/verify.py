"""Is the exported network the trained one? Spike by spike, on real samples.

Equality of floats is the wrong question: torch and onnxruntime sum in different orders, so a membrane within rounding
of the threshold may fire in one and not in the other. What counts is how many spikes differ, and what comes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from snnsc.errors import CheckError
from snnsc.export.form import Form
from snnsc.export.runtime import Runnable
from snnsc.model import SpikingNetwork
from snnsc.training.evaluate import run_watched


@dataclass(frozen=True)
class Bounds:
    """How far the exported network may be from the trained one."""

    max_spike_flip_rate: float = 1e-3
    """Largest share of a layer's neuron-steps that may fire in one and not in the other."""
    min_argmax_agreement: float = 0.99
    """Least share of samples that both put in the same class."""
    max_accuracy_drop: float = 0.02
    """Most that the accuracy may be below the trained network's."""

    @classmethod
    def of(cls, form: Form, max_flip_rate: float | None, max_accuracy_drop: float) -> Bounds:
        """The bounds of a form, where `None` is its own.

        On an exact grid the network is the same. With eight bits it is another, which is judged by its accuracy: in a
        deep one a tenth of the spikes may turn without harm.
        """
        flips, agreement = (0.2, 0.75) if form.int8 else (0.0, 0.99) if form.exact_grid else (1e-3, 0.99)
        return cls(flips if max_flip_rate is None else max_flip_rate, agreement, max_accuracy_drop)


@dataclass(frozen=True)
class Verification:
    """What was found on how many samples."""

    samples: int
    argmax_agreement: float
    accuracy_torch: float
    accuracy_onnx: float
    """Of what was exported."""
    accuracy_difference: float
    """Exported less torch's."""
    max_spike_flip_rate: float
    spike_flip_rate: dict[str, float]
    """Share of differing neuron-steps of each layer."""
    neuron_steps: int
    """Neuron-steps compared, all layers and samples together."""

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return asdict(self)


def verify(
    network: SpikingNetwork, exported: Runnable, batches: Iterable[tuple[Tensor, Tensor]], bounds: Bounds
) -> Verification:
    """Run both networks and compare.

    Args:
        network: The stripped network, in evaluation mode.
        exported: What was exported from it.
        batches: Real samples: (frames [T, B, C, H, W] or images [B, C, H, W], labels [B]).
        bounds: What is allowed.

    Raises:
        CheckError: a bound is exceeded.
    """
    flips: dict[str, int] = {}
    steps: dict[str, int] = {}
    samples = agree = right_torch = right_onnx = 0
    for inputs, labels in batches:
        logits, spikes = run_watched(network, inputs)
        expected = logits.argmax(-1)
        logits_TBK, other_spikes = exported.run(inputs.numpy())
        got = torch.from_numpy(logits_TBK).mean(0).argmax(-1)
        if not (torch.isfinite(logits).all() and np.isfinite(logits_TBK).all()):
            raise CheckError("the network's outputs are not finite numbers: its weights are spoilt; nothing is written")
        samples += len(labels)
        agree += int((expected == got).sum())
        right_torch += int((expected == labels).sum())
        right_onnx += int((got == labels).sum())
        for layer, ours in spikes.items():
            flips[layer] = flips.get(layer, 0) + int(((ours != 0) != torch.from_numpy(other_spikes[layer] != 0)).sum())
            steps[layer] = steps.get(layer, 0) + ours.numel()
    if samples == 0:
        raise CheckError("there are no samples to verify the export on")
    rates = {layer: flips[layer] / steps[layer] for layer in flips}
    found = Verification(
        samples=samples,
        argmax_agreement=agree / samples,
        accuracy_torch=right_torch / samples,
        accuracy_onnx=right_onnx / samples,
        accuracy_difference=(right_onnx - right_torch) / samples,
        max_spike_flip_rate=max(rates.values(), default=0.0),
        spike_flip_rate=rates,
        neuron_steps=sum(steps.values()),
    )
    _hold(found, bounds, exported.name)
    return found


def few(batches: Iterable[tuple[Tensor, Tensor]], samples: int) -> list[tuple[Tensor, Tensor]]:
    """The first samples."""
    taken: list[tuple[Tensor, Tensor]] = []
    for inputs, labels in batches:
        part = min(samples, len(labels))
        taken.append((inputs.narrow(inputs.dim() - 4, 0, part), labels[:part]))
        samples -= part
        if samples == 0:
            break
    return taken


def neuron_steps(network: SpikingNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Neuron-steps of one sample, all layers together."""
    _, spikes = run_watched(network, few(batches, 1)[0][0])
    return sum(s.numel() for s in spikes.values())


def _hold(found: Verification, bounds: Bounds, name: str) -> None:
    if found.max_spike_flip_rate > bounds.max_spike_flip_rate:
        layer = max(found.spike_flip_rate, key=found.spike_flip_rate.__getitem__)
        raise CheckError(
            f"{found.max_spike_flip_rate:.2e} of the spikes of layer {layer} differ between torch and {name}, "
            f"more than --max-flip-rate {bounds.max_spike_flip_rate:g}; nothing is written"
        )
    if found.argmax_agreement < bounds.min_argmax_agreement:
        raise CheckError(
            f"torch and {name} agree on the class of {found.argmax_agreement:.2%} of {found.samples} samples, "
            f"fewer than {bounds.min_argmax_agreement:.0%}; nothing is written"
        )
    hold_accuracy(found.accuracy_torch, found.accuracy_onnx, name, bounds)


def hold_accuracy(before: float, after: float, name: str, bounds: Bounds) -> None:
    """Raise CheckError where the accuracy fell by more than is allowed."""
    if before - after > bounds.max_accuracy_drop:
        raise CheckError(
            f"{name} classifies {after:.2%} right where the trained network does {before:.2%}, more than "
            f"--max-accuracy-drop {bounds.max_accuracy_drop:g} below; nothing is written"
        )
