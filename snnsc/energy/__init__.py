"""What a network costs: exact operation counts from an ONNX file, then prices for them. Never imports torch.

    graph/     file -> straight nodes, whoever wrote them: loops followed, neurons recognised
    plan/      nodes at one input size -> rows to count: layout, kinds, fan-out
    counting/  rows and samples -> exact counts, inside onnxruntime; statistics that a model carries
    pricing/   counts -> energy under each of targets/*.toml, and what fits on a chip
    report/    counts and prices -> plain values, words, CSV, one HTML page, several models side by side

An exporter embeds what it measured, and `estimate(model)` then answers without samples:

    counts = count(read_graph(proto), batches, split="test")
    proto.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
"""

from snnsc.energy.counting.counting import count, dense
from snnsc.energy.counting.counts import Counts, LayerCount, Stat
from snnsc.energy.counting.inputs import load_inputs
from snnsc.energy.graph.graph import STATISTICS_KEY, Graph, read_graph
from snnsc.energy.pricing.pricing import Price, load_targets, price
from snnsc.energy.report.report import Report, estimate

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
