"""Sparse constants as dense ones: onnxruntime does not hand them out as arrays."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
from onnx import numpy_helper

_LARGEST = 2**29  # elements


def without_sparse(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its sparse constants written out; the model itself where it has none.

    Raises:
        ValueError: One is damaged, or too large.
    """
    graph = proto.graph
    constants = [node for node in graph.node if node.op_type == "Constant" and not node.domain]
    if not graph.sparse_initializer and not any(a.name == "sparse_value" for n in constants for a in n.attribute):
        return proto
    written = onnx.ModelProto()
    written.CopyFrom(proto)
    for sparse in written.graph.sparse_initializer:
        written.graph.initializer.append(numpy_helper.from_array(_dense(sparse), sparse.values.name))
    del written.graph.sparse_initializer[:]
    for node in written.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "sparse_value":
                tensor = numpy_helper.from_array(_dense(attribute.sparse_tensor), node.output[0])
                attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))
    return written


def _dense(sparse: onnx.SparseTensorProto) -> np.ndarray:
    shape = tuple(sparse.dims)
    if prod(shape) > _LARGEST or any(size < 0 for size in shape):
        msg = f"sparse tensor {sparse.values.name[:60]!r} of shape {list(shape)} has more than {_LARGEST} elements"
        raise ValueError(msg)
    values, at = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(shape, values.dtype)
    where = np.ravel_multi_index(tuple(at.T), shape) if at.ndim == 2 else at
    dense.reshape(-1)[where] = values
    return dense
