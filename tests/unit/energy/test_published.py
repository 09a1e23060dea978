"""Dense multiply-accumulates of well-known networks against published figures for the same variant.

torchvision     the table of weights of torchvision.models ("GIGAFLOPS", which counts multiply-accumulates), without
                normalisation layers; https://docs.pytorch.org/vision/stable/models.html
Sze et al.      V. Sze et al., Efficient Processing of Deep Neural Networks, Proc. IEEE 105 (2017), table II
"""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest

from snnsc.energy import dense, read_graph

MODELS = Path(os.environ.get("SNNSC_DATA", "")) / "models"
pytestmark = pytest.mark.skipif(
    "SNNSC_DATA" not in os.environ or not (MODELS / "onnx_light").exists(), reason="SNNSC_DATA has no models"
)
LAYERS = ("Conv", "Gemm", "MatMul")
SLOW = pytest.mark.slow
PUBLISHED = [
    pytest.param("light_resnet50.onnx", 4.089e9, id="ResNet50 (torchvision)"),
    pytest.param("light_vgg19.onnx", 19.632e9, id="VGG19 (torchvision)", marks=SLOW),
    pytest.param("light_densenet121.onnx", 2.834e9, id="DenseNet121 (torchvision)", marks=SLOW),
    pytest.param("light_squeezenet.onnx", 0.349e9, id="SqueezeNet 1.1 (torchvision)"),
    pytest.param("light_inception_v1.onnx", 1.43e9, id="GoogLeNet (Sze et al.)"),
]


def macs(graph) -> int:
    return sum(row.stats["dense_macs"].total for row in dense(graph).layers if row.op in LAYERS)


@pytest.mark.parametrize(("name", "published"), PUBLISHED)
def test_multiply_accumulates(name, published):
    assert macs(read_graph(MODELS / "onnx_light" / name)) == pytest.approx(published, rel=0.01)


def test_grouped_alexnet():
    """724 M (Sze et al.) is of images of 227 x 227; the file declares 224 x 224, which gives it 54 rows, not 55."""
    model = onnx.load(MODELS / "onnx_light" / "light_bvlc_alexnet.onnx")
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 227
    graph = read_graph(model)
    assert [node.integer("group", 1) for node in graph.nodes if node.op == "Conv"] == [1, 2, 1, 2, 2]
    assert macs(graph) == pytest.approx(724e6, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["light_inception_v2", "light_shufflenet", "light_zfnet512", "light_bvlc_alexnet"])
def test_every_light_network_is_read(name):
    counts = dense(read_graph(MODELS / "onnx_light" / f"{name}.onnx"))
    assert {entry["op"] for entry in counts.not_counted} <= {"LRN", "Softmax"}
    assert all(entry["share"] < 0.01 for entry in counts.not_counted)


@pytest.mark.parametrize(
    ("name", "missing"), [("mnist.onnx", set()), ("Ultraface.version-RFB-320.onnx", {"Softmax", "Exp"})]
)
def test_the_examples_of_onnxruntime_are_read(name, missing):
    counts = dense(read_graph(MODELS / "onnx_ort_examples" / name))
    assert {entry["op"] for entry in counts.not_counted} == missing
    assert all(entry["share"] < 0.001 for entry in counts.not_counted)
