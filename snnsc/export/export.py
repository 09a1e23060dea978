"""Export a checkpoint: strip, trace, verify, count, and only then write.

checkpoint -> network without branches -> ONNX -> verified on real samples -> counted -> model.onnx, energy.json
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from torch import Tensor

from snnsc.checkpoint import Checkpoint
from snnsc.energy import STATISTICS_KEY, Report, count, price, read_graph
from snnsc.export.onnx import metadata, set_metadata, to_onnx
from snnsc.export.runtime import OnnxNetwork
from snnsc.export.verify import Bounds, Verification, verify
from snnsc.files import write_together
from snnsc.strip import branch_weights

MIN_SAMPLES = 256
"""Real samples that an export is verified and counted on, where there are as many."""


@dataclass(frozen=True)
class Exported:
    """What was written, and what was found."""

    model: Path
    energy: Path
    stripped: tuple[str, ...]
    """Names of the branch weights left out."""
    verification: Verification
    report: Report


def export(
    source: Checkpoint, batches: Iterable[tuple[Tensor, Tensor]], split: str, output: Path, bounds: Bounds
) -> Exported:
    """Write the main path of a checkpoint as ONNX, and its spike-operation count and energy estimate beside it.

    Args:
        source: A checkpoint, stripped or not; it is not changed.
        batches: Real samples: (frames [T, B, C, H, W] or images [B, C, H, W], labels [B]).
        split: What the samples are, as the model's statistics will say it.
        output: The ONNX file; `energy.json` is written into the same folder.
        bounds: How far the exported network may be from the trained one.

    Raises:
        CheckError: a bound is exceeded; nothing is written.
        SnnscError: a file cannot be written.
    """
    samples = list(batches)
    network = source.build(branches=False, compiled=False)
    model, folded = to_onnx(network, source.recipe)
    set_metadata(model, metadata(source, network, branch_weights(source), folded))
    exported = OnnxNetwork(model, str(output))
    verification = verify(network, exported, samples, bounds)
    graph = read_graph(model)
    counts = count(graph, ({exported.input_name: inputs.numpy()} for inputs, _ in samples), split=split)
    model.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
    report = Report("embedded", counts, tuple(price(counts)))
    report_path = output.with_name("energy.json")
    write_together({output: _bytes(model), report_path: json.dumps(report.to_dict(), indent=2) + "\n"})
    return Exported(output, report_path, branch_weights(source), verification, report)


def _bytes(model: onnx.ModelProto) -> bytes:
    content: bytes = model.SerializeToString(deterministic=True)
    return content
