"""onnxruntime with its many exception types turned into ours, and silent on stderr."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError, EncodeError
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


def open_session(model: onnx.ModelProto, source: str, *, optimise: bool = True) -> ort.InferenceSession:
    """A CPU session.

    Raises:
        ModelFileError: onnxruntime does not accept the model.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except (*_ORT_ERRORS, *PROTOBUF_ERRORS) as error:
        msg = f"{source}: onnxruntime cannot load the model: {_one_line(error)}"
        raise ModelFileError(msg) from error


def run_session(
    session: ort.InferenceSession,
    outputs: Sequence[str],
    feeds: dict[str, np.ndarray],
    source: str,
    *,
    blame: type[SnnscError] = ModelFileError,
) -> list[np.ndarray]:
    """Run, and name the model (or the inputs, with `blame=DataError`) where that fails."""
    options = ort.RunOptions()
    options.log_severity_level = _SILENT
    try:
        results: list[np.ndarray] = session.run(list(outputs), feeds, options)
    except _ORT_ERRORS as error:
        what = "the model does not run on these inputs" if blame is DataError else "onnxruntime cannot run the model"
        msg = f"{source}: {what}: {_one_line(error)}"
        raise blame(msg) from error
    return results


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
