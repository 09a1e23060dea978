"""The body of a loop or branch, written into the graph around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, numpy_helper


@dataclass(frozen=True)
class Inlined:
    """A body whose names are those of the graph around it.

    Attributes:
        nodes: Its nodes, in order; beside each the name that it has in the body.
        initializers: Its constants.
        results: Name of each of its outputs.
    """

    nodes: list[tuple[onnx.NodeProto, str]]
    initializers: list[TensorProto]
    results: list[str]


def inline(body: onnx.GraphProto, prefix: str, arguments: Sequence[str]) -> Inlined:
    """Write a body once.

    Args:
        body: The body; it is not changed.
        prefix: What makes the names of this copy unique.
        arguments: The value for each of its inputs.
    """
    names = {value.name: argument for value, argument in zip(body.input, arguments, strict=False)}
    initializers = []
    for tensor in body.initializer:
        names[tensor.name] = prefix + tensor.name
        copy = TensorProto()
        copy.CopyFrom(tensor)
        copy.name = names[tensor.name]
        initializers.append(copy)
    nodes = []
    for node in body.node:
        names |= {output: prefix + output for output in node.output if output}
        copied = _renamed(node, names)
        own = node.name or next(output for output in node.output if output)
        copied.name = prefix + own
        nodes.append((copied, own))
    return Inlined(nodes, initializers, [names.get(value.name, value.name) for value in body.output])


def invariant(body: onnx.GraphProto) -> str | bool | None:
    """What a Loop's body gives as the condition to go on.

    Returns:
        True or False where it is that constant; the name of a value from outside the body; an empty string where it is
        the condition that the iteration began with; None where the iteration computes it.
    """
    made = {output: node for node in body.node for output in node.output}
    constants = {t.name: t for t in body.initializer}
    name = body.output[0].name
    while (node := made.get(name)) and node.op_type in ("Identity", "Cast"):
        name = node.input[0]
    if node is not None:
        value = next((a.t for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None
        return None if value is None else bool(numpy_helper.to_array(value).reshape(-1)[:1].any())
    if name in constants:
        return bool(numpy_helper.to_array(constants[name]).reshape(-1)[:1].any())
    inputs = [value.name for value in body.input]
    return ("" if inputs.index(name) == 1 else None) if name in inputs else name


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    copy.output[:] = [names.get(name, name) for name in node.output]
    for attribute in copy.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            _rename_free(graph, names)
    return copy


def _rename_free(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename what a nested body takes from outside; its own names stay."""
    own = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    own |= {output for node in graph.node for output in node.output}
    free = {name: new for name, new in names.items() if name not in own}
    for node in graph.node:
        node.CopyFrom(_renamed(node, free))
    for value in graph.output:
        value.name = free.get(value.name, value.name)
