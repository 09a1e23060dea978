"""A NIR graph, checked: nodes in an order in which they can run, each with the shape that it gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TypeAlias

import numpy as np

from snnsc.errors import ModelFileError
from snnsc.file_format import FORMAT_KEY, check_format
from snnsc.nir.hdf5 import Array, Tree
from snnsc.nir.nodes import JOINT, Malformed, Shape, checked, output_shape

Table: TypeAlias = "dict[str, Table | Array]"
Edge: TypeAlias = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Node:
    """One node.

    Attributes:
        name: Its name; of a node of a nested graph `<graph>.<node>`.
        kind: Its NIR type.
        parameters: As `nodes.checked` gives them.
        sources: The nodes with an edge to this one, whose values are summed.
        shape: What it gives for one time step of one sample.
    """

    name: str
    kind: str
    parameters: Mapping[str, Array]
    sources: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True, eq=False)
class Graph:
    """A whole graph without cycles, with one input and one output.

    Attributes:
        source: Name of the file, for messages.
        nodes: By name, in an order in which they can run.
        metadata: The graph's own, as far as it is text.
    """

    source: str
    nodes: Mapping[str, Node]
    metadata: Mapping[str, str]

    @property
    def input(self) -> Node:
        """The input."""
        return next(node for node in self.nodes.values() if node.kind == "Input")

    @property
    def output(self) -> Node:
        """The output."""
        return next(node for node in self.nodes.values() if node.kind == "Output")


def build(tree: Tree, source: str) -> Graph:
    """The graph in a file's arrays.

    Raises:
        ModelFileError: it is malformed, has cycles, has nodes that are not supported, or was written by a newer snnsc.
    """
    try:
        root = _nested(tree).get("node")
        if not isinstance(root, dict):
            raise Malformed("has no group 'node', which holds the graph of a NIR file")
        raw, edges = _collect(root, "")
        metadata = root.get("metadata", {})
        texts = (
            {k: str(v) for k, v in metadata.items() if not isinstance(v, dict)} if isinstance(metadata, dict) else {}
        )
        nodes = tuple(_shaped(raw, _sources(raw, edges)))
    except Malformed as e:
        raise ModelFileError(f"{source}: {e}") from e
    check_format(texts.get(FORMAT_KEY), source)
    return Graph(source, {node.name: node for node in nodes}, texts)


def _nested(tree: Tree) -> Table:
    root: Table = {}
    for path, value in tree.items():
        *parents, name = path.split("/")
        table = root
        for parent in parents:
            inner = table.setdefault(parent, {})
            assert isinstance(inner, dict), "HDF5 has no array with children"
            table = inner
        table[name] = value
    return root


def _collect(table: Table, prefix: str) -> tuple[dict[str, tuple[str, Table]], list[Edge]]:
    """Name -> (kind, parameters) of every node, and the edges; nested graphs become part of this one."""
    where = f"graph {prefix.removesuffix('.')[:60]!r}: " if prefix else ""
    if _text(table, "type", where or "'node': ") != "NIRGraph":
        raise Malformed(f"{where}type of 'node' is {_text(table, 'type', where)[:40]!r}, expected is 'NIRGraph'")
    tables = table.get("nodes")
    if not isinstance(tables, dict) or "edges" not in table:
        raise Malformed(f"{where}lacks {'edges' if isinstance(tables, dict) else 'nodes'}")
    raw: dict[str, tuple[str, Table]] = {}
    edges: list[Edge] = []
    enter: dict[str, str] = {}
    leave: dict[str, str] = {}
    for name, inner in tables.items():
        full = f"{prefix}{name}"
        if not isinstance(inner, dict):
            raise Malformed(f"node {full[:60]!r} is an array, a group is expected")
        kind = _text(inner, "type", f"node {full[:60]!r}: ")
        if kind == "NIRGraph":
            found, within = _collect(inner, f"{full}.")
            enter[full], leave[full] = (_only(found, end, f"graph {full[:60]!r} ") for end in ("Input", "Output"))
            found |= {name: (JOINT, {}) for name in (enter[full], leave[full])}
            edges += within
        else:
            found = {full: (kind, inner)}
        if doubled := raw.keys() & found.keys():
            raise Malformed(f"two nodes are called {min(doubled)[:60]!r}")
        raw |= found
    for a, b in _edges(table["edges"], where):
        edges.append((leave.get(prefix + a, prefix + a), enter.get(prefix + b, prefix + b)))
    return raw, edges


def _edges(value: Table | Array, where: str) -> Iterator[Edge]:
    if isinstance(value, dict) or not (value.size == 0 or (value.ndim == 2 and value.shape[1] == 2)):
        raise Malformed(f"{where}edges are no list of pairs of names")
    if value.size and value.dtype.kind != "U":
        raise Malformed(f"{where}edges hold numbers, names are expected")
    seen = set()
    for a, b in value.reshape(-1, 2).tolist():
        if (a, b) in seen:
            raise Malformed(f"{where}the edge {a[:60]!r} -> {b[:60]!r} is there twice")
        seen.add((a, b))
        yield a, b


def _text(table: Table, key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "U" or value.size != 1:
        raise Malformed(f"{where}lacks its {key}")
    return str(value.reshape(-1)[0])


def _only(raw: Mapping[str, tuple[str, Table]], kind: str, where: str = "") -> str:
    found = [name for name, (k, _) in raw.items() if k == kind]
    if len(found) != 1:
        names = f": {', '.join(repr(n[:40]) for n in found[:4])}" if found else ""
        raise Malformed(f"{where}has {len(found)} {kind} nodes{names}; graphs with exactly one are supported")
    return found[0]


def _sources(raw: Mapping[str, tuple[str, Table]], edges: list[Edge]) -> dict[str, list[str]]:
    """Node -> the nodes with an edge to it; every node is on a way from the input to the output."""
    sources: dict[str, list[str]] = {name: [] for name in raw}
    read: set[str] = set()
    for edge in edges:
        if lost := [end for end in edge if end not in raw]:
            raise Malformed(
                f"the edge {edge[0][:60]!r} -> {edge[1][:60]!r} leads nowhere: no node is called {lost[0][:60]!r}"
            )
        sources[edge[1]].append(edge[0])
        read.add(edge[0])
    entry, end = _only(raw, "Input"), _only(raw, "Output")
    for name, before in sources.items():
        if bool(before) == (name == entry):
            raise Malformed(f"node {name[:60]!r}: " + ("an edge leads into it" if before else "no edge leads into it"))
        if (name in read) == (name == end):
            raise Malformed(
                f"node {name[:60]!r}: " + ("an edge leads out of it" if name in read else "no edge leads out of it")
            )
    return sources


def _shaped(raw: Mapping[str, tuple[str, Table]], sources: Mapping[str, list[str]]) -> Iterator[Node]:
    try:
        order = tuple(TopologicalSorter(sources).static_order())
    except CycleError as e:
        cycle = " -> ".join(repr(name[:40]) for name in e.args[1][:6])
        raise Malformed(f"is recurrent ({cycle}); graphs without cycles are supported") from e
    shapes: dict[str, Shape] = {}
    for name in order:
        kind, table = raw[name]
        try:
            parameters = (
                {} if kind == JOINT else checked(kind, {k: v for k, v in table.items() if not isinstance(v, dict)})
            )
            incoming = {source: shapes[source] for source in sources[name]}
            if len(set(incoming.values())) > 1:
                told = ", ".join(f"{s[:40]!r} {list(shape)}" for s, shape in list(incoming.items())[:4])
                raise Malformed(f"its edges bring different shapes: {told}")
            shapes[name] = output_shape(kind, parameters, next(iter(incoming.values()), ()))
        except Malformed as e:
            raise Malformed(f"node {name[:60]!r}{f' ({kind})' if len(kind) < 12 else ''}: {e}") from e
        yield Node(name, kind, parameters, tuple(sources[name]), shapes[name])
