"""Who takes part in the training benchmarks: snnsc in its settings, SpikingJelly, snnTorch and the ReLU twin.

All have the same layers, weights, data and optimizer. Legend: T time steps, B batch, C channels, H W space.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from peers import build_network, copy_weights, relu_kit, reset_spikingjelly, snntorch_kit, spikingjelly_kit
from rich.console import Console
from torch import Tensor, nn

from snnsc import build_model
from snnsc.model import Logits
from snnsc.recipe.schema import Recipe
from snnsc.training.compiled import compiled_whole
from snnsc.training.device import autocast
from snnsc.training.losses import build_loss
from snnsc.training.optim import build_optimizer

DECAY = 0.5
EVENTS = 0.3
"""Mean count of a pixel, polarity and step of the event frames."""
OURS: dict[str, dict[str, Any]] = {
    "snnsc": {},
    "snnsc-balanced": {"memory": "balanced"},
    "snnsc-small": {"memory": "small"},
    "snnsc-model": {"compile": "model"},
    "snnsc-eager": {"compile": "off"},
}
"""Name -> what it sets in [train]."""
THEIRS = ("spikingjelly", "spikingjelly-fp32v", "spikingjelly-last", "spikingjelly-compiled", "snntorch")
NAMES = ("relu", "relu-last", *THEIRS, *OURS)
SLOW = ("spikingjelly-compiled", "snntorch", "snnsc-model", "snnsc-eager")
DEFAULT = tuple(name for name in NAMES if name not in SLOW)
PRECISIONS = ("fp32", "bf16")

console = Console(width=120)


@dataclass(frozen=True)
class Setting:
    """What is the same for all contestants."""

    recipe: Recipe
    device: torch.device
    inputs: Tensor
    """Event frames [T, B, 2, H, W]: no contestant may save on its first convolution, as it may with held images."""
    labels: Tensor

    def first(self, samples: int) -> Setting:
        """The same with the first few samples only."""
        return replace(self, inputs=self.inputs[:, :samples].contiguous(), labels=self.labels[:samples])


@dataclass
class Contestant:
    """A network with its optimizer, and how one step of it is run."""

    name: str
    precision: str
    model: nn.Module
    """Whose parameters are trained."""
    forward: Callable[[Tensor], Logits]
    optimizer: torch.optim.Optimizer
    after_step: Callable[[], None] = lambda: None
    first_step_s: float = 0.0
    seconds: list[float] = field(default_factory=list)
    """Of each round."""

    @property
    def title(self) -> str:
        """Name and precision."""
        return f"{self.name} {self.precision}"

    @property
    def median(self) -> float:
        """Median time of a step."""
        return statistics.median(self.seconds)

    def loss(self, setting: Setting) -> Tensor:
        """Loss of a forward pass, as snnsc.training.loop computes it."""
        with autocast(self.precision, setting.device):
            logits = self.forward(setting.inputs)
        return build_loss(setting.recipe.method)(logits, setting.labels, 0.0)

    def step(self, setting: Setting) -> None:
        """One training step."""
        loss = self.loss(setting)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.after_step()

    def timed_step(self, setting: Setting) -> float:
        """Seconds of one training step."""
        start = time.perf_counter()
        self.step(setting)
        if setting.device.type == "cuda":
            torch.cuda.synchronize(setting.device)
        return time.perf_counter() - start


def make_setting(arch: str, T: int, batch: int, size: int, device: torch.device) -> Setting:
    """A vanilla recipe with the surrogate that all libraries have, and event frames of random counts."""
    recipe = Recipe.model_validate(
        {
            "name": "benchmark",
            "data": {"type": "cifar10dvs", "size": size},
            "model": {
                "arch": arch,
                "T": T,
                "neuron": {"type": "lif", "decay": DECAY, "threshold": 1.0},
                "surrogate": {"type": "atan", "alpha": 2.0},
                "norm": {"type": "bn"},
            },
            "method": {"mode": "vanilla"},
            "train": {"epochs": 1, "batch_size": batch},
        }
    )
    torch.manual_seed(0)
    inputs = torch.poisson(torch.full((T, batch, recipe.data.channels, size, size), EVENTS))
    labels = torch.randint(recipe.data.classes, (batch,))
    return Setting(recipe, device, inputs.to(device), labels.to(device))


def build_contestants(setting: Setting, names: Sequence[str], precisions: Sequence[str]) -> Iterator[Contestant]:
    """Those asked for, all with the weights of snnsc's network; says which cannot run here."""
    ours = build_model(setting.recipe).to(setting.device)
    for name in names:
        library = name.partition("-")[0]
        if library in ("spikingjelly", "snntorch") and importlib.util.find_spec(library) is None:
            console.print(f"{name}: left out, {library} is not installed")
            continue
        for precision in precisions:
            model, compiled = _network(name, setting.recipe)
            copy_weights(ours, model)
            model.to(setting.device).train()
            if name.endswith("-last"):
                model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            forward = torch.compile(model) if name == "spikingjelly-compiled" else model
            if compiled is not None:
                forward = compiled_whole(model, compiled, setting.device)
            optimizer = build_optimizer(model, setting.recipe.train.optimizer)
            after_step = _resetter(model) if name in ("spikingjelly",) else lambda: None
            yield Contestant(name, precision, model, forward, optimizer, after_step)


def _network(name: str, recipe: Recipe) -> tuple[nn.Module, Any]:
    """A contestant's network; of ours also its [train]."""
    if name in OURS:
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=OURS[name])})
        return build_model(recipe), recipe.train
    match name:
        case "relu" | "relu-last":
            return build_network(recipe, relu_kit()), None
        case "snntorch":
            return build_network(recipe, snntorch_kit(DECAY, recipe.model.T)), None
        case _:
            return build_network(recipe, spikingjelly_kit(DECAY, float32_membrane=name != "spikingjelly")), None


def _resetter(model: nn.Module) -> Callable[[], None]:
    return lambda: reset_spikingjelly(model)
