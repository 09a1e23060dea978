"""What a graph is once it is read: inputs, nodes, constants."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from snnsc.energy.graph.constants import evaluate

NEURON_DOMAIN = "snnsc"
SEQUENCE_OPS = frozenset(
    {"SequenceEmpty", "SequenceConstruct", "SequenceInsert", "SequenceErase", "SequenceMap", "SplitToSequence"}
    | {"Optional", "StringSplit"}
)
"""What makes a value that is no tensor, and has no shape."""
_BITS: dict[int, int] = {
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4), 4),
    **dict.fromkeys((TensorProto.INT8, TensorProto.UINT8, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2), 8),
    **dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT16, TensorProto.UINT16), 16),
}


@dataclass(frozen=True)
class GraphInput:
    """One input that a batch must bring.

    Attributes:
        name: Name in the graph.
        dtype: Element type.
        dims: Declared size of each axis; None where the graph leaves it open.
        batch_axis: The axis that counts samples.
        kind: What its values are: `real`, `binary` or `integer` (event counts); real unless our metadata say so.
        is_file: It is the bytes of a file, `[1, bytes]`: one sample, which no axis of the graph's own counts.
    """

    name: str
    dtype: np.dtype
    dims: tuple[int | None, ...]
    batch_axis: int
    kind: str = "real"
    is_file: bool = False

    @property
    def fixed_batch(self) -> int | None:
        """The number of samples a run takes, where the graph fixes it."""
        return self.dims[self.batch_axis]

    def describe(self) -> str:
        """The shape as the graph declares it, for messages: `[N,3,32,32]`."""
        before = "T" if self.batch_axis == 1 else "?"
        open_ = ["N" if i == self.batch_axis else before if i == 0 else "?" for i in range(len(self.dims))]
        dims = [name if size is None else str(size) for name, size in zip(open_, self.dims, strict=True)]
        return "[" + ",".join(dims[self.is_file :]) + "]"


@dataclass(frozen=True)
class Node:
    """One live node.

    Attributes:
        name: Unique name for reports: the node's own, or its first output where that is empty or taken.
        op: Operator type, e.g. `Conv` or `LIF`.
        domain: Operator domain; empty for standard ONNX.
        inputs: Input value names, empty strings for omitted ones.
        outputs: Output value names.
        attrs: Attributes as Python values.
        time_step: Of a layer that has weights of its own at every time step, and so is one node for each: the step.
        written: Operator as the file has it, where `op` tells what is counted in its place (QLinearConv: Conv).
        unrolled: Of a node from the body of a loop: the loop and the node in it, and the iteration.
        refused: Why a loop or branch was not made straight.
    """

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, object]
    time_step: int | None = None
    written: str = ""
    unrolled: tuple[str, int] | None = None
    refused: str = ""

    @property
    def is_neuron(self) -> bool:
        """Whether this is a neuron layer of ours, or a loop over time that is nothing but one."""
        return self.domain == NEURON_DOMAIN

    @property
    def fires(self) -> bool:
        """Whether it gives spikes; a leaky integrator of NIR (LI) gives its membrane."""
        return self.is_neuron and self.op != "LI"

    def ints(self, key: str, default: list[int]) -> list[int]:
        """A list-of-integers attribute."""
        value = self.attrs.get(key)
        return [int(v) for v in value] if isinstance(value, list | tuple) else default

    def integer(self, key: str, default: int) -> int:
        """An integer attribute."""
        value = self.attrs.get(key, default)
        return int(value) if isinstance(value, int | float) else default

    def number(self, key: str, default: float) -> float:
        """A float attribute."""
        value = self.attrs.get(key, default)
        return float(value) if isinstance(value, int | float) else default

    def text(self, key: str, default: str) -> str:
        """A string attribute."""
        value = self.attrs.get(key, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class Graph:
    """An ONNX model, read and sorted.

    Attributes:
        model: The model with every local function inlined except neuron layers.
        source: File name for messages.
        metadata: `metadata_props` as a dict.
        inputs: What a batch must bring.
        options: Scalar integer initializers that a batch may override, such as T -> their shape.
        nodes: Live nodes in execution order.
        constants: Names of values that depend on initializers alone.
        shapes: Names of values that depend on shapes alone.
        opset: Version of the standard operator set.
        steps: Time steps that our metadata tell; None in a graph of others.
        digest: SHA-256 of everything that computes: nodes, weights, functions, inputs and outputs; not the metadata.
    """

    model: onnx.ModelProto
    source: str
    metadata: dict[str, str]
    inputs: tuple[GraphInput, ...]
    options: dict[str, tuple[int, ...]]
    nodes: tuple[Node, ...]
    constants: frozenset[str]
    shapes: frozenset[str]
    opset: int
    steps: int | None
    digest: str

    @property
    def spiking(self) -> bool:
        """Whether the graph has neuron layers."""
        return any(node.is_neuron for node in self.nodes)

    def is_data(self, name: str) -> bool:
        """Whether the value depends on the samples."""
        return bool(name) and name not in self.constants and name not in self.shapes

    def data_inputs(self, node: Node) -> list[str]:
        """The node's inputs that depend on the samples."""
        return [name for name in node.inputs if self.is_data(name)]

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """Every value that depends on samples and has a shape, in execution order."""
        made = [o for n in self.nodes if n.op not in SEQUENCE_OPS for o in n.outputs if self.is_data(o)]
        return tuple(dict.fromkeys([*(i.name for i in self.inputs), *made]))

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """Value -> the node that makes it."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    @cached_property
    def _initializers(self) -> dict[str, onnx.TensorProto]:
        return {t.name: t for t in self.model.graph.initializer}

    @cached_property
    def _computed(self) -> dict[str, np.ndarray]:
        """Constants that are computed in the graph and meet data; all evaluated in one run."""
        wanted = {
            name
            for node in self.nodes
            if self.data_inputs(node)
            for name in node.inputs
            if name in self.constants and name not in self._initializers
        }
        return evaluate(self.model, sorted(wanted), self.constants, self.source)

    def constant(self, name: str) -> np.ndarray | None:
        """The value of a constant; None where it depends on samples or shapes, or is omitted."""
        if name in self._initializers:
            return numpy_helper.to_array(self._initializers[name])
        return self._computed.get(name) if name in self.constants else None

    def filled(self, name: str) -> float | None:
        """The number that every element of a value is, also where its size depends on the samples' shape."""
        value = self.constant(name)
        if value is not None:
            return float(value.flat[0]) if value.size and value.dtype.kind in "fiub" and _uniform(value) else None
        node = self.producers.get(name)
        if node is None or name not in self.shapes or node.domain:
            return None
        match node.op:
            case "ConstantOfShape":
                tensor = node.attrs.get("value")
                return float(numpy_helper.to_array(tensor).flat[0]) if isinstance(tensor, TensorProto) else 0.0
            case "Expand" | "Identity" | "Reshape" | "Unsqueeze" | "Squeeze" | "Tile" | "Cast":
                return self.filled(node.inputs[0])
            case _:
                return None

    @cached_property
    def _identities(self) -> dict[str, str]:
        return {}

    def identity(self, name: str) -> str:
        """A digest of a constant: the same for equal ones under two names; its name where it is not known."""
        if name not in self._identities:
            value = self.constant(name)
            content = b"" if value is None else np.ascontiguousarray(value).tobytes()
            digest = hashlib.blake2b(content, digest_size=16).hexdigest()
            self._identities[name] = name if value is None else f"{value.dtype}{value.shape}{digest}"
        return self._identities[name]

    def stored_bits(self, name: str) -> int:
        """Bits of a constant as the file stores it: an int8 weight that is dequantized has 8."""
        while (node := self.producers.get(name)) and node.inputs:
            name = node.inputs[0]
        tensor = self._initializers.get(name)
        return 32 if tensor is None else _BITS.get(int(tensor.data_type), 32)


def _uniform(value: np.ndarray) -> bool:
    return value.size == 1 or bool((value == value.flat[0]).all())
