"""Run a network over a set of samples in evaluation mode, in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from snnsc.model.network import SpikingNetwork
from snnsc.model.neurons import Neuron, RealSpike
from snnsc.training.metrics import Evaluation, Scores


def evaluate(
    model: SpikingNetwork, batches: Iterable[tuple[Tensor, Tensor]], classes: int, device: torch.device
) -> Evaluation:
    """Accuracy, loss, accuracy by time step and branch, firing rates, confusion matrix.

    Args:
        model: The network; its mode is put back afterwards.
        batches: (inputs, labels): frames [T, B, C, H, W] or images [B, C, H, W], labels [B]. In a distributed run
            each process gives its own share, and all get the result of the whole.
        classes: K.
        device: Where the network stands.
    """
    scores = Scores(classes, device)
    was_training = model.training
    model.eval()
    with torch.inference_mode(), neuron_outputs(model, scores.add_spikes):
        for inputs, labels in batches:
            labels = labels.to(device, non_blocking=True)
            logits = model.logits(inputs.to(device, non_blocking=True))
            scores.add_logits(logits.main_TBK, labels)
            for name, branch_TBK in logits.branches_TBK.items():
                scores.add_branch(name, branch_TBK, labels)
    model.train(was_training)
    if dist.is_initialized():
        scores.reduce()
    return scores.result()


def run_watched(model: nn.Module, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What a network in evaluation mode gives, and layer name -> spikes [T, B, ...]; without gradients."""
    spikes: dict[str, Tensor] = {}
    with torch.inference_mode(), neuron_outputs(model, spikes.__setitem__):
        return model(inputs), spikes


@contextmanager
def neuron_outputs(model: nn.Module, receive: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Within the context, `receive(layer name, spikes [T, B, ...])` is called for every layer of neurons that runs."""

    def hook(name: str) -> Callable[..., None]:
        def call(_module: nn.Module, _args: Any, output: Tensor) -> None:  # noqa: ANN401
            receive(name, output)

        return call

    modules = list(model.named_modules())
    # a layer of real spikes is called as it will be once its factors are folded away
    inner = {f"{name}.neuron": name for name, module in modules if isinstance(module, RealSpike)}
    neurons = ((inner.get(name, name), module) for name, module in modules if isinstance(module, Neuron))
    handles = [module.register_forward_hook(hook(name)) for name, module in neurons]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
