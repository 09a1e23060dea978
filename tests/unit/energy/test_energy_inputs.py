"""`--inputs`: which array is which input, what is converted, what is refused, and how much memory it takes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from snnsc.energy import count, estimate, load_inputs, read_graph
from snnsc.energy.counting.archive import array_names, read_arrays
from snnsc.energy.counting.inputs import Samples, load_told

from .graphs import Builder, exported_net
from .test_files import inputs_fail


def one_input(folder, elem_type, width=6):
    b = Builder()
    source = "x"
    if elem_type != TensorProto.FLOAT:
        source = b.add("Cast", ["x"], "float", to=TensorProto.FLOAT)
    b.add("MatMul", [source, b.const("w", np.ones((width, 2), np.float32))], "y")
    onnx.save(b.model([("x", elem_type, ["N", width])], [("y", [None, 2])]), folder / "one.onnx")
    return folder / "one.onnx"


@pytest.fixture
def two(tmp_path):
    """A graph with two inputs, of 3 and of 4 features."""
    b = Builder()
    b.add("MatMul", ["left", b.const("w", np.ones((3, 2), np.float32))], "a")
    b.add("MatMul", ["right", b.const("v", np.ones((4, 2), np.float32))], "b")
    b.add("Add", ["a", "b"], "y")
    inputs = [("left", TensorProto.FLOAT, ["N", 3]), ("right", TensorProto.FLOAT, ["N", 4])]
    onnx.save(b.model(inputs, [("y", ["N", 2])]), tmp_path / "two.onnx")
    return tmp_path / "two.onnx"


def test_arrays_go_to_inputs_by_name(two, tmp_path):
    np.savez(tmp_path / "x.npz", right=np.ones((5, 4)), left=np.zeros((5, 3)), labels=np.arange(5))
    counts = estimate(two, tmp_path / "x.npz").counts
    assert counts.samples == 5
    assert {x.name: x.stats["events"].total for x in counts.layers if x.op == "MatMul"} == {"a": 0, "b": 5 * 4 * 2}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"left": np.ones((5, 3))}, ["'right' [N,4] is missing", "has 'left'"]),
        ({"a": np.ones((5, 3)), "labels": np.ones(5)}, ["'left' [N,3], 'right' [N,4]", "has 'a', 'labels'"]),
        (
            {"left": np.ones((5, 3)), "right": np.ones((5, 4)), "rihgt": np.ones((5, 4)), "ids": np.arange(5)},
            ["'ids', 'rihgt' is no input", "takes 'left', 'right'", "leave"],
        ),
        ({"left": np.ones((5, 3)), "right": np.ones((4, 4))}, ["different numbers of samples", "'left': 5"]),
        ({"left": np.ones((5, 4)), "right": np.ones((5, 3))}, ["'left' has shape [5, 4]", "[N,3]"]),
    ],
)
def test_arrays_that_are_missing_extra_or_of_another_shape_are_named(two, tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    inputs_fail(two, tmp_path / "x.npz", *words)


def test_npy_is_one_input_only(two, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((5, 3)))
    inputs_fail(two, tmp_path / "x.npy", "'left' [N,3], 'right' [N,4] is missing")


def test_a_single_array_may_have_any_name_beside_options_and_labels(model, tmp_path, images):
    np.savez(tmp_path / "x.npz", samples=images, labels=np.arange(4), T=5)
    np.savez(tmp_path / "y.npz", images=images, T=5)
    assert estimate(model, tmp_path / "x.npz").counts == estimate(model, tmp_path / "y.npz").counts


def test_a_second_array_beside_the_input_is_named(model, tmp_path, images):
    np.savez(tmp_path / "x.npz", images=images, t=5, names=np.array(["a", None], object))
    inputs_fail(model, tmp_path / "x.npz", "'names', 't' is no input", "may take 'T'", "takes 'images'")


def test_samples_stand_on_the_axis_that_the_graph_declares(rng, tmp_path):
    onnx.save(exported_net(rng, event=True), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", np.ones((3, 7, 2, 6, 6), np.uint8))
    assert estimate(tmp_path / "net.onnx", tmp_path / "x.npy").counts.samples == 7
    np.save(tmp_path / "x.npy", np.ones((7, 3, 6, 6, 2), np.uint8))
    inputs_fail(tmp_path / "net.onnx", tmp_path / "x.npy", "[7, 3, 6, 6, 2]", "[T,N,2,6,6]")


# ------------------------------------------------------------------------------------------------------------ types

TINY, LARGE = 1e-60, 1e60


@pytest.mark.parametrize(
    ("declared", "values", "words"),
    [
        (TensorProto.FLOAT, np.full((2, 6), 2**24 + 1), ["float32 cannot hold", "16777216"]),
        (TensorProto.FLOAT, np.full((2, 6), -(2**40)), ["float32 cannot hold"]),
        (TensorProto.FLOAT, np.full((2, 6), np.iinfo(np.int64).min), ["float32 cannot hold"]),
        (TensorProto.FLOAT16, np.full((2, 6), 2049), ["float16 cannot hold", "2048"]),
        (TensorProto.FLOAT, np.full((2, 6), TINY), ["takes them for 0"]),
        (TensorProto.FLOAT, np.full((2, 6), LARGE), ["infinity in float32"]),
        (TensorProto.FLOAT, np.full((2, 6), np.nan), ["NaN or infinity"]),
        (TensorProto.FLOAT, np.full((2, 6), -np.inf, np.float32), ["NaN or infinity"]),
        (TensorProto.INT64, np.full((2, 6), 0.5), ["float64", "expected int64"]),
        (TensorProto.INT8, np.full((2, 6), 128), ["int8 cannot hold", "-128 to 127"]),
        (TensorProto.UINT8, np.full((2, 6), -1), ["uint8 cannot hold"]),
        (TensorProto.BOOL, np.full((2, 6), 1), ["int64", "expected bool"]),
    ],
)
def test_casts_that_lose_values_are_refused(tmp_path, declared, values, words):
    model = one_input(tmp_path, declared)
    np.savez(tmp_path / "x.npz", values)
    inputs_fail(model, tmp_path / "x.npz", "'x'", *words)


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        (TensorProto.FLOAT, np.full((2, 6), 2**24)),
        (TensorProto.FLOAT, np.full((2, 6), 0.1)),
        (TensorProto.FLOAT, np.ones((2, 6), bool)),
        (TensorProto.FLOAT, np.ones((2, 6), ">f2")),
        (TensorProto.DOUBLE, np.full((2, 6), 0.1)),
        (TensorProto.INT8, np.full((2, 6), -128)),
        (TensorProto.INT64, np.ones((2, 6), np.uint8)),
        (TensorProto.BOOL, np.ones((2, 6), bool)),
    ],
)
def test_casts_that_keep_values_are_done(tmp_path, declared, values):
    model = one_input(tmp_path, declared)
    np.savez(tmp_path / "x.npz", values)
    (layer,) = (x for x in estimate(model, tmp_path / "x.npz").counts.layers if x.op == "MatMul")
    assert layer.stats["events"].total == 2 * 6 * 2


# ----------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_an_archive_are_what_was_saved(rng, tmp_path, save, order):
    arrays = {
        "a": np.asarray(rng.standard_normal((3, 4, 5)), order=order),
        "b": rng.integers(0, 9, 7),
        "c": np.ones(()),
    }
    save(tmp_path / "x.npz", **arrays)
    assert array_names(tmp_path / "x.npz") == ["a", "b", "c"]
    found = read_arrays(tmp_path / "x.npz", {"a", "c"})
    assert found["b"] is None
    for name in ("a", "c"):
        np.testing.assert_array_equal(found[name], arrays[name])
        assert isinstance(found[name], np.memmap) is (save is np.savez)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_memory_does_not_grow_with_the_samples(tmp_path, suffix):
    model = read_graph(one_input(tmp_path, TensorProto.FLOAT, width=4096))
    samples = np.ones((2000, 4096), np.float32)
    np.save(tmp_path / "x.npy", samples) if suffix == "npy" else np.savez(tmp_path / "x.npz", samples)
    tracemalloc.start()
    counts = count(model, load_inputs(tmp_path / f"x.{suffix}", model))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counts.samples == 2000
    assert peak < samples.nbytes / 4


def test_a_flipped_bit_of_a_mapped_array_is_found(model, tmp_path, images):
    np.savez(tmp_path / "x.npz", images=images)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[content.index(images.tobytes()) + 5] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    inputs_fail(model, tmp_path / "x.npz", "'images' cannot be read", "CRC")


@pytest.mark.parametrize(("elements", "largest"), [(4, 4096), (784, 41), (150_000, 13), (4_000_000, 1)])
def test_parts_hold_many_samples_where_these_are_small(elements, largest):
    x = np.broadcast_to(np.float32(0), (5000, elements))
    b = Builder()
    b.add("Identity", ["x"], "y")
    model = b.model([("x", TensorProto.FLOAT, ["batch", elements])], [("y", [None, None])])
    _, batches = load_told(Samples("x", lambda _: [{"x": x[: 2 * largest]}]), read_graph(model))
    assert next(batches)["x"].shape == (largest, elements)
