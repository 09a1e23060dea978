"""Small ONNX graphs in the form that `snnsc export` writes, and plain ones, built with onnx.helper."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

OPSET = 18


class Builder:
    """Collects nodes and initializers of one graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def const(self, name: str, value) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, inputs: list[str], output: str, *, name: str = "", domain: str = "", **attrs) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name or output, domain=domain, **attrs))
        return output

    def model(self, inputs, outputs, *, opset: int = OPSET, functions=(), metadata=None, options=()) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info(n, t, s) for n, t, s in [*inputs, *options]]
        results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs]
        graph = helper.make_graph(self.nodes, "net", values, results, self.initializers)
        imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid("snnsc", 1)] if functions else [])
        model = helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=9)
        for key, value in (metadata or {}).items():
            model.metadata_props.add(key=key, value=value)
        return model


def neuron_function(kind: str) -> onnx.FunctionProto:
    """LIF: v <- decay v + x, spike = v >= threshold, v <- 0 on a spike; IF has decay 1."""
    info = helper.make_tensor_value_info
    body_nodes = [
        *([helper.make_node("Mul", ["v", "decay_value"], ["leaked"])] if kind == "LIF" else []),
        helper.make_node("Add", ["leaked" if kind == "LIF" else "v", "current"], ["charged"]),
        helper.make_node("GreaterOrEqual", ["charged", "threshold_value"], ["fired"]),
        helper.make_node("Cast", ["fired"], ["spike"], to=TensorProto.FLOAT),
        helper.make_node("Where", ["fired", "nought", "charged"], ["next"]),
    ]
    body = helper.make_graph(
        body_nodes,
        "step",
        [info("v", TensorProto.FLOAT, None), info("current", TensorProto.FLOAT, None)],
        [info("next", TensorProto.FLOAT, None), info("spike", TensorProto.FLOAT, None)],
    )
    attributes = ["decay", "threshold"] if kind == "LIF" else ["threshold"]
    nodes = []
    for attribute in attributes:
        node = helper.make_node("Constant", [], [f"{attribute}_value"])
        node.attribute.append(onnx.AttributeProto(name="value_float", ref_attr_name=attribute, type=1))
        nodes.append(node)
    nodes += [
        helper.make_node("Constant", [], ["nought"], value_float=0.0),
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Gather", ["x", "zero"], ["first"], axis=0),
        helper.make_node("Shape", ["first"], ["state_shape"]),
        helper.make_node("ConstantOfShape", ["state_shape"], ["start"]),
        helper.make_node("Scan", ["start", "x"], ["last", "spikes"], body=body, num_scan_inputs=1),
    ]
    imports = [helper.make_opsetid("", OPSET)]
    return helper.make_function("snnsc", kind, ["x"], ["spikes"], nodes, imports, [*attributes, "reset"])


class SnnBuilder(Builder):
    """Adds the idioms of the exporter: shape chains, neuron calls, time folding."""

    def __init__(self, rng: np.random.Generator, T: int, kind: str = "LIF") -> None:
        super().__init__()
        self.rng, self.T, self.kind = rng, T, kind
        self.const("T", np.array([T], np.int64))
        self.const("zero", np.array([0], np.int64))

    def grid(self, *shape: int, sparsity: float = 0.3) -> np.ndarray:
        """Weights that are multiples of 1/4: float32 sums of them are exact in any order."""
        weights = self.rng.integers(-3, 4, shape) / 4
        return np.where(self.rng.random(shape) < sparsity, 0, weights).astype(np.float32)

    def conv(self, source: str, name: str, shape: tuple[int, ...], **attrs) -> str:
        w = self.const(f"{name}.weight", self.grid(*shape))
        b = self.const(f"{name}.bias", self.grid(shape[0]))
        return self.add("Conv", [source, w, b], f"{name}.out", name=name, **attrs)

    def repeat(self, source: str, name: str, rank: int = 4) -> str:
        """[B,...] -> [T,B,...]"""
        self.add("Unsqueeze", [source, "zero"], f"{name}.u")
        ones = self.const(f"{name}.ones", np.ones(rank, np.int64))
        self.add("Concat", ["T", ones], f"{name}.shape", axis=0)
        return self.add("Expand", [f"{name}.u", f"{name}.shape"], f"{name}.rep")

    def neuron(self, source: str, name: str) -> str:
        attrs = {"threshold": 1.0, "reset": "hard"} | ({"decay": 0.5} if self.kind == "LIF" else {})
        return self.add(self.kind, [source], f"{name}.spikes", name=name, domain="snnsc", **attrs)

    def fold(self, source: str, tail: list[int]) -> str:
        """[T,B,...] -> [T*B,...]"""
        shape = self.const(f"{source}.fold", np.array([-1, *tail], np.int64))
        return self.add("Reshape", [source, shape], f"{source}.folded")

    def unfold(self, source: str, steps: str = "T") -> str:
        """[T*B,...] -> [T,B,...], by a Shape/Gather/Concat chain."""
        self.add("Shape", [source], f"{source}.s", start=1)
        minus = self.const(f"{source}.minus", np.array([-1], np.int64))
        self.add("Concat", [steps, minus, f"{source}.s"], f"{source}.shape", axis=0)
        return self.add("Reshape", [source, f"{source}.shape"], f"{source}.unfolded")


def exported_net(
    rng: np.random.Generator, *, T: int = 3, kind: str = "LIF", event: bool = False, pool: str = "AveragePool"
) -> onnx.ModelProto:
    """conv1 - lif1 - conv2 - lif2 - (conv3 + shortcut) - lif3 - pool - head, as the exporter writes it."""
    b = SnnBuilder(rng, T, kind)
    if event:
        b.add("Shape", ["frames"], "T_now", start=0, end=1)
        x = b.conv(b.fold("frames", [2, 6, 6]), "conv1", (3, 2, 3, 3), pads=[1, 1, 1, 1])
        x = b.unfold(x, "T_now")
    else:
        x = b.repeat(b.conv("images", "conv1", (3, 2, 3, 3), pads=[1, 1, 1, 1]), "conv1")
    steps = "T_now" if event else "T"
    spikes1 = b.fold(b.neuron(x, "lif1"), [3, 6, 6])
    x = b.unfold(b.conv(spikes1, "conv2", (4, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2]), steps)
    spikes2 = b.fold(b.neuron(x, "layer1.0.lif1"), [4, 3, 3])
    main = b.unfold(b.conv(spikes2, "layer1.0.conv2", (4, 2, 3, 3), pads=[1, 1, 1, 1], group=2), steps)
    side = b.unfold(b.conv(spikes1, "layer1.0.shortcut", (4, 3, 1, 1), strides=[2, 2]), steps)
    x = b.add("Add", [main, side], "layer1.0.add.out", name="layer1.0.add")
    x = b.fold(b.neuron(x, "layer1.0.lif2"), [4, 3, 3])
    features = 16
    if pool == "AveragePool":
        x = b.add("AveragePool", [x], "pool", kernel_shape=[2, 2], strides=[1, 1])
    elif pool == "MaxPool":
        x = b.add("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[1, 1])
    else:
        x = b.add("ReduceMean", [x, b.const("hw", np.array([2, 3], np.int64))], "pool", keepdims=1)
        features = 4
    x = b.add("Flatten", [x], "flat", axis=1)
    w, bias = b.const("head.weight", b.grid(5, features)), b.const("head.bias", b.grid(5))
    x = b.add("Gemm", [x, w, bias], "head.out", name="head", transB=1)
    b.add("ReduceMean", [b.unfold(x, steps), "zero"], "logits", keepdims=0)
    name, shape = ("frames", ["t", "batch", 2, 6, 6]) if event else ("images", ["batch", 2, 6, 6])
    metadata = {"snnsc.format": "1", "snnsc.T": str(T), "snnsc.neuron": kind}
    metadata["snnsc.input"] = json.dumps({"layout": "TBCHW" if event else "BCHW"})
    return b.model(
        [(name, TensorProto.FLOAT, shape)],
        [("logits", ["batch", 5])],
        functions=[neuron_function(kind)],
        metadata=metadata,
        options=[("T", TensorProto.INT64, [1])],
    )


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray], values: list[str]) -> list[np.ndarray]:
    """Values of a model as onnxruntime computes them."""
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    have = {o.name for o in open_model.graph.output}
    open_model.graph.output.extend(onnx.ValueInfoProto(name=v) for v in values if v not in have)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(open_model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(values, feeds)


def brute_conv(x, w, *, strides, pads, dilations, groups, unit=1.0) -> np.ndarray:
    """[rows, 3]: events, additions and magnitude; every nonzero input and every nonzero weight it meets, one by one."""
    rank, per_group = x.ndim - 2, w.shape[0] // groups
    begins, ends = pads[:rank], pads[rank:]
    sizes = [
        (x.shape[2 + a] + begins[a] + ends[a] - (w.shape[2 + a] - 1) * dilations[a] - 1) // strides[a] + 1
        for a in range(rank)
    ]
    counts = np.zeros((x.shape[0], 3))
    for row, channel, *position in np.argwhere(x):
        value = abs(round(float(x[row, channel, *position]) / unit))
        group, inside = divmod(channel, w.shape[1])
        for out in range(group * per_group, (group + 1) * per_group):
            for offset in product(*(range(k) for k in w.shape[2:])):
                if w[out, inside, *offset] == 0:
                    continue
                reach = [position[a] + begins[a] - offset[a] * dilations[a] for a in range(rank)]
                if all(r % s == 0 and 0 <= r // s < n for r, s, n in zip(reach, strides, sizes, strict=True)):
                    counts[row] += [1, value == 1, value]
    return counts


def brute_matrix(x, w, unit=1.0) -> np.ndarray:
    """As `brute_conv` for [rows, K] times [K, M]."""
    counts = np.zeros((x.shape[0], 3))
    for row, feature in np.argwhere(x):
        value = abs(round(float(x[row, feature]) / unit))
        for out in range(w.shape[1]):
            if w[feature, out] != 0:
                counts[row] += [1, value == 1, value]
    return counts


def by_sample(rows: np.ndarray, samples: int) -> np.ndarray:
    """Rows of [T*B, ...] summed over T."""
    return rows.reshape(-1, samples, *rows.shape[1:]).sum(axis=0)
