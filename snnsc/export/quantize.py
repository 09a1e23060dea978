"""Eight bits: weights, and what the layers read and give, by onnxruntime's static quantization (QDQ).

Spikes are integers already: what a layer of weights reads is quantized with scale 1 and zero point 0, or with the unit
of pooled spikes (1/4, 1/16), so nothing is lost there. Real values are calibrated on training samples. Membranes and
logits stay float32, and so do the layers that read a real image: rounding the first currents would move every spike
after them.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from snnsc.energy import Graph, read_graph
from snnsc.energy.counting.counting import probe
from snnsc.energy.graph.graph import Node
from snnsc.energy.graph.ops import LINEAR
from snnsc.energy.plan.kinds import MOVES
from snnsc.errors import CheckError
from snnsc.files import temporary_folder

QUANTIZED = "snnsc.quantized"
"""Metadata: what was quantized, and how."""
Array = np.ndarray[Any, Any]

PERCENTILE = 99.9
"""Of the magnitudes of a current on the calibration samples that 8 bits cover; the few larger ones, which fire anyway,
are clipped. With all covered, the steps are so wide that three times as many samples change their class."""
_LARGEST = 255
_LARGEST_OF_SATURATING = 128
"""Processors without VNNI add two products of uint8 and int8 in 16 bits: 2 x 128 x 127 is the most that fits."""
_SKIP_ADVICE = "onnx.quant.pre_process"
"""Metadata without which quantize_static prints advice about its own preprocessing, which breaks local functions."""


def quantize(
    model: onnx.ModelProto,
    calibration: Iterable[Array],
    input_name: str,
    *,
    currents: Literal["int8", "float32"] = "int8",
) -> onnx.ModelProto:
    """The model with int8 weights (per output channel) and uint8 activations.

    Args:
        model: A model of the whole sequence, functions and metadata in place; it is not changed.
        calibration: Batches of training samples: frames [T, B, C, H, W] or images [B, C, H, W], float32; smaller ones
            than the largest are left out. What they make of all layers is held in memory.
        input_name: The input that takes them.
        currents: Whether convolutions give 8 bits, so that onnxruntime runs them in integers, or float32, which flips
            fewer spikes, but is slower than the float network.

    Raises:
        CheckError: there are no samples, or weights are not finite numbers.
        SnnscError: the temporary folder is full.
    """
    batches = [batch for batch in calibration if batch.size]
    if not batches:
        raise CheckError("there are no training samples to calibrate 8 bits on")
    largest = max(batch.size for batch in batches)
    batches = [batch for batch in batches if batch.size == largest]  # the histograms are of equal batches
    if spoilt := [t.name for t in model.graph.initializer if not np.isfinite(numpy_helper.to_array(t)).all()]:
        raise CheckError(f"the network cannot be quantized: {spoilt[0]} holds values that are no finite numbers")
    graph = read_graph(model)
    layers = list(_layers(graph, batches))
    in_float = [layer.name for layer in layers if layer.is_first and layer.unit is None]
    source = copy.deepcopy(model)  # quantize_static moves the weights of what it is given into a file
    source.metadata_props.add(key=_SKIP_ADVICE, value="onnxruntime.quant")
    with temporary_folder() as folder, _silently():
        path = folder / "quantized.onnx"
        try:
            quantize_static(
                source,
                path,
                _Reader(input_name, batches),
                quant_format=QuantFormat.QDQ,
                calibrate_method=CalibrationMethod.Percentile,
                op_types_to_quantize=sorted(LINEAR),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=in_float,
                extra_options={
                    "CalibPercentile": PERCENTILE,
                    "TensorQuantOverrides": _overrides(layers),
                    "OpTypesToExcludeOutputQuantization": sorted(LINEAR - ({"Conv"} if currents == "int8" else set())),
                    "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
                },
            )
        except (ValueError, runtime_errors.Fail, runtime_errors.InvalidArgument) as e:
            raise CheckError(f"the network cannot be quantized: {' '.join(str(e).split())[:300]}") from e
        quantized = onnx.load(path)
    _describe(quantized, model, in_float, currents, batches, graph.inputs[0].batch_axis)
    return quantized


@dataclass(frozen=True)
class _Layer:
    """A convolution or linear layer with constant weights."""

    name: str
    source: str
    """What it reads."""
    weight: str
    axis: int
    """Of the weight's output channels."""
    is_first: bool
    """Whether no other layer stands before it."""
    unit: float | None
    """What it reads are multiples 0 to 255 of this, on all samples; None where they are not."""
    largest: float
    """Of those multiples."""


def _layers(graph: Graph, batches: list[Array]) -> Iterator[_Layer]:
    (first,) = graph.inputs
    two = np.take(batches[0], [0, 1], first.batch_axis, mode="clip")
    rows = {row.name: row for row in probe(graph, {first.name: two}).layers}
    is_count = min(batch.min() for batch in batches) >= 0
    bounds = {first.name: float(max(batch.max() for batch in batches)) if is_count else None}
    after_weights: set[str] = set()
    for node in graph.nodes:
        reads = graph.data_inputs(node)
        if node.op in LINEAR and len(reads) == 1 and node.name in rows:
            kind, largest = rows[node.name].kind, bounds[node.inputs[0]]
            multiples = float("inf") if kind.unit is None or largest is None else largest / float(kind.unit)
            yield _Layer(
                node.name,
                node.inputs[0],
                node.inputs[1],
                0 if node.op == "Conv" or node.integer("transB", 0) else 1,
                is_first=node.inputs[0] not in after_weights,
                unit=float(kind.unit) if kind.unit is not None and multiples <= _LARGEST else None,
                largest=multiples,
            )
        bounds.update(dict.fromkeys(node.outputs, _bound(graph, node, bounds)))
        if node.op in LINEAR or after_weights.intersection(reads):
            after_weights.update(node.outputs)


def _bound(graph: Graph, node: Node, bounds: dict[str, float | None]) -> float | None:
    """The most that a value of spikes can be, from the graph; None where it may be anything, or negative."""
    if node.is_neuron:
        return 1.0
    reads = [bounds.get(name) for name in graph.data_inputs(node)]
    known = [bound for bound in reads if bound is not None]
    if not known or len(known) < len(reads):
        return None
    if node.op in MOVES | {"AveragePool", "ReduceMean", "Concat"}:
        return max(known)
    return sum(known) if node.op == "Add" and len(known) == len(node.inputs) else None


def _overrides(layers: list[_Layer]) -> dict[str, list[dict[str, Any]]]:
    """What is quantized otherwise than by calibration: spikes, and weights whose sums would saturate."""
    overrides: dict[str, list[dict[str, Any]]] = {}
    for layer in layers:
        if layer.unit is not None:
            scale, zero = np.array(layer.unit, np.float32), np.array(0, np.uint8)
            overrides[layer.source] = [{"quant_type": QuantType.QUInt8, "scale": scale, "zero_point": zero}]
        if layer.unit is None or layer.largest > _LARGEST_OF_SATURATING:
            overrides[layer.weight] = [{"quant_type": QuantType.QInt8, "axis": layer.axis, "reduce_range": True}]
    return overrides


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """The samples, as quantize_static wants to be handed them."""

    def __init__(self, name: str, batches: list[Array]) -> None:
        self._feeds = iter([{name: batch} for batch in batches])

    def get_next(self) -> dict[str, Array] | None:
        """The next batch; None after the last."""
        return next(self._feeds, None)


@contextmanager
def _silently() -> Iterator[None]:
    """Keep what the calibration prints and warns of off the terminal; it takes no options of its own."""
    onnxruntime.set_default_logger_severity(4)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        onnxruntime.set_default_logger_severity(2)  # onnxruntime's default; what it was cannot be asked


def _describe(
    quantized: onnx.ModelProto,
    model: onnx.ModelProto,
    in_float: list[str],
    currents: str,
    batches: list[Array],
    batch_axis: int,
) -> None:
    """The model's own metadata in place of the quantizer's, and what was done."""
    about = {
        "weights": "int8, per output channel",
        "activations": "uint8; spikes exact",
        "currents": currents,
        "float32": in_float,
        "calibration_samples": sum(batch.shape[batch_axis] for batch in batches),
    }
    helper.set_model_props(quantized, {p.key: p.value for p in model.metadata_props} | {QUANTIZED: json.dumps(about)})
    quantized.producer_name, quantized.producer_version = model.producer_name, model.producer_version
    quantized.graph.name = model.graph.name
