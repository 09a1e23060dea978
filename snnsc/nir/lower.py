"""A NIR graph as an ONNX model of a whole sequence, in the form that `snnsc export` writes.

    input [T, B, ...] -> logits_by_step [T, B, ...], what the Output gets -> logits [B, ...], their mean over time

T and B are dynamic. Every layer of neurons is one call of a local function, named after its node; its spikes are the
value `<node>.spikes` [T, B, ...]. Convolutions and pools run on T*B at once. Where a name that is made here is that of
another node, as nodes may be called anything, a number is added to it.

A SumPool2d is an average pool whose factor, the size of its window, goes into the weights of the next layer, so that
a sum of spikes stays one multiple of a unit for the energy count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from snnsc.errors import ModelFileError, RecipeError
from snnsc.file_format import FORMAT, FORMAT_KEY
from snnsc.neuron_functions import DOMAIN, DOMAIN_VERSION, OPSET, Call, functions
from snnsc.nir.discrete import Stepping, stepped
from snnsc.nir.graph import Graph, Node
from snnsc.nir.hdf5 import Array
from snnsc.nir.limits import check_dt
from snnsc.nir.names import Names
from snnsc.nir.nodes import NEURONS, Malformed, Shape, conv_padding, pair, sizes

DT_KEY, STEPPING_KEY = "snnsc.dt", "snnsc.stepping"
DEFAULT_DT = 1e-4
"""Seconds; what snnTorch and SpikingJelly take where they are not told."""


@dataclass(frozen=True)
class _Value:
    """A value of the ONNX graph, which times `factor` is a node's.

    Attributes:
        name: Its name.
        shape: Of one time step of one sample.
        folded: Whether T and B are one axis.
        factor: See above.
    """

    name: str
    shape: Shape
    folded: bool
    factor: float = 1.0


def to_onnx(graph: Graph, *, dt: float | None = None) -> onnx.ModelProto:
    """The graph as an ONNX model.

    Args:
        graph: The graph.
        dt: Time step in seconds; default that which our own files tell, else `DEFAULT_DT`.

    Raises:
        ModelFileError: the metadata of the file are damaged, or a constant is too large for float32.
        RecipeError: dt is no time, or longer than a time constant.
    """
    told, stepping = _timing(graph)
    step = told if dt is None else dt
    if dt is not None:
        check_dt(dt)
    if DT_KEY in graph.metadata and step != told:
        raise RecipeError(f"--dt {step:g}: {graph.source} was written for time steps of {told:g} s; leave --dt out")
    builder = _Builder(step, stepping, graph.nodes)
    for node in graph.nodes.values():
        try:
            builder.add(node)
        except Malformed as e:
            raise ModelFileError(f"{graph.source}: node {node.name[:60]!r} ({node.kind}): {e}") from e
        except RecipeError as e:
            raise RecipeError(f"{graph.source}: {e}") from e
    return builder.model(graph)


def _timing(graph: Graph) -> tuple[float, Stepping]:
    about = graph.metadata
    try:
        told = float(about.get(DT_KEY, DEFAULT_DT))
    except ValueError:
        told = math.nan
    if not (math.isfinite(told) and told > 0):
        what = f"metadata {DT_KEY} is {about[DT_KEY][:40]!r}, expected are seconds"
        raise ModelFileError(f"{graph.source}: {what}; export it again")
    match about.get(STEPPING_KEY, "euler"):
        case "euler":
            return told, "euler"
        case "sinabs":
            return told, "sinabs"
        case other:
            what = f"metadata {STEPPING_KEY} is {other[:40]!r}, expected is euler or sinabs"
            raise ModelFileError(f"{graph.source}: {what}; export it again")


class _Builder:
    """Collects ONNX nodes, one NIR node after the other."""

    def __init__(self, dt: float, stepping: Stepping, nodes: Iterable[str]) -> None:
        self.dt, self.stepping = dt, stepping
        self.node_names = Names(nodes)
        self.value_names = Names(["input"])
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.values: dict[str, _Value] = {}
        self.forms: dict[tuple[str, bool], str] = {}
        self.calls: list[Call] = []

    def add(self, node: Node) -> None:
        """Add one node; those before it are there."""
        self.values[node.name] = self._value(node)

    def model(self, graph: Graph) -> onnx.ModelProto:
        """The model of all that was added."""
        entry, end = graph.input, graph.output
        last = self._plain(self.values[end.name], end.name, folded=False)
        self._made("Identity", [last.name], f"{end.name}.identity", "logits_by_step")
        axes = self._constant("time_axis", np.array([0], np.int64))
        self._made("ReduceMean", ["logits_by_step", axes], f"{end.name}.mean", "logits", keepdims=0)
        inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["T", "B", *entry.shape])]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", *end.shape])]
        proto = helper.make_graph(self.nodes, "nir", inputs, outputs, list(self.constants.values()))
        opsets = [
            helper.make_opsetid("", OPSET),
            *([helper.make_opsetid(DOMAIN, DOMAIN_VERSION)] if self.calls else []),
        ]
        model = helper.make_model(proto, opset_imports=opsets, functions=functions(self.calls), ir_version=9)
        helper.set_model_props(model, _metadata(graph, self.dt))
        return model

    def _value(self, node: Node) -> _Value:
        match node.kind:
            case "Input":
                return _Value("input", node.shape, folded=False)
            case "Output":
                return self._sum(node)
            case "Flatten":
                return self._flatten(node)
            case "Conv2d":
                return self._conv(node)
            case "SumPool2d" | "AvgPool2d":
                return self._pool(node)
            case "Linear" | "Affine":
                return self._linear(node)
            case "Scale":
                x = self._plain(self._sum(node), node.name, folded=False)
                scale = self._constant(f"{node.name}.scale", _float32(node.parameters["scale"], "scale"))
                return _Value(
                    self._node("Mul", [x.name, scale], f"{node.name}.value", node.name), node.shape, folded=False
                )
            case _:
                return self._neurons(node) if node.kind in NEURONS else self._sum(node)

    def _conv(self, node: Node) -> _Value:
        x = self._form(self._sum(node), folded=True)
        given = node.parameters
        weight = self._constant(f"{node.name}.weight", _float32(given["weight"] * x.factor, "weight"))
        bias = self._constant(f"{node.name}.bias", _float32(given["bias"], "bias"))
        made = self._node(
            "Conv",
            [x.name, weight, bias],
            f"{node.name}.value",
            node.name,
            kernel_shape=[int(n) for n in given["weight"].shape[2:]],
            strides=pair(given, "stride", 1),
            pads=conv_padding(given),
            dilations=pair(given, "dilation", 1),
            group=sizes(given, "groups")[0],
        )
        return _Value(made, node.shape, folded=True)

    def _pool(self, node: Node) -> _Value:
        x = self._form(self._sum(node), folded=True)
        kernel, padding = pair(node.parameters, "kernel_size", 1), pair(node.parameters, "padding", 0)
        made = self._node(
            "AveragePool",
            [x.name],
            f"{node.name}.value",
            node.name,
            kernel_shape=kernel,
            strides=pair(node.parameters, "stride", 1),
            pads=[*padding, *padding],
            count_include_pad=1,
        )
        factor = prod(kernel) if node.kind == "SumPool2d" else 1
        return _Value(made, node.shape, folded=True, factor=x.factor * factor)

    def _linear(self, node: Node) -> _Value:
        x = self._form(self._sum(node), folded=False)
        weight = self._constant(f"{node.name}.weight", _float32(node.parameters["weight"].T * x.factor, "weight"))
        made = self._node(
            "MatMul", [x.name, weight], f"{node.name}.{'product' if 'bias' in node.parameters else 'value'}", node.name
        )
        if "bias" in node.parameters:
            bias = self._constant(f"{node.name}.bias", _float32(node.parameters["bias"], "bias"))
            made = self._made("Add", [made, bias], f"{node.name}.add", f"{node.name}.value")
        return _Value(made, node.shape, folded=False)

    def _flatten(self, node: Node) -> _Value:
        x = self._form(self._sum(node), folded=True)
        shape = self._constant(f"shape_{'x'.join(map(str, node.shape))}", np.array([-1, *node.shape], np.int64))
        made = self._node("Reshape", [x.name, shape], f"{node.name}.value", node.name)
        return _Value(made, node.shape, folded=True, factor=x.factor)

    def _neurons(self, node: Node) -> _Value:
        x = self._plain(self._sum(node), node.name, folded=False)
        made = stepped(node, self.dt, self.stepping)
        self.calls.append(made)
        inputs = [self._constant(f"{node.name}.{name}", value) for name, value in made.inputs.items()]
        output = f"{node.name}.membrane" if node.kind == "LI" else f"{node.name}.spikes"
        output = self._node(made.name, [x.name, *inputs], output, node.name, domain=DOMAIN, **made.attributes)
        return _Value(output, node.shape, folded=False)

    def _sum(self, node: Node) -> _Value:
        """The sum of what the edges bring."""
        values = [self.values[source] for source in node.sources]
        if len(values) == 1:
            return values[0]
        plain = [self._plain(value, node.name, folded=False) for value in values]
        total = plain[0].name
        for i, value in enumerate(plain[1:], 1):
            name = f"{node.name}.sum" if i == len(plain) - 1 else f"{node.name}.sum_{i}"
            total = self._made("Add", [total, value.name], name)
        return _Value(total, values[0].shape, folded=False)

    def _plain(self, value: _Value, reader: str, *, folded: bool) -> _Value:
        """The value with its factor multiplied in."""
        value = self._form(value, folded=folded)
        if value.factor == 1:
            return value
        factor = self._constant(f"{value.name}.times.{reader}.factor", np.array(value.factor, np.float32))
        name = f"{value.name}.times.{reader}"
        return _Value(self._made("Mul", [value.name, factor], name), value.shape, folded)

    def _form(self, value: _Value, *, folded: bool) -> _Value:
        """The value with T and B as one axis, or as two."""
        if value.folded == folded:
            return value
        key = value.name, folded
        if key not in self.forms:
            size = "x".join(map(str, value.shape))
            if folded:
                shape = self._constant(f"shape_{size}", np.array([-1, *value.shape], np.int64))
            else:
                shape = self._sequence_shape(size, value.shape)
            end = "folded" if folded else "sequence"
            self.forms[key] = self._made("Reshape", [value.name, shape], f"{value.name}.{end}")
        return _Value(self.forms[key], value.shape, folded, value.factor)

    def _sequence_shape(self, size: str, shape: Shape) -> str:
        if ("", False) not in self.forms:
            self.forms["", False] = self._made("Shape", ["input"], "steps_and_batch", start=0, end=2)
        name = f"sequence_{size}"
        if (name, False) not in self.forms:
            inner = self._constant(f"inner_{size}", np.array(shape, np.int64))
            self.forms[name, False] = self._made("Concat", [self.forms["", False], inner], name, axis=0)
        return self.forms[name, False]

    def _node(
        self,
        op: str,
        inputs: list[str],
        output: str,
        name: str,
        domain: str = "",
        **attributes: Any,  # noqa: ANN401 - as ONNX has them
    ) -> str:
        """An ONNX node that stands for the node of its name; returns what its output is called."""
        output = self.value_names.fresh(output)
        self.nodes.append(helper.make_node(op, inputs, [output], name, domain=domain, **attributes))
        return output

    def _made(self, op: str, inputs: list[str], name: str, output: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """An ONNX node that stands for none; its output is called as it is, if not told."""
        return self._node(op, inputs, output or name, self.node_names.fresh(name), **attributes)

    def _constant(self, name: str, value: Array) -> str:
        made = numpy_helper.from_array(np.ascontiguousarray(value), name)
        if self.constants.get(name) != made:
            made.name = self.value_names.fresh(name)
            self.constants[made.name] = made
        return made.name


def _metadata(graph: Graph, dt: float) -> dict[str, str]:
    """That of the file, with the layout of this model's input."""
    about = {key: value for key, value in graph.metadata.items() if key.startswith("snnsc.")}
    try:
        told = json.loads(about.get("snnsc.input", "{}"))
        entry = {**told, "layout": f"TB{'CHW' if len(graph.input.shape) == 3 else 'N' * len(graph.input.shape)}"}
    except (ValueError, TypeError, RecursionError) as e:
        raise ModelFileError(f"{graph.source}: metadata snnsc.input is damaged; export it again") from e
    return {FORMAT_KEY: str(FORMAT), **about, DT_KEY: repr(dt), "snnsc.input": json.dumps(entry)}


def _float32(value: Array, name: str) -> Array:
    with np.errstate(over="ignore"):
        single = np.asarray(value, np.float32)
    if not np.isfinite(single).all():
        raise Malformed(f"{name} is too large for float32")
    return single
