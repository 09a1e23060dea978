"""Models that take the bytes of an image file, by operators of onnxruntime-extensions."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from snnsc.energy import estimate
from snnsc.errors import DataError, ModelFileError
from snnsc.sessions import EXTENSIONS

DATA = Path(os.environ.get("SNNSC_DATA", "data"))
PUBLISHED = DATA / "models/onnx_ort_examples/pytorch_superresolution_with_pre_post_processing_op18.onnx"


@pytest.fixture
def small(tmp_path):
    """An image, decoded to [H, W, 3], and four sums of the colours of each pixel."""
    values = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["num_bytes"])]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["h", "w", 4])
    nodes = [
        helper.make_node("DecodeImage", ["image"], ["pixels"], domain=EXTENSIONS),
        helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["numbers", "w"], ["y"], name="mix"),
    ]
    weight = numpy_helper.from_array(np.ones((3, 4), np.float32), "w")
    graph = helper.make_graph(nodes, "g", values, [result], [weight])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(EXTENSIONS, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


def picture(path: Path, height: int, width: int) -> np.ndarray:
    """A PNG, which loses nothing; a third of its values is 0."""
    rng = np.random.default_rng(height)
    pixels = (rng.integers(0, 3, (height, width, 3)) * 100).astype(np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return pixels


def test_a_file_is_one_sample(small, tmp_path):
    pytest.importorskip("onnxruntime_extensions", reason="pip install 'snnsc[ortx]'")
    pixels = picture(tmp_path / "a.png", 5, 7)
    counts = estimate(small, tmp_path / "a.png").counts
    (row,) = [layer for layer in counts.layers if layer.name == "mix"]
    assert counts.samples == 1
    assert row.stats["dense_macs"].total == 5 * 7 * 3 * 4
    assert row.stats["events"].total == np.count_nonzero(pixels) * 4
    content = np.fromfile(tmp_path / "a.png", np.uint8)
    np.savez(tmp_path / "a.npz", image=content)
    np.save(tmp_path / "a.npy", content)
    for name in ("a.npz", "a.npy"):
        assert estimate(small, tmp_path / name).counts.layers == counts.layers


def test_what_is_no_image_is_refused(small, tmp_path):
    pytest.importorskip("onnxruntime_extensions", reason="pip install 'snnsc[ortx]'")
    picture(tmp_path / "a.png", 64, 64)
    Image.open(tmp_path / "a.png").save(tmp_path / "a.jpg")
    for content in (
        *(b"no image at all", b"\xff\xd8\xff\xe0abc", bytes(4096)),
        *((tmp_path / name).read_bytes()[:-200] for name in ("a.png", "a.jpg")),
    ):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(DataError, match="input 'image' is no JPEG or PNG image, or is damaged: "):
            estimate(small, tmp_path / "x")
    with pytest.raises(DataError, match="no such file"):
        estimate(small, tmp_path / "y.png")
    (tmp_path / "e.png").write_bytes(b"")
    with pytest.raises(DataError, match="no samples"):
        estimate(small, tmp_path / "e.png")
    with pytest.raises(ModelFileError, match=r"input 'image' \[\?\] leaves sizes open; give --inputs"):
        estimate(small)


def test_without_the_package_it_is_named(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    picture(tmp_path / "a.png", 5, 7)
    with pytest.raises(ModelFileError, match=r"which is not installed; pip install 'snnsc\[ortx\]'") as raised:
        estimate(small, tmp_path / "a.png")
    assert str(raised.value).startswith(f"{small}: ")


def test_an_operator_that_onnxruntime_lacks_is_named(small):
    model = onnx.load(small)
    model.graph.node[0].domain = model.opset_import[1].domain = "org.example"
    onnx.save(model, small)
    with pytest.raises(ModelFileError, match=r"operator org\.example::DecodeImage is none that onnxruntime has"):
        estimate(small)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published model is not there")
def test_a_published_model_that_decodes_its_image(tmp_path):
    """Four convolutions at 224 x 224, whatever the size of the picture."""
    pytest.importorskip("onnxruntime_extensions", reason="pip install 'snnsc[ortx]'")
    picture(tmp_path / "a.png", 300, 260)
    counts = estimate(PUBLISHED, tmp_path / "a.png").counts
    dense = [layer.stats["dense_macs"].total for layer in counts.layers if layer.op == "Conv"]
    assert dense == [n * 224 * 224 for n in (64 * 1 * 25, 64 * 64 * 9, 32 * 64 * 9, 9 * 32 * 9)]
