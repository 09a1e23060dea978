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
from onnx import TensorProto, helper, numpy_helper

from snnsc.energy import count, read_graph

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("neurobench", exc_type=ImportError)
    from neurobench.hooks.layer import LayerHook
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

pytestmark = pytest.mark.filterwarnings("ignore")

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
