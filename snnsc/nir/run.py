"""Run a NIR graph in onnxruntime, and read every layer's spikes.

Legend: T time steps, B batch, K classes.
"""

from __future__ import annotations

import numpy as np

from snnsc.errors import ModelFileError
from snnsc.neuron_functions import DOMAIN
from snnsc.nir.graph import Graph
from snnsc.nir.hdf5 import Array
from snnsc.nir.lower import to_onnx
from snnsc.sessions import open_session, run_session, watching


class NirNetwork:
    """A NIR graph, stepped.

    Args:
        graph: The graph.
        dt: Time step in seconds; default the graph's own.

    Attributes:
        name: What messages call it.
        model: The ONNX model that is run.
        layers: Layer of neurons -> the value that holds its spikes.
        classes: K, the outputs.

    Raises:
        ModelFileError: it cannot be run, or gives no vector of logits.
        RecipeError: dt is no time, or longer than a time constant.
    """

    def __init__(self, graph: Graph, dt: float | None = None) -> None:
        self.name = graph.source
        self.shape = graph.input.shape
        if len(graph.output.shape) != 1:
            raise ModelFileError(f"{self.name}: its output has shape {list(graph.output.shape)}; a vector is expected")
        (self.classes,) = graph.output.shape
        self.model = to_onnx(graph, dt=dt)
        calls = [node for node in self.model.graph.node if node.domain == DOMAIN]
        self.layers = {node.name: node.output[0] for node in calls if node.op_type != "LI"}  # which gives membranes
        self._steps = graph.metadata.get("snnsc.T", "")
        self._outputs = ["logits_by_step", *self.layers.values()]
        self._session = open_session(watching(self.model, self._outputs), self.name)

    def run(self, inputs: Array, T: int | None = None) -> tuple[Array, dict[str, Array]]:
        """Outputs of every step [T, B, K], and layer name -> spikes [T, B, ...].

        Args:
            inputs: Frames [T, B, ...], or images [B, ...] that are held, float32.
            T: Time steps for which images are held; default those that our own files tell.

        Raises:
            ModelFileError: inputs are of another shape, or images come without T.
        """
        if inputs.ndim == len(self.shape) + 1 and inputs.shape[1:] == self.shape:
            if T is None and not (self._steps.isascii() and self._steps.isdigit() and int(self._steps) > 0):
                raise ModelFileError(f"{self.name}: does not say for how many time steps images are held; give --T")
            inputs = np.broadcast_to(inputs, (T or int(self._steps), *inputs.shape))
        if inputs.shape[2:] != self.shape:
            raise ModelFileError(
                f"{self.name}: takes inputs [T,B,{','.join(map(str, self.shape))}], not {inputs.shape}"
            )
        feeds = {"input": np.ascontiguousarray(inputs, np.float32)}
        logits_TBK, *spikes = run_session(self._session, self._outputs, feeds, self.name)
        return logits_TBK, dict(zip(self.layers, spikes, strict=True))
