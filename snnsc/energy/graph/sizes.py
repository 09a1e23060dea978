"""Refuses a graph whose values or calls would not fit in memory, before anything of it is run."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import onnx
from onnx import helper, shape_inference

from snnsc.errors import ModelFileError

LARGEST_VALUE = 200_000_000  # elements: 0.8 GB of float32
_MOST_NODES = 200_000
SMALL = 1024  # elements of a constant that sizes may be computed from


def refuse_huge_values(proto: onnx.ModelProto, source: str) -> None:
    """Check every value whose size follows from the file alone.

    Raises:
        ModelFileError: One has more than `LARGEST_VALUE` elements, what depends on the samples taken as 1.
    """
    skeleton = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    skeleton.graph.name = "sizes"
    skeleton.graph.node.extend(proto.graph.node)
    skeleton.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in proto.graph.output)
    small = [t for t in proto.graph.initializer if prod(t.dims) <= SMALL]
    skeleton.graph.initializer.extend(small)
    weights = {t.name: t for t in proto.graph.initializer if prod(t.dims) > SMALL}
    skeleton.graph.input.extend(value for value in proto.graph.input if value.name not in weights)
    skeleton.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in weights.values())
    try:
        inferred = shape_inference.infer_shapes(skeleton)  # with data_prop it writes out a Range of 2^40 itself
    except (RuntimeError, ValueError, TypeError):  # shapes that contradict each other: onnxruntime says where
        return
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.dim_value > 0]
        if prod(dims) > LARGEST_VALUE:
            msg = f"{source}: value {value.name[:60]!r} has {prod(dims)} elements, more than {LARGEST_VALUE}"
            raise ModelFileError(msg)


def refuse_huge_calls(proto: onnx.ModelProto, source: str) -> None:
    """Check how many nodes the functions of a file come to once they are written in place of their calls.

    Raises:
        ModelFileError: More than 200,000, or a function calls itself.
    """
    functions = {(f.domain, f.name): f for f in proto.functions}
    sizes: dict[tuple[str, str], int] = {}
    open_calls: set[tuple[str, str]] = set()

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            inner = [g for a in node.attribute for g in (a.g, *a.graphs)]
            total += 1 + sum(size(graph.node) for graph in inner) + of((node.domain, node.op_type))
        return total

    def of(key: tuple[str, str]) -> int:
        if key not in functions:
            return 0
        if key in open_calls:
            raise ModelFileError(f"{source}: function {key[0][:60]}::{key[1][:60]} calls itself")
        if key not in sizes:
            open_calls.add(key)
            sizes[key] = size(functions[key].node)
            open_calls.remove(key)
        return sizes[key]

    try:
        nodes = size(proto.graph.node)
    except RecursionError as error:
        raise ModelFileError(f"{source}: its functions call each other too deeply") from error
    if nodes > _MOST_NODES:
        raise ModelFileError(f"{source}: its functions come to {nodes} nodes, more than {_MOST_NODES}")
