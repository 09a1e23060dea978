"""From a path to a valid ONNX model whose functions, neuron layers apart, are inlined; else one error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path

import onnx
from onnx import inliner, numpy_helper

from snnsc.energy.graph.nodes import NEURON_DOMAIN
from snnsc.energy.graph.paths import file_size, reason
from snnsc.energy.graph.sizes import SMALL, refuse_huge_calls
from snnsc.energy.graph.sparse import without_sparse
from snnsc.energy.graph.whole import with_sample_axis
from snnsc.errors import ModelFileError, RecipeError
from snnsc.nir.lower import to_onnx
from snnsc.nir.read import read_nir
from snnsc.sessions import EXTENSIONS, PROTOBUF_ERRORS

OLDEST_OPSET = 7
_LARGEST_FILE = 2**31  # bytes; protobuf reads no more
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.training"} | {
    *(EXTENSIONS, "com.microsoft", "com.microsoft.experimental", "com.microsoft.nchwc", "com.ms.internal.nhwc"),
}
UNREADABLE = (
    *PROTOBUF_ERRORS,
    onnx.checker.ValidationError,
    OSError,
    ValueError,
    RuntimeError,
    TypeError,
    IndexError,
    KeyError,
    MemoryError,
)


def load(path: Path, dt: float | None) -> onnx.ModelProto:
    """An ONNX or a NIR file.

    Raises:
        ModelFileError: It is missing, empty, too large, damaged, or neither ONNX nor NIR.
        RecipeError: `dt` is given for ONNX, or does not fit the NIR file.
    """
    if path.suffix == ".nir":
        return to_onnx(read_nir(path), dt=dt)
    if dt is not None:
        msg = f"--dt {dt:g}: {path} is no NIR file, which alone has a time step to choose"
        raise RecipeError(msg)
    size = file_size(path, ModelFileError, "give an .onnx or a .nir file")
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
    except UNREADABLE as error:
        other = "" if path.suffix == ".onnx" else "; .onnx and .nir files are read"
        msg = f"{path}: not an ONNX model, or cut short: {first_line(error)}{other}"
        raise ModelFileError(msg) from error


def weight_files(path: Path) -> list[Path]:
    """Files beside an ONNX file that hold its weights; none where it cannot be read, which `load` will tell."""
    if path.suffix == ".nir" or not path.is_file():
        return []
    try:
        tensors = list(_tensors(onnx.load(path, format="protobuf", load_external_data=False)))
    except UNREADABLE:
        return []
    return sorted({path.parent / e.value for tensor in tensors for e in tensor.external_data if e.key == "location"})


def validate(proto: onnx.ModelProto, source: str) -> tuple[onnx.ModelProto, int]:
    """The model with the functions of others inlined, and its opset.

    Raises:
        ModelFileError: It is not valid, too old, or a neuron's function could run for ever.
    """
    if not proto.HasField("graph") or not proto.graph.output:
        msg = f"{source}: not an ONNX model: it holds no graph; give one of `snnsc export`, or another .onnx or .nir"
        raise ModelFileError(msg)
    if any(isinstance(text, bytes) for text in _texts(proto)):  # so protobuf gives what is no UTF-8
        raise ModelFileError(f"{source}: not a valid ONNX model: a name in it is no text; export it again")
    refuse_huge_calls(proto, source)
    try:
        onnx.checker.check_model(proto)
        _check_small_constants(proto)
        others = [(f.domain, f.name) for f in proto.functions if f.domain != NEURON_DOMAIN]
        inlined = without_sparse(inliner.inline_selected_functions(proto, others) if others else proto)
    except UNREADABLE as error:
        msg = f"{source}: not a valid ONNX model: {first_line(error)}"
        raise ModelFileError(msg) from error
    opset = next((o.version for o in inlined.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        msg = (
            f"{source}: opset {opset} is older than {OLDEST_OPSET}, the oldest that onnxruntime runs; convert it first"
        )
        raise ModelFileError(msg)
    known = {function.domain for function in inlined.functions} | _DOMAINS
    for node in every_node(inlined.graph.node):
        if node.domain not in known:
            msg = (
                f"{source}: operator {node.domain[:60]}::{node.op_type[:60]} is none that onnxruntime has, and the file"
                " holds no function for it; give the network without it"
            )
            raise ModelFileError(msg)
    for function in inlined.functions:
        if any(node.op_type == "Loop" for node in every_node(function.node)):
            msg = f"{source}: function {function.domain}::{function.name} holds a Loop, which no neuron of ours does"
            raise ModelFileError(msg)
    return with_sample_axis(inlined, opset), opset


def _texts(proto: onnx.ModelProto) -> Iterator[str | bytes]:
    """Every name that is used to build other models."""
    graphs = [proto.graph]
    nodes = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    for node in every_node(nodes):
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.ref_attr_name)
            graphs += [attribute.g, *attribute.graphs]
    for graph in graphs:
        yield graph.name
        yield from (tensor.name for tensor in graph.initializer)
        yield from (tensor.values.name for tensor in graph.sparse_initializer)
        for value in (*graph.input, *graph.output):
            yield value.name
            yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for entry in (*proto.metadata_props, *(e for node in proto.graph.node for e in node.metadata_props)):
        yield from (entry.key, entry.value)
    for function in proto.functions:
        yield from (function.name, function.domain, *function.input, *function.output, *function.attribute)


def _check_small_constants(proto: onnx.ModelProto) -> None:
    """Decode what sizes and branches may depend on, once for all; large weights are onnxruntime's to check."""
    for tensor in _tensors(proto):
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if not external and len(tensor.dims) < 9 and prod(tensor.dims) <= SMALL:
            numpy_helper.to_array(tensor)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every weight and constant, those of subgraphs and functions too."""
    yield from proto.graph.initializer
    for node in every_node([*proto.graph.node, *(node for function in proto.functions for node in function.node)]):
        for attribute in node.attribute:
            yield from [attribute.t] if attribute.HasField("t") else []
            yield from (t for graph in (attribute.g, *attribute.graphs) for t in graph.initializer)


def every_node(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These nodes, and those of their subgraphs at any depth."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from every_node(graph.node)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, for one-line errors."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
