"""Our events against NeuroBench's Effective_ACs and Effective_MACs, on equal weights.

NeuroBench counts a layer as ACs where its whole input is in {-1, 0, 1}, else as MACs, by running the layer with
weights and inputs set to 0 and 1: exact at borders and for zero weights. Only the split differs from ours: the first
layer's input is real to us whatever it holds. Hooks want [batch, ...] inputs and metrics want (model, preds, data).
"""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from single_layer import count_layer

from snnsc.energy import count, read_graph

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("neurobench", exc_type=ImportError)
    from neurobench.hooks.layer import LayerHook
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

pytestmark = pytest.mark.filterwarnings("ignore")

SIZE = 9
LAYERS = [
    {"shape": (6, 2, 3, 3), "padding": 1, "stride": 1, "groups": 1, "dilation": 1},
    {"shape": (8, 6, 3, 3), "padding": 1, "stride": 2, "groups": 1, "dilation": 1},
    {"shape": (8, 1, 3, 3), "padding": 2, "stride": 1, "groups": 8, "dilation": 2},
    {"shape": (4, 8, 1, 1), "padding": 0, "stride": 1, "groups": 1, "dilation": 1},
]


class Spikes(torch.nn.Module):
    def forward(self, x):
        return (x >= 0.25).float()


def make_torch(weights, head):
    modules = []
    for spec, weight in zip(LAYERS, weights, strict=True):
        out, inside, kernel, _ = spec["shape"]
        options = {k: spec[k] for k in ("padding", "stride", "groups", "dilation")}
        conv = torch.nn.Conv2d(inside * spec["groups"], out, kernel, bias=False, **options)
        conv.weight.data = torch.from_numpy(weight)
        modules += [conv, Spikes()]
    linear = torch.nn.Linear(head.shape[1], head.shape[0], bias=False)
    linear.weight.data = torch.from_numpy(head)
    return torch.nn.Sequential(*modules, torch.nn.Flatten(), linear)


def make_onnx(weights, head):
    """The same net; spikes by a one-step neuron function of ours."""
    initializers = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate([*weights, head])]
    nodes, value = [], "x"
    for i, spec in enumerate(LAYERS):
        attrs = {"pads": [spec["padding"]] * 4, "strides": [spec["stride"]] * 2, "dilations": [spec["dilation"]] * 2}
        nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], f"conv{i}", group=spec["groups"], **attrs))
        nodes.append(helper.make_node("Step", [f"c{i}"], [f"s{i}"], f"lif{i}", domain="snnsc"))
        value = f"s{i}"
    nodes.append(helper.make_node("Flatten", [value], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", f"w{len(LAYERS)}"], ["y"], "head", transB=1))
    body = [
        helper.make_node("Constant", [], ["threshold"], value_float=0.25),
        helper.make_node("GreaterOrEqual", ["v", "threshold"], ["fired"]),
        helper.make_node("Cast", ["fired"], ["spikes"], to=TensorProto.FLOAT),
    ]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("snnsc", 1)]
    function = helper.make_function("snnsc", "Step", ["v"], ["spikes"], body, imports[:1])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 9, 9])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", head.shape[0]])
    graph = helper.make_graph(nodes, "net", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=9)


def test_events_equal_effective_operations():
    rng = np.random.default_rng(3)

    def grid(*shape):
        return np.where(rng.random(shape) < 0.3, 0, rng.integers(-3, 4, shape) / 4).astype(np.float32)

    weights, head = [grid(*spec["shape"]) for spec in LAYERS], grid(10, 4 * 5 * 5)
    x = (rng.random((6, 2, 9, 9)) < 0.4).astype(np.float32)
    net = make_torch(weights, head)
    model = TorchModel(net)
    model.connection_hooks = [LayerHook(layer) for layer in model.connection_layers()]
    metric = SynapticOperations()
    with torch.no_grad():
        predictions = model(torch.from_numpy(x))
        theirs = metric(model, predictions, (torch.from_numpy(x), torch.zeros(6)))
    proto = make_onnx(weights, head)
    onnx.checker.check_model(proto)
    counts = count(read_graph(proto), [{"x": x}])
    ours = sum(layer.stats["events"].total for layer in counts.layers if "events" in layer.stats)
    assert theirs["Effective_MACs"] == 0
    assert ours / counts.samples == theirs["Effective_ACs"] > 1000
    assert [layer.op for layer in counts.layers] == ["Conv", "Step"] * len(LAYERS) + ["Gemm"]
    additions = sum(layer.stats["acs"].total for layer in counts.layers if "acs" in layer.stats)
    first = counts.layers[0].stats["events"].total
    assert additions == ours - first


def theirs(layer: torch.nn.Module, frames: np.ndarray) -> dict[str, float]:
    """What NeuroBench counts a sample, one call a time step."""
    model = TorchModel(torch.nn.Sequential(layer))
    model.connection_hooks = [LayerHook(each) for each in model.connection_layers()]
    metric = SynapticOperations()
    with torch.no_grad():
        steps = torch.from_numpy(frames)
        outputs = [model(step) for step in steps]
        return metric(model, outputs[-1], (steps[0], torch.zeros(len(steps[0]))))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_convolution_over_time(data):
    """Kernel, stride, padding, dilation, groups, sparse weights, several time steps: {0, 1}, and with a 2 among them.

    NeuroBench calls a whole layer multiplications where its input at that step holds anything but -1, 0, 1. Ours are
    additions wherever the element is 1; the sum of both kinds is the same.
    """
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    rank, groups, high = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2])), draw(st.integers(1, 2))
    shape = (groups * draw(st.integers(1, 3)), draw(st.integers(1, 3)), *[draw(st.integers(1, 3)) for _ in range(rank)])
    weight = np.where(rng.random(shape) < draw(st.sampled_from([0, 0.4, 1])), 0, rng.standard_normal(shape))
    weight = weight.astype(np.float32)
    stride, padding, dilation = (tuple(draw(st.integers(low, 2)) for _ in range(rank)) for low in (1, 0, 1))
    T, B = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    frames = rng.integers(0, high + 1, (T, B, shape[1] * groups, *[SIZE] * rank)).astype(np.float32)
    kind = [torch.nn.Conv1d, torch.nn.Conv2d][rank - 1]
    conv = kind(shape[1] * groups, shape[0], shape[2:], stride, padding, dilation, groups, bias=False)
    conv.weight.data = torch.from_numpy(weight)
    found = theirs(conv, frames)
    attrs = {"strides": stride, "pads": padding * 2, "dilations": dilation, "group": groups}
    layer = count_layer("Conv", weight, frames, "binary" if high == 1 else "integer", **attrs)
    events, acs = (layer.stats[key].total / B for key in ("events", "acs"))
    assert found["Effective_ACs"] + found["Effective_MACs"] == events
    if high == 1:
        assert acs == events == found["Effective_ACs"]
    binary = [t for t in range(T) if frames[t].max() <= 1]
    assert found["Effective_ACs"] == sum(layer.steps["events"][t] for t in binary) / B
    assert acs >= found["Effective_ACs"]
