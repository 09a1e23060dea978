"""One training step: snnsc in its settings, SpikingJelly, snnTorch and the ReLU twin. Time, and memory.

    python benchmarks/training_step.py --arch resnet20-thin --T 4 --batch 64

First it asserts that all spiking contestants compute the same loss and the same gradient of the first convolution (in
float64, on two samples). Then every round runs one step of each, in an order that moves on by one from round to round,
so that what else the machine does falls on all alike. Times are medians; ratios are medians of the ratios within a
round. Memory is measured in processes of their own, see training_memory.py.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from contestants import (
    DEFAULT,
    NAMES,
    PRECISIONS,
    THEIRS,
    Contestant,
    Setting,
    build_contestants,
    console,
    make_setting,
)
from peers import weighted_layers
from record import environment, options_used
from rich.table import Table
from torch import Tensor
from turns import in_turn

from snnsc.training.allocator import keep_freed_memory
from snnsc.training.device import pick_device
from snnsc.training.losses import build_loss

WARM_UP = 2
"""Steps before timing starts, the first one (with its compilation) among them."""
TOLERANCE = 1e-9
"""Largest relative difference of losses and of first gradients, in float64: a spike that is another costs more."""
COMPARED = 2
"""Samples of that comparison."""
REFERENCE_T = 4
"""Growth with T is told from here."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its tables."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    keep_freed_memory()  # as `snnsc train` does; all contestants gain
    seconds: dict[str, Any] = {}
    memory: dict[str, Any] = {}
    for arch in options.arch:
        runs = {}
        for T in options.T:
            setting = make_setting(arch, T, options.batch, options.size, device)
            contestants = list(build_contestants(setting, options.contestants, options.precision))
            assert_agreement(setting.first(COMPARED), contestants)
            warm_up(setting, contestants)
            run_rounds(setting, contestants, options.rounds)
            heading = f"{arch}, T {T}, batch {options.batch}, {options.size}x{options.size}"
            console.print(times_table(setting, contestants, f"{heading}, {options.threads} threads"))
            console.print(ratio_table(contestants))
            runs[T] = {c.title: {"first_step_s": c.first_step_s, "seconds": c.seconds} for c in contestants}
            if options.memory and options.T[0] == T:
                memory[arch] = dict(measure_memory(options, arch, T, [(c.name, c.precision) for c in contestants]))
                console.print(memory_table(memory[arch], f"{heading}: memory, MiB"))
        if len(runs) > 1:
            console.print(growth_table(runs, arch))
        seconds[arch] = runs
    if options.json:
        about = environment(("torch", "spikingjelly", "snntorch", "snnsc"))
        report = {"environment": about, "options": options_used(options), "seconds": seconds, "memory_mib": memory}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    archs = ("resnet20-thin", "resnet18", "vggsnn", "tiny")
    parser.add_argument("--arch", nargs="+", default=["resnet20-thin"], choices=archs)
    parser.add_argument("--T", nargs="+", type=int, default=[4], help="time steps (default 4); several show growth")
    parser.add_argument("--batch", type=int, default=64, help="samples a step (default 64)")
    parser.add_argument("--size", type=int, default=32, help="side of the frames in pixels (default 32)")
    parser.add_argument("--precision", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=10, help="timed steps of each contestant (default 10)")
    parser.add_argument("--contestants", nargs="+", default=list(DEFAULT), choices=NAMES, metavar="NAME")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parser.add_argument("--memory", action="store_true", help="measure memory too, at the first T")
    parser.add_argument("--device", help="cpu, cuda (default: cuda where there is one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time that was measured")
    return parser.parse_args(arguments)


def assert_agreement(setting: Setting, contestants: Sequence[Contestant]) -> None:
    """Losses and first-convolution gradients are the same in all spiking networks, from the same weights."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for c in contestants:
        if not c.name.startswith("relu") and c.name not in found:
            found[c.name] = loss_and_gradient(c, setting)
            c.after_step()
    if not found:
        return
    reference, (loss, gradient) = next(iter(found.items()))
    apart = {}
    for name, (other_loss, other_gradient) in found.items():
        norm = torch.linalg.vector_norm
        apart[name] = max(
            float((other_loss - loss).abs() / loss.abs()), float(norm(other_gradient - gradient) / norm(gradient))
        )
        if not apart[name] < TOLERANCE:
            sys.exit(f"{name} and {reference} differ: loss or first gradient by {apart[name]:.1e}")
    console.print(f"losses and first gradients of {', '.join(found)} agree within {max(apart.values()):.1e} (float64)")


def loss_and_gradient(contestant: Contestant, setting: Setting) -> tuple[Tensor, Tensor]:
    """Of one step in float64, without a compiler around the network; the contestant is left as it was."""
    model = copy.deepcopy(contestant.model).double()
    loss = build_loss(setting.recipe.method)(model(setting.inputs.double()), setting.labels, 0.0)
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = weighted_layers(model)[0].weight.grad
    assert isinstance(gradient, Tensor)
    return loss.detach(), gradient


def warm_up(setting: Setting, contestants: Sequence[Contestant]) -> None:
    """Compile, and fill caches; the time of the very first step is kept."""
    for c in contestants:
        for _ in range(WARM_UP):
            seconds = c.timed_step(setting)
            c.first_step_s = c.first_step_s or seconds


def run_rounds(setting: Setting, contestants: Sequence[Contestant], rounds: int) -> None:
    """One step of each a round; who begins moves on from round to round."""
    for _, c in in_turn(contestants, range(rounds)):
        c.seconds.append(c.timed_step(setting))


def median_ratio(one: Contestant, other: Contestant) -> float:
    """Median over the rounds of one's time as a multiple of the other's."""
    return statistics.median(a / b for a, b in zip(one.seconds, other.seconds, strict=True))


def measure_memory(
    options: argparse.Namespace, arch: str, T: int, wanted: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Contestant -> MiB, see training_memory.py."""
    for name, precision in wanted:
        sizes = ["--T", T, "--batch", options.batch, "--size", options.size, "--threads", options.threads]
        place = ["--device", options.device] if options.device else []
        script = Path(__file__).with_name("training_memory.py")
        command = [sys.executable, script, arch, name, precision, *sizes, *place]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name} {precision}: {done.stderr.strip()}")
        yield f"{name} {precision}", json.loads(done.stdout)


# ------------------------------------------------------------------------------------------------------------ tables


def times_table(setting: Setting, contestants: Sequence[Contestant], heading: str) -> Table:
    """Step times, and ratios to the ReLU twin of the same precision and to snnsc as shipped."""
    table = Table(title=heading, title_justify="left")
    for column in ("contestant", "median ms", "least", "most", "samples/s", "x ReLU twin", "x snnsc", "first step s"):
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for c in contestants:
        table.add_row(
            c.title,
            *(f"{1e3 * seconds:.0f}" for seconds in (c.median, min(c.seconds), max(c.seconds))),
            f"{len(setting.labels) / c.median:.0f}",
            *(_times(c, _of(contestants, name, c.precision)) for name in ("relu", "snnsc")),
            f"{c.first_step_s:.1f}",
        )
    return table


def ratio_table(contestants: Sequence[Contestant]) -> Table:
    """Each other library, in its fastest setting, as a multiple of snnsc: above 1, snnsc is faster."""
    table = Table(title="time as a multiple of snnsc's (above 1: snnsc is faster), fastest setting of each library")
    for column in ("contestant", "snnsc", "median", "least", "most"):
        table.add_column(column, justify="right" if column in ("median", "least", "most") else "left")
    for library in ("spikingjelly", "snntorch"):
        for theirs, ours in (("fp32", "fp32"), ("bf16", "bf16"), ("fp32", "bf16")):  # the last: each as it is shipped
            there = [c for c in contestants if c.name.startswith(library) and c.precision == theirs]
            own = _of(contestants, "snnsc", ours)
            if there and own:
                best = min(there, key=lambda c: c.median)
                ratios = [a / b for a, b in zip(best.seconds, own.seconds, strict=True)]
                spread = (statistics.median(ratios), min(ratios), max(ratios))
                table.add_row(best.title, own.title, *(f"{ratio:.2f}" for ratio in spread))
    return table


def memory_table(found: dict[str, dict[str, float]], heading: str) -> Table:
    """What is kept for the backward pass, and the highest point; ratios within a precision."""
    table = Table(title=heading, title_justify="left")
    columns = ("contestant", "saved", "x ReLU twin", "x SpikingJelly", "peak", "x ReLU twin", "x SpikingJelly")
    for column in columns:
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for title, sizes in found.items():
        precision = title.split()[1]
        twin = found.get(f"relu {precision}")
        there = [found[f"{name} {precision}"] for name in THEIRS[:-1] if f"{name} {precision}" in found]
        cells = []
        for key in ("saved", "peak"):
            least = min((sizes_[key] for sizes_ in there), default=None)
            cells.append(f"{sizes[key]:.0f}")
            cells.append(f"{sizes[key] / twin[key]:.2f}" if twin else "-")
            cells.append(f"{sizes[key] / least:.2f}" if least else "-")
        table.add_row(title, *cells)
    return table


def growth_table(runs: dict[int, dict[str, Any]], arch: str) -> Table:
    """Median step time by T, as a multiple of that at `REFERENCE_T` (or the first T)."""
    start = REFERENCE_T if REFERENCE_T in runs else next(iter(runs))
    table = Table(title=f"{arch}: step time by T, as a multiple of that at T = {start}", title_justify="left")
    table.add_column("contestant")
    for T in runs:
        table.add_column(f"T = {T}", justify="right")
    for title in runs[start]:
        medians = {T: statistics.median(run[title]["seconds"]) for T, run in runs.items()}
        table.add_row(title, *(f"{1e3 * m:.0f} ms  {m / medians[start]:.2f}" for m in medians.values()))
    return table


def _of(contestants: Sequence[Contestant], name: str, precision: str) -> Contestant | None:
    return next((c for c in contestants if (c.name, c.precision) == (name, precision)), None)


def _times(one: Contestant, other: Contestant | None) -> str:
    return "-" if other is None else f"{median_ratio(one, other):.2f}"


if __name__ == "__main__":
    main()
