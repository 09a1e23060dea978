"""Read an ONNX file, or a NIR file as ONNX, and say what each of its nodes is; no shapes and no samples yet.

Graph.nodes       live nodes in execution order, local functions inlined except the neuron layers (domain `snnsc`)
Graph.constants   values that do not depend on the input: weights, and what is computed from weights
Graph.shapes      values computed from shapes only (Shape, Gather, Concat, ...): no compute on data
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from snnsc.energy.graph.constants import find_constants, find_shapes, live_nodes, node_inputs
from snnsc.energy.graph.load import UNREADABLE, first_line, load, validate
from snnsc.energy.graph.nodes import NEURON_DOMAIN, Graph, GraphInput, Node
from snnsc.energy.graph.quantized import describe
from snnsc.energy.graph.sequences import as_tensors
from snnsc.energy.graph.sizes import refuse_huge_values
from snnsc.energy.graph.subgraphs import as_neuron
from snnsc.energy.graph.whole import SUFFIX
from snnsc.errors import ModelFileError
from snnsc.file_format import FORMAT_KEY, check_format

__all__ = ["NEURON_DOMAIN", "STATISTICS_KEY", "Graph", "GraphInput", "Node", "build", "first_line", "read_graph"]

STATISTICS_KEY = "snnsc.statistics"
TIME_STEP_KEY = "snnsc.time_step"
LARGEST_INPUT = 2**29  # elements of one run
LARGEST_OPTION = 65536  # time steps


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
        proto, source = load(Path(model), dt), str(model)
    inlined, opset = validate(proto, source)
    return build(inlined, source, opset, _digest(proto))


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


def build(
    proto: onnx.ModelProto,
    source: str,
    opset: int,
    digest: str,
    unrolled: Mapping[str, tuple[str, int]] | None = None,
    refused: Mapping[str, str] | None = None,
) -> Graph:
    """The graph of a valid model.

    Args:
        proto: The model, functions of others inlined.
        source: What messages call it.
        opset: Version of its standard operators.
        digest: Of the model as it was read.
        unrolled: First output of a node -> what `Node.unrolled` says of it.
        refused: First output of a node -> what `Node.refused` says of it.

    Raises:
        ModelFileError: Inputs or metadata are not what they should be.
    """
    whole = proto
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    check_format(metadata.get(FORMAT_KEY), source)
    proto, described, written = describe(as_tensors(proto), opset)
    constants = find_constants(described)
    live = live_nodes(described)
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
    inputs = [v for v in proto.graph.input if v.name not in initializers]
    axis, kind = _input_facts(metadata, source)
    files = {v.name for v in inputs if any(v.name + SUFFIX in node.output for node in live)}
    states = initial_states(metadata, source)
    read = Graph(
        model=proto,
        source=source,
        metadata=metadata,
        inputs=tuple(
            _read_input(
                v, _batch_axis(v, live) if axis is None else axis, kind if v.name not in states else "real", source
            )
            if v.name not in files
            else replace(_read_input(v, 0, "real", source), is_file=True)
            for v in inputs
        ),
        options=options,
        nodes=_named(live, source, written, unrolled or {}, refused or {}),
        constants=constants,
        shapes=find_shapes(described, constants),
        opset=opset,
        steps=steps,
        digest=digest,
    )
    refuse_huge_values(whole, source)
    return read


def _named(
    live: list[onnx.NodeProto],
    source: str,
    written: Mapping[str, str],
    unrolled: Mapping[str, tuple[str, int]],
    refused: Mapping[str, str],
) -> tuple[Node, ...]:
    nodes: list[Node] = []
    taken: set[str] = set()
    for proto in live:
        first = next(output for output in proto.output if output)
        name = proto.name
        if not name or name in taken:
            name = first
        taken.add(name)
        attrs = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute if not a.ref_attr_name}
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        captured = sorted(node_inputs(proto) - set(proto.input))  # what subgraphs take from outside is read too
        inputs = (*proto.input, *captured)
        node = Node(
            *(name, proto.op_type, domain, inputs, tuple(proto.output), attrs, _time_step(proto, source)),
            written=written.get(first, ""),
            unrolled=unrolled.get(first),
            refused=refused.get(first, ""),
        )
        nodes.append(as_neuron(node) or node)
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
        except UNREADABLE as error:
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


def _input_facts(metadata: dict[str, str], source: str) -> tuple[int | None, str]:
    """The batch axis, and the kind of values, that our metadata tell of the input; no axis in a file of others."""
    if "snnsc.input" not in metadata:
        return None, "real"
    try:
        facts = json.loads(metadata["snnsc.input"])
        layout, kind = str(facts["layout"]), facts.get("kind", "real")
        axis = (layout.replace("T", "") if metadata.get("snnsc.artifact") == "step" else layout).index("B")
        if kind not in ("real", "binary", "integer"):
            raise ValueError(kind)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        text = metadata["snnsc.input"]
        msg = f"{source}: metadata snnsc.input is damaged: {text[:60]!r}; export the model again"
        raise ModelFileError(msg) from error
    return axis, kind


def tells_kind(metadata: Mapping[str, str]) -> bool:
    """Whether metadata that were read say what the input holds; those of a NIR file of others tell its axes alone."""
    return "snnsc.input" in metadata and "kind" in json.loads(metadata["snnsc.input"])


def initial_states(metadata: Mapping[str, str], source: str) -> dict[str, float]:
    """Inputs of a model of one time step that are states of neurons, and their value at the first step.

    Raises:
        ModelFileError: The metadata are damaged.
    """
    if "snnsc.states" not in metadata:
        return {}
    try:
        told = dict(json.loads(metadata["snnsc.states"]))
        return {name: float(facts["initial"]) for name, facts in told.items()}
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        msg = f"{source}: metadata snnsc.states is damaged: {metadata['snnsc.states'][:60]!r}; export the model again"
        raise ModelFileError(msg) from error


_BATCH_NAMES = ("b", "n", "bs", "batch", "batchsize", "nbatch", "samples")


def _batch_axis(value: onnx.ValueInfoProto, live: list[onnx.NodeProto]) -> int:
    """The axis that counts samples, in a file of others: what its symbol says, else the only open one, else the first.

    A first axis of fixed size that the graph takes apart step by step is time, and the second one counts samples.
    """
    dims = value.type.tensor_type.shape.dim
    symbols = [d.dim_param.replace("_", "").replace(" ", "").lower() for d in dims]
    named = [i for i, symbol in enumerate(symbols) if symbol in _BATCH_NAMES]
    if named:
        return named[0]
    unknown = [i for i, d in enumerate(dims) if not d.dim_value]
    if len(unknown) == 1:
        return unknown[0]
    readers = [node for node in live if value.name in node.input]
    apart = bool(readers) and all(node.op_type in ("Gather", "Slice", "Split", "Shape") for node in readers)
    steps = [n for n in readers if n.op_type == "Gather" and not any(a.name == "axis" and a.i for a in n.attribute)]
    return 1 if apart and len(steps) > 1 and len(dims) > 2 and not unknown else 0


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
