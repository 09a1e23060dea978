"""Networks of SpikingJelly, snnTorch and Norse, exported with plain torch.onnx.export, count as their own libraries do.

Weights are multiples of 1/4 and inputs are 0 and 1, so that torch and onnxruntime sum exactly and spike alike.
NeuroBench is right on such a network (every layer reads 0 and 1); it is asked where it can be hooked, one call a time
step. SpikingJelly's own counter is right on weights without zeros, and reads a whole sequence.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from snnsc.energy import count, read_graph

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("snntorch")
pytest.importorskip("norse")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("neurobench", exc_type=ImportError)
    import norse.torch as norse
    import snntorch
    from neurobench.hooks.layer import LayerHook
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
from torch import Tensor, nn  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
T, B = 3, 4


class Network(nn.Module):
    """Layers and neurons in turn; `forward` runs them over x [T, B, ...]."""

    def __init__(self, first: nn.Module, one: nn.Module, second: nn.Module, two: nn.Module) -> None:
        super().__init__()
        self.first, self.one, self.second, self.two = first, one, second, two


class SpikingJellySteps(Network):
    """A loop over T of one-step modules; the outputs are summed up."""

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        total = 0.0
        for t in range(T):
            total = total + self.two(self.second(self.one(self.first(x[t])).flatten(1)))
        return total / T


class SpikingJellySequence(Network):
    """Multi-step modules: the layers on T * B at once."""

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        return self.two(self.second(self.one(self.first(x)).flatten(2))).mean(0)


class Stateful(Network):
    """Neurons that take and give their states: snnTorch's (spikes, *states), Norse's (spikes, state)."""

    def forward(self, x: Tensor) -> Tensor:
        one, two = (cell.reset_mem() if hasattr(cell, "reset_mem") else () for cell in (self.one, self.two))
        one, two = ([state] if isinstance(state, Tensor) else state for state in (one, two))
        outputs = []
        for t in range(T):
            a, *one = self.one(self.first(x[t]), *one)
            b, *two = self.two(self.second(a.flatten(1)), *two)
            outputs.append(b)
        return torch.stack(outputs).sum(0)


def conv() -> nn.Module:
    return nn.Conv2d(2, 3, 3, padding=1, stride=2)


def spikingjelly_steps() -> nn.Module:
    return SpikingJellySteps(conv(), neuron.LIFNode(), nn.Linear(27, 5), neuron.IFNode(v_reset=None))


def spikingjelly_simple() -> nn.Module:
    return SpikingJellySteps(conv(), neuron.SimpleLIFNode(2.0, False), nn.Linear(27, 5), neuron.SimpleIFNode())


def spikingjelly_sequence() -> nn.Module:
    net = SpikingJellySequence(
        layer.Conv2d(2, 3, 3, padding=1, stride=2), neuron.LIFNode(), layer.Linear(27, 5), neuron.IFNode()
    )
    functional.set_step_mode(net, "m")
    return net


def snntorch_leaky() -> nn.Module:
    one, two = snntorch.Leaky(beta=0.5), snntorch.Leaky(beta=0.5, reset_mechanism="zero")
    return Stateful(conv(), one, nn.Linear(27, 5), two)


def snntorch_synaptic() -> nn.Module:
    cells = [snntorch.Synaptic(alpha=0.5, beta=0.5) for _ in range(2)]
    return Stateful(nn.Linear(20, 12), cells[0], nn.Linear(12, 5), cells[1])


def norse_cells() -> nn.Module:
    fast = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0))
    return Stateful(nn.Linear(20, 12), norse.LIFCell(), nn.Linear(12, 5), norse.LIFBoxCell(fast))


def prepared(make: Callable[[], nn.Module], high: int = 4) -> tuple[nn.Module, Tensor]:
    """The network with weights on a grid, without zeros, and its input."""
    rng = np.random.default_rng(0)
    net = make().eval()
    for name, weight in net.named_parameters():
        if name.startswith(("first", "second")):
            numbers = rng.integers(1, high + 1, weight.shape) * rng.choice([-1, 1, 1], weight.shape) / 4
            weight.data = torch.from_numpy(numbers.astype(np.float32))
    size = (2, 6, 6) if hasattr(net.first, "kernel_size") else (20,)
    return net, torch.from_numpy((rng.random((T, B, *size)) < 0.5).astype(np.float32))


def exported(net: nn.Module, x: Tensor, exporter: str) -> onnx.ModelProto:
    """As a user exports it: the batch is open, nothing else is said."""
    file = io.BytesIO()
    if exporter == "dynamo":
        shapes = ({1: torch.export.Dim("batch")},)
        torch.onnx.export(net, (x,), file, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False)
    else:
        torch.onnx.export(net, (x,), file, dynamo=False, input_names=["x"], dynamic_axes={"x": {1: "batch"}})
    return onnx.load_from_string(file.getvalue())


def spikes_of(net: nn.Module, x: Tensor) -> list[list[int]]:
    """Spikes of both neurons at each time step, as torch computes them."""
    found: list[list[Tensor]] = [[], []]
    hooks = [
        module.register_forward_hook(
            lambda _m, _i, out, at=at: found[at].append(out[0] if isinstance(out, tuple) else out)
        )
        for at, module in enumerate((net.one, net.two))
    ]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    whole = [torch.stack(outputs) if len(outputs) == T else outputs[0] for outputs in found]
    return [[int(step.sum()) for step in outputs] for outputs in whole]


def neurobench(net: nn.Module, x: Tensor) -> dict[str, float]:
    """Operations a sample."""
    model = TorchModel(net)
    model.connection_hooks = [LayerHook(each) for each in model.connection_layers()]
    with torch.no_grad():
        out = model(x)
    return SynapticOperations()(model, out, (x[0], torch.zeros(B)))


def spikingjelly(net: nn.Module, x: Tensor) -> float:
    """Operations a sample."""
    counter = SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([counter]):
        net(x)
    return counter.get_total() / B


SLOW = pytest.mark.slow
FORMS = [
    # network, exporter, (multiplications, additions) of an update of both neurons, as the file computes it
    pytest.param(spikingjelly_steps, "dynamo", (1, 2), (0, 1), id="spikingjelly steps"),
    pytest.param(spikingjelly_simple, "dynamo", (1, 3), (0, 1), id="spikingjelly simple", marks=SLOW),
    pytest.param(spikingjelly_sequence, "dynamo", (1, 2), (0, 1), id="spikingjelly sequence", marks=SLOW),
    pytest.param(snntorch_leaky, "dynamo", (1, 1), (1, 1), id="snntorch leaky"),
    pytest.param(snntorch_leaky, "torchscript", (1, 1), (1, 1), id="snntorch leaky, torchscript"),
    pytest.param(snntorch_synaptic, "dynamo", (2, 2), (2, 2), id="snntorch synaptic", marks=SLOW),
    pytest.param(snntorch_synaptic, "torchscript", (2, 2), (2, 2), id="snntorch synaptic, torchscript"),
    pytest.param(norse_cells, "dynamo", (2, 5), (1, 2), id="norse", marks=SLOW),
    pytest.param(norse_cells, "torchscript", (2, 5), (1, 2), id="norse, torchscript"),
]


@pytest.mark.parametrize(("make", "exporter", "one", "two"), FORMS)
def test_counts_equal_those_of_the_library(make, exporter, one, two):
    fresh, x = prepared(make)  # what has run keeps its state, and TorchScript would write that into the file
    counts = count(read_graph(exported(fresh, x, exporter)), [{"x": x.numpy()}])
    net, _ = prepared(make)
    spikes = spikes_of(net, x)
    assert not counts.not_counted
    assert not counts.violations
    layers = [row for row in counts.layers if row.op in ("Conv", "Gemm", "MatMul")]
    neurons = [row for row in counts.layers if row.op == "spike"]
    assert [list(row.steps["spikes"]) for row in neurons] == spikes
    assert all(sum(steps) > 0 for steps in spikes)
    assert len(layers) == 2
    assert {row.op for row in counts.layers} <= {
        "Conv",
        "Gemm",
        "MatMul",
        "spike",
        "Add",
        "Div",
        "ReduceMean",
        "ReduceSum",
    }
    assert [row.stats["time_steps"].total for row in layers] == [T * B] * 2
    assert [row.stats["neuron_updates"].total // (T * B) for row in neurons] == [net.second.in_features, 5]
    assert [row.input_kind for row in layers] == ["real", "binary"]
    events = sum(row.stats["events"].total for row in layers) / B
    if make is spikingjelly_sequence:
        assert events == spikingjelly(net, x) > 0
    else:
        found = neurobench(net, x)
        assert events == found["Effective_ACs"] > found["Effective_MACs"] == 0
        assert sum(row.stats["max_events"].total for row in layers) / B == found["Dense"], "theirs leaves borders out"
    assert [tuple(row.facts["arithmetic"]) for row in neurons] == [one, two]
    first = layers[0].stats["events"].total
    assert sum(row.stats["acs"].total for row in layers) == events * B - first, "the input is real, whatever it holds"


@pytest.mark.slow
def test_average_pooled_spikes_are_graded_where_neurobench_counts_a_multiplication():
    """NeuroBench and SpikingJelly look whether a whole input is 0 and 1; pooled spikes of 1/4 and 1 are neither."""

    class Pooled(SpikingJellySteps):
        def forward(self, x: Tensor) -> Tensor:
            functional.reset_net(self)
            pool = nn.functional.avg_pool2d
            return sum(self.two(self.second(pool(self.one(self.first(x[t])), 2).flatten(1))) for t in range(T))

    first, one = nn.Conv2d(2, 3, 3, padding=1), neuron.SimpleLIFNode(2.0, False)
    net, x = prepared(lambda: Pooled(first, one, nn.Linear(27, 5), neuron.SimpleIFNode()))
    found = neurobench(net, x)
    counts = count(read_graph(exported(net, x, "dynamo")), [{"x": x.numpy()}])
    second = next(row for row in counts.layers if row.op == "Gemm")
    assert (second.input_kind, second.unit) == ("scaled", pytest.approx(1 / 4))
    assert second.stats["events"].total / B == found["Effective_MACs"] > 0
    assert 0 < second.stats["acs"].total < second.stats["events"].total < second.stats["event_magnitude"].total
