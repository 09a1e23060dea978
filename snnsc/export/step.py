"""The graph of one time step: every neuron's state is an input and an output.

    image or frame [B, C, H, W], <layer>.v [B, ...] ... -> logits [B, K] of this step, <layer>.v_next ...

For event streams and microcontrollers: no time axis, no loop. All states are 0 at the first step; the logits of a
sequence are the mean over its steps, each times its step weight where the method set one (metadata
`snnsc.step_weights`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import onnx
import torch
from onnx import helper, shape_inference
from torch import Tensor, nn

from snnsc.errors import CheckError, RecipeError
from snnsc.export.trace import NEXT, check_graph, dims_of, name_dimensions, neuron_calls, tidy, trace
from snnsc.model import SpikingNetwork
from snnsc.neuron_functions import DOMAIN, DOMAIN_VERSION, STEP, Call, step_function
from snnsc.recipe.schema import Recipe
from snnsc.training.evaluate import neuron_outputs

States = dict[str, Tensor]
"""`<layer>.<state>` -> value [B, ...]."""


class _Memory:
    """The states of a step while it is traced."""

    def __init__(self) -> None:
        self.now: States = {}
        self.next: States = {}


class _StepNeuron(nn.Module):
    """Stands in for a layer of neurons while a step is traced: one call of its function."""

    def __init__(self, made: Call, layer: str, memory: _Memory) -> None:
        super().__init__()
        self.made, self.layer, self.memory = made, layer, memory
        for name, value in made.inputs.items():
            self.register_buffer(name, torch.from_numpy(value))

    def forward(self, current_1B: Tensor, T: int = 1) -> Tensor:  # noqa: ARG002
        """A symbolic call with the shapes of its results."""
        current = current_1B.squeeze(0)
        names = [f"{self.layer}.{state}" for state in self.made.states]
        constants = [self.get_buffer(name) for name in self.made.inputs]
        spikes, *states = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{self.made.name}{STEP}",
            [
                current,
                *(self.memory.now[name] for name in names),
                *(c.view(*c.shape, *[1] * (current.dim() - 2)) for c in constants),
            ],
            {**self.made.attributes, "layer": self.layer},
            dtypes=[current.dtype] * (1 + len(names)),
            shapes=[current.shape] * (1 + len(names)),
            version=DOMAIN_VERSION,
        )
        self.memory.next.update(zip(names, states, strict=True))
        return spikes.unsqueeze(0)


class _Step(nn.Module):
    """What is traced: the network over one time step."""

    def __init__(self, network: SpikingNetwork, memory: _Memory, names: list[str]) -> None:
        super().__init__()
        self.network, self.memory, self.names = network, memory, names

    def forward(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.memory.now = dict(zip(self.names, states, strict=True))
        logits = self.network.logits(x.unsqueeze(0)).main_TBK.squeeze(0)
        return (logits, *(self.memory.next[name] for name in self.names))


def to_step(folded: SpikingNetwork, recipe: Recipe) -> onnx.ModelProto:
    """The network as an ONNX model of one time step, without metadata.

    Args:
        folded: A folded network (see `fold`); it is not changed.
        recipe: What it was built from.

    Raises:
        CheckError: an option of the network cannot be exported.
        RecipeError: it learned something for each time step.
    """
    network = copy.deepcopy(folded)
    check_same_steps(network)
    network.per_step, network.step_weights = (), None  # the weights of steps are the caller's to apply
    example = torch.zeros(2, recipe.data.channels, recipe.data.size, recipe.data.size)
    calls, memory = neuron_calls(network), _Memory()
    states = dict(_states(network, calls, example))
    for name, made in calls.items():
        network.set_submodule(name, _StepNeuron(made, name, memory))
    any_size = {0: torch.export.Dim.DYNAMIC}
    model = trace(
        _Step(network, memory, list(states)).eval(),
        (example, tuple(states.values())),
        (any_size, (any_size,) * len(states)),
        ["frame" if recipe.data.is_event else "image", *states],
        ["logits", *(name + NEXT for name in states)],
    )
    symbols = {str(dims_of(value)[0]): "B" for value in model.graph.input}
    name_dimensions(model.graph, symbols)
    tidy(model, network, calls, step_function, name=recipe.name, renamed={})
    _drop_time_axis(model)
    check_graph(model)
    fixed = [value.name for value in (*model.graph.input, *model.graph.output) if dims_of(value)[:1] != ["B"]]
    if fixed:
        raise CheckError(f"the exported step has no dynamic batch in {', '.join(fixed)}")
    return model


def check_same_steps(network: SpikingNetwork) -> None:
    """Raise RecipeError where a network learned something for each time step; weights of their logits do not matter."""
    learned = [key for key in network.per_step if key != "method.weighting"]
    if learned:
        raise RecipeError(
            f"a step model is the same at every time step, but the network learned something for each one "
            f"({', '.join(learned)}); export the whole sequence (--format onnx)"
        )


def _states(network: SpikingNetwork, calls: dict[str, Call], example: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Every state of the network, at rest, for the example's batch."""
    spikes: dict[str, Tensor] = {}
    with torch.no_grad(), neuron_outputs(network, spikes.__setitem__):
        network.logits(example.unsqueeze(0))
    for layer, made in calls.items():
        for state in made.states:
            yield f"{layer}.{state}", torch.zeros_like(spikes[layer][0])


def _drop_time_axis(model: onnx.ModelProto) -> None:
    """Take away the leading axis of one time step, and with it every operator that only moves it about."""
    graph = model.graph
    sizes = {v.name: _without_time(dims_of(v)) for v in (*graph.input, *graph.output, *graph.value_info)}
    outputs = {value.name for value in graph.output}
    same: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        if node.op_type in {"Reshape", "Squeeze", "Unsqueeze"}:
            before, after = node.input[0], node.output[0]
            if sizes[before] == sizes[after]:
                same[before if after in outputs else after] = after if after in outputs else before
                continue
            assert len(sizes[after]) == 2, f"{node.name}: {sizes[before]} to {sizes[after]}"
            node.CopyFrom(helper.make_node("Flatten", [before], [after], name=node.name, axis=1))
        nodes.append(node)
    for node in nodes:
        node.input[:] = [_last(same, name) for name in node.input]
        node.output[:] = [_last(same, name) for name in node.output]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [initializer for initializer in graph.initializer if initializer.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    model.CopyFrom(shape_inference.infer_shapes(model, strict_mode=True))


def _last(same: dict[str, str], name: str) -> str:
    while name in same:
        name = same[name]
    return name


def _without_time(dims: list[int | str]) -> list[int | str]:
    return dims[1:] if dims[:2] == [1, "B"] else dims
