"""Time of one training step: snnsc, SpikingJelly, snnTorch and the ReLU twin, with the same layers, weights and data.

    python benchmarks/training_step.py --arch resnet20-thin --T 4 --batch 64

First it asserts that all spiking contestants compute the same loss and the same gradient of the first convolution (in
float32). Then every round runs one step of each, in an order that moves on by one from round to round, so that what
else the machine does falls on all alike. Times are medians; ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peers import (
    build_network,
    copy_weights,
    relu_kit,
    reset_spikingjelly,
    snntorch_kit,
    spikingjelly_kit,
    weighted_layers,
)
from record import options_used
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from snnsc import build_model
from snnsc.model import Logits
from snnsc.recipe.schema import Recipe
from snnsc.training.device import autocast, pick_device
from snnsc.training.losses import build_loss
from snnsc.training.optim import build_optimizer

DECAY = 0.5
WARM_UP = 2
"""Steps before timing starts, the first one (with its compilation) among them."""
TOLERANCE = 1e-4
"""Largest relative difference of losses and of first gradients: a spike that rounding turned would cost more."""
NAMES = ("relu", "spikingjelly", "spikingjelly-fp32v", "spikingjelly-compiled", "snntorch", "snnsc", "snnsc-eager")

console = Console(width=110)


@dataclass
class Contestant:
    """A network with its optimizer, and how one step of it is run."""

    name: str
    model: nn.Module
    """Whose parameters are trained."""
    forward: Callable[[Tensor], Logits]
    optimizer: torch.optim.Optimizer
    after_step: Callable[[], None] = lambda: None
    first_step_s: float = 0.0
    seconds: list[float] = field(default_factory=list)
    """Of each round."""

    @property
    def median(self) -> float:
        """Median time of a step."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Setting:
    """What is the same for all contestants."""

    recipe: Recipe
    precision: str
    device: torch.device
    inputs: Tensor
    labels: Tensor

    def step(self, contestant: Contestant) -> Tensor:
        """One training step, as snnsc.training.loop runs it; returns the loss."""
        loss_of = build_loss(self.recipe.method)
        with autocast(self.precision, self.device):
            logits = contestant.forward(self.inputs)
        loss = loss_of(logits, self.labels, 0.0)
        contestant.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        contestant.optimizer.step()
        contestant.after_step()
        return loss.detach()

    def timed_step(self, contestant: Contestant) -> float:
        """Seconds of one training step."""
        start = time.perf_counter()
        self.step(contestant)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its tables."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    results = {}
    for precision in options.precision:
        torch.manual_seed(0)
        recipe = make_recipe(options, precision)
        setting = make_setting(recipe, precision, options.batch, device)
        contestants = list(build_contestants(setting, options.contestants))
        if precision == "fp32":
            assert_agreement(setting, contestants)
        warm_up(setting, contestants)
        run_rounds(setting, contestants, options.rounds)
        console.print(times_table(setting, contestants, title(options, precision)))
        console.print(ratio_table(contestants))
        results[precision] = {c.name: {"first_step_s": c.first_step_s, "seconds": c.seconds} for c in contestants}
    if options.json:
        report = {"environment": environment(device), "options": options_used(options), "results": results}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet20-thin", choices=("resnet20-thin", "resnet18", "vggsnn"))
    parser.add_argument("--T", type=int, default=4, help="time steps (default 4)")
    parser.add_argument("--batch", type=int, default=64, help="samples a step (default 64)")
    parser.add_argument("--size", type=int, default=32, help="side of the frames in pixels (default 32)")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=("fp32", "bf16"))
    parser.add_argument("--rounds", type=int, default=10, help="timed steps of each contestant (default 10)")
    parser.add_argument("--contestants", nargs="+", default=list(NAMES), choices=NAMES, metavar="NAME")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time that was measured")
    return parser.parse_args(arguments)


def make_recipe(options: argparse.Namespace, precision: str) -> Recipe:
    """A vanilla recipe for frames of random numbers, with the surrogate that all libraries have."""
    return Recipe.model_validate(
        {
            "name": "benchmark",
            "data": {"type": "cifar10dvs", "size": options.size},
            "model": {
                "arch": options.arch,
                "T": options.T,
                "neuron": {"type": "lif", "decay": DECAY, "threshold": 1.0},
                "surrogate": {"type": "atan", "alpha": 2.0},
                "norm": {"type": "bn"},
            },
            "method": {"mode": "vanilla"},
            "train": {"epochs": 1, "batch_size": options.batch, "precision": precision},
        }
    )


def make_setting(recipe: Recipe, precision: str, batch: int, device: torch.device) -> Setting:
    """Frames rather than held images: no contestant may then save on its first convolution."""
    data = recipe.data
    inputs = torch.randn(recipe.model.T, batch, data.channels, data.size, data.size).abs()
    labels = torch.randint(data.classes, (batch,))
    return Setting(recipe, precision, device, inputs.to(device), labels.to(device))


def build_contestants(setting: Setting, names: Sequence[str]) -> Iterator[Contestant]:
    """The contestants asked for, all with the weights of snnsc's network; says which cannot run here."""
    recipe = setting.recipe
    ours = build_model(recipe).to(setting.device)
    for name in names:
        library = "spikingjelly" if name.startswith("spikingjelly") else name
        if library in ("spikingjelly", "snntorch") and importlib.util.find_spec(library) is None:
            console.print(f"{name}: left out, {library} is not installed")
            continue
        after_step: Callable[[], None] = lambda: None  # noqa: E731
        model: nn.Module
        match name:
            case "relu":
                model = build_network(recipe, relu_kit())
            case "snntorch":
                model = build_network(recipe, snntorch_kit(DECAY, recipe.model.T))
            case "spikingjelly":
                model = build_network(recipe, spikingjelly_kit(DECAY))
                after_step = _resetter(model)
            case "spikingjelly-fp32v" | "spikingjelly-compiled":
                model = build_network(recipe, spikingjelly_kit(DECAY, float32_membrane=True))
            case _:
                compiled = "off" if name == "snnsc-eager" else "neurons"
                train = recipe.train.model_copy(update={"compile": compiled})
                model = build_model(recipe.model_copy(update={"train": train}))
        copy_weights(ours, model)
        model.to(setting.device).train()
        forward = torch.compile(model) if name == "spikingjelly-compiled" else model
        optimizer = build_optimizer(model, recipe.train.optimizer)
        yield Contestant(name, model, forward, optimizer, after_step)


def _resetter(model: nn.Module) -> Callable[[], None]:
    return lambda: reset_spikingjelly(model)


def assert_agreement(setting: Setting, contestants: Sequence[Contestant]) -> None:
    """Losses and first-convolution gradients of the first step are the same in all spiking networks.

    The weights are put back afterwards; compilation happens here and is counted as the first step.
    """
    start = {c.name: {k: v.clone() for k, v in c.model.state_dict().items()} for c in contestants}
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for c in contestants:
        began = time.perf_counter()
        loss = setting.step(c)
        c.first_step_s = time.perf_counter() - began
        gradient = weighted_layers(c.model)[0].weight.grad
        assert isinstance(gradient, Tensor)
        if c.name != "relu":
            found[c.name] = loss, gradient.clone()
        c.model.load_state_dict(start[c.name])
        c.optimizer = build_optimizer(c.model, setting.recipe.train.optimizer)
    if not found:
        return
    reference, (loss, gradient) = next(iter(found.items()))
    for name, (other_loss, other_gradient) in found.items():
        apart = float((other_loss - loss).abs() / loss.abs())
        gradients_apart = float(
            torch.linalg.vector_norm(other_gradient - gradient) / torch.linalg.vector_norm(gradient)
        )
        if not max(apart, gradients_apart) < TOLERANCE:
            sys.exit(f"{name} and {reference} differ: loss by {apart:.1e}, first gradient by {gradients_apart:.1e}")
        console.print(f"{name} agrees with {reference}: loss within {apart:.1e}, gradient within {gradients_apart:.1e}")


def warm_up(setting: Setting, contestants: Sequence[Contestant]) -> None:
    """Compile, and fill caches; the time of the very first step is kept."""
    for c in contestants:
        for _ in range(WARM_UP):
            seconds = setting.timed_step(c)
            c.first_step_s = c.first_step_s or seconds


def run_rounds(setting: Setting, contestants: Sequence[Contestant], rounds: int) -> None:
    """One step of each a round; who begins moves on from round to round."""
    for r in range(rounds):
        first = r % len(contestants)
        for c in (*contestants[first:], *contestants[:first]):
            c.seconds.append(setting.timed_step(c))


def median_ratio(one: Contestant, other: Contestant) -> float:
    """Median over the rounds of one's time as a multiple of the other's."""
    return statistics.median(a / b for a, b in zip(one.seconds, other.seconds, strict=True))


def times_table(setting: Setting, contestants: Sequence[Contestant], heading: str) -> Table:
    """Step times, and ratios to the ReLU twin."""
    table = Table(title=heading, title_justify="left")
    for column in ("contestant", "median ms", "least ms", "most ms", "samples/s", "x ReLU twin", "first step s"):
        table.add_column(column, justify="left" if column == "contestant" else "right")
    twin = next((c for c in contestants if c.name == "relu"), None)
    for c in contestants:
        table.add_row(
            c.name,
            *(f"{1e3 * seconds:.0f}" for seconds in (c.median, min(c.seconds), max(c.seconds))),
            f"{len(setting.labels) / c.median:.0f}",
            f"{median_ratio(c, twin):.2f}" if twin else "-",
            f"{c.first_step_s:.1f}",
        )
    return table


def ratio_table(contestants: Sequence[Contestant]) -> Table:
    """Time of each other library's network as a multiple of snnsc's: above 1, snnsc is faster."""
    table = Table(title="time as a multiple of snnsc's, ratios within a round (above 1: snnsc is faster)")
    for column in ("contestant", "snnsc", "median", "least", "most"):
        table.add_column(column, justify="right" if column in ("median", "least", "most") else "left")
    for other in (c for c in contestants if c.name.startswith(("spikingjelly", "snntorch"))):
        for own in (c for c in contestants if c.name.startswith("snnsc")):
            ratios = [a / b for a, b in zip(other.seconds, own.seconds, strict=True)]
            spread = (statistics.median(ratios), min(ratios), max(ratios))
            table.add_row(other.name, own.name, *(f"{ratio:.2f}" for ratio in spread))
    return table


def title(options: argparse.Namespace, precision: str) -> str:
    """What was measured, in a line."""
    return (
        f"{options.arch}, T {options.T}, batch {options.batch}, {options.size}x{options.size}, {precision}, "
        f"{torch.get_num_threads()} threads, {options.rounds} rounds"
    )


def environment(device: torch.device) -> dict[str, Any]:
    """What the figures depend on besides the code."""
    versions = {}
    for package in ("torch", "spikingjelly", "snntorch", "snnsc"):
        if importlib.util.find_spec(package):
            versions[package] = importlib.metadata.version(package)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"versions": versions, "device": name, "threads": torch.get_num_threads(), "python": sys.version.split()[0]}


if __name__ == "__main__":
    main()
