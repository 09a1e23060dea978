"""What a network costs: exact operation counts from an ONNX file, then prices for them. Never imports torch.

    read_graph (graph, constants) -> probe (counting) -> plan (layout, kinds, geometry, layers)
        -> count (instrument, counting) -> Counts -> price (pricing, targets/*.toml) -> Report
    load_inputs (inputs, archive, paths); statistics in a model (embedded)

An exporter embeds what it measured, and `estimate(model)` then answers without samples:

    counts = count(read_graph(proto), batches, split="test")
    proto.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
"""

from snnsc.energy.counting import count, dense
from snnsc.energy.counts import Counts, LayerCount, Stat
from snnsc.energy.graph import STATISTICS_KEY, Graph, read_graph
from snnsc.energy.inputs import load_inputs
from snnsc.energy.pricing import Price, load_targets, price
from snnsc.energy.report import Report, estimate

__all__ = [
    "STATISTICS_KEY",
    "Counts",
    "Graph",
    "LayerCount",
    "Price",
    "Report",
    "Stat",
    "count",
    "dense",
    "estimate",
    "load_inputs",
    "load_targets",
    "price",
    "read_graph",
]
