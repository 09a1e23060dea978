"""Clip and Round before the first layer, as networks on an exact grid have them."""

import json

import numpy as np
import onnx
import pytest

from snnsc.energy import count, estimate, read_graph

GRAPH = """
<ir_version: 9, opset_import: ["": 18]>
net (float[N,2,4,4] frames) => (float[N,3,4,4] y)
<float low = {%s}, float high = {%s}, float[3,2,1,1] w = {1, 2, 0, 1, 1, 1}> {
    clipped = Clip(frames, low, high)
    rounded = Round(clipped)
    y = Conv(rounded, w)
}
"""


@pytest.mark.parametrize(
    ("declared", "low", "high", "kind"),
    [
        ("integer", 0, 4, "integer"),
        ("integer", 0, 2.5, "real"),
        ("binary", 0, 1, "binary"),
        ("binary", 0, 4, "real"),
        ("real", 0, 4, "real"),
    ],
)
def test_kinds_pass_where_the_bounds_are_of_the_kind(declared, low, high, kind):
    model = onnx.parser.parse_model(GRAPH % (low, high))
    facts = {"layout": "BCHW", "kind": declared}
    model.metadata_props.add(key="snnsc.input", value=json.dumps(facts))
    frames = np.random.default_rng(0).integers(0, 2, (5, 2, 4, 4)).astype(np.float32)
    found = count(read_graph(model), [{"frames": frames}])
    (layer,) = [row for row in found.layers if row.op == "Conv"]
    assert layer.input_kind == kind
    assert not found.not_counted
    assert not found.violations
    fanout = np.array([2, 3])[:, None, None]
    assert layer.stats["events"].total == int((frames * fanout).sum())


def test_labels_beside_the_samples_are_left_alone(tmp_path):
    onnx.save(onnx.parser.parse_model(GRAPH % (0, 4)), tmp_path / "m.onnx")
    frames = np.ones((3, 2, 4, 4), np.float32)
    np.savez(tmp_path / "x.npz", samples=frames, labels=np.arange(3))
    assert estimate(tmp_path / "m.onnx", tmp_path / "x.npz").counts.samples == 3
