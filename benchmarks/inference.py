"""Latency of one sample: the exported network in onnxruntime, the same in torch, and SpikingJelly's, same weights.

    python benchmarks/inference.py --arch resnet18 resnet20-thin --T 4 --threads 2

First it asserts that all contestants give the same logits. Then every round runs each once, in an order that moves on
by one from round to round, so that what else the machine does falls on all alike. Times are medians; ratios are
medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime
import torch
from peers import Network, build_network, copy_weights, reset_spikingjelly, spikingjelly_kit
from record import write_report
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from turns import in_turn

from snnsc import build_model
from snnsc.export.fold import fold
from snnsc.export.onnx import to_onnx
from snnsc.model import SpikingNetwork
from snnsc.model.norms import Norm
from snnsc.recipe.schema import Recipe

DECAY = 0.5
WARM_UP = 5
"""Runs before timing starts, the first one (with its compilation) among them."""
PAUSE = 0.02
"""Seconds before each turn, in which the threads of the one before go to sleep; an untimed run then wakes its own."""
CHECKED = 16
"""Samples whose logits are compared."""
TOLERANCE = 1e-3
"""Largest relative difference of a sample's logits."""
MAY_DIFFER = 2
"""Samples of those in which a spike may be turned by rounding, and with it the logits."""
NAMES = ("onnx", "torch", "torch-compiled", "spikingjelly", "spikingjelly-function")

console = Console(width=110)


@dataclass
class Contestant:
    """A network, and how it is run on images [B, C, H, W]."""

    name: str
    run: Callable[[Tensor], Tensor]
    """Images to logits [B, K]."""
    seconds: list[float] = field(default_factory=list)
    """Of each round."""

    @property
    def median(self) -> float:
        """Median time of a run."""
        return statistics.median(self.seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its tables."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    results = {}
    for arch in options.arch:
        recipe = make_recipe(arch, options.T, options.size)
        network = make_network(recipe)
        contestants = list(build_contestants(network, recipe, options))
        images = torch.randn(CHECKED, 3, options.size, options.size)
        with torch.inference_mode():
            assert_agreement(contestants, images)
            run_rounds(contestants, images[: options.batch], options.rounds)
        console.print(times_table(contestants, title(arch, options)))
        results[arch] = {c.name: c.seconds for c in contestants}
    write_report(options, results, ("torch", "onnxruntime", "spikingjelly", "snnsc"))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    archs = ("resnet18", "resnet20-thin")
    parser.add_argument("--arch", nargs="+", default=list(archs), choices=archs)
    parser.add_argument("--T", type=int, default=4, help="time steps (default 4)")
    parser.add_argument("--batch", type=int, default=1, help=f"samples a run, up to {CHECKED} (default 1)")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels (default 32)")
    parser.add_argument("--rounds", type=int, default=50, help="timed runs of each contestant (default 50)")
    parser.add_argument("--contestants", nargs="+", default=list(NAMES), choices=NAMES, metavar="NAME")
    parser.add_argument("--threads", type=int, default=2, help="of torch and of onnxruntime (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time that was measured")
    return parser.parse_args(arguments)


def make_recipe(arch: str, T: int, size: int) -> Recipe:
    """Images of random numbers, held for T steps."""
    return Recipe.model_validate(
        {
            "name": "benchmark",
            "data": {"type": "cifar10", "size": size},
            "model": {
                "arch": arch,
                "T": T,
                "neuron": {"type": "lif", "decay": DECAY, "threshold": 1.0},
                "norm": {"type": "bn"},
            },
            "method": {"mode": "vanilla"},
            "train": {"epochs": 1, "batch_size": 1},
        }
    )


def make_network(recipe: Recipe) -> SpikingNetwork:
    """A network whose running statistics are those of its own currents, so that its neurons fire."""
    torch.manual_seed(0)
    network = build_model(recipe, compiled=False).train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(8, 3, recipe.data.size, recipe.data.size))
        for module in network.modules():
            if isinstance(module, Norm):
                module.bias.add_(0.4)
    return network.eval()


def build_contestants(network: SpikingNetwork, recipe: Recipe, options: argparse.Namespace) -> Iterator[Contestant]:
    """The contestants asked for, all with the weights of `network`; says which cannot run here."""
    for name in options.contestants:
        match name:
            case "onnx":
                yield Contestant(name, in_onnxruntime(network, recipe, options.threads))
            case "torch":
                yield Contestant(name, network)
            case "torch-compiled":
                compiled = build_model(recipe, compiled=True).eval()
                compiled.load_state_dict(network.state_dict())
                yield Contestant(name, compiled)
            case _ if importlib.util.find_spec("spikingjelly") is None:
                console.print(f"{name}: left out, spikingjelly is not installed")
            case _:
                kit = spikingjelly_kit(DECAY, float32_membrane=name == "spikingjelly-function")
                peer = build_network(recipe, kit)
                copy_weights(network, peer)
                yield Contestant(name, held(peer.eval(), recipe.model.T))


def in_onnxruntime(network: SpikingNetwork, recipe: Recipe, threads: int) -> Callable[[Tensor], Tensor]:
    """The exported network in a session of so many threads, with default options otherwise."""
    model = to_onnx(fold(network)[0], recipe)
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = threads
    session_options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options, providers=["CPUExecutionProvider"]
    )
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def held(peer: Network, T: int) -> Callable[[Tensor], Tensor]:
    """SpikingJelly's network with its first convolution and normalisation computed once, as snnsc computes them."""
    assert isinstance(peer.features, nn.Sequential)
    peer.features, stem = peer.features[1:], peer.features[0]

    def run(images: Tensor) -> Tensor:
        current_TBCHW = stem(images.unsqueeze(0)).repeat(T, 1, 1, 1, 1)
        logits: Tensor = peer(current_TBCHW).main_TBK.mean(0)
        reset_spikingjelly(peer)
        return logits

    return run


def assert_agreement(contestants: Sequence[Contestant], images: Tensor) -> None:
    """All give the same logits, sample by sample; sums in another order may turn a spike in few of them."""
    reference, *others = contestants
    expected = torch.cat([reference.run(image) for image in images.split(1)])
    for other in others:
        found = torch.cat([other.run(image) for image in images.split(1)])
        apart = torch.linalg.vector_norm(found - expected, dim=1) / torch.linalg.vector_norm(expected, dim=1)
        differ = int((apart > TOLERANCE).sum())
        if not differ <= MAY_DIFFER:
            sys.exit(f"{other.name} and {reference.name} differ in the logits of {differ} of {len(images)} samples")
        console.print(
            f"{other.name} agrees with {reference.name}: median difference {float(apart.median()):.1e}, "
            f"more than {TOLERANCE} in {differ} of {len(images)} samples"
        )


def run_rounds(contestants: Sequence[Contestant], images: Tensor, rounds: int) -> None:
    """One run of each a round; who begins moves on from round to round."""
    for r, c in in_turn(contestants, range(-WARM_UP, rounds)):
        time.sleep(PAUSE)
        c.run(images)
        start = time.perf_counter()
        c.run(images)
        if r >= 0:
            c.seconds.append(time.perf_counter() - start)


def times_table(contestants: Sequence[Contestant], heading: str) -> Table:
    """Times, and each as a multiple of onnxruntime's (or of the first contestant's)."""
    reference = contestants[0]
    table = Table(title=heading, title_justify="left")
    for column in ("contestant", "median ms", "least ms", "most ms", f"x {reference.name}", "least", "most"):
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for c in contestants:
        ratios = [a / b for a, b in zip(c.seconds, reference.seconds, strict=True)]
        table.add_row(
            c.name,
            *(f"{1e3 * seconds:.2f}" for seconds in (c.median, min(c.seconds), max(c.seconds))),
            *(f"{ratio:.2f}" for ratio in (statistics.median(ratios), min(ratios), max(ratios))),
        )
    return table


def title(arch: str, options: argparse.Namespace) -> str:
    """What was measured, in a line."""
    return (
        f"{arch}, T {options.T}, batch {options.batch}, {options.size}x{options.size}, {options.threads} threads, "
        f"{options.rounds} rounds"
    )


if __name__ == "__main__":
    main()
