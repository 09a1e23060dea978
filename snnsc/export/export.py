"""Export a checkpoint: strip, fold, trace, verify, count, and only then write.

checkpoint -> network without branches -> folded -> [exact grid] -> whole graph -> [int8] -> [inline] -> model.onnx
                                                                 -> step graph -> [inline] -> model.step.onnx
                                                                               -> NIR, C
whatever is written -> verified on real samples -> verification.json
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from snnsc.checkpoint import Checkpoint
from snnsc.energy import STATISTICS_KEY, Report, count, read_graph
from snnsc.errors import CheckError
from snnsc.export.c import to_c
from snnsc.export.compiled import check_compiled
from snnsc.export.evidence import ENERGY, evidence, write_with_evidence
from snnsc.export.fold import fold
from snnsc.export.form import Form
from snnsc.export.grid.prove import prove
from snnsc.export.grid.snap import exact_grid
from snnsc.export.inline import inline
from snnsc.export.metadata import EXACT_GRID, metadata, set_metadata, step_entries
from snnsc.export.onnx import to_onnx
from snnsc.export.quantize import quantize
from snnsc.export.runtime import OnnxNetwork, Runnable, load, split
from snnsc.export.step import to_step
from snnsc.export.verify import Bounds, Verification, few, hold_accuracy, neuron_steps, verify
from snnsc.model import SpikingNetwork
from snnsc.nir.read import parse_nir
from snnsc.nir.run import NirNetwork
from snnsc.nir.write import to_nir
from snnsc.strip import branch_weights

MIN_SAMPLES = 256
"""Real samples that an export is verified and counted on, where there are as many."""
MIN_SAMPLES_INT8 = 1000
"""The same for eight bits, where classes change and the accuracy is what counts."""
LARGE, SAMPLES_OF_LARGE = 2**22, 32
"""Neuron-steps of a sample from which on a network is run on so many samples only."""
CALIBRATION_VALUES = 2**27
"""Neuron-steps of all calibration samples together, whose currents are held in memory."""
FEW = 4
"""Samples that are also run where a run takes long: in ONNX's reference evaluator, in a compiled program."""
REFERENCE = "ONNX's reference evaluator"

Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Exported:
    """What was written, and what was found."""

    files: tuple[Path, ...]
    """The model first."""
    stripped: tuple[str, ...]
    """Names of the branch weights left out."""
    verification: Verification
    also: Mapping[str, Verification]
    """Name -> what a few samples gave in what else runs it."""
    facts: Mapping[str, object]
    """What else is known of it, by kind: `exact_grid`, `c`, `bytes`."""
    report: Report | None
    """The energy estimate, where the form has one."""


@dataclass(frozen=True)
class _Made:
    """An artifact before it is written."""

    files: Mapping[Path, bytes | str]
    network: Runnable
    """The artifact itself, as a reader of it runs it."""
    also: Mapping[str, Runnable] = field(default_factory=dict)
    """Name -> what else runs it, and is checked on a few samples."""
    facts: Mapping[str, object] = field(default_factory=dict)
    report: Report | None = None


def export(
    source: Checkpoint,
    batches: Iterable[tuple[Tensor, Tensor]],
    what: str,
    output: Path,
    bounds: Bounds,
    form: Form | None = None,
    calibration: Iterable[tuple[Tensor, Tensor]] = (),
) -> Exported:
    """Write the main path of a checkpoint in a form, and the report of its verification beside it.

    Args:
        source: A checkpoint, stripped or not; it is not changed.
        batches: Real samples: (frames [T, B, C, H, W] or images [B, C, H, W], labels [B]).
        what: What the samples are, as the model's statistics will say it.
        output: What is written; `verification.json`, and with a plain ONNX model `energy.json`, into the same folder.
        bounds: How far the exported network may be from the trained one.
        form: What is written; default a plain ONNX model.
        calibration: Training samples, for 8 bits.

    Raises:
        CheckError: a bound is exceeded, or the form cannot express the network; nothing is written.
        RecipeError: a file of others is in the way.
        SnnscError: a file cannot be written.
    """
    form = form or Form()
    network, samples = source.build(branches=False, compiled=False), list(batches)
    if not samples:
        raise CheckError("there are no samples to verify the export on")
    each = neuron_steps(network, samples)
    samples = list(split(samples if each < LARGE else few(samples, SAMPLES_OF_LARGE), each))
    calibration = split(few(calibration, max(FEW, CALIBRATION_VALUES // each)), each)
    deployed, words = fold(network)
    about = metadata(source, network, branch_weights(source), words)
    facts: dict[str, object] = {}
    if form.exact_grid:
        # from here on the network on the grid is the network: what is written must spike as it does, without exception
        trained, (deployed, snapped_model, grid) = network, exact_grid(deployed, source.recipe, source.facts, samples)
        proof = prove(trained, deployed, snapped_model, samples)
        hold_accuracy(proof.accuracy_before, proof.accuracy_after, "the network on the grid", bounds)
        facts["exact_grid"] = proof.to_dict() | {"grid": grid.to_dict()}
        about[EXACT_GRID] = json.dumps(grid.to_dict())
        network = deployed
    match form.format:
        case "onnx":
            model = snapped_model if form.exact_grid else to_onnx(deployed, source.recipe)
            set_metadata(model, about)
            made = _whole(model, samples, what, output, form, calibration)
        case "step":
            made = _step(_step_model(deployed, source, about), output, form)
        case "nir":
            made = _nir(_step_model(deployed, source, about), output, form, about)
        case "c":
            made = _c(_step_model(deployed, source, about), samples, output, bounds)
    verification = verify(network, made.network, samples, bounds)
    also = {name: verify(network, other, few(samples, FEW), bounds) for name, other in made.also.items()}
    facts |= made.facts
    entry = evidence(form, verification, what, bounds, made.files, also) | facts
    record = write_with_evidence(output, made.files, entry, folder=output if form.format == "c" else None)
    return Exported((*made.files, record), branch_weights(source), verification, also, facts, made.report)


def _step_model(deployed: SpikingNetwork, source: Checkpoint, about: dict[str, str]) -> onnx.ModelProto:
    model = to_step(deployed, source.recipe)
    set_metadata(model, about | step_entries(model))
    return model


def _whole(
    model: onnx.ModelProto,
    samples: Batches,
    what: str,
    output: Path,
    form: Form,
    calibration: Iterable[tuple[Tensor, Tensor]],
) -> _Made:
    files: dict[Path, bytes | str] = {}
    facts: dict[str, object] = {}
    input_name = model.graph.input[0].name
    if form.int8:
        before = len(_bytes(model))
        model = quantize(model, (inputs.numpy() for inputs, _ in calibration), input_name)
        facts["bytes"] = {"float32": before, "int8": len(_bytes(model))}
    if form.inline:
        model = inline(model)
    graph = read_graph(model)
    counts = count(graph, ({input_name: inputs.numpy()} for inputs, _ in samples), split=what)
    model.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
    report = Report.of(graph, counts, "embedded", model=output.name)
    if form.is_plain:
        files[output.with_name(ENERGY)] = json.dumps(report.to_dict(), indent=2) + "\n"
    also = _by_reference(model, form)
    return _Made({output: _bytes(model), **files}, OnnxNetwork(model, str(output)), also, facts, report)


def _step(model: onnx.ModelProto, output: Path, form: Form) -> _Made:
    if form.inline:
        model = inline(model)
    return _Made({output: _bytes(model)}, load(model, str(output)), _by_reference(model, form))


def _nir(model: onnx.ModelProto, output: Path, form: Form, about: dict[str, str]) -> _Made:
    encoding, dt = form.nir
    content = to_nir(model, encoding=encoding, dt=dt, metadata=about)
    return _Made({output: content}, NirNetwork(parse_nir(content, str(output))))


def _c(model: onnx.ModelProto, samples: Batches, output: Path, bounds: Bounds) -> _Made:
    files, network = to_c(model), load(inline(model), str(output))
    compiled = check_compiled(files, network, few(samples, FEW), bounds)
    facts = {"c": None if compiled is None else compiled.to_dict()}
    return _Made({output / name: content for name, content in files.items()}, network, facts=facts)


def _by_reference(model: onnx.ModelProto, form: Form) -> dict[str, Runnable]:
    """The model in ONNX's reference evaluator, if it is of standard operators alone."""
    return {REFERENCE: load(model, REFERENCE, lambda model, _: ReferenceEvaluator(model))} if form.inline else {}


def _bytes(model: onnx.ModelProto) -> bytes:
    content: bytes = model.SerializeToString(deterministic=True)
    return content
