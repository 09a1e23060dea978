"""The whole network as one program: `train.compile = "model"`.

Neurons are then run operation by operation (`Neuron._plain`), and the compiler fuses them with what stands around them.
It takes minutes where the kernels of the neurons alone take seconds, and is for accelerators, where a step of many
small kernels waits for its launches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnsc.errors import RecipeError
from snnsc.model.sequence import can_compile
from snnsc.recipe.schema import TrainSpec


def check_graphs(train: TrainSpec, device: torch.device) -> None:
    """Refuse CUDA graphs where there is no CUDA.

    Raises:
        RecipeError: They are asked for.
    """
    if train.cuda_graphs and device.type != "cuda":
        raise RecipeError(f"train.cuda_graphs: this run is on {device.type}, which has none; leave it out")


def compiled_whole(forward: nn.Module, train: TrainSpec, device: torch.device) -> Callable[[Tensor], Any]:
    """The training forward pass as the recipe asks for it.

    Args:
        forward: The network, or what averages its gradients over processes.
        train: `compile` and `cuda_graphs`.
        device: Where it runs.
    """
    if train.compile != "model" or not can_compile(device.type):
        return forward
    if not train.cuda_graphs:
        return torch.compile(forward, dynamic=False)
    graphs = torch.compile(forward, dynamic=False, mode="reduce-overhead")  # torch's name for CUDA graphs

    def run(x: Tensor) -> Any:  # noqa: ANN401
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # nothing of the step before is read any more
        return graphs(x)

    return run
