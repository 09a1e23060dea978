"""Time and result of counting synaptic operations: snnsc, NeuroBench and SpikingJelly on the same network and samples.

    python benchmarks/energy_counters.py                        # tiny on event frames, resnet20-thin on images
    python benchmarks/energy_counters.py --nets tiny --samples 64 --rounds 1

The network is a recipe's, untrained, its running statistics those of its own currents and its biases such that one
neuron in ten fires. snnsc counts the exported file in onnxruntime; the others hook or trace the same folded network in
torch. Every round runs each once, in an order that moves on by one. Below the counts stands why they differ, each
reason with the number that it explains, computed from the network; what is left is asserted to be rounding.

Legend: T time steps, B batch, C channels, H W space.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from record import write_report
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from turns import in_turn

from snnsc import build_model
from snnsc.energy import Counts, LayerCount, count, load_inputs, read_graph
from snnsc.export.fold import fold
from snnsc.export.onnx import to_onnx
from snnsc.model import SpikingNetwork
from snnsc.model.neurons import Neuron
from snnsc.model.norms import Norm
from snnsc.recipe.load import load_recipe
from snnsc.recipe.schema import Recipe

RECIPES = {"tiny": "nmnist-folder.toml", "resnet20-thin": "cifar10-folder.toml"}
PEERS = ("command", "torch", "neurobench", "spikingjelly")
RATE = 0.1
"""Share of neurons that fire in a step."""
EVENTS = 0.05
"""Events a pixel and step of the event frames: Poisson, so that some are 2 and more."""
BATCH = 32
CALIBRATION = 8
LEFT = 1e-4
"""Largest share of the counts that may be left to rounding."""

console = Console(width=120)


@dataclass
class Net:
    """A network in torch and as a file, and its samples in both."""

    name: str
    torch: SpikingNetwork
    model: Path
    inputs: Path
    batches: list[Tensor]
    axis: int

    @property
    def samples(self) -> int:
        """How many."""
        return sum(batch.shape[self.axis] for batch in self.batches)


@dataclass
class Contestant:
    """What is timed; its last result is kept."""

    name: str
    run: Callable[[], Any]
    seconds: list[float] = field(default_factory=list)
    result: Any = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its tables."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.nets:
            net = make_net(name, options.samples, Path(folder))
            contestants = list(build_contestants(net, options))
            with torch.no_grad():
                net.torch(net.batches[0])
            run_rounds(contestants, options.rounds)
            console.print(times_table(net, contestants))
            found = {c.name: c.result for c in contestants}
            console.print(counts_table(found))
            for reason in explain(net, found):
                console.print(f"- {reason}", highlight=False)
            results[name] = {c.name: c.seconds for c in contestants}
    write_report(options, results, ("torch", "onnxruntime", "neurobench", "spikingjelly", "snnsc"))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--samples", type=int, default=256, help=f"multiple of {BATCH} (default 256)")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each contestant (default 3)")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS, help="timed beside snnsc")
    parser.add_argument("--threads", type=int, default=2, help="of torch and of onnxruntime (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time that was measured")
    options = parser.parse_args(arguments)
    if options.samples < BATCH or options.samples % BATCH:
        parser.error(f"--samples {options.samples}: give a multiple of {BATCH}, the batch of every contestant")
    return options


# -------------------------------------------------------------------------------------------- networks and samples


def make_net(name: str, samples: int, folder: Path) -> Net:
    """The folded network of a recipe, its file, and samples."""
    recipe = load_recipe(Path(__file__).parents[1] / "recipes" / RECIPES[name])
    torch.manual_seed(0)
    folded = fold(make_network(recipe))[0]
    model = to_onnx(folded, recipe)
    is_event = recipe.data.is_event
    facts = {"layout": "TBCHW" if is_event else "BCHW", "kind": "integer" if is_event else "real"}
    model.metadata_props.add(key="snnsc.input", value=json.dumps(facts))
    onnx.save(model, folder / f"{name}.onnx")
    axis = 1 if is_event else 0
    x = draw(recipe, samples)
    np.savez(folder / f"{name}.npz", **{model.graph.input[0].name: x.numpy()})
    batches = [batch.contiguous() for batch in x.split(BATCH, dim=axis)]
    return Net(name, folded, folder / f"{name}.onnx", folder / f"{name}.npz", batches, axis)


def make_network(recipe: Recipe) -> SpikingNetwork:
    """A network whose running statistics are those of its own currents, and of whose neurons `RATE` fire."""
    network = build_model(recipe, branches=False, compiled=False).train()
    norms = [module for module in network.modules() if isinstance(module, Norm)]
    with torch.no_grad():
        for _ in range(10):
            network(draw(recipe, CALIBRATION))
        network.eval()
        x, low, high = draw(recipe, CALIBRATION), -3.0, 3.0
        for _ in range(8):
            middle = (low + high) / 2
            for norm in norms:
                norm.bias.fill_(middle)
            low, high = (low, middle) if rate(network, x) > RATE else (middle, high)
    return network


def draw(recipe: Recipe, samples: int) -> Tensor:
    """Event frames [T, B, C, H, W] or images [B, C, H, W]."""
    space = (recipe.data.channels, recipe.data.size, recipe.data.size)
    if recipe.data.is_event:
        return torch.poisson(torch.full((recipe.model.T, samples, *space), EVENTS))
    return torch.randn(samples, *space)


def rate(network: nn.Module, x: Tensor) -> float:
    """Spikes a neuron and step."""
    spikes, updates = fired(network, [x])
    return spikes / updates


def fired(network: nn.Module, batches: Sequence[Tensor]) -> tuple[int, int]:
    """Spikes, and neurons times steps, of all layers."""
    total, updates = 0, 0

    def look(_module: nn.Module, _inputs: object, spikes: Tensor) -> None:
        nonlocal total, updates
        total += int(spikes.sum(dtype=torch.float64))
        updates += spikes.numel()

    hooks = [m.register_forward_hook(look) for m in network.modules() if isinstance(m, Neuron)]
    with torch.no_grad():
        for batch in batches:
            network(batch)
    for hook in hooks:
        hook.remove()
    return total, updates


# ------------------------------------------------------------------------------------------------------ contestants


def build_contestants(net: Net, options: argparse.Namespace) -> Iterator[Contestant]:
    """Those asked for; says which cannot run here."""
    runs = {"command": command, "torch": in_torch, "neurobench": by_neurobench, "spikingjelly": by_spikingjelly}
    yield Contestant("onnxruntime", in_onnxruntime(net, options.threads))
    yield Contestant("snnsc", lambda: in_snnsc(net))
    for name in options.peers:
        if name in ("neurobench", "spikingjelly") and importlib.util.find_spec(name) is None:
            console.print(f"{name}: left out, it is not installed")
        else:
            yield Contestant(name, lambda run=runs[name]: run(net))


def in_onnxruntime(net: Net, threads: int) -> Callable[[], None]:
    """The file, nothing counted: what counting is measured from. The session is opened once, before."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(net.model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run() -> None:
        for batch in net.batches:
            session.run(["logits"], {name: batch.numpy()})

    return run


def in_torch(net: Net) -> None:
    """The folded network in torch, nothing counted."""
    with torch.no_grad():
        for batch in net.batches:
            net.torch(batch)


def in_snnsc(net: Net) -> Counts:
    """From the files to the counts, in this process."""
    graph = read_graph(net.model)
    return count(graph, load_inputs(net.inputs, graph))


def command(net: Net) -> None:
    """The whole command: a new process, its imports, prices and the printing."""
    main = "from snnsc.cli import main; main()"
    arguments = [sys.executable, "-c", main, "energy", str(net.model), "--inputs", str(net.inputs)]
    subprocess.run(arguments, check=True, capture_output=True)


def by_neurobench(net: Net) -> dict[str, float]:
    """NeuroBench's SynapticOperations: hooks that keep the inputs of each layer, which then runs twice more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from neurobench.hooks.layer import LayerHook
        from neurobench.metrics.workload import SynapticOperations
        from neurobench.models import TorchModel
    model = TorchModel(net.torch)
    layers = [m for m in net.torch.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    model.connection_hooks = [LayerHook(layer) for layer in layers]
    metric = SynapticOperations()
    with torch.no_grad():
        for batch in net.batches:
            metric(model, model(batch), (batch.movedim(net.axis, 0),))
            for hook in model.connection_hooks:
                hook.reset()
    for hook in model.connection_hooks:
        hook.close()
    return dict(metric.compute())


def by_spikingjelly(net: Net) -> int:
    """SpikingJelly's SynOpCounter: looks at every operator that torch dispatches."""
    from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter

    counter = SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([counter]):
        for batch in net.batches:
            net.torch(batch)
    return int(counter.get_total())


def run_rounds(contestants: Sequence[Contestant], rounds: int) -> None:
    """One run of each a round; who begins moves on from round to round."""
    contestants[0].run()
    for _, c in in_turn(contestants, range(rounds)):
        start = time.perf_counter()
        c.result = c.run()
        c.seconds.append(time.perf_counter() - start)


# ---------------------------------------------------------------------------------------------------------- results


def times_table(net: Net, contestants: Sequence[Contestant]) -> Table:
    """Times, and each as a multiple of onnxruntime's and of the counting's in the same round."""
    by_name = {c.name: c for c in contestants}
    title = f"{net.name}, {net.samples} samples in batches of {BATCH}: seconds"
    table = Table(title=title, title_justify="left")
    for column in ("contestant", "median", "least", "most", "x onnxruntime", "x snnsc"):
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for c in contestants:
        ratios = [
            statistics.median(a / b for a, b in zip(c.seconds, by_name[name].seconds, strict=True))
            for name in ("onnxruntime", "snnsc")
        ]
        times = (statistics.median(c.seconds), min(c.seconds), max(c.seconds))
        table.add_row(c.name, *(f"{seconds:.2f}" for seconds in times), *(f"{ratio:.2f}" for ratio in ratios))
    return table


def counts_table(found: dict[str, Any]) -> Table:
    """What each says of a sample."""
    table = Table(title="counts a sample", title_justify="left")
    for column in ("counter", "synaptic events", "of these additions", "multiplications"):
        table.add_column(column, justify="left" if column == "counter" else "right")
    counts: Counts = found["snnsc"]
    totals = {key: counts.network.stats[key].total / counts.samples for key in ("events", "acs", "macs")}
    table.add_row("snnsc", *(f"{totals[key]:,.1f}" for key in ("events", "acs", "macs")))
    if bench := found.get("neurobench"):
        acs, macs = bench["Effective_ACs"], bench["Effective_MACs"]
        table.add_row("neurobench", *(f"{n:,.1f}" for n in (acs + macs, acs, macs)))
    if (jelly := found.get("spikingjelly")) is not None:
        table.add_row("spikingjelly", f"{jelly / counts.samples:,.1f}", f"{jelly / counts.samples:,.1f}", "not told")
    return table


def explain(net: Net, found: dict[str, Any]) -> Iterator[str]:
    """Why the counts differ, with numbers a sample; ends the run where a difference has no reason."""
    counts: Counts = found["snnsc"]
    n = counts.samples
    linear = [x for x in counts.layers if "events" in x.stats]
    graded = [x for x in linear if x.input_kind in ("integer", "scaled")]
    binary = [x for x in linear if x.input_kind == "binary"]
    acs = total(graded, "acs") / n
    names = ", ".join(f"{x.name} ({x.input_kind})" for x in graded) or "none"
    spikes = sum(x.stats["spikes"].total for x in counts.layers if "spikes" in x.stats)
    difference = abs(fired(net.torch, net.batches)[0] - spikes)
    yield (
        f"Rounding: torch and onnxruntime sum in different orders, and the spikes of all {n} samples differ by"
        f" {difference:,} of {spikes:,}; NeuroBench also adds up its counts in float32."
    )
    if bench := found.get("neurobench"):
        theirs = bench["Effective_ACs"] + bench["Effective_MACs"]
        left = hold("NeuroBench's events", theirs, total(linear, "events") / n)
        yield f"Events: NeuroBench's are ours (left: {left:.0e} of them); it leaves out borders and zero weights too."
        left = hold("NeuroBench's additions", bench["Effective_ACs"], total(binary, "acs") / n)
        yield (
            f"Additions: NeuroBench has {acs:,.1f} fewer. It calls a layer additions where its whole input is -1, 0, 1;"
            f" in {names} we count an input of one unit as the addition that it is (left: a share of {left:.0e})."
        )
    if (jelly := found.get("spikingjelly")) is not None:
        zeros = zero_weights(net.torch)
        others = total([x for x in linear if x not in binary], "events") / n
        left = hold("SpikingJelly's additions", jelly / n, total(binary, "events") / n) if not zeros else float("nan")
        yield (
            f"SpikingJelly counts nothing where an input is not 0 and 1 throughout: {others:,.1f} events of the first"
            f" layer, of sums and of pooled spikes are missing. It counts zero weights; here are {zeros} (left: a share"
            f" of {left:.0e})."
        )
    formula = sum(dense_times_density(x) for x in linear) / n
    events = total(linear, "events") / n
    yield (
        f"Borders: firing rate x dense MACs, as most papers count, gives {formula:,.1f}, {formula / events - 1:+.1%}:"
        " it charges inputs at a border for windows that lie outside."
    )


def hold(what: str, theirs: float, ours: float) -> float:
    """The share by which two counts differ."""
    left = abs(theirs - ours) / ours
    if not left <= LEFT:
        sys.exit(f"{what} are {theirs:,.1f} a sample, ours {ours:,.1f}: a difference that has no reason here")
    return left


def total(layers: Sequence[LayerCount], key: str) -> float:
    """Sum over rows and samples."""
    return sum(x.stats[key].total for x in layers)


def dense_times_density(layer: LayerCount) -> float:
    """Multiply-accumulates times the share of the inputs that are not zero."""
    stats = layer.stats
    return stats["dense_macs"].total * stats["input_nonzeros"].total / stats["input_elements"].total


def zero_weights(network: nn.Module) -> int:
    """Weights of convolutions and linear layers that are zero."""
    layers = (m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    return sum(int((layer.weight == 0).sum()) for layer in layers)


if __name__ == "__main__":
    main()
