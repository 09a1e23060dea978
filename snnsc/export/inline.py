"""Standard operators only: the bodies of the neurons' functions in place of their calls."""

from __future__ import annotations

import onnx
from onnx import inliner

from snnsc.export.trace import check_graph
from snnsc.neuron_functions import DOMAIN


def inline(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own, for tools that know none; values at the top keep their names.

    What makes the spikes of a layer of neurons has the layer's name.

    Raises:
        CheckError: the checker refuses what comes out.
    """
    plain = inliner.inline_local_functions(model)
    kept = [o for o in plain.opset_import if o.domain != DOMAIN]
    layers = {node.output[0]: node.name for node in model.graph.node if node.domain == DOMAIN}
    for node in plain.graph.node:
        node.name = next((layers[output] for output in node.output if output in layers), node.name)
    del plain.opset_import[:]
    plain.opset_import.extend(kept)
    check_graph(plain)
    return plain
