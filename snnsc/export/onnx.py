"""The graph of the whole sequence.

It takes frames [T, B, C, H, W], or images [B, C, H, W] with an optional T, and gives logits [B, K]. T and B are
dynamic. Every layer of neurons is one call of a model-local function (see `snnsc.neuron_functions`); the logits of
every step are `logits_by_step`.
"""

from __future__ import annotations

import copy
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from snnsc.errors import CheckError
from snnsc.export.trace import check_graph, dims_of, name_dimensions, neuron_calls, tidy, trace
from snnsc.model import SpikingNetwork
from snnsc.neuron_functions import DOMAIN, DOMAIN_VERSION, Call, function
from snnsc.recipe.schema import Recipe

LOGITS_BY_STEP = "logits_by_step"


class OnnxNeuron(nn.Module):
    """Stands in for a layer of neurons while the graph is traced: one call of its function."""

    def __init__(self, made: Call, layer: str) -> None:
        super().__init__()
        self.made, self.layer = made, layer
        for name, value in made.inputs.items():
            self.register_buffer(name, torch.from_numpy(value))

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


def to_onnx(folded: SpikingNetwork, recipe: Recipe) -> onnx.ModelProto:
    """The network as an ONNX model of the whole sequence, without metadata.

    Args:
        folded: A folded network (see `fold`); it is not changed.
        recipe: What it was built from.

    Raises:
        CheckError: an option of the network cannot be exported, or the graph is not what it should be (a dimension
            came out fixed, the checker refuses it).
    """
    network = copy.deepcopy(folded)
    calls = neuron_calls(network)
    for name, made in calls.items():
        network.set_submodule(name, OnnxNeuron(made, name))
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
    model = trace(_Whole(network).eval(), inputs, shapes[: len(inputs)], names, ["logits"])
    dims = model.graph.input[0].type.tensor_type.shape.dim
    symbols = {dim.dim_param: name for dim, name in zip(dims, "TB" if is_event else "B", strict=False) if dim.dim_param}
    name_dimensions(model.graph, symbols, other="T")
    last = model.graph.node[-1]
    assert last.op_type == "ReduceMean", "the graph ends with the mean over time"
    tidy(model, network, calls, function, name=recipe.name, renamed={last.input[0]: LOGITS_BY_STEP})
    if "T" in {i.name for i in model.graph.input}:
        # an input with a default: a caller may leave it out, or run the network for another number of steps
        model.graph.initializer.append(helper.make_tensor("T", TensorProto.INT64, [], [recipe.model.T]))
    check_graph(model)
    wanted = ["T", "B"] if is_event else ["B"]
    expected = [T if T is not None and name == "T" else name for name in wanted]
    got = dims_of(model.graph.input[0])[: len(wanted)]
    if got != expected:
        raise CheckError(f"the exported graph takes input of size {got} where it should be {expected}")
    return model
