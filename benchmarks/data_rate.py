"""Training samples a second that the data pipeline gives, beside others' pipelines and what the network consumes.

    python benchmarks/data_rate.py                          # nmnist-folder and cifar10-folder under $SNNSC_DATA
    python benchmarks/data_rate.py --recipes nmnist-folder --rounds 3 --json data.json

Every round runs one epoch's batches of each pipeline, in an order that moves on by one, caches filled before; and
steps of the recipe's network on a batch that is there already. Ratios are taken within a round, then their median.
tonic's caches hold the frames of its own ToFrame of the same recordings; its users' augmentation and torchvision's are
done sample by sample. All are read through torch's DataLoader with as many workers as processors.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tonic
import torch
from record import write_report
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms
from torchvision.datasets import ImageFolder
from turns import in_turn
from workload import bare_step, make_training

from snnsc.data import resolve_root
from snnsc.data.folders import TRAIN_NAMES, split_folder
from snnsc.data.parallel import processors
from snnsc.recipe.schema import EventFolderSpec, ImageFolderSpec
from snnsc.training.device import pick_device
from snnsc.training.loop import Training

RECIPES = ("nmnist-folder", "cifar10-folder")
STEPS = 5
"""Of the network, a round."""

console = Console(width=120)


@dataclass
class Contestant:
    """What gives (or consumes) samples."""

    name: str
    what: str
    run: Callable[[int], int]
    """Runs an epoch, given its number, and returns how many samples it had."""
    samples: int = 0
    """Of a round."""
    seconds: list[float] = field(default_factory=list)
    """Of each round."""

    def time(self, epoch: int) -> None:
        """Run and time an epoch."""
        start = time.perf_counter()
        self.samples = self.run(epoch)
        self.seconds.append(time.perf_counter() - start)

    @property
    def rates(self) -> list[float]:
        """Samples a second in each round."""
        return [self.samples / seconds for seconds in self.seconds]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its tables."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    results = {}
    for name in options.recipes:
        with tempfile.TemporaryDirectory() as cache:
            training = make_training(name, options.set, options.data_root, device)
            contestants = list(build_contestants(training, options, Path(cache)))
            for c in contestants:  # fills the caches
                c.run(0)
            for r, c in in_turn(contestants, range(options.rounds)):
                c.time(r + 1)
        console.print(rates_table(training, contestants, options))
        results[name] = {c.name: {"samples": c.samples, "seconds": c.seconds} for c in contestants}
    write_report(options, results, ("torch", "torchvision", "tonic", "snnsc"))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override keys of the recipes")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each pipeline (default 5)")
    parser.add_argument("--batches", type=int, default=100, help="at most, of an epoch (default 100)")
    parser.add_argument("--workers", type=int, default=processors(), help="of others' loaders (default: processors)")
    parser.add_argument("--data-root", type=Path, help="folder of the data sets (default $SNNSC_DATA)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--device", help="of the network: cpu, cuda (default: cuda where there is one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rate of every round")
    return parser.parse_args(arguments)


def build_contestants(training: Training, options: argparse.Namespace, cache: Path) -> Iterator[Contestant]:
    """Our pipeline, the others', and the network."""
    step = bare_step(training)

    def consumed(_epoch: int) -> int:
        for _ in range(STEPS):
            step()
        return STEPS * len(step.labels)

    yield Contestant("network", f"{training.recipe.model.arch}, {training.precision}: training steps", consumed)
    yield Contestant(
        "snnsc", "as train reads it", lambda epoch: count(training.train_batches.batches(epoch), options.batches)
    )
    spec, root = training.recipe.data, resolve_root(training.recipe, options.data_root)
    if isinstance(spec, EventFolderSpec):
        yield from tonic_caches(training, root / spec.folder, options, cache)
    elif isinstance(spec, ImageFolderSpec):
        images = torchvision_images(spec, root / spec.folder)
        yield loader_contestant("torchvision", "ImageFolder, crop, flip, normalise", images, training, options)


def tonic_caches(training: Training, folder: Path, options: argparse.Namespace, cache: Path) -> Iterator[Contestant]:
    """The caches of tonic on disk and in memory around its frames, without augmentation and with the same roll."""
    events = NmnistFrames(split_folder(folder, TRAIN_NAMES), training.recipe.model.T)
    roll = functools.partial(rolled, reach=training.recipe.data.augment.roll)
    memory = tonic.MemoryCachedDataset(events, transform=roll)
    for index in range(len(events)):  # before the workers are forked, so that all share it
        memory[index]
    kinds = {
        "tonic disk": ("DiskCachedDataset, roll", tonic.DiskCachedDataset(events, str(cache), transform=roll)),
        "tonic disk, plain": ("DiskCachedDataset, no augmentation", tonic.DiskCachedDataset(events, str(cache))),
        "tonic memory": ("MemoryCachedDataset, roll", memory),
    }
    for name, (what, dataset) in kinds.items():
        yield loader_contestant(name, what, dataset, training, options)


class NmnistFrames:
    """The recordings of class folders as tonic reads N-MNIST: frames of its ToFrame, and labels."""

    def __init__(self, split: Path, frames: int) -> None:
        self.paths = sorted(split.glob("*/*.bin"))
        names = sorted({path.parent.name for path in self.paths})
        self.labels = [names.index(path.parent.name) for path in self.paths]
        self.to_frame = tonic.transforms.ToFrame(sensor_size=tonic.datasets.NMNIST.sensor_size, n_time_bins=frames)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        events = tonic.io.read_mnist_file(str(self.paths[index]), dtype=tonic.datasets.NMNIST.dtype)
        return self.to_frame(events).astype(np.uint8), self.labels[index]


def rolled(frames_TCHW: Any, reach: int) -> Any:  # noqa: ANN401
    """One sample shifted around its borders, as float32."""
    down, right = np.random.randint(-reach, reach + 1, 2)
    return np.roll(frames_TCHW, (down, right), (-2, -1)).astype(np.float32)


def torchvision_images(spec: ImageFolderSpec, folder: Path) -> ImageFolder:
    """The folder as torchvision reads it, with the recipe's augmentation in its usual transforms."""
    assert spec.mean is not None
    assert spec.std is not None
    steps = [
        transforms.RandomCrop(spec.size, padding=spec.augment.crop),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(spec.mean, spec.std),
    ]
    return ImageFolder(str(split_folder(folder, TRAIN_NAMES)), transforms.Compose(steps))


def loader_contestant(
    name: str,
    what: str,
    dataset: Any,  # noqa: ANN401
    training: Training,
    options: argparse.Namespace,
) -> Contestant:
    """A data set read by torch's DataLoader, whose processes stay from epoch to epoch."""
    batch = training.recipe.train.batch_size
    some = RandomSampler(dataset, num_samples=min(len(dataset) // batch, options.batches) * batch)
    workers = options.workers
    loader = DataLoader(dataset, batch, sampler=some, num_workers=workers, persistent_workers=workers > 0)
    return Contestant(name, what, lambda _: count(loader, options.batches))


def count(batches: Iterable[Any], limit: int) -> int:
    """Samples of the first batches."""
    return sum(len(labels) for _, labels in islice(batches, limit))


def rates_table(training: Training, contestants: Sequence[Contestant], options: argparse.Namespace) -> Table:
    """Samples a second, and how many times what the network consumes."""
    network, ours = contestants[:2]
    table = Table(title=title(training, options), title_justify="left")
    for column in ("contestant", "what", "samples/s", "x network", "least", "snnsc / it"):
        table.add_column(column, justify="left" if column in ("contestant", "what") else "right")
    for c in contestants:
        times = [rate / consumed for rate, consumed in zip(c.rates, network.rates, strict=True)]
        ratio = statistics.median(a / b for a, b in zip(ours.rates, c.rates, strict=True))
        table.add_row(
            c.name, c.what, f"{statistics.median(c.rates):,.0f}",
            *(f"{value:.1f}" for value in (statistics.median(times), min(times), ratio)),
        )  # fmt: skip
    return table


def title(training: Training, options: argparse.Namespace) -> str:
    """What was measured, in a line."""
    recipe = training.recipe
    return (
        f"{recipe.name}: batch {recipe.train.batch_size}, {torch.get_num_threads()} threads of torch, "
        f"{options.workers} workers, {options.rounds} rounds"
    )


if __name__ == "__main__":
    main()
