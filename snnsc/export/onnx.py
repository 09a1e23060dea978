"""From a stripped network to an ONNX graph of the whole sequence.

    network -> fold normalisation, swap neurons for calls of their function -> torch.onnx -> names, metadata, checks

The graph takes frames [T, B, C, H, W], or images [B, C, H, W] with an optional T, and gives logits [B, K]. T and B are
dynamic. Every layer of neurons is one call of a model-local function (see `functions`); every linear operator is named
after its module, every layer's spikes are the value `<layer>.spikes`, the logits of every step `logits_by_step`.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

import snnsc
from snnsc.checkpoint import Checkpoint
from snnsc.errors import CheckError
from snnsc.export.fold import fold
from snnsc.export.functions import DOMAIN, DOMAIN_VERSION, OPSET, Call, call, equation, function
from snnsc.model import SpikingNetwork
from snnsc.model.neurons import Neuron
from snnsc.recipe.schema import Recipe, ReluSpec

FORMAT_VERSION = "1"
LOGITS_BY_STEP = "logits_by_step"
SPIKES, ACTIVATIONS = ".spikes", ".activations"
"""What the value of a layer of neurons, or of rectifiers, is called after the layer's name."""
TIME_STEP = "snnsc.time_step"
"""Metadata of a convolution that is one of those of a layer with weights for each time step."""


class OnnxNeuron(nn.Module):
    """Stands in for a layer of neurons while the graph is traced: one call of its function."""

    def __init__(self, made: Call, layer: str) -> None:
        super().__init__()
        self.made, self.layer = made, layer
        for name, value in made.inputs.items():
            self.register_buffer(name, value)

    def forward(self, current: Tensor, T: int | None = None) -> Tensor:
        """A symbolic call with the shape of its result."""
        if T is not None and current.shape[0] == 1:
            current = current.expand(T, *current.shape[1:])  # a static image's current, held for T steps
        space = [1] * (current.dim() - 3)
        constants = [self.get_buffer(name) for name in self.made.inputs]
        (spikes,) = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{self.made.name}",
            [current, *(c.view(*c.shape, *space) for c in constants)],
            {**self.made.attributes, "layer": self.layer},
            dtypes=[current.dtype],
            shapes=[current.shape],
            version=DOMAIN_VERSION,
        )
        return spikes


class _Whole(nn.Module):
    """What is traced: the network over the whole sequence."""

    def __init__(self, network: SpikingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, T: int | None = None) -> Tensor:
        return self.network.logits(x, T).main_TBK.mean(0)


def to_onnx(network: SpikingNetwork, recipe: Recipe) -> tuple[onnx.ModelProto, list[str]]:
    """The network as an ONNX model, without metadata, and in words what was folded.

    Args:
        network: A network without branches, in evaluation mode; it is not changed.
        recipe: What it was built from.

    Raises:
        CheckError: an option of the network cannot be exported, or the graph is not what it should be (a dimension
            came out fixed, the checker refuses it).
    """
    deployed, folded = fold(copy.deepcopy(network).to("cpu"))
    calls = {}
    for name, module in list(deployed.named_modules()):
        if isinstance(module, Neuron) and not isinstance(module.spec, ReluSpec):  # which is traced as it is
            calls[name] = call(module, name)
            deployed.set_submodule(name, OnnxNeuron(calls[name], name))
    size, channels, is_event = recipe.data.size, recipe.data.channels, recipe.data.is_event
    any_size = torch.export.Dim.DYNAMIC
    T = recipe.model.T if network.per_step else None
    # sizes of the example are all different, so that none can be taken for another
    if is_event:
        inputs: tuple[Any, ...] = (torch.zeros(T or 3, 2 if T != 2 else 3, channels, size, size),)
        names, shapes = ["frames"], ({1: any_size} if T else {0: any_size, 1: any_size}, None)
    else:
        inputs, shapes = (torch.zeros(2, channels, size, size), T or 3), ({0: any_size}, None if T else any_size)
        names = ["images"] if T else ["images", "T"]
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            _Whole(deployed).eval(),
            inputs,
            dynamo=True,
            dynamic_shapes=shapes[: len(inputs)],
            input_names=names,
            output_names=["logits"],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _tidy(model, deployed, recipe, calls)
    _check(model, ["T", "B"] if is_event else ["B"], T)
    return model, folded


def metadata(
    source: Checkpoint, network: SpikingNetwork, stripped: tuple[str, ...], folded: list[str]
) -> dict[str, str]:
    """What a model says of itself: equation, input, classes, recipe, what was folded and stripped."""
    recipe, facts = source.recipe, source.facts
    # data root and teacher are paths on the machine that trained: no business of the model's
    portable = recipe.model_dump(mode="json", exclude={"data": {"root"}, "method": {"teacher"}})
    weights = network.step_weights
    return {
        "snnsc.format": FORMAT_VERSION,
        "snnsc.version": snnsc.__version__,
        "snnsc.T": str(recipe.model.T),
        "snnsc.neuron": json.dumps(
            {"equation": equation(recipe.model.neuron), **recipe.model.neuron.model_dump(mode="json")}
        ),
        "snnsc.input": json.dumps(
            {
                "layout": "TBCHW" if recipe.data.is_event else "BCHW",
                "coding": "event counts a frame" if recipe.data.is_event else "direct: the image at every step",
                "kind": "integer" if facts["whole_counts"] else "real",
                "slicing": getattr(recipe.data, "slicing", None),
                "mean": facts["mean"],
                "std": facts["std"],
            }
        ),
        "snnsc.classes": json.dumps(facts["classes"]),
        "snnsc.folded": "; ".join(folded),
        **({} if weights is None else {"snnsc.step_weights": json.dumps(weights.tolist())}),
        "snnsc.stripped": json.dumps(list(stripped)),
        "snnsc.facts": json.dumps(facts),
        "snnsc.recipe": json.dumps(portable),
    }


def set_metadata(model: onnx.ModelProto, entries: dict[str, str]) -> None:
    """Set the model's metadata to these entries, in their order."""
    helper.set_model_props(model, entries)


def _tidy(model: onnx.ModelProto, network: SpikingNetwork, recipe: Recipe, calls: dict[str, Call]) -> None:
    """Names after modules, no traces of the machine, the neurons' functions, the default of T."""
    graph = model.graph
    _name_dimensions(graph, recipe.data.is_event)
    linears = (name for name, m in network.named_modules() if isinstance(m, nn.Linear))
    taken: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    for initializer in graph.initializer:
        renamed[initializer.name] = initializer.name.removeprefix("network.")
    for node in graph.node:
        layer = next((a for a in node.attribute if a.name == "layer"), None)
        if node.domain == DOMAIN and layer is not None:
            node.name = layer.s.decode()
            renamed[node.output[0]] = node.name + SPIKES
            node.attribute.remove(layer)
        elif node.op_type == "Conv":
            # not after its weight: the exporter makes one of equal weights, as those of two time steps may be
            node.name = _module_of(node).removesuffix(".").removesuffix(".conv")
        elif node.op_type == "Relu":
            node.name = _module_of(node).removesuffix(".")
            renamed[node.output[0]] = node.name + ACTIVATIONS
        elif node.op_type in {"MatMul", "Gemm"}:
            node.name = next(linears)
        else:
            name = f"{_module_of(node)}{node.op_type.lower()}"
            taken[name] += 1
            node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"
    last = graph.node[-1]
    assert last.op_type == "ReduceMean", "the graph ends with the mean over time"
    renamed[last.input[0]] = LOGITS_BY_STEP
    _rename(graph, renamed)
    if "T" in {i.name for i in graph.input}:
        # an input with a default: a caller may leave it out, or run the network for another number of steps
        graph.initializer.append(helper.make_tensor("T", TensorProto.INT64, [], [recipe.model.T]))
    for holder in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del holder.metadata_props[:]
        holder.doc_string = ""
    for node in graph.node:
        if node.op_type == "Conv" and (step := re.search(r"\.steps\.(\d+)$", node.name)):
            node.metadata_props.add(key=TIME_STEP, value=step[1])
    graph.name = recipe.name
    model.producer_name, model.producer_version = "snnsc", snnsc.__version__
    if calls and all(o.domain != DOMAIN for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    del model.functions[:]
    model.functions.extend(function(made) for made in {made.name: made for made in calls.values()}.values())


def _module_of(node: onnx.NodeProto) -> str:
    """Path of the module that a node was traced in, and a dot; empty at the top or where torch names none."""
    scopes = next((p.value for p in node.metadata_props if p.key.endswith("name_scopes")), "[]")
    modules = [scope.strip("' ") for scope in scopes.strip("[]").split(",")][:-1]
    path = modules[-1].removeprefix("network.") if modules else ""
    return f"{path}." if path and not path.startswith("_") else ""


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
    for value in (*graph.value_info, *graph.initializer, *graph.output):
        value.name = names.get(value.name, value.name)


def _name_dimensions(graph: onnx.GraphProto, is_event: bool) -> None:
    """Call the symbols of torch (s41) by our names (T), in expressions too."""
    dims = graph.input[0].type.tensor_type.shape.dim
    symbols = {dim.dim_param: name for dim, name in zip(dims, "TB" if is_event else "B", strict=False) if dim.dim_param}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(
                    r"\w+", lambda m: symbols.get(m[0], "T" if m[0][0] == "s" else m[0]), dim.dim_param
                )


def _check(model: onnx.ModelProto, wanted: list[str], T: int | None) -> None:
    """Raise CheckError unless the graph is valid, B dynamic, and T too where nothing is learned per time step."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise CheckError(f"the exported graph is not valid ONNX: {e}") from e
    dims = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][: len(wanted)]
    expected = [T if T is not None and name == "T" else name for name in wanted]
    if dims != expected:
        raise CheckError(f"the exported graph takes input of size {dims} where it should be {expected}")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's progress, advice and warnings off the user's terminal."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
