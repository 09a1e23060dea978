"""Is every sum that decides a spike exact? Read from an exported graph alone, for every input.

The spans of all values (see `spans`) follow from the graph's own weights:

    linear    high = sum of w+ high_in + w- |low_in| + b+, the largest over the outputs; e = e_weights + e_in
    average   of n = 2^k values: e = e_in + k
    membrane  u[t] = decay v[t-1] + gain x[t] from rest: e = e_x - log2 gain + c (T-1), where decay = 2^-c
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from snnsc.errors import CheckError, RecipeError
from snnsc.export.grid.spans import ANY, BITS, SPIKES, Array, Span, constant, exponent, hull, rounded, total
from snnsc.neuron_functions import DOMAIN

LINEAR = frozenset({"Conv", "MatMul", "Gemm"})
AVERAGES = frozenset({"AveragePool", "ReduceMean"})
SUMS = LINEAR | AVERAGES | {"Add"}
_MOVES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Gather", "Slice", "Transpose", "Identity"})


@dataclass(frozen=True)
class Snap:
    """How finely a linear operator is rounded: weights to 2^-a, the input to 2^-b, the bias to 2^-(a+b)."""

    a: int
    b: int


class Graph:
    """The part of an exported model of a whole sequence that decides which neurons fire.

    Args:
        model: The model.
        T: The largest number of time steps that it is run for.
        clamps: Linear operator -> to what its input will be clamped.
    """

    def __init__(self, model: onnx.ModelProto, T: int, clamps: Mapping[str, tuple[float, float]] | None = None) -> None:
        self.T, self.clamps = T, clamps or {}
        self.input = model.graph.input[0].name
        self.constants = {t.name: t for t in model.graph.initializer}
        values = (*model.graph.input, *model.graph.value_info)
        self.shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
        wanted: set[str] = set()
        nodes = []
        for node in reversed(model.graph.node):
            if node.domain == DOMAIN or wanted & set(node.output):
                nodes.append(node)
                wanted.update(self.data_inputs(node))
        self.nodes = nodes[::-1]
        if not nodes:
            refuse_rectifiers()

    def data_inputs(self, node: onnx.NodeProto) -> list[str]:
        """Inputs of a node that depend on the samples."""
        several = node.domain == "" and node.op_type in {"Add", "Concat"}
        return [name for name in (node.input if several else node.input[:1]) if name not in self.constants]

    def constant(self, name: str) -> Array:
        """The value of an initializer."""
        return numpy_helper.to_array(self.constants[name]).astype(np.float64)

    def weights(self, node: onnx.NodeProto) -> tuple[Array, Array]:
        """Weights [out, in] and bias [out] of a linear operator."""
        w = self.constant(node.input[1])
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attribute(node, "transB", 0)):
            w = w.T
        w = w.reshape(len(w), -1)
        return w, self.constant(node.input[2]) if len(node.input) > 2 else np.zeros(len(w))

    def spans(self, snaps: Mapping[str, Snap] | None = None) -> dict[str, Span]:
        """The span of every value, for any input.

        Args:
            snaps: How every linear operator will be rounded, by its name; without, weights are taken as they are.

        Raises:
            CheckError: an operator, or a neuron, gives what has no grid.
        """
        found = {self.input: ANY}
        for node in self.nodes:
            found[node.output[0]] = self._span(node, [found[name] for name in self.data_inputs(node)], snaps)
        return found

    def real_readers(self) -> list[str]:
        """Names of the linear operators that read real numbers: the input, or currents (see `Span.real`)."""
        found = self.spans()
        linear = (node for node in self.nodes if node.op_type in LINEAR)
        return [node.name for node in linear if found[node.input[0]].real]

    def neurons(self, found: Mapping[str, Span]) -> Iterator[tuple[onnx.NodeProto, Membrane]]:
        """Every layer of neurons, with its membrane potential."""
        for node in self.nodes:
            if node.domain == DOMAIN:
                yield node, Membrane(node, found[node.input[0]], self.T)

    def _span(self, node: onnx.NodeProto, given: list[Span], snaps: Mapping[str, Snap] | None) -> Span:
        if node.domain == DOMAIN:
            return SPIKES
        first = given[0]
        match node.op_type:
            case op if op in LINEAR:
                return self._linear(node, first, None if snaps is None else snaps[node.name])
            case op if op in _MOVES:
                return first
            case "Add":
                # a constant is the bias of a linear layer, which is rounded to the grid of its sums
                biases = [self.constant(name) for name in node.input if name in self.constants]
                return total([*given, *(constant(b if snaps is None else rounded(b, first.e)) for b in biases)])
            case "Concat":
                return hull(given)
            case op if op in AVERAGES:
                return replace(first, e=first.e + self.averaged(node))
            case "Clip":
                return first.clamped(*(float(self.constant(name)) for name in node.input[1:3]))
            case "Mul" if node.input[1] in self.constants:
                factor = float(self.constant(node.input[1]))
                return first.scale(_averaging_power(factor, f"{node.name}: its factor {factor:g}"))
            case "Round":
                return first.snapped(0)
            case other:
                raise CheckError(f"{node.name}: --exact-grid does not know the operator {other}")

    def _linear(self, node: onnx.NodeProto, x: Span, snap: Snap | None) -> Span:
        w, b = self.weights(node)
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise CheckError(f"layer {node.name}: its weights are not finite numbers")
        if node.name in self.clamps:
            x = x.clamped(*self.clamps[node.name])
        if snap is None:
            e = max(exponent(w) + x.e, exponent(b))
        else:
            x = x.snapped(snap.b)
            w, b, e = rounded(w, snap.a), rounded(b, snap.a + snap.b), snap.a + snap.b
        if math.isinf(x.high):
            return Span(-math.inf, math.inf, e)
        up, down = np.maximum(w, 0).sum(1), np.maximum(-w, 0).sum(1)
        high = (up * x.high - down * x.low + np.maximum(b, 0)).max()
        low = (up * x.low - down * x.high + np.minimum(b, 0)).min()
        return Span(float(low), float(high), e)

    def averaged(self, node: onnx.NodeProto) -> int:
        """The k of an average over 2^k values.

        Raises:
            CheckError: they are another number of values.
        """
        if node.op_type == "ReduceMean":
            shape = self.shapes[node.input[0]]
            count = math.prod(shape[axis] for axis in self.constant(node.input[1]).astype(int))
        else:
            count = math.prod(_attribute(node, "kernel_shape", []))
            if any(_attribute(node, "pads", [])) and not _attribute(node, "count_include_pad", 0):
                raise CheckError(f"{node.name}: it divides by fewer values at the border, before neurons")
        return _averaging_power(count, f"{node.name}: the number of values it averages before neurons, {count},")


class Membrane:
    """The membrane potential of a layer of neurons over T steps.

    Args:
        node: The call of its function.
        current: Its input.
        T: Time steps.

    Attributes:
        span: Of u at any step.
        c: decay = 2^-c.
        k: gain = 2^k.
        floor: The e that the threshold asks for where it is subtracted (soft reset); else -inf.

    Raises:
        RecipeError: its constants have no grid.
    """

    def __init__(self, node: onnx.NodeProto, current: Span, T: int) -> None:
        self.name, kind = node.name, node.op_type
        constants = {key: float(_attribute(node, key, 1.0)) for key in ("decay", "gain", "threshold")}
        self.c, self.k = neuron_powers(node.name, kind, constants)
        decay, threshold = constants["decay"], constants["threshold"]
        soft, signed = "Soft" in kind, "Signed" in kind
        self.floor = exponent(np.array(threshold)) if soft else -math.inf
        x = current.scale(self.k)
        low = high = v_low = v_high = 0.0
        for _ in range(T):
            low, high = min(low, decay * v_low + x.low), max(high, decay * v_high + x.high)
            # what a reset leaves; with a threshold of its own in every channel (Signed), any u may be left
            left = high if signed else min(high, threshold)
            v_low = low - threshold if soft and signed else low
            v_high = max(left, high - threshold) if soft else left
        self.span = Span(min(low, v_low), high, max(x.e, self.floor) + self.c * (T - 1))


def check(model: onnx.ModelProto, T: int) -> None:
    """Prove from the file alone that every spike of it is exact for every input, for up to T time steps.

    Raises:
        CheckError: a value is not; it is named.
    """
    graph = Graph(model, T)
    found = graph.spans()
    broken = broken_span(graph, found)
    if broken is not None:
        name, span = broken
        raise CheckError(
            f"layer {name}: its sums are multiples of 2^-{span.e:g} and reach 2^{span.m:g}, which needs "
            f"{span.e + span.m:g} bits, and float32 has {BITS}"
        )


def broken_span(graph: Graph, found: Mapping[str, Span]) -> tuple[str, Span] | None:
    """The first layer with a value that float32 does not hold, and its span; None where all is exact."""
    membranes = {node.name: membrane.span for node, membrane in graph.neurons(found)}
    for node in graph.nodes:
        span = membranes.get(node.name, found[node.output[0]])
        if (node.domain == DOMAIN or node.op_type in SUMS) and not span.exact:
            return node.name, span
    return None


def neuron_powers(layer: str, function: str, constants: Mapping[str, float]) -> tuple[int, int]:
    """The c and k of a layer of neurons with decay = 2^-c and gain = 2^k.

    Args:
        layer: Its name.
        function: Its function, such as `GainLIF`.
        constants: The function's numbers.

    Raises:
        RecipeError: it has other constants, or neurons of a kind that has no grid.
    """
    if function.endswith(("CLIF", "GLIF")):
        raise RecipeError(
            f"layer {layer}: {function.lower()} neurons multiply by sigmoids and learned gates, which are on no grid; "
            "--exact-grid takes lif (decay a power of two) and if"
        )
    found = []
    for key, words in (("decay", "decay"), ("gain", "input gain")):
        value = float(np.float32(constants.get(key, 1.0)))
        power = _power(value)
        if power is None:
            raise RecipeError(
                f"layer {layer}: {words} = {value:g} is no power of two, so its membrane is on no grid; train with a "
                "power of two (lif; plif and diet-lif learn theirs), or if"
            )
        found.append(power)
    return -found[0], found[1]


def refuse_rectifiers() -> None:
    """Raise RecipeError for a network without spikes."""
    raise RecipeError("the network has no spikes that could differ (relu): leave out --exact-grid")


def _averaging_power(value: float, what: str) -> int:
    power = _power(value)
    if power is None:
        raise CheckError(f"{what} is no power of two, so what follows is on no grid; --exact-grid cannot hold here")
    return power


def _power(value: float) -> int | None:
    """log2 of a power of two; None for other numbers."""
    mantissa, power = math.frexp(value)
    return power - 1 if mantissa == 0.5 else None


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:  # noqa: ANN401
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)
