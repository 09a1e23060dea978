"""Do torch, onnxruntime and a float64 reference fire the same spikes? Not almost: every one.

The proof of `exact.check` holds for every input; this is the trial of it, on real samples, in the runtimes as they are.

Legend: T time steps, B batch, K classes.
"""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from snnsc.errors import CheckError
from snnsc.export.functions import call
from snnsc.export.runtime import OnnxNetwork
from snnsc.model import SpikingNetwork
from snnsc.model.neurons import Neuron
from snnsc.recipe.schema import LifSpec
from snnsc.sessions import open_session
from snnsc.training.evaluate import run_watched

_LEVELS = onnxruntime.GraphOptimizationLevel
LEVELS = {
    "disabled": _LEVELS.ORT_DISABLE_ALL,
    "basic": _LEVELS.ORT_ENABLE_BASIC,
    "extended": _LEVELS.ORT_ENABLE_EXTENDED,
    "all": _LEVELS.ORT_ENABLE_ALL,
}
THREADS = (1, 2)


@dataclass(frozen=True)
class Proof:
    """What was compared with torch in float32; nothing differed."""

    samples: int
    neuron_steps: int
    """Neuron-steps of one runtime, all layers and samples together."""
    runtimes: tuple[str, ...]
    """What was run besides."""
    accuracy_before: float
    """Of the network as it was trained, on these samples."""
    accuracy_after: float
    """Of the network on the grid."""

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return asdict(self)


def prove(
    network: SpikingNetwork, snapped: SpikingNetwork, model: onnx.ModelProto, batches: Iterable[tuple[Tensor, Tensor]]
) -> Proof:
    """Run a network on a grid in torch in float32 and float64, and its graph in onnxruntime in every way.

    Args:
        network: The network before it was put on the grid, for its accuracy.
        snapped: The network on the grid.
        model: Its exported graph.
        batches: Real samples: (frames [T, B, C, H, W] or images [B, C, H, W], labels [B]).

    Raises:
        CheckError: a spike differs; its layer is named.
    """
    exact = reference(snapped)
    runs = {
        f"onnxruntime, {name}, threads: {threads}": OnnxNetwork(
            model, "the graph", functools.partial(open_session, level=level, threads=threads)
        )
        for name, level in LEVELS.items()
        for threads in THREADS
    }
    steps: Counter[str] = Counter()
    before = after = samples = 0
    for inputs, labels in batches:
        logits, spikes = run_watched(snapped, inputs)
        steps.update({layer: s.numel() for layer, s in spikes.items()})
        samples += len(labels)
        after += int((logits.argmax(-1) == labels).sum())
        before += int((run_watched(network, inputs)[0].argmax(-1) == labels).sum())
        _same(spikes, run_watched(exact, inputs.double())[1], "torch in float64")
        for name, run in runs.items():
            _same(spikes, {layer: torch.from_numpy(s) for layer, s in run.run(inputs.numpy())[1].items()}, name)
    if samples == 0:
        raise CheckError("there are no samples to try the exact grid on")
    return Proof(samples, sum(steps.values()), ("torch in float64", *runs), before / samples, after / samples)


def reference(snapped: SpikingNetwork) -> SpikingNetwork:
    """A copy in float64, with the neurons' constants as float32, and so the graph, has them."""
    network = copy.deepcopy(snapped)
    for name, module in list(network.named_modules()):
        if isinstance(module, Neuron):
            attributes = {key: float(np.float32(value)) for key, value in call(module, name).attributes.items()}
            spec = LifSpec(
                type="lif",
                decay=attributes.get("decay", 1.0),
                input_gain=attributes.get("gain", 1.0),
                threshold=attributes.get("threshold", module.spec.threshold),
                reset=getattr(module.spec, "reset", "hard"),
            )
            neuron = Neuron(spec, module.surrogate, channels=module.channels, T=module.T, compiled=False)
            neuron.membrane_norm = module.membrane_norm
            network.set_submodule(name, neuron)
    return network.double().eval()


def _same(ours: dict[str, Tensor], others: dict[str, Tensor], where: str) -> None:
    """Raise CheckError where a spike differs, for the first layer, as later ones only follow."""
    for layer, spikes in ours.items():
        if flips := int(((spikes != 0) != (others[layer] != 0)).sum()):
            raise CheckError(
                f"layer {layer}: {flips} of {spikes.numel()} spikes differ between torch in float32 and {where}, "
                "though all sums should be exact; please report it"
            )
