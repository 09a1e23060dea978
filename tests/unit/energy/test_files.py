"""Files that are not what the command needs: one line that names the file, never a traceback of another library."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

from snnsc.energy import STATISTICS_KEY, count, estimate, load_inputs, read_graph
from snnsc.errors import DataError, ModelFileError

from .graphs import exported_net


def fails(error, function, *words):
    with pytest.raises(error) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    for word in words:
        assert word in message
    return caught.value


def test_missing_model(tmp_path):
    assert fails(ModelFileError, lambda: read_graph(tmp_path / "no.onnx"), "no.onnx", "no such file").exit_code == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        (b"hello, this is a text file about networks\n" * 9, []),
        (b"PK\x03\x04" + bytes(200), ["checkpoint", "snnsc export"]),
        (bytes(1000), []),
        (b"\x08\x09", ["no graph"]),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    fails(ModelFileError, lambda: estimate(path), "net.onnx", *words)


@pytest.mark.parametrize("suffix", ["tflite", "toml", "net"])
def test_the_formats_that_are_read_are_named(tmp_path, suffix):
    path = tmp_path / f"net.{suffix}"
    path.write_text('name = "a recipe, or anything"\n')
    fails(ModelFileError, lambda: estimate(path), path.name, ".onnx and .nir files are read")


def test_every_truncation_is_refused_or_harmless(model, tmp_path):
    """A protobuf cut at a field border parses; what is left must still be refused, or be a whole graph."""
    content = model.read_bytes()
    path = tmp_path / "cut.onnx"
    refused = 0
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        try:
            estimate(path)
        except ModelFileError:
            refused += 1
    assert refused > 0.9 * len(range(0, len(content), 97))


def test_damaged_weights_are_refused(rng, tmp_path):
    proto = exported_net(rng)
    proto.graph.initializer[-1].raw_data = b"123"
    fails(ModelFileError, lambda: estimate(_save(proto, tmp_path)))


def test_damaged_metadata_is_refused(rng, tmp_path):
    for key, value in [("snnsc.input", "{"), ("snnsc.input", '{"layout": "CHW"}')]:
        proto = exported_net(rng)
        next(p for p in proto.metadata_props if p.key == key).value = value
        fails(ModelFileError, lambda proto=proto: read_graph(_save(proto, tmp_path)), key)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "3", '{"format": "9"}', '{"format": "1", "samples": 2, "split": "", "layers": [1]}']
)
def test_damaged_statistics_are_refused(rng, tmp_path, text):
    proto = exported_net(rng)
    proto.metadata_props.add(key=STATISTICS_KEY, value=text)
    fails(ModelFileError, lambda: estimate(_save(proto, tmp_path)), "statistics", "--inputs")


def test_statistics_of_another_graph_are_refused(rng, tmp_path, images):
    proto = exported_net(rng)
    counts = count(read_graph(proto), [{"images": images}])
    next(n for n in proto.graph.node if n.name == "conv2").name = "renamed"
    proto.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
    fails(ModelFileError, lambda: estimate(_save(proto, tmp_path)), "another graph", "--inputs")


def test_pruned_weights_make_statistics_stale(rng, tmp_path, images):
    proto = exported_net(rng)
    counts = count(read_graph(proto), [{"images": images}])
    proto.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
    weight = next(t for t in proto.graph.initializer if t.name == "conv2.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "conv2.weight"))
    fails(ModelFileError, lambda: estimate(_save(proto, tmp_path)), "another graph", "--inputs")


def _save(proto, folder):
    path = folder / "changed.onnx"
    onnx.save(proto, path)
    return path


def inputs_fail(model, path, *words):
    error = fails(DataError, lambda: estimate(model, path), path.name, *words)
    assert error.exit_code == 3


def test_missing_inputs(model, tmp_path):
    inputs_fail(model, tmp_path / "no.npz", "no such file")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x93NUMPY\x01\x00", bytes(99)])
@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_unreadable_inputs(model, tmp_path, content, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    inputs_fail(model, path)


def test_truncated_inputs(model, tmp_path, images):
    np.savez_compressed(tmp_path / "x.npz", images=images)
    np.save(tmp_path / "x.npy", images)
    for name in ("x.npz", "x.npy"):
        content = (tmp_path / name).read_bytes()
        for length in range(0, len(content) - 1, max(1, len(content) // 23)):
            (tmp_path / name).write_bytes(content[:length])
            inputs_fail(model, tmp_path / name)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.ones((2, 2, 6, 6)), "b": np.ones(3)}, ["'images'", "float32 [N,2,6,6]", "'a'"]),
        ({}, ["'images'", "none"]),
        ({"images": np.ones((2, 3, 6, 6))}, ["[2, 3, 6, 6]", "[N,2,6,6]"]),
        ({"images": np.ones((2, 6, 6))}, ["[2, 6, 6]", "[N,2,6,6]"]),
        ({"images": np.ones((0, 2, 6, 6))}, ["no samples"]),
        ({"images": np.full((2, 2, 6, 6), np.nan)}, ["NaN"]),
        ({"images": np.full((2, 2, 6, 6), 1e300)}, ["infinity"]),
        ({"images": np.full((2, 2, 6, 6), "x")}, ["<U1"]),
        ({"images": np.ones((2, 2, 6, 6), complex)}, ["complex128"]),
        ({"images": np.full((2, 2, 6, 6), None)}, []),
    ],
)
def test_arrays_that_do_not_fit(model, tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    words = [w.replace("float32 ", "") for w in words]
    inputs_fail(model, tmp_path / "x.npz", *words)


def test_batches_given_in_memory_are_checked_too(rng, images):
    graph = read_graph(exported_net(rng))
    fails(DataError, lambda: count(graph, [{"frames": images}]), "images [N,2,6,6]")
    fails(DataError, lambda: count(graph, [{"images": images[0]}]), "[N,2,6,6]")
    fails(DataError, lambda: count(graph, []), "no samples")


def test_a_shape_that_only_the_runtime_refuses_is_a_data_error(rng):
    """Height and width left open by the graph, but the classifier fixes them."""
    proto = exported_net(rng, pool="AveragePool")
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].Clear()
    fails(DataError, lambda: count(read_graph(proto), [{"images": np.ones((1, 2, 9, 9), np.float32)}]), "inputs")
    fails(ModelFileError, lambda: estimate_open(proto), "sizes open", "--inputs")


def estimate_open(proto):
    from snnsc.energy import dense

    return dense(read_graph(proto))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.uint8, np.int64, bool])
def test_number_types_are_converted(rng, model, tmp_path, dtype):
    values = rng.integers(0, 2, (3, 2, 6, 6))
    np.save(tmp_path / "x.npy", values.astype(dtype))
    np.savez(tmp_path / "x.npz", anything=values.astype(np.float32))
    assert estimate(model, tmp_path / "x.npy").counts == estimate(model, tmp_path / "x.npz").counts


def test_batches_are_small_and_complete(rng, model):
    graph = read_graph(model)
    images = rng.standard_normal((1000, 2, 6, 6)).astype(np.float32)
    path = model.parent / "x.npy"
    np.save(path, images)
    batches = [batch["images"] for batch in load_inputs(path, graph)]
    assert max(len(b) for b in batches) <= 2**15 // 72
    np.testing.assert_array_equal(np.concatenate(batches), images)


def test_messages_hold_no_local_surprises(model):
    assert not re.search(r"Traceback|0x[0-9a-f]{6}", str(fails(ModelFileError, lambda: read_graph(model.parent / "q"))))
