"""What the training loop costs on top of the bare step: data, metrics, checks, gradient sums and display.

    python benchmarks/training_loop.py                          # cifar10-folder and nmnist-folder under $SNNSC_DATA
    python benchmarks/training_loop.py --recipes nmnist-folder --rounds 20 --json loop.json

The loop is that of `snnsc train`, its live display on a terminal and its run folder included; ends of epochs
(evaluation, checkpoints) are left out. The bare step is forward pass, loss, backward pass and optimizer of the same
network on one batch. Both run in blocks of steps, in turn; between blocks the threads of the data come to rest, so what
they prepare for the next block of the loop is their queue and no more. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from record import write_report
from rich.console import Console
from rich.table import Table
from workload import BareStep, bare_step, make_training

from snnsc.cli.train_display import Display
from snnsc.training.device import pick_device
from snnsc.training.loop import StepDone, Training
from snnsc.training.run import Interrupted, record

RECIPES = ("cifar10-folder", "nmnist-folder")
REST = 0.1
"""Seconds between blocks, in which the data threads fill their queue."""

console = Console(width=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its table."""
    options = parse(arguments)
    device = pick_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    table = Table(title=title(options), title_justify="left")
    for column in ("recipe", "network", "precision", "bare ms", "loop ms", "loop / bare", "least", "most"):
        table.add_column(column, justify="left" if column in ("recipe", "network", "precision") else "right")
    results = {}
    for name in options.recipes:
        training = make_training(name, (*options.set, "train.epochs=100000"), options.data_root, device)
        seconds = run_rounds(training, options.rounds, options.block)
        ratios = [loop / bare for loop, bare in zip(seconds["loop"], seconds["bare"], strict=True)]
        step_ms = [1e3 * statistics.median(seconds[key]) / options.block for key in ("bare", "loop")]
        table.add_row(
            name, training.recipe.model.arch, training.precision,
            *(f"{ms:.1f}" for ms in step_ms),
            *(f"{ratio:.3f}" for ratio in (statistics.median(ratios), min(ratios), max(ratios))),
        )  # fmt: skip
        results[name] = seconds
    console.print(table)
    write_report(options, results, ("torch", "snnsc"))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), metavar="NAME")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="override keys of the recipes")
    parser.add_argument("--block", type=int, default=20, help="steps of a block (default 20)")
    parser.add_argument("--rounds", type=int, default=10, help="blocks of each (default 10)")
    parser.add_argument("--data-root", type=Path, help="folder of the data sets (default $SNNSC_DATA)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the seconds of every block")
    return parser.parse_args(arguments)


def run_rounds(training: Training, rounds: int, block: int) -> dict[str, list[float]]:
    """Seconds of each block of the bare step and of the loop; which comes first changes from round to round."""
    bare = bare_step(training)
    seconds: dict[str, list[float]] = {"bare": [], "loop": []}
    with tempfile.TemporaryDirectory() as folder, terminal():
        loop = LoopBlocks(training, Path(folder))
        loop.seconds(2)
        for r in range(rounds):
            for name in ("bare", "loop") if r % 2 else ("loop", "bare"):
                time.sleep(REST)
                seconds[name].append(loop.seconds(block) if name == "loop" else bare_seconds(bare, block))
        loop.close()
    return seconds


def bare_seconds(step: BareStep, block: int) -> float:
    """Seconds of a block of bare steps."""
    start = time.perf_counter()
    for _ in range(block):
        step()
    return time.perf_counter() - start


class LoopBlocks:
    """The loop of `snnsc train`, run some steps at a time.

    Args:
        training: The run.
        folder: Where it is written.
    """

    def __init__(self, training: Training, folder: Path) -> None:
        self.training = training
        self.events = record(training, folder, lambda: False)
        self.display = Display(training, folder, quiet=False)
        self.display.__enter__()

    def seconds(self, block: int) -> float:
        """Seconds of the next steps, without the ends of epochs among them."""
        total, steps = 0.0, 0
        while steps < block:
            start = time.perf_counter()
            event = next(self.events)
            assert not isinstance(event, Interrupted)  # nobody asks
            self.display.show(event)
            if isinstance(event, StepDone):
                steps += 1
                if steps == block and self.training.place.device.type == "cuda":
                    torch.cuda.synchronize(self.training.place.device)
                total += time.perf_counter() - start
        return total

    def close(self) -> None:
        """End it where it stands."""
        self.display.close()
        self.events.close()


@contextmanager
def terminal() -> Iterator[None]:
    """Within the context standard error is a terminal, whose output is read and dropped: the display is live."""
    ours, theirs = os.openpty()

    def drain() -> None:
        try:
            while os.read(ours, 65536):
                pass
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    before = sys.stderr
    try:
        with os.fdopen(theirs, "w") as sys.stderr:
            yield
    finally:
        sys.stderr = before
        reader.join()
        os.close(ours)


def title(options: argparse.Namespace) -> str:
    """What was measured, in a line."""
    return (
        f"loop of snnsc train / bare step, {options.rounds} rounds of {options.block} steps each, "
        f"{torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
