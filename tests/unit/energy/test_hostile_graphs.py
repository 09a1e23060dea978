"""Graphs made to mislead or to break: damaged bytes, cycles, shapes that lie, values and functions that explode.

Each is one `ModelFileError` (or `DataError` where the samples are at fault) of one line, within 2 seconds and 1 GB.
"""

from __future__ import annotations

import multiprocessing
import resource
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from snnsc.energy import count, dense, read_graph
from snnsc.errors import DataError, ModelFileError, SnnscError

from .graphs import exported_net
from .test_flatten import loop_net, scan_net
from .test_neurons import plain
from .test_operators import model_of, quantized

node = helper.make_node
X = {"x": [2, 3]}


def save(model: onnx.ModelProto, folder, name: str = "net.onnx"):
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def fails(make, *words: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ModelFileError) as error:
        make()
    assert time.perf_counter() - start < 2
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 1500
    for word in words:
        assert word in message


# ------------------------------------------------------------------------------------------------------ damaged bytes


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(changed)))
        match rng.integers(0, 4):
            case 0:
                changed[at] = int(rng.integers(0, 256))
            case 1:
                changed[at] ^= 1 << int(rng.integers(0, 8))
            case 2:
                del changed[at : at + int(rng.integers(1, 9))]
            case _:
                changed[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 5))).astype(np.uint8))
    return bytes(changed)


NETS = {
    "own": exported_net,
    "scan": scan_net,
    "loop": lambda rng: loop_net(rng, trips=3),
    "quantized": lambda rng: quantized(rng, "QLinear")[0],
    "neurons": lambda rng: plain(rng, "hard"),
}


@pytest.mark.parametrize("net", NETS)
def test_damaged_files(rng, tmp_path, net):
    whole = NETS[net](rng).SerializeToString()
    path = tmp_path / "net.onnx"
    outcomes = set()
    for _ in range(120):
        path.write_bytes(damage(whole, rng))
        start = time.perf_counter()
        try:
            graph = read_graph(path)
            sizes = {i.name: [d or 3 for d in i.dims] for i in graph.inputs}
            if max(map(np.prod, sizes.values()), default=0) < 10**6:
                count(graph, [{i.name: np.ones(sizes[i.name], i.dtype) for i in graph.inputs}])
            outcomes.add("counted")
        except SnnscError as error:
            assert "\n" not in str(error)  # noqa: PT017
            outcomes.add(type(error).__name__)
        assert time.perf_counter() - start < 2
    assert "ModelFileError" in outcomes


@pytest.mark.parametrize("size", [1, 17, 0.1, 0.5, 0.99])
def test_cut_short(rng, tmp_path, size):
    whole = exported_net(rng).SerializeToString()
    path = tmp_path / "net.onnx"
    path.write_bytes(whole[: int(size * len(whole)) if size < 1 else int(size)])
    fails(lambda: dense(read_graph(path)), "net.onnx")


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 64, b"\x89PNG\r\n", b"PK\x03\x04", b"\x0a\xff\xff\xff\xff\x07", b"GIF89a" * 99]
)
def test_not_onnx(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    fails(lambda: read_graph(tmp_path / "net.onnx"), "net.onnx")


def test_a_message_nested_without_end(tmp_path):
    """A graph in an attribute of a node of a graph ..., 2000 deep, written by hand as protobuf itself refuses to."""

    def field(number: int, content: bytes) -> bytes:
        length, size = len(content), b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + content

    graph = field(2, b"g")
    for _ in range(2000):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    (tmp_path / "net.onnx").write_bytes(field(7, graph))
    fails(lambda: read_graph(tmp_path / "net.onnx"), "net.onnx")


# ------------------------------------------------------------------------------------------------- graphs that lie


def lying(form: str) -> onnx.ModelProto:
    w = np.ones((3, 4), np.float32)
    match form:
        case "cycle":
            return model_of([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])], X, {}, ("b", 2))
        case "self":
            return model_of([node("Add", ["x", "y"], ["y"])], X, {}, ("y", 2))
        case "twice":
            return model_of([node("Relu", ["x"], ["y"]), node("Relu", ["x"], ["y"])], X, {}, ("y", 2))
        case "no input":
            return model_of([node("Add", ["x", "z"], ["y"])], X, {}, ("y", 2))
        case "no output":
            return model_of([node("Relu", ["x"], ["a"])], X, {}, ("y", 2))
        case "weight too small":
            return model_of([node("MatMul", ["x", "w"], ["y"])], X, {"w": w[:2]}, ("y", 2))
        case "reshape":
            return model_of([node("Reshape", ["x", "s"], ["y"])], X, {"s": np.array([7, 7])}, ("y", 2))
        case "operator":
            return model_of([node("Nonsense", ["x"], ["y"])], X, {}, ("y", 2))
        case "domain":
            return model_of([node("Relu", ["x"], ["y"], domain="evil")], X, {}, ("y", 2))
        case "less data than its shape":
            model = model_of([node("MatMul", ["x", "w"], ["y"])], X, {"w": w}, ("y", 2))
            model.graph.initializer[0].dims[1] = 400
            return model
        case "2 GB claimed":
            model = model_of([node("MatMul", ["x", "w"], ["y"])], X, {"w": w}, ("y", 2))
            model.graph.initializer[0].dims[1] = 2**29
            return model
        case "negative size":
            model = model_of([node("MatMul", ["x", "w"], ["y"])], X, {"w": w}, ("y", 2))
            model.graph.initializer[0].dims[1] = -4
            return model
        case "sparse outside":
            values, at = (
                numpy_helper.from_array(np.ones(1, np.float32), "w"),
                numpy_helper.from_array(np.array([99]), "i"),
            )
            model = model_of([node("MatMul", ["x", "w"], ["y"])], X, {}, ("y", 2))
            model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [3, 4]))
            return model
        case "sparse and huge":
            values, at = (
                numpy_helper.from_array(np.ones(1, np.float32), "w"),
                numpy_helper.from_array(np.array([9]), "i"),
            )
            model = model_of([node("MatMul", ["x", "w"], ["y"])], X, {}, ("y", 2))
            model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [3, 2**40]))
            return model
        case _:
            raise AssertionError(form)


LIES = ["cycle", "self", "twice", "no input", "no output", "weight too small", "reshape", "operator", "domain"]
LIES += ["less data than its shape", "2 GB claimed", "negative size", "sparse outside", "sparse and huge"]


@pytest.mark.parametrize("form", LIES)
def test_graphs_that_lie(tmp_path, form):
    path = save(lying(form), tmp_path)
    fails(lambda: dense(read_graph(path)), "net.onnx")


def test_shapes_that_only_samples_contradict(tmp_path):
    model = model_of(
        [node("MatMul", ["x", "w"], ["y"])], {"x": ["N", "K"]}, {"w": np.ones((3, 4), np.float32)}, ("y", 2)
    )
    graph = read_graph(save(model, tmp_path))
    with pytest.raises(DataError, match=r"net\.onnx: the model does not run on these inputs"):
        count(graph, [{"x": np.ones((2, 5), np.float32)}])


@pytest.mark.parametrize("location", ["gone.bin", "../secret.bin", "/etc/passwd", "a/../../secret.bin", ""])
def test_weights_in_other_files(tmp_path, location):
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    folder = tmp_path / "model"
    folder.mkdir()
    model = model_of([node("MatMul", ["x", "w"], ["y"])], X, {"w": np.ones((3, 4), np.float32)}, ("y", 2))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    fails(lambda: dense(read_graph(save(model, folder))), "net.onnx")


def test_weights_in_a_file_beside_it(tmp_path):
    weight = np.array([[1, 0, 2, 0]] * 3, np.float32)
    model = model_of([node("MatMul", ["x", "w"], ["y"], "layer")], X, {"w": weight}, ("y", 2))
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    (layer,) = count(read_graph(tmp_path / "net.onnx"), [{"x": np.ones((2, 3), np.float32)}]).layers
    assert (layer.stats["events"].total, layer.weights) == (2 * 6, 6)


# ---------------------------------------------------------------------------------------------- graphs that explode

BOMBS = {
    "constant": ([node("ConstantOfShape", ["n"], ["y"])], {"n": np.array([2**20, 2**20])}),
    "constant of data": (
        [node("Shape", ["x"], ["s"]), node("ConstantOfShape", ["n"], ["c"]), node("Add", ["x", "c"], ["y"])],
        {"n": np.array([2**15, 2, 2**15, 3])},
    ),
    "expand": ([node("Expand", ["x", "n"], ["y"])], {"n": np.array([2**31, 2, 3])}),
    "tile": ([node("Tile", ["x", "n"], ["y"])], {"n": np.array([2**20, 2**20])}),
    "range": (
        [node("Range", ["a", "b", "c"], ["r"]), node("Cast", ["r"], ["y"], to=1)],
        {"a": np.int64(0), "b": np.int64(2**40), "c": np.int64(1)},
    ),
    "pad": ([node("Pad", ["x", "n"], ["y"])], {"n": np.array([0, 0, 2**20, 2**20])}),
    "broadcast": (
        [
            node("Reshape", ["x", "a"], ["p"]),
            node("Expand", ["p", "n"], ["q"]),
            node("Transpose", ["q"], ["t"]),
            node("Add", ["q", "t"], ["y"]),
        ],
        {"a": np.array([6, 1]), "n": np.array([6, 2**27])},
    ),
    "one hot": (
        [node("Cast", ["x"], ["i"], to=7), node("OneHot", ["i", "n", "v"], ["y"])],
        {"n": np.int64(2**40), "v": np.zeros(2, np.float32)},
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_values_that_do_not_fit_in_memory(tmp_path, name):
    nodes, constants = BOMBS[name]
    path = save(model_of(nodes, X, constants, ("y", 3 if name == "one hot" else 2)), tmp_path)
    fails(lambda: dense(read_graph(path)), "net.onnx", "elements")


def functions(calls: int, depth: int, *, domain: str) -> onnx.ModelProto:
    """f0 calls f1 `calls` times, f1 calls f2 `calls` times ..."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)]
    made = []
    for i in range(depth):
        inner = node(f"f{i + 1}", ["a0"], ["a1"], domain=domain) if i + 1 < depth else node("Relu", ["a0"], ["a1"])
        chain = []
        for k in range(calls):
            step = onnx.NodeProto()
            step.CopyFrom(inner)
            step.input[0], step.output[0] = f"a{k}", f"a{k + 1}"
            chain.append(step)
        made.append(helper.make_function(domain, f"f{i}", ["a0"], [f"a{calls}"], chain, opsets))
    model = model_of([node("f0", ["x"], ["y"], domain=domain)], X, {}, ("y", 2), opsets=opsets)
    model.functions.extend(made)
    return model


@pytest.mark.parametrize("domain", ["others", "snnsc"])
def test_functions_that_explode(tmp_path, domain):
    fails(lambda: dense(read_graph(save(functions(10, 12, domain=domain), tmp_path))), "nodes, more than")
    fails(lambda: dense(read_graph(save(functions(1, 5000, domain=domain), tmp_path))), "deep")
    model = functions(2, 2, domain=domain)
    model.functions[1].node[0].CopyFrom(node("f0", ["a0"], ["a1"], domain=domain))
    fails(lambda: dense(read_graph(save(model, tmp_path))), "calls itself")


def test_a_neuron_function_that_never_ends(rng, tmp_path):
    body = helper.make_graph(
        [node("Identity", ["go"], ["again"]), node("Identity", ["v"], ["w"])],
        "b",
        [helper.make_tensor_value_info(n, t, []) for n, t in (("i", 7), ("go", 9), ("v", 1))],
        [helper.make_tensor_value_info(n, t, []) for n, t in (("again", 9), ("w", 1))],
    )
    model = exported_net(rng)
    function = model.functions[0]
    function.node.insert(0, node("Constant", [], ["begin"], value_float=0.0))
    function.node.insert(1, node("Loop", ["", "", "begin"], ["spin"], body=body))
    fails(lambda: dense(read_graph(save(model, tmp_path))), "Loop")


def _measured(path, results) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30 if most < 0 else min(8 * 2**30, most), most))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        dense(read_graph(path))
        outcome = "counted"
    except SnnscError as error:
        outcome = type(error).__name__
    results.put((outcome, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def test_memory_of_all_of_them_together(tmp_path):
    paths = [save(lying(form), tmp_path, f"{i}.onnx") for i, form in enumerate(LIES)]
    paths += [
        save(model_of(nodes, X, constants, ("y", 2)), tmp_path, f"{name}.onnx")
        for name, (nodes, constants) in BOMBS.items()
    ]
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    for path in paths:
        process = context.Process(target=_measured, args=(path, results))
        process.start()
        process.join(20)
        assert process.exitcode == 0, path
        outcome, kilobytes = results.get()
        assert outcome == "ModelFileError"
        assert kilobytes < 10**6
