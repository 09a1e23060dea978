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
from snnsc.export.runtime import OnnxNetwork
from snnsc.model import SpikingNetwork
from snnsc.training.evaluate import neuron_outputs


@dataclass(frozen=True)
class Bounds:
    """How far the exported network may be from the trained one."""

    max_spike_flip_rate: float = 1e-3
    """Largest share of a layer's neuron-steps that may fire in one and not in the other."""
    min_argmax_agreement: float = 0.99
    """Least share of samples that both put in the same class."""


@dataclass(frozen=True)
class Verification:
    """What was found on how many samples."""

    samples: int
    argmax_agreement: float
    accuracy_torch: float
    accuracy_onnx: float
    max_spike_flip_rate: float
    spike_flip_rate: dict[str, float]
    """Share of differing neuron-steps of each layer."""
    neuron_steps: int
    """Neuron-steps compared, all layers and samples together."""

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return asdict(self)


def verify(
    network: SpikingNetwork, exported: OnnxNetwork, batches: Iterable[tuple[Tensor, Tensor]], bounds: Bounds
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
        spikes: dict[str, Tensor] = {}
        with torch.inference_mode(), neuron_outputs(network, spikes.__setitem__):
            logits = network(inputs)
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
        max_spike_flip_rate=max(rates.values(), default=0.0),
        spike_flip_rate=rates,
        neuron_steps=sum(steps.values()),
    )
    _hold(found, bounds)
    return found


def _hold(found: Verification, bounds: Bounds) -> None:
    if found.max_spike_flip_rate > bounds.max_spike_flip_rate:
        layer = max(found.spike_flip_rate, key=found.spike_flip_rate.__getitem__)
        raise CheckError(
            f"{found.max_spike_flip_rate:.2e} of the spikes of layer {layer} differ between torch and onnxruntime, "
            f"more than --max-flip-rate {bounds.max_spike_flip_rate:g}; nothing is written"
        )
    if found.argmax_agreement < bounds.min_argmax_agreement:
        raise CheckError(
            f"torch and onnxruntime agree on the class of {found.argmax_agreement:.2%} of {found.samples} samples, "
            f"fewer than {bounds.min_argmax_agreement:.0%}; nothing is written"
        )
