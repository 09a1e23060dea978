"""Layers with constant weights: how many nonzero weights each input element meets.

A fan-out holds one number for each element of one time step of one sample; its dot product with the number of nonzero
inputs is the number of events. Borders, stride, dilation, groups and zero weights are in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from snnsc.energy.graph.nodes import Node
from snnsc.energy.plan.geometry import Unsupported, Windows, transposed, windows
from snnsc.energy.plan.layout import einsum_terms, sample_axis
from snnsc.energy.plan.values import Values


@dataclass(frozen=True)
class Linear:
    """What a layer computes.

    Attributes:
        source: The value it reads.
        fanout: See the module docstring, flat.
        dense: Multiply-accumulates of one sample, all time steps together: output elements x weights that each meets,
            padding included; of a transposed convolution input elements x weights that each meets, borders included.
        weights: Nonzero weights.
        biased: Additions of a nonzero bias, of one sample.
        fan_in: The largest number of nonzero weights that one output element meets.
        parameters: Elements of weight and bias.
        weight: Name of the weight.
        geometry: Windows of a convolution.
        groups: Of a convolution.
    """

    source: str
    fanout: np.ndarray
    dense: int
    weights: int
    biased: int
    fan_in: int
    parameters: int
    weight: str
    geometry: Windows | None = None
    groups: int = 1


def linear(values: Values, node: Node) -> Linear:
    """A Conv, ConvTranspose, Gemm, MatMul, Einsum, BatchNormalization, or a Mul or Div with a constant.

    Raises:
        Unsupported: It has a form that is not counted; the message says which.
    """
    sources = values.graph.data_inputs(node)
    if len(sources) != 1:
        both = all(values.graph.is_data(name) for name in node.inputs[:2])
        msg = "both operands depend on the input" if both else "its bias depends on the input"
        raise Unsupported(msg)
    match node.op:
        case "Conv":
            return _conv(values, node, sources[0])
        case "ConvTranspose":
            return _conv_transpose(values, node, sources[0])
        case "Gemm" | "MatMul":
            return _matrix(values, node, sources[0])
        case "Einsum":
            return _einsum(values, node, sources[0])
        case _:
            return _scale(values, node, sources[0])


def _kernel(values: Values, node: Node, source: str) -> tuple[np.ndarray, int]:
    """Weight and groups of a convolution, checked against its input."""
    if source != node.inputs[0]:
        msg = "its weight is not constant"
        raise Unsupported(msg)
    weight, shape, groups = values.weight(node.inputs[1]), values.shapes[source], node.integer("group", 1)
    axis = 0 if node.op == "ConvTranspose" else 1
    inside = weight.shape[1] * groups if axis == 1 else weight.shape[0]
    if inside != shape[1] or weight.shape[0] % groups:
        msg = f"weight shape {list(weight.shape)} does not fit {groups} groups of input {list(shape)}"
        raise Unsupported(msg)
    return weight, groups


def _bias(values: Values, node: Node) -> tuple[int, int]:
    """Additions of a nonzero bias, of one sample, and elements; one element a channel."""
    if len(node.inputs) < 3 or not node.inputs[2]:
        return 0, 0
    bias, output = values.weight(node.inputs[2]), node.outputs[0]
    return int(np.count_nonzero(bias)) * values.per_sample(output) // values.shapes[output][1], bias.size


def _conv(values: Values, node: Node, source: str) -> Linear:
    """n[c, k] = outputs of the group whose weight at offset k is not zero, spread over the input positions."""
    weight, groups = _kernel(values, node, source)
    shape, output = values.shapes[source], node.outputs[0]
    geometry = windows(node, weight.shape[2:], shape, values.shapes[output])
    nonzero = (weight != 0).reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    fanout = geometry.spread(nonzero.sum(axis=1).reshape(shape[1], *geometry.kernel))
    biased, size = _bias(values, node)
    return Linear(
        source,
        values.tiled(fanout, source),
        values.per_sample(output) * prod(weight.shape[1:]),
        int(nonzero.sum()),
        biased,
        int(nonzero.reshape(weight.shape[0], -1).sum(axis=1).max(initial=0)),
        weight.size + size,
        node.inputs[1],
        geometry,
        groups,
    )


def _conv_transpose(values: Values, node: Node, source: str) -> Linear:
    """n[c, k] = outputs of the group that offset k of input channel c reaches, where the output position exists."""
    weight, groups = _kernel(values, node, source)
    shape, output = values.shapes[source], node.outputs[0]
    geometry = transposed(node, weight.shape[2:], shape, values.shapes[output])
    nonzero = weight != 0
    fanout = geometry.reach(nonzero.sum(axis=1))
    met = nonzero.reshape(groups, -1, *weight.shape[1:]).sum(axis=1).reshape(-1, *geometry.kernel)
    biased, size = _bias(values, node)
    return Linear(
        source,
        values.tiled(fanout, source),
        values.per_sample(source) * prod(weight.shape[1:]),
        int(nonzero.sum()),
        biased,
        int(geometry.spread(met).max(initial=0)),
        weight.size + size,
        node.inputs[1],
        geometry,
        groups,
    )


def _matrix(values: Values, node: Node, source: str) -> Linear:
    """Fan-out of x[..., m, k] is the number of nonzero w[..., k, :], of x[..., k, n] that of nonzero w[..., :, k]."""
    left = source == node.inputs[0]
    name, output = node.inputs[1 if left else 0], node.outputs[0]
    weight = values.weight(name)
    shape = values.shapes[source]
    turned = node.integer("transA", 0), node.integer("transB", 0)
    parameters, biased = weight.size, 0
    if node.op == "Gemm":
        weight = weight.T if turned[1 if left else 0] else weight
        weight = weight if node.number("alpha", 1.0) else np.zeros_like(weight)
        if len(node.inputs) > 2 and node.inputs[2] and node.number("beta", 1.0) != 0:
            biased = values.nonzero(node.inputs[2], output)
            parameters += values.weight(node.inputs[2]).size
        summed = (0 if turned[0] else 1) if left else (1 if turned[1] else 0)
    else:
        summed = len(shape) - 1 if left or len(shape) == 1 else len(shape) - 2
    matrix = weight if weight.ndim > 1 else (weight[:, np.newaxis] if left else weight[np.newaxis])
    if matrix.ndim < 2 or shape[summed] != matrix.shape[-2 if left else -1]:
        msg = f"weight shape {list(weight.shape)} does not fit input {list(shape)}"
        raise Unsupported(msg)
    samples = sample_axis(shape, values.inner[source], values.batch)
    if samples is not None and samples > summed:
        msg = "its samples are columns: they stand behind the axis that it sums over"
        raise Unsupported(msg)
    nonzero = matrix != 0
    met = nonzero.sum(axis=-1 if left else -2)  # [..., k]
    full = met[..., np.newaxis, :] if summed == len(shape) - 1 else met[..., np.newaxis]
    if len(shape) == 1:
        full = met
    return Linear(
        source,
        values.one_row(_folded(full, shape), source),
        values.per_sample(output) * shape[summed],
        int(nonzero.sum()),
        biased,
        int(nonzero.sum(axis=-2 if left else -1).max(initial=0)),
        parameters,
        name,
    )


def _folded(factors: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Factors summed over the axes along which a value of that shape is used again and again."""
    extra = factors.ndim - len(shape)
    if extra > 0:
        factors = factors.sum(axis=tuple(range(extra)))
    again = tuple(a for a in range(-factors.ndim, 0) if factors.shape[a] > 1 and shape[a] == 1)
    return factors.sum(axis=again, keepdims=True) if again else factors


def _einsum(values: Values, node: Node, source: str) -> Linear:
    """Of two operands, each axis named once in each: nonzero weights, summed over the axes that the input lacks."""
    terms = einsum_terms(node)
    if terms is None or len(terms) != 3 or any(len(set(term)) < len(term) for term in terms):
        msg = "its equation is not a product of two operands"
        raise Unsupported(msg)
    data, fixed = (0, 1) if source == node.inputs[0] else (1, 0)
    weight, output = values.weight(node.inputs[fixed]), node.outputs[0]
    sizes = dict(zip(terms[data], values.shapes[source], strict=True)) | dict(
        zip(terms[fixed], weight.shape, strict=True)
    )
    if not set(terms[0]) ^ set(terms[1]) <= set(terms[2]) <= set(terms[0]) | set(terms[1]):
        msg = "its equation sums over an axis of one operand"
        raise Unsupported(msg)
    nonzero = weight != 0
    shared = "".join(letter for letter in terms[data] if letter in terms[fixed])
    met = np.einsum(f"{terms[fixed]}->{shared}", nonzero.astype(np.int64))
    full = met.reshape([sizes[letter] if letter in shared else 1 for letter in terms[data]])
    summed = [letter for letter in sizes if letter not in terms[2]]
    others = "".join(letter for letter in terms[fixed] if letter in terms[2])
    fan_in = np.einsum(f"{terms[fixed]}->{others}", nonzero.astype(np.int64)).max(initial=0)
    return Linear(
        source,
        values.one_row(full, source),
        values.per_sample(output) * prod(sizes[letter] for letter in summed),
        int(nonzero.sum()),
        0,
        int(fan_in),
        weight.size,
        node.inputs[fixed],
    )


def _scale(values: Values, node: Node, source: str) -> Linear:
    """One multiplication an element: BatchNormalization that was not folded, Mul or Div with a constant."""
    output, shape = node.outputs[0], values.shapes[source]
    if shape != values.shapes[output]:
        msg = "broadcasts its input"
        raise Unsupported(msg)
    if source != node.inputs[0] and node.op != "Mul":
        msg = "divides by what depends on the input"
        raise Unsupported(msg)
    name = node.inputs[1] if node.op == "BatchNormalization" else next(n for n in node.inputs if n != source)
    scale = values.weight(name)
    if node.op == "BatchNormalization":
        scale = scale.reshape(-1, *[1] * (len(shape) - 2))
    biased = values.per_sample(output) if node.op == "BatchNormalization" else 0
    nonzero = scale != 0
    return Linear(
        source,
        values.one_row(nonzero, source),
        values.per_sample(output),
        int(np.count_nonzero(scale)),
        biased,
        1,
        scale.size * (2 if node.op == "BatchNormalization" else 1),
        name,
    )
