"""Run an exported model, in onnxruntime or what else runs ONNX, and read every layer's spikes.

Legend: T time steps, B batch, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from torch import Tensor

from snnsc.errors import ModelFileError
from snnsc.export.metadata import STATES
from snnsc.export.onnx import LOGITS_BY_STEP
from snnsc.export.read import is_step
from snnsc.export.trace import ACTIVATIONS, SPIKES, dims_of
from snnsc.sessions import Session, open_session, run_session, watching
from snnsc.training.metrics import Evaluation, Scores

Array = np.ndarray[Any, Any]
Found = tuple[Array, dict[str, Array]]
"""Logits of every step [T, B, K], and layer name -> spikes [T, B, ...]."""


VALUES = 2**23
"""Neuron-steps of all layers that one run gives, in float32."""


class Runnable(Protocol):
    """A network in whatever runs it."""

    name: str
    """What messages call it."""
    layers: dict[str, str]
    """Layer of neurons -> the value that holds its spikes."""

    def run(self, inputs: Array, T: int | None = None) -> Found:
        """Logits of every step [T, B, K], and layer name -> spikes [T, B, ...].

        Args:
            inputs: Frames [T, B, C, H, W] or images [B, C, H, W], float32.
            T: Time steps for which images are held; default the model's own.
        """


Engine = Callable[[onnx.ModelProto, str], Session]
"""A model, and what messages call it, -> what runs it."""


def load(model: onnx.ModelProto, name: str, engine: Engine = open_session) -> Runnable:
    """The network of a model, of the whole sequence or of one time step.

    Raises:
        ModelFileError: the engine cannot load it, or its metadata do not describe it.
    """
    return (StepNetwork if is_step(model) else OnnxNetwork)(model, name, engine)


class OnnxNetwork:
    """A model of the whole sequence.

    Args:
        model: The model.
        name: What messages call it.
        engine: What runs it.

    Raises:
        ModelFileError: the engine cannot load it.
    """

    def __init__(self, model: onnx.ModelProto, name: str, engine: Engine = open_session) -> None:
        self.name = name
        self.layers = _layers(model)
        self.input_name = model.graph.input[0].name if model.graph.input else ""
        self._outputs = [LOGITS_BY_STEP, *self.layers.values()]
        self._session = engine(watching(model, self._outputs), name)

    def run(self, inputs: Array, T: int | None = None) -> Found:
        """See `Runnable`."""
        feeds: dict[str, Any] = {self.input_name: inputs}
        if T is not None:
            feeds["T"] = np.array(T, dtype=np.int64)
        logits_TBK, *spikes = run_session(self._session, self._outputs, feeds, self.name)
        return logits_TBK, dict(zip(self.layers, spikes, strict=True))


class StepNetwork:
    """A model of one time step, run over a sequence from rest.

    Args:
        model: The model.
        name: What messages call it.
        engine: What runs it.

    Raises:
        ModelFileError: the engine cannot load it, or its metadata do not describe it.
    """

    def __init__(self, model: onnx.ModelProto, name: str, engine: Engine = open_session) -> None:
        self.name = name
        self.layers = _layers(model)
        about = {p.key: p.value for p in model.metadata_props}
        try:
            entries = json.loads(about[STATES])
            self._T = int(about["snnsc.T"])
            told = json.loads(about.get("snnsc.step_weights", "null"))
            sizes = {value.name: dims_of(value)[1:] for value in model.graph.input}
            self._shapes = {state: [int(size) for size in sizes[state]] for state in entries}
            nexts = [str(entry["next"]) for entry in entries.values()]
            if self._T < 1 or any(float(entry["initial"]) != 0.0 for entry in entries.values()):
                raise ValueError("not as snnsc writes it")
            self._weights = None if told is None else np.array(told, np.float32)
            if self._weights is not None and not (
                self._weights.shape == (self._T,) and np.isfinite(self._weights).all()
            ):
                raise ValueError("not a weight for each step")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as e:
            raise ModelFileError(f"{name}: its metadata do not say which states it has; export it again") from e
        self._input = next((i.name for i in model.graph.input if i.name not in self._shapes), "")
        self._outputs = ["logits", *nexts, *self.layers.values()]
        self._session = engine(watching(model, self.layers.values()), name)
        fixed = dims_of(model.graph.input[0])[:1] or [0]
        self._batch = fixed[0] if isinstance(fixed[0], int) and fixed[0] > 0 else None

    def run(self, inputs: Array, T: int | None = None) -> Found:
        """See `Runnable`."""
        axis = inputs.ndim - 4
        if self._batch is not None and inputs.shape[axis] != self._batch:  # made for one sample at a time
            if inputs.shape[axis] % self._batch:
                raise ModelFileError(f"{self.name}: takes {self._batch} samples at a time, not {inputs.shape[axis]}")
            parts = np.split(inputs, inputs.shape[axis] // self._batch, axis)
            found = [self.run(part, T) for part in parts]
            spikes = {layer: np.concatenate([s[layer] for _, s in found], axis=1) for layer in self.layers}
            return np.concatenate([logits for logits, _ in found], axis=1), spikes
        frames = inputs if axis else [inputs] * (self._T if T is None else T)
        states = {state: np.zeros((inputs.shape[axis], *shape), np.float32) for state, shape in self._shapes.items()}
        logits, spikes_T = [], []
        for frame in frames:
            values = run_session(self._session, self._outputs, {self._input: frame, **states}, self.name)
            states = dict(zip(states, values[1:], strict=False))
            logits.append(values[0])
            spikes_T.append(values[1 + len(states) :])
        logits_TBK = np.stack(logits)
        if self._weights is not None:
            logits_TBK = logits_TBK * self._weights[:, None, None]
        by_layer = [np.stack(s) for s in zip(*spikes_T, strict=True)]
        return logits_TBK, dict(zip(self.layers, by_layer, strict=True))


def evaluate(
    network: Runnable, batches: Iterable[tuple[Tensor, Tensor]], classes: int, T: int | None = None
) -> Evaluation:
    """What `snnsc.training.evaluate.evaluate` finds, by onnxruntime.

    Args:
        network: The exported model.
        batches: (inputs, labels): frames [T, B, C, H, W] or images [B, C, H, W], labels [B].
        classes: K.
        T: Time steps for which images are held; default the model's own.
    """
    scores = Scores(classes)
    for inputs, labels in batches:
        logits_TBK, spikes = network.run(inputs.numpy(), T)
        scores.add_logits(torch.from_numpy(logits_TBK), labels)
        for layer, spikes_TB in spikes.items():
            scores.add_spikes(layer, torch.from_numpy(spikes_TB))
    return scores.result()


def split(
    batches: Iterable[tuple[Tensor, Tensor]], values: int, axis: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches in parts that fit in memory.

    Args:
        batches: (inputs, labels): frames [T, B, C, H, W] or images [B, C, H, W], labels [B].
        values: Neuron-steps of a sample.
        axis: Of the samples; default as frames and images have it.
    """
    size = max(1, VALUES // max(1, values))
    for inputs, labels in batches:
        yield from zip(
            torch.split(inputs, size, inputs.dim() - 4 if axis is None else axis),
            torch.split(labels, size),
            strict=True,
        )


def in_parts(
    network: Runnable, batches: Iterable[tuple[Tensor, Tensor]], T: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """As `split`, by what the network makes of the first sample."""
    values = None
    for inputs, labels in batches:
        if values is None:
            _, spikes = network.run(inputs.narrow(inputs.dim() - 4, 0, 1).numpy(), T)
            values = sum(s.size for s in spikes.values())
        yield from split([(inputs, labels)], values)


def _layers(model: onnx.ModelProto) -> dict[str, str]:
    made = [output for node in model.graph.node for output in node.output]
    return {name.removesuffix(end): name for name in made for end in (SPIKES, ACTIVATIONS) if name.endswith(end)}
