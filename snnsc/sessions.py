"""onnxruntime with its many exception types turned into ours, and silent on stderr."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError, EncodeError
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from snnsc.errors import DataError, ModelFileError, SnnscError

PROTOBUF_ERRORS: tuple[type[Exception], type[Exception]] = (DecodeError, EncodeError)
_ORT_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    ValueError,
)
_SILENT = 4
EXTENSIONS = "com.microsoft.extensions"
"""Domain of the operators that the package onnxruntime-extensions has: images from bytes, tokens from text."""


def open_session(
    model: onnx.ModelProto,
    source: str,
    *,
    level: ort.GraphOptimizationLevel | None = None,
    optimise: bool = True,
    threads: int | None = None,
) -> ort.InferenceSession:
    """A CPU session.

    Args:
        model: The model.
        source: What messages call it.
        level: Optimisation of the graph; default all.
        optimise: False for no optimisation at all.
        threads: Threads of an operator; default one a core.

    Raises:
        ModelFileError: onnxruntime does not accept the model, or a package that its operators are in is missing.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    if not optimise:
        level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if level is not None:
        options.graph_optimization_level = level
    if threads is not None:
        options.intra_op_num_threads = threads
    if any(opset.domain == EXTENSIONS for opset in model.opset_import):
        options.register_custom_ops_library(_extensions(source))
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except (*_ORT_ERRORS, *PROTOBUF_ERRORS) as error:
        msg = f"{source}: onnxruntime cannot load the model: {_one_line(error)}"
        raise ModelFileError(msg) from error


def _extensions(source: str) -> str:
    """The library of onnxruntime-extensions."""
    try:
        from onnxruntime_extensions import get_library_path
    except ImportError as error:
        msg = f"{source}: has operators of onnxruntime-extensions, which is not installed; pip install 'snnsc[ortx]'"
        raise ModelFileError(msg) from error
    return str(get_library_path())


class Session(Protocol):
    """What runs a graph: onnxruntime, or ONNX's reference evaluator."""

    def run(self, names: Sequence[str], feeds: dict[str, Any], /) -> Any:  # noqa: ANN401
        """The values of these names."""


def run_session(
    session: Session,
    outputs: Sequence[str],
    feeds: dict[str, np.ndarray],
    source: str,
    *,
    blame: type[SnnscError] = ModelFileError,
) -> list[np.ndarray]:
    """Run, and name the model (or the inputs, with `blame=DataError`) where that fails."""
    try:
        if isinstance(session, ort.InferenceSession):
            options = ort.RunOptions()
            options.log_severity_level = _SILENT
            results: list[np.ndarray] = session.run(list(outputs), feeds, options)
        else:
            results = session.run(list(outputs), feeds)
    except _ORT_ERRORS as error:
        what = "the model does not run on these inputs" if blame is DataError else "onnxruntime cannot run the model"
        msg = f"{source}: {what}: {_one_line(error)}"
        raise blame(msg) from error
    return results


def watching(model: onnx.ModelProto, values: Iterable[str]) -> onnx.ModelProto:
    """A copy of a model that gives these float32 values too, after its own outputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in values)
    return watched


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
