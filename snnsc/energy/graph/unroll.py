"""Writes loops and branches as the straight nodes that they run."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from snnsc.energy.graph.bodies import Inlined, inline


class Unroller:
    """Collects the nodes of the straight graph.

    Args:
        opset: Version of the standard operators.
        tags: First output of a node -> the loop and node that it is from, and the iteration; added to.
    """

    def __init__(self, opset: int, tags: dict[str, tuple[str, int]]) -> None:
        self.opset, self.tags = opset, tags
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []

    def branch(self, node: onnx.NodeProto, *, taken: bool) -> None:
        """The nodes of one branch of an If."""
        body = _graph(node, "then_branch" if taken else "else_branch")
        inlined = inline(body, f"{_first(node)}/", [])
        self._take(inlined, self.tags.get(_first(node)), None)
        for output, result in zip(node.output, inlined.results, strict=False):
            self._alias(result, output)

    def loop(self, node: onnx.NodeProto, count: int) -> None:
        """The nodes of `count` iterations, at least one, of a Loop or a Scan."""
        body, name = _graph(node, "body"), _name(node)
        is_scan = node.op_type == "Scan"
        scanned = next((a.i for a in node.attribute if a.name == "num_scan_inputs"), 0)
        explicit = list(node.input) if is_scan else list(node.input[2:])
        states = explicit[: len(explicit) - scanned] if is_scan else explicit
        xs = explicit[len(states) :]
        collected: list[list[str]] = [[] for _ in node.output[len(states) :]]
        outer = self.tags.get(_first(node))
        for i in range(count):
            prefix = f"{_first(node)}/{i}/"
            if is_scan:
                slices = [self._slice(node, x, k, i, count, prefix) for k, x in enumerate(xs)]
                arguments = [*states, *slices]
            else:
                given = self._constant(f"{prefix}i", np.int64(i)), self._constant(f"{prefix}go", np.True_)
                arguments = [*given, *states]
            inlined = inline(body, prefix, arguments)
            self._take(inlined, outer, (name, i, count))
            results = inlined.results if is_scan else inlined.results[1:]
            states = results[: len(states)]
            for k, result in enumerate(results[len(states) :]):
                if k < len(collected):
                    collected[k].append(result)
        for output, result in zip(node.output, states, strict=False):
            self._alias(result, output)
        for k, (output, parts) in enumerate(zip(node.output[len(states) :], collected, strict=True)):
            if output:
                self._stack(parts, output, _axis(node, "scan_output_axes", k), back=_axis(node, _OUT, k) == 1)

    def _take(self, inlined: Inlined, outer: tuple[str, int] | None, at: tuple[str, int, int] | None) -> None:
        self.initializers += inlined.initializers
        for node, local in inlined.nodes:
            self.nodes.append(node)
            first = _first(node)
            if at is not None and outer is not None:
                self.tags[first] = f"{outer[0]}/{local}", outer[1] * at[2] + at[1]
            elif at is not None:
                self.tags[first] = f"{at[0]}/{local}", at[1]
            elif outer is not None:
                self.tags[first] = f"{outer[0]}/{local}", outer[1]

    def _slice(self, node: onnx.NodeProto, value: str, which: int, i: int, count: int, prefix: str) -> str:
        at = count - 1 - i if _axis(node, _IN, which) == 1 else i
        index, output = self._constant(f"{prefix}at{which}", np.int64(at)), f"{prefix}x{which}"
        axis = _axis(node, "scan_input_axes", which)
        self.nodes.append(helper.make_node("Gather", [value, index], [output], output, axis=axis))
        return output

    def _stack(self, parts: list[str], output: str, axis: int, *, back: bool) -> None:
        tops = [f"{output}/{i}" for i in range(len(parts))]
        for part, top in zip(parts, tops, strict=True):
            if self.opset < 13:
                self.nodes.append(helper.make_node("Unsqueeze", [part], [top], top, axes=[axis]))
            else:
                where = self._constant(f"{output}/axis", np.array([axis]))
                self.nodes.append(helper.make_node("Unsqueeze", [part, where], [top], top))
        self.nodes.append(helper.make_node("Concat", tops[::-1] if back else tops, [output], output, axis=axis))

    def _alias(self, value: str, output: str) -> None:
        if output:
            self.nodes.append(helper.make_node("Identity", [value], [output], output))

    def _constant(self, name: str, value: np.ndarray | np.generic) -> str:
        if not self.initializers or self.initializers[-1].name != name:
            self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name


_IN, _OUT = "scan_input_directions", "scan_output_directions"


def _axis(node: onnx.NodeProto, key: str, which: int) -> int:
    """One number of a list attribute of a Scan that is 0 where it is left out."""
    found = next((list(a.ints) for a in node.attribute if a.name == key), [])
    return int(found[which]) if which < len(found) else 0


def _graph(node: onnx.NodeProto, key: str) -> onnx.GraphProto:
    graph: onnx.GraphProto = next(a.g for a in node.attribute if a.name == key)
    return graph


def _first(node: onnx.NodeProto) -> str:
    first: str = next((output for output in node.output if output), "")
    return first


def _name(node: onnx.NodeProto) -> str:
    return str(node.name) or _first(node)
