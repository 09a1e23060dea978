"""Read an ONNX file, or a NIR file as ONNX, and say what each of its nodes is; no shapes and no samples yet.

Graph.nodes       live nodes in execution order, local functions inlined except the neuron layers (domain `snnsc`)
Graph.constants   values that do not depend on the input: weights, and what is computed from weights
Graph.shapes      values computed from shapes only (Shape, Gather, Concat, ...): no compute on data
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import inliner, numpy_helper

from snnsc.energy.constants import evaluate, find_constants, find_shapes, live_nodes
from snnsc.energy.paths import file_size, reason
from snnsc.energy.runtime import PROTOBUF_ERRORS
from snnsc.errors import ModelFileError, RecipeError
from snnsc.nir.lower import to_onnx
from snnsc.nir.read import read_nir

NEURON_DOMAIN = "snnsc"
STATISTICS_KEY = "snnsc.statistics"
TIME_STEP_KEY = "snnsc.time_step"
OLDEST_OPSET = 7
LARGEST_INPUT = 2**29  # elements of one run
LARGEST_OPTION = 65536  # time steps
_LARGEST_FILE = 2**31  # bytes; protobuf reads no more
_UNREADABLE = (
    *PROTOBUF_ERRORS,
    onnx.checker.ValidationError,
    OSError,
    ValueError,
    RuntimeError,
    TypeError,
    MemoryError,
)


@dataclass(frozen=True)
class GraphInput:
    """One input that a batch must bring.

    Attributes:
        name: Name in the graph.
        dtype: Element type.
        dims: Declared size of each axis; None where the graph leaves it open.
        batch_axis: The axis that counts samples.
        kind: What its values are: `real`, `binary` or `integer` (event counts); real unless our metadata say so.
    """

    name: str
    dtype: np.dtype
    dims: tuple[int | None, ...]
    batch_axis: int
    kind: str = "real"

    @property
    def fixed_batch(self) -> int | None:
        """The number of samples a run takes, where the graph fixes it."""
        return self.dims[self.batch_axis]

    def describe(self) -> str:
        """The shape as the graph declares it, for messages: `[N,3,32,32]`."""
        dims = [("N" if i == self.batch_axis else "?") if d is None else str(d) for i, d in enumerate(self.dims)]
        return "[" + ",".join(dims) + "]"


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
    """

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, object]
    time_step: int | None = None

    @property
    def is_neuron(self) -> bool:
        """Whether this is a neuron layer of ours."""
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


def read_graph(model: Path | onnx.ModelProto, *, dt: float | None = None) -> Graph:
    """Read a model file or a model in memory.

    Args:
        model: An ONNX file, a NIR file, or an ONNX model.
        dt: Time step of a NIR file in seconds; default as `snnsc.nir.lower` says.

    Raises:
        ModelFileError: The file is missing, empty, damaged, neither ONNX nor NIR, or needs what is not supported.
        RecipeError: `dt` is given for ONNX, or does not fit the NIR file.
    """
    if isinstance(model, onnx.ModelProto):
        proto, source = model, "model"
    else:
        proto, source = _load(Path(model), dt), str(model)
    if not proto.HasField("graph") or not proto.graph.output:
        msg = f"{source}: not an ONNX model: it holds no graph; give a file written by `snnsc export`, or another .onnx"
        raise ModelFileError(msg)
    try:
        onnx.checker.check_model(proto)
        digest = _digest(proto)
        proto = _inline_foreign_functions(proto)
    except _UNREADABLE as error:
        msg = f"{source}: not a valid ONNX model: {first_line(error)}"
        raise ModelFileError(msg) from error
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        msg = (
            f"{source}: opset {opset} is older than {OLDEST_OPSET}, the oldest that onnxruntime runs; convert it first"
        )
        raise ModelFileError(msg)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    return _build(proto, source, metadata, opset, digest)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, for one-line errors."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def _load(path: Path, dt: float | None) -> onnx.ModelProto:
    if path.suffix == ".nir":
        return to_onnx(read_nir(path), dt=dt)
    if dt is not None:
        msg = f"--dt {dt:g}: {path} is no NIR file, which alone has a time step to choose"
        raise RecipeError(msg)
    size = file_size(path, ModelFileError, "give an .onnx file")
    if size >= _LARGEST_FILE:
        msg = f"{path}: {size} bytes are more than an ONNX file can have (2 GiB); give an .onnx file"
        raise ModelFileError(msg)
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        msg = f"{path}: cannot be opened: {reason(error)}; give an .onnx file"
        raise ModelFileError(msg) from error
    if not head:
        msg = f"{path}: the file is empty; export it again"
        raise ModelFileError(msg)
    if head == b"PK\x03\x04":
        msg = f"{path}: a zip archive (a checkpoint?), not an ONNX model; run `snnsc export` on a checkpoint first"
        raise ModelFileError(msg)
    try:
        return onnx.load(path, format="protobuf")  # else the suffix would tell
    except _UNREADABLE as error:
        msg = f"{path}: not an ONNX model, or cut short: {first_line(error)}"
        raise ModelFileError(msg) from error


def _inline_foreign_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    others = [(f.domain, f.name) for f in proto.functions if f.domain != NEURON_DOMAIN]
    return inliner.inline_selected_functions(proto, others) if others else proto


def _digest(proto: onnx.ModelProto) -> str:
    """What statistics are bound to; before inlining, and the same for a model in memory and for its file."""
    digest = hashlib.sha256()

    def add(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "little") + part)

    graph = proto.graph
    for messages in (proto.opset_import, proto.functions, graph.node, graph.input, graph.output):
        add(str(len(messages)).encode())
        for message in messages:
            add(message.SerializeToString(deterministic=True))
    for tensor in graph.initializer:
        add(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}".encode())
        add(tensor.raw_data or tensor.SerializeToString(deterministic=True))
    for sparse in graph.sparse_initializer:
        add(sparse.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _build(proto: onnx.ModelProto, source: str, metadata: dict[str, str], opset: int, digest: str) -> Graph:
    constants = find_constants(proto.graph)
    live = live_nodes(proto.graph)
    initializers = {t.name: t for t in proto.graph.initializer}
    options = {
        value.name: tuple(t.dims)
        for value in proto.graph.input
        if (t := initializers.get(value.name)) is not None
        and t.data_type == onnx.TensorProto.INT64
        and prod(t.dims) == 1
        and proto.ir_version >= 4  # before, every initializer had to be listed as an input
    }
    steps = _steps(metadata, initializers if "T" in options else {}, source)
    axis, kind = _input_facts(metadata, source)
    return Graph(
        model=proto,
        source=source,
        metadata=metadata,
        inputs=tuple(_read_input(v, axis, kind, source) for v in proto.graph.input if v.name not in initializers),
        options=options,
        nodes=_named(live, source),
        constants=constants,
        shapes=find_shapes(proto.graph, constants),
        opset=opset,
        steps=steps,
        digest=digest,
    )


def _named(live: list[onnx.NodeProto], source: str) -> tuple[Node, ...]:
    nodes: list[Node] = []
    taken: set[str] = set()
    for proto in live:
        name = proto.name
        if not name or name in taken:
            name = next(output for output in proto.output if output)
        taken.add(name)
        attrs = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute if not a.ref_attr_name}
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        step = _time_step(proto, source)
        nodes.append(Node(name, proto.op_type, domain, tuple(proto.input), tuple(proto.output), attrs, step))
    return tuple(nodes)


def _time_step(node: onnx.NodeProto, source: str) -> int | None:
    text = next((entry.value for entry in node.metadata_props if entry.key == TIME_STEP_KEY), None)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) < LARGEST_OPTION):
        msg = (
            f"{source}: metadata {TIME_STEP_KEY} of node {node.name[:60]!r} is {text[:40]!r}, expected an integer from"
            f" 0 to {LARGEST_OPTION - 1}; export the model again"
        )
        raise ModelFileError(msg)
    return int(text)


def _steps(metadata: dict[str, str], initializers: dict[str, onnx.TensorProto], source: str) -> int | None:
    """The number of time steps that our metadata tell, which is also the default of the option T, if there is one."""
    if "T" in initializers and "snnsc.T" in metadata:
        try:
            default = int(numpy_helper.to_array(initializers["T"]).reshape(-1)[0])
        except _UNREADABLE as error:
            msg = f"{source}: the default of T is damaged: {first_line(error)}; export the model again"
            raise ModelFileError(msg) from error
        if str(default) != metadata["snnsc.T"]:
            msg = (
                f"{source}: T is {default} in the graph and {metadata['snnsc.T'][:40]!r} in metadata snnsc.T; the model"
                " was changed: export it again"
            )
            raise ModelFileError(msg)
    if "snnsc.T" not in metadata:
        return None
    text = metadata["snnsc.T"]
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= LARGEST_OPTION):
        msg = (
            f"{source}: metadata snnsc.T is {text[:40]!r}, expected an integer from 1 to {LARGEST_OPTION}; export the"
            " model again"
        )
        raise ModelFileError(msg)
    return int(text)


def _input_facts(metadata: dict[str, str], source: str) -> tuple[int, str]:
    """The batch axis, and the kind of values, that our metadata tell of the input."""
    if "snnsc.input" not in metadata:
        return 0, "real"
    try:
        facts = json.loads(metadata["snnsc.input"])
        axis, kind = str(facts["layout"]).index("B"), facts.get("kind", "real")
        if kind not in ("real", "binary", "integer"):
            raise ValueError(kind)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        text = metadata["snnsc.input"]
        msg = f"{source}: metadata snnsc.input is damaged: {text[:60]!r}; export the model again"
        raise ModelFileError(msg) from error
    return axis, kind


def _read_input(value: onnx.ValueInfoProto, batch_axis: int, kind: str, source: str) -> GraphInput:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape") or not tensor.shape.dim:
        msg = f"{source}: input {value.name!r} is no tensor with a batch axis; such inputs are not supported"
        raise ModelFileError(msg)
    dims = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim)
    if batch_axis >= len(dims):
        msg = f"{source}: input {value.name!r} has {len(dims)} axes; metadata puts samples on axis {batch_axis}"
        raise ModelFileError(msg)
    if prod(d for d in dims if d) > LARGEST_INPUT:
        msg = f"{source}: input {value.name!r} of {len(dims)} axes has more than {LARGEST_INPUT} elements"
        raise ModelFileError(msg)
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, ValueError, TypeError) as error:
        msg = f"{source}: input {value.name!r} has the unknown element type {tensor.elem_type}"
        raise ModelFileError(msg) from error
    if dtype.kind not in "fiub":
        msg = f"{source}: input {value.name!r} has element type {dtype}; only numbers can be fed"
        raise ModelFileError(msg)
    return GraphInput(value.name, dtype, dims, batch_axis, kind)
