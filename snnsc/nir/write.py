"""From the ONNX graph of one time step to a NIR file.

A sum has no node: what reads it has an edge from each summand. Average pools depend on who reads the file (`encode`):
`r` has AvgPool2d, also for the global average before a linear layer; Norse and Sinabs know none, so `folded` and
`sinabs` have SumPool2d, with the factor 1/k^2 in the weights after it, and the global average in those of a linear
layer that reads the flattened map.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

from snnsc.errors import CheckError
from snnsc.neuron_functions import DOMAIN, STEP
from snnsc.nir.encode import neuron
from snnsc.nir.hdf5 import Array, to_bytes
from snnsc.nir.limits import INSTEAD, Encoding, refuse_joins, refuse_rectifiers, refuse_step_weights
from snnsc.nir.lower import DT_KEY, STEPPING_KEY
from snnsc.nir.names import Names
from snnsc.nir.nodes import Shape, output_shape

ENCODING_KEY = "snnsc.encoding"
NIR_VERSION = "1.0.8"
"""Of the package `nir` whose format the files have."""


@dataclass(frozen=True)
class _Signal:
    """A value of the ONNX graph: `scale` times the sum of what these nodes give, averaged over space if `averaged`."""

    sources: tuple[str, ...]
    shape: Shape
    scale: float = 1.0
    averaged: bool = False


def to_nir(step_model: onnx.ModelProto, *, encoding: Encoding, dt: float, metadata: dict[str, str]) -> bytes:
    """The content of a NIR file, the same for the same arguments.

    Args:
        step_model: The graph of one time step, as `snnsc.export.step` makes it.
        encoding: How neurons are said, see `encode`.
        dt: Length of a time step in seconds; `sinabs` counts time in steps, whatever it is.
        metadata: What the file says of itself; the time step is added.

    Raises:
        CheckError: NIR cannot say an operator; the message says which.
        RecipeError: it cannot say the network's neurons, rectifiers, sums or weights of time steps; or h5py is not
            installed.
    """
    if "snnsc.step_weights" in metadata.keys() | {p.key for p in step_model.metadata_props}:
        refuse_step_weights()
    writer = _Writer(step_model, encoding, 1.0 if encoding == "sinabs" else dt)
    for node in step_model.graph.node:
        writer.add(node)
    writer.end(step_model.graph.output[0].name)
    about = {
        **metadata,
        DT_KEY: repr(writer.dt),
        STEPPING_KEY: "sinabs" if encoding == "sinabs" else "euler",
        ENCODING_KEY: encoding,
    }
    tree: dict[str, Array | str] = {"version": NIR_VERSION, "node/type": "NIRGraph"}
    tree |= {f"node/metadata/{key}": value for key, value in about.items()}
    tree["node/edges"] = np.array(writer.edges, np.str_)
    for name, parameters in writer.nodes.items():
        tree |= {f"node/nodes/{name}/{key}": value for key, value in parameters.items()}
    return to_bytes(tree)


class _Writer:
    """Collects NIR nodes and edges, one ONNX node after the other."""

    def __init__(self, model: onnx.ModelProto, encoding: Encoding, dt: float) -> None:
        graph = model.graph
        self.encoding, self.dt = encoding, dt
        self.constants = {t.name: t for t in graph.initializer}
        self.biases: dict[str, str] = {}
        products = {node.output[0] for node in graph.node if node.op_type == "MatMul"}
        for node in graph.node:  # x @ W, then + b
            if node.op_type == "Add" and (product := products.intersection(node.input)):
                self.biases.update((min(product), name) for name in node.input if name in self.constants)
        self.nodes: dict[str, dict[str, Array | str]] = {}
        self.edges: list[tuple[str, str]] = []
        self.signals: dict[str, _Signal] = {}
        first = graph.input[0]
        shape = tuple(d.dim_value for d in first.type.tensor_type.shape.dim[1:])
        self.names = Names(node.name for node in graph.node)
        entry = self.names.fresh("input")
        self.nodes[entry] = {"type": "Input", "shape": np.array(shape, np.int64)}
        self.signals[first.name] = _Signal((entry,), shape)

    def add(self, node: onnx.NodeProto) -> None:
        """Add an ONNX node."""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        x = self.signals.get(node.input[0])
        if node.domain == DOMAIN and node.op_type.endswith(STEP) and x is not None:
            self._neuron(node, x, attributes)
            return
        match node.op_type:
            case "Add":
                self._add(node)
            case "Conv" if x is not None:
                self._conv(node, x, attributes)
            case "MatMul" | "Gemm" if x is not None:
                self._linear(node, x, attributes)
            case "AveragePool" if x is not None:
                self._pool(node, x, attributes)
            case "ReduceMean" if x is not None and self._over_space(node, attributes):
                self._global_pool(node, x)
            case "Flatten" if x is not None and attributes.get("axis", 1) == 1:
                self.signals[node.output[0]] = self._flattened(node.name, x)
            case "Relu":
                refuse_rectifiers()
            case other:
                hint = ", which snaps inputs to the exact grid" if other in {"Round", "Clip", "Mul"} else ""
                raise CheckError(f"NIR cannot say the operator {other} ({node.name}){hint}; {INSTEAD}")

    def end(self, output: str) -> None:
        """Add the output."""
        x = self._plain(self.signals[output], "output")
        self._node(self.names.fresh("output"), "Output", {"shape": np.array(x.shape, np.int64)}, x)

    def _node(self, name: str, kind: str, parameters: dict[str, Array], x: _Signal) -> _Signal:
        """A node that reads x; what it gives."""
        if len(set(x.sources)) < len(x.sources):
            raise CheckError(f"{name}: reads a value twice, for which NIR has no edge; {INSTEAD}")
        self.nodes[name] = {"type": kind, **parameters}
        self.edges += [(source, name) for source in x.sources]
        return _Signal((name,), output_shape(kind, parameters, x.shape))

    def _plain(self, x: _Signal, reader: str) -> _Signal:
        if x.scale == 1 and not x.averaged:
            return x
        raise CheckError(
            f"{reader}: reads an average of which no layer of weights can take the factor; --encoding "
            f"{self.encoding} has no average pools, take --encoding r, or {INSTEAD}"
        )

    def _neuron(self, node: onnx.NodeProto, x: _Signal, attributes: dict[str, float]) -> None:
        x = self._plain(replace(x, scale=1.0), node.name) if x.averaged else x
        kind, parameters = neuron(node.name, node.op_type, attributes, x.scale, x.shape, self.encoding, self.dt)
        self.signals[node.output[0]] = self._node(node.name, kind, parameters, x)

    def _add(self, node: onnx.NodeProto) -> None:
        data = [name for name in node.input if name not in self.constants]
        if len(data) == 1:
            if data[0] not in self.signals or self.biases.get(data[0]) not in node.input:
                raise CheckError(f"NIR cannot say a bias without weights ({node.name}); {INSTEAD}")
            self.signals[node.output[0]] = self.signals[data[0]]  # the linear layer has it
            return
        if self.encoding == "sinabs":
            refuse_joins(node.name)
        a, b = (self.signals[name] for name in data)
        if a.scale != b.scale or a.averaged or b.averaged:
            a, b = self._plain(a, node.name), self._plain(b, node.name)
        self.signals[node.output[0]] = replace(a, sources=a.sources + b.sources)

    def _conv(self, node: onnx.NodeProto, x: _Signal, attributes: dict[str, list[int]]) -> None:
        x = self._plain(replace(x, scale=1.0), node.name) if x.averaged else x
        weight = self._constant(node.input[1])
        bias = self._constant(node.input[2]) if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        parameters = {
            "input_shape": np.array(x.shape[1:], np.int64),
            "weight": _scaled(weight, x.scale),
            "stride": np.array(attributes.get("strides", [1, 1]), np.int64),
            "padding": self._padding(node, attributes),
            "dilation": np.array(attributes.get("dilations", [1, 1]), np.int64),
            "groups": np.array(attributes.get("group", 1), np.int64),
            "bias": bias,
        }
        self.signals[node.output[0]] = self._node(node.name, "Conv2d", parameters, x)

    def _linear(self, node: onnx.NodeProto, x: _Signal, attributes: dict[str, float]) -> None:
        weight = self._constant(node.input[1])
        if node.op_type == "MatMul" or not attributes.get("transB", 0):
            weight = weight.T
        if node.op_type == "Gemm" and any(attributes.get(key, 1.0) != 1.0 for key in ("alpha", "beta")):
            raise CheckError(f"{node.name}: NIR cannot say a Gemm with factors; {INSTEAD}")
        if x.averaged:
            x, weight = self._spread(node.name, x, weight)
        parameters = {"weight": np.ascontiguousarray(_scaled(weight, x.scale))}
        bias = node.input[2] if len(node.input) > 2 else self.biases.get(node.output[0])
        if bias is not None:
            parameters["bias"] = self._constant(bias)
        kind = "Linear" if bias is None else "Affine"
        self.signals[node.output[0]] = self._node(node.name, kind, parameters, x)

    def _spread(self, name: str, x: _Signal, weight: Array) -> tuple[_Signal, Array]:
        """The average over space, as weights of the flattened map."""
        space = prod(x.shape[1:])
        flat = self._flattened(self.names.fresh(f"{name}.flatten"), replace(x, averaged=False))
        return replace(flat, scale=x.scale / space), np.repeat(weight, space, axis=1)

    def _pool(self, node: onnx.NodeProto, x: _Signal, attributes: dict[str, list[int]]) -> None:
        kernel, padding = attributes["kernel_shape"], self._padding(node, attributes)
        if attributes.get("ceil_mode") or (padding.any() and not attributes.get("count_include_pad")):
            raise CheckError(f"{node.name}: NIR cannot say how this average pool treats the border; {INSTEAD}")
        stride = attributes.get("strides", [1, 1])
        self.signals[node.output[0]] = self._average(node.name, x, kernel, stride, padding)

    def _global_pool(self, node: onnx.NodeProto, x: _Signal) -> None:
        if self.encoding != "r":
            self.signals[node.output[0]] = replace(x, averaged=True)
            return
        pooled = self._average(node.name, x, x.shape[1:], x.shape[1:], np.zeros(2, np.int64))
        self.signals[node.output[0]] = self._flattened(self.names.fresh(f"{node.name}.flatten"), pooled)

    def _average(self, name: str, x: _Signal, kernel: Iterable[int], stride: Iterable[int], padding: Array) -> _Signal:
        size = np.array(list(kernel), np.int64)
        parameters = {"kernel_size": size, "stride": np.array(list(stride), np.int64), "padding": padding}
        if self.encoding == "r":
            return self._node(name, "AvgPool2d", parameters, self._plain(x, name))
        if padding.any():
            raise CheckError(f"{name}: Norse and Sinabs ignore the padding of pools; take --encoding r, or {INSTEAD}")
        return replace(self._node(name, "SumPool2d", parameters, x), scale=x.scale / int(size.prod()))

    def _flattened(self, name: str, x: _Signal) -> _Signal:
        parameters = {
            "start_dim": np.array(0, np.int64),
            "end_dim": np.array(-1, np.int64),
            "input_type": np.array(x.shape, np.int64),
        }
        return replace(self._node(name, "Flatten", parameters, x), scale=x.scale)

    def _padding(self, node: onnx.NodeProto, attributes: dict[str, list[int]]) -> Array:
        pads = attributes.get("pads", [0, 0, 0, 0])
        if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or pads[:2] != pads[2:]:
            raise CheckError(f"{node.name}: NIR cannot say a padding that differs between two sides; {INSTEAD}")
        return np.array(pads[:2], np.int64)

    def _over_space(self, node: onnx.NodeProto, attributes: dict[str, int]) -> bool:
        """Whether it averages over the two last axes and drops them."""
        axes = self._constant(node.input[1]).tolist() if len(node.input) > 1 else []
        return attributes.get("keepdims", 1) == 0 and sorted(a % 4 for a in axes) == [2, 3]

    def _constant(self, name: str) -> Array:
        if name not in self.constants:
            raise CheckError(f"NIR cannot say weights that are computed ({name}); {INSTEAD}")
        return numpy_helper.to_array(self.constants[name])


def _scaled(weight: Array, scale: float) -> Array:
    return weight if scale == 1 else (weight.astype(np.float64) * scale).astype(np.float32)
