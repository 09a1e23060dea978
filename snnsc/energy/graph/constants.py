"""Which values of a graph do not depend on the samples, and what they are."""

from __future__ import annotations

import numpy as np
import onnx

from snnsc.sessions import open_session, run_session

_SHAPE_OPS = frozenset({"Shape", "Size"})
_RANDOM_OPS = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def node_inputs(node: onnx.NodeProto) -> set[str]:
    """Every value a node reads, those that its subgraphs take from outside included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            inner = {t.name for t in graph.initializer} | {v.name for v in graph.input}
            for child in graph.node:
                names |= node_inputs(child) - inner
                inner |= set(child.output)
            names |= {v.name for v in graph.output} - inner
    return names - {""}


def live_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that some graph output depends on, in the order of the file."""
    needed = {value.name for value in graph.output}
    live: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            live.append(node)
            needed |= node_inputs(node)
    return live[::-1]


def find_constants(graph: onnx.GraphProto) -> frozenset[str]:
    """Names of the values that depend on initializers alone."""
    constants = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    for node in graph.node:
        if node.op_type not in _RANDOM_OPS and node_inputs(node) <= constants:
            constants |= {name for name in node.output if name}
    return frozenset(constants)


def find_shapes(graph: onnx.GraphProto, constants: frozenset[str]) -> frozenset[str]:
    """Names of the values that depend on the shapes of data, and on constants, alone."""
    shapes: set[str] = set()
    for node in graph.node:
        inputs = node_inputs(node)
        if node.op_type in _SHAPE_OPS or (inputs <= shapes | constants and not inputs <= constants):
            shapes |= {name for name in node.output if name and name not in constants}
    return frozenset(shapes)


def evaluate(model: onnx.ModelProto, names: list[str], constants: frozenset[str], source: str) -> dict[str, np.ndarray]:
    """Run the constant part of a graph.

    Raises:
        ModelFileError: onnxruntime cannot run it.
    """
    if not names:
        return {}
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    part.graph.name = "constants"
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    part.graph.node.extend(n for n in model.graph.node if n.output and all(o in constants for o in n.output if o))
    live = live_nodes(part.graph)
    del part.graph.node[:]
    part.graph.node.extend(live)
    needed = set(names).union(*(node_inputs(node) for node in live))
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in needed)
    part.graph.sparse_initializer.extend(t for t in model.graph.sparse_initializer if t.values.name in needed)
    session = open_session(part, source, optimise=False)
    return dict(zip(names, run_session(session, names, {}, source), strict=True))
