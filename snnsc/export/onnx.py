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
from typing import Any, cast

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

import snnsc
from snnsc.checkpoint import Checkpoint
from snnsc.errors import CheckError
from snnsc.export.functions import DOMAIN, DOMAIN_VERSION, OPSET, equation, function, operator
from snnsc.model import SpikingNetwork
from snnsc.model.blocks import ConvNorm
from snnsc.model.neurons import Neuron
from snnsc.model.norms import Norm
from snnsc.recipe.schema import Recipe

FORMAT_VERSION = "1"
LOGITS_BY_STEP = "logits_by_step"


class OnnxNeuron(nn.Module):
    """Stands in for a layer of neurons while the graph is traced: one call of its function."""

    def __init__(self, neuron: Neuron, layer: str) -> None:
        super().__init__()
        self.operator, self.attributes = operator(neuron.spec)
        self.layer = layer

    def forward(self, current: Tensor, T: int | None = None) -> Tensor:
        """A symbolic call with the shape of its result."""
        if T is not None and current.shape[0] == 1:
            current = current.expand(T, *current.shape[1:])  # a static image's current, held for T steps
        (spikes,) = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{self.operator}",
            [current],
            {**self.attributes, "layer": self.layer},
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


def to_onnx(network: SpikingNetwork, recipe: Recipe) -> onnx.ModelProto:
    """The network as an ONNX model, without metadata.

    Args:
        network: A network without branches, in evaluation mode; it is not changed.
        recipe: What it was built from.

    Raises:
        CheckError: the graph is not what it should be (a dimension came out fixed, the checker refuses it).
    """
    deployed = fold_norms(copy.deepcopy(network).to("cpu"))
    for name, module in list(deployed.named_modules()):
        if isinstance(module, Neuron):
            deployed.set_submodule(name, OnnxNeuron(module, name))
    size, channels, is_event = recipe.data.size, recipe.data.channels, recipe.data.is_event
    any_size = torch.export.Dim.DYNAMIC
    # sizes of the example are all different, so that none can be taken for another
    if is_event:
        inputs: tuple[Any, ...] = (torch.zeros(3, 2, channels, size, size),)
        names, shapes = ["frames"], ({0: any_size, 1: any_size}, None)
    else:
        inputs, names, shapes = (torch.zeros(2, channels, size, size), 3), ["images", "T"], ({0: any_size}, any_size)
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
    _tidy(model, deployed, recipe)
    _check(model, is_event)
    return model


def fold_norms(network: SpikingNetwork) -> SpikingNetwork:
    """Fold every normalisation into the convolution before it, in place: w' = scale w, b' = shift."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            scale, shift = cast(Norm, module.norm).scale_and_shift()
            conv = module.conv
            conv.weight = nn.Parameter((conv.weight * scale[:, None, None, None]).detach())
            conv.bias = nn.Parameter(shift.detach())
            module.norm = nn.Identity()
    return network


def metadata(source: Checkpoint, stripped: tuple[str, ...]) -> dict[str, str]:
    """What a model says of itself: equation, input, classes, recipe, what was folded and stripped."""
    recipe, facts = source.recipe, source.facts
    _, constants = operator(recipe.model.neuron)
    # the data root is a path on the machine that trained: no business of the model's
    portable = recipe.model_dump(mode="json", exclude={"data": {"root"}})
    return {
        "snnsc.format": FORMAT_VERSION,
        "snnsc.version": snnsc.__version__,
        "snnsc.T": str(recipe.model.T),
        "snnsc.neuron": json.dumps({"equation": equation(recipe.model.neuron), **constants, "reset": "hard"}),
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
        "snnsc.folded": "every normalisation into the convolution before it",
        "snnsc.stripped": json.dumps(list(stripped)),
        "snnsc.facts": json.dumps(facts),
        "snnsc.recipe": json.dumps(portable),
    }


def set_metadata(model: onnx.ModelProto, entries: dict[str, str]) -> None:
    """Set the model's metadata to these entries, in their order."""
    helper.set_model_props(model, entries)


def _tidy(model: onnx.ModelProto, network: SpikingNetwork, recipe: Recipe) -> None:
    """Names after modules, no traces of the machine, the neuron function, the default of T."""
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
            renamed[node.output[0]] = f"{node.name}.spikes"
            node.attribute.remove(layer)
        elif node.op_type == "Conv":
            node.name = node.input[1].removeprefix("network.").removesuffix(".conv.weight")
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
    if not recipe.data.is_event:
        # an input with a default: a caller may leave it out, or run the network for another number of steps
        graph.initializer.append(helper.make_tensor("T", TensorProto.INT64, [], [recipe.model.T]))
    for holder in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del holder.metadata_props[:]
        holder.doc_string = ""
    graph.name = recipe.name
    model.producer_name, model.producer_version = "snnsc", snnsc.__version__
    if all(o.domain != DOMAIN for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    del model.functions[:]
    model.functions.append(function(recipe.model.neuron))


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
    symbols = {dims[0].dim_param: "T" if is_event else "B"}
    if is_event:
        symbols[dims[1].dim_param] = "B"
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(
                    r"\w+", lambda m: symbols.get(m[0], "T" if m[0][0] == "s" else m[0]), dim.dim_param
                )


def _check(model: onnx.ModelProto, is_event: bool) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise CheckError(f"the exported graph is not valid ONNX: {e}") from e
    wanted = ["T", "B"] if is_event else ["B"]
    dims = [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim][: len(wanted)]
    if dims != wanted:
        raise CheckError(f"the exported graph takes input of fixed size ({dims} where {wanted} should be dynamic)")


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
