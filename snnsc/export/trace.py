"""From a torch module to a clean ONNX graph: names after modules, no traces of the machine.

What `whole` and `step` have in common. Every linear operator is named after its module, every layer of neurons is one
call of a model-local function named after its layer, every layer's spikes are the value `<layer>.spikes`.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from onnx import helper
from torch import nn

import snnsc
from snnsc.errors import CheckError
from snnsc.export.functions import call
from snnsc.model import SpikingNetwork
from snnsc.model.neurons import Neuron
from snnsc.neuron_functions import DOMAIN, DOMAIN_VERSION, OPSET, Call
from snnsc.recipe.schema import ReluSpec

SPIKES, ACTIVATIONS = ".spikes", ".activations"
"""What the value of a layer of neurons, or of rectifiers, is called after the layer's name."""
NEXT = "_next"
"""After the name of a state's input, in a model of one time step, that of its output."""
TIME_STEP = "snnsc.time_step"
"""Metadata of a convolution that is one of those of a layer with weights for each time step."""


def neuron_calls(network: SpikingNetwork) -> dict[str, Call]:
    """Layer of neurons -> the call that stands for it, in the network's order; rectifiers are traced as they are.

    Raises:
        CheckError: an option of a neuron cannot be exported.
    """
    layers = ((name, m) for name, m in network.named_modules() if isinstance(m, Neuron))
    return {name: call(m, name) for name, m in layers if not isinstance(m.spec, ReluSpec)}


def trace(
    module: nn.Module,
    inputs: tuple[Any, ...],
    shapes: tuple[Any, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> onnx.ModelProto:
    """What torch's exporter makes of a module.

    Args:
        module: What is traced, in evaluation mode.
        inputs: Examples.
        shapes: Which of their sizes are dynamic.
        input_names: Their names, those of nested ones too.
        output_names: Names of the outputs.
    """
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=input_names,
            output_names=output_names,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def tidy(
    model: onnx.ModelProto,
    network: SpikingNetwork,
    calls: Mapping[str, Call],
    function: Callable[[Call], onnx.FunctionProto],
    *,
    name: str,
    renamed: Mapping[str, str],
) -> None:
    """Name everything after its module, remove what tells of the machine, and add the neurons' functions.

    Args:
        model: The traced module, which holds the network as `network`.
        network: The network, for the names of its linear layers.
        calls: The calls in it.
        function: The function of a call.
        name: Of the graph.
        renamed: New names of further values.
    """
    graph = model.graph
    linears = (name for name, m in network.named_modules() if isinstance(m, nn.Linear))
    taken: Counter[str] = Counter()
    names = {i.name: i.name.removeprefix("network.") for i in graph.initializer} | dict(renamed)
    for node in graph.node:
        layer = next((a for a in node.attribute if a.name == "layer"), None)
        if node.domain == DOMAIN and layer is not None:
            node.name = layer.s.decode()
            names[node.output[0]] = node.name + SPIKES
            node.attribute.remove(layer)
        elif node.op_type == "Conv":
            # not after its weight: the exporter makes one of equal weights, as those of two time steps may be
            node.name = _module_of(node).removesuffix(".").removesuffix(".conv")
        elif node.op_type == "Relu":
            node.name = _module_of(node).removesuffix(".")
            names[node.output[0]] = node.name + ACTIVATIONS
        elif node.op_type in {"MatMul", "Gemm"}:
            node.name = next(linears)
        else:
            made = f"{_module_of(node)}{node.op_type.lower()}"
            taken[made] += 1
            node.name = made if taken[made] == 1 else f"{made}_{taken[made]}"
    _rename(graph, names)
    for holder in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del holder.metadata_props[:]
        holder.doc_string = ""
    for node in graph.node:
        if node.op_type == "Conv" and (step := re.search(r"\.steps\.(\d+)$", node.name)):
            node.metadata_props.add(key=TIME_STEP, value=step[1])
    graph.name = name
    model.producer_name, model.producer_version = "snnsc", snnsc.__version__
    if calls and all(o.domain != DOMAIN for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    del model.functions[:]
    model.functions.extend(function(made) for made in {made.name: made for made in calls.values()}.values())


def name_dimensions(graph: onnx.GraphProto, names: Mapping[str, str], other: str | None = None) -> None:
    """Call the symbols of torch (s41) by our names (B), in expressions too.

    Args:
        graph: The graph.
        names: Symbol -> name.
        other: Name of every symbol that is not among them.
    """
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(
                    r"\w+",
                    lambda m: names.get(m[0], other if other and m[0][0] == "s" else m[0]),
                    dim.dim_param,
                )


def check_graph(model: onnx.ModelProto) -> None:
    """Raise CheckError unless the graph is valid ONNX."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise CheckError(f"the exported graph is not valid ONNX: {e}") from e


def dims_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """Sizes of a value; a dynamic one is its name."""
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


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
