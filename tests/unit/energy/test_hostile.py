"""Files made to mislead or to break: statistics that cannot be true, archives that explode, paths that block."""

from __future__ import annotations

import json
import os
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from snnsc.energy import STATISTICS_KEY, Counts, count, estimate, load_inputs, read_graph
from snnsc.errors import DataError, ModelFileError

from .graphs import exported_net
from .test_files import fails


@pytest.fixture
def proto(rng, images):
    """A model that carries statistics of four samples."""
    proto = exported_net(rng)
    counts = count(read_graph(proto), [{"images": images}], split="test")
    proto.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
    return proto


@pytest.fixture
def model(proto, tmp_path):
    return save(proto, tmp_path)


def save(proto, folder, name="net.onnx"):
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def entry(proto, key):
    return next(p for p in proto.metadata_props if p.key == key)


def layer(body, name):
    return next(row for row in body["layers"] if row["name"] == name)


# ------------------------------------------------------------------------------------------- embedded statistics


def set_stat(name, key, value):
    def change(body):
        layer(body, name)["stats"][key] = value

    return change


def set_key(name, key, value):
    def change(body):
        layer(body, name)[key] = value

    return change


def set_body(key, value):
    return lambda body: body.__setitem__(key, value)


def scale(name, key, factor):
    def change(body):
        stats = layer(body, name)["stats"]
        stats[key] = [n * factor for n in stats[key]]

    return change


def drop(name, key):
    return lambda body: layer(body, name)["stats"].pop(key)


def change(name, part, key, edit):
    """Edit the list of one quantity."""

    def changed(body):
        table = (body["network"] if name is None else layer(body, name))[part]
        table[key] = edit(table[key])

    return changed


def move_in_histogram(bins):
    """As many samples, in the bins beside."""
    return bins[1:] + bins[:1]


HUGE = 10**400
LIES = {
    "nan": set_stat("conv2", "events", [float("nan")] * 4),
    "infinity": set_stat("conv2", "events", [float("inf")] * 4),
    "negative": set_stat("conv2", "events", [-1, -1, -1]),
    "huge": set_stat("conv2", "events", [HUGE, 0, HUGE]),
    "two numbers": set_stat("conv2", "events", [1, 1]),
    "boolean": set_stat("conv2", "events", [True, True, True]),
    "text": set_stat("conv2", "events", "many"),
    "more than possible": set_stat("conv1", "events", [4 * 10**9, 10**9, 10**9]),
    "high below low": set_stat("lif1", "spikes", [10, 5, 1]),
    "total above the sum": set_stat("lif1", "spikes", [400, 1, 2]),
    "half a spike": set_stat("lif1", "spikes", [2.5, 0, 1]),
    "more spikes than updates": set_stat("lif1", "spikes", [4 * 10**6, 10**6, 10**6]),
    "acs above events": scale("head", "acs", 10**4),
    "acs of real": set_stat("conv1", "acs", [4, 1, 1]),
    "acs of binary": set_stat("conv2", "acs", [0, 0, 0]),
    "small magnitude": set_stat("head", "event_magnitude", [0, 0, 0]),
    "every step": scale("conv1", "events_every_step", 2),
    "pool events": set_stat("pool", "pool_events", [4 * 10**6, 10**6, 10**6]),
    "dense": scale("conv2", "dense_macs", 2),
    "updates": scale("lif1", "neuron_updates", 2),
    "steps": scale("lif1", "time_steps", 2),
    "no events": drop("conv2", "events"),
    "no updates": drop("lif1", "neuron_updates"),
    "no stats": set_key("conv2", "stats", {}),
    "stats a list": set_key("conv2", "stats", []),
    "a key too many": set_stat("lif1", "events", [1, 0, 1]),
    "weights": set_key("conv2", "weights", 1),
    "weights infinite": set_key("conv2", "weights", float("inf")),
    "kind": set_key("conv1", "input_kind", "binary"),
    "unit": set_key("conv2", "unit", 0.5),
    "unit text": set_key("conv2", "unit", "1"),
    "name": set_key("conv2", "name", ["conv2"]),
    "op": set_key("conv2", "op", None),
    "renamed": set_key("conv2", "name", "conv\x1b[2J\n9"),
    "layer gone": lambda body: body["layers"].pop(0),
    "layer twice": lambda body: body["layers"].append(body["layers"][0]),
    "layers a text": set_body("layers", "conv1"),
    "more samples": set_body("samples", 8),
    "samples infinite": set_body("samples", float("inf")),
    "samples huge": set_body("samples", HUGE),
    "samples half": set_body("samples", 4.5),
    "samples true": set_body("samples", True),
    "samples none": set_body("samples", 0),
    "split": set_body("split", {"a": 1}),
    "graph": set_body("graph", "0" * 64),
    "graph gone": lambda body: body.pop("graph"),
    "format": set_body("format", [HUGE]),
    "not_counted empty": set_body("not_counted", [{}]),
    "not_counted text": set_body("not_counted", ["Conv"]),
    "not_counted null": set_body("not_counted", None),
    "not_counted unhashable": set_body("not_counted", [{"op": ["a"], "reason": {}, "count": 1, "nodes": [{}]}]),
    "not_counted nodes": set_body("not_counted", [{"op": "Conv", "reason": "", "count": 1, "nodes": [["a"]]}]),
    "not_counted count": set_body("not_counted", [{"op": "Conv", "reason": "", "count": 9, "nodes": ["conv1"]}]),
    "not_counted other": set_body("not_counted", [{"op": "Conv", "reason": "", "count": 1, "nodes": ["conv1"]}]),
    "violation empty": set_body("violations", [{}]),
    "squares too small": change("conv2", "stats", "events", lambda s: [*s[:3], s[0] ** 2 // 4 - 2]),
    "squares too large": change("conv2", "stats", "events", lambda s: [*s[:3], 4 * s[2] ** 2]),
    "squares of halves": change("lif1", "stats", "spikes", lambda s: [*s[:3], s[3] + 1]),
    "squares of dense": change("conv2", "stats", "dense_macs", lambda s: [*s[:3], 0]),
    "squares negative": change("conv2", "stats", "events", lambda s: [*s[:3], -1]),
    "steps moved": change("conv2", "steps", "events", lambda s: [s[0] + 1, *s[1:]]),
    "steps fewer": change("conv2", "steps", "events", lambda s: [sum(s)]),
    "steps more": change("conv2", "steps", "events", lambda s: [*s, 0]),
    "steps of acs": change("head", "steps", "acs", lambda s: [sum(s), *[0] * (len(s) - 1)]),
    "steps of binary": change("conv2", "steps", "acs", lambda s: s[1:] + s[:1]),
    "steps text": change("conv2", "steps", "events", lambda _: "123"),
    "steps negative": change("lif1", "steps", "spikes", lambda s: [-1, sum(s) + 1, 0]),
    "steps gone": set_key("conv2", "steps", {}),
    "steps of all": set_key("conv2", "steps", [1]),
    "spread moved": change("lif1", "spread", "spikes", move_in_histogram),
    "spread short": change("lif1", "spread", "spikes", lambda _: [4]),
    "spread more": change("lif1", "spread", "spikes", lambda bins: [n * 2 for n in bins]),
    "spread empty": change("lif1", "spread", "spikes", lambda bins: [0] * len(bins)),
    "spread float": change("lif1", "spread", "spikes", lambda bins: [n / 1 for n in bins]),
    "spread gone": set_key("lif1", "spread", {}),
    "facts": set_key("conv2", "facts", {}),
    "facts text": set_key("conv2", "facts", "3x3"),
    "network gone": set_body("network", {"stats": {}, "spread": {}}),
    "network null": set_body("network", None),
    "network total": change(None, "stats", "events", lambda s: [s[0] + 2, s[1], s[2], s[3] + 2]),
    "network low": change(None, "stats", "spikes", lambda s: [s[0], 0, s[2], s[3]]),
    "network macs": change(None, "stats", "macs", lambda _: [0, 0, 0, 0]),
    "network squares": change(None, "stats", "events", lambda s: [*s[:3], 0]),
    "network spread": change(None, "spread", "events", move_in_histogram),
    "violation other": set_body("violations", [{"value": "a", "kind": "binary", "elements": 1, "samples": 1}]),
}


@pytest.mark.parametrize("lie", LIES)
def test_statistics_that_cannot_be_true_are_refused(proto, tmp_path, lie):
    stored = entry(proto, STATISTICS_KEY)
    body = json.loads(stored.value)
    LIES[lie](body)
    stored.value = json.dumps(body)
    path = save(proto, tmp_path)
    fails(ModelFileError, lambda: estimate(path), "net.onnx", "statistics", "--inputs")


def test_untouched_statistics_are_taken(proto, model):
    stored = entry(proto, STATISTICS_KEY)
    assert estimate(model).source == "embedded"
    stored.value = json.dumps(json.loads(stored.value), indent=3)
    assert estimate(save(proto, model.parent)).counts == Counts.from_json(stored.value)


@pytest.mark.parametrize("event", [False, True])
@pytest.mark.parametrize("pool", ["AveragePool", "MaxPool", "ReduceMean"])
def test_honest_statistics_of_every_form_are_taken(rng, tmp_path, event, pool):
    proto = exported_net(rng, event=event, pool=pool, kind="IF")
    shape = (3, 5, 2, 6, 6) if event else (5, 2, 6, 6)
    batches = [{"frames" if event else "images": rng.integers(0, 3, shape).astype(np.float32)} for _ in range(3)]
    counts = count(read_graph(proto), batches)
    proto.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
    assert estimate(save(proto, tmp_path)).counts == counts


def test_honest_statistics_with_a_broken_promise_are_taken(rng, tmp_path, images):
    proto = exported_net(rng)
    function = proto.functions[0]
    function.node[-1].output[1] = "raw"
    function.node.append(onnx.helper.make_node("Constant", [], ["height"], value_float=0.5))
    function.node.append(onnx.helper.make_node("Mul", ["raw", "height"], ["spikes"]))
    counts = count(read_graph(proto), [{"images": abs(images) * 3}])
    assert counts.violations
    proto.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
    assert estimate(save(proto, tmp_path)).counts == counts


def test_statistics_are_bound_to_weights_nodes_and_functions(proto, tmp_path):
    def weight(p):
        tensor = next(t for t in p.graph.initializer if t.name == "conv2.weight")
        tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), "conv2.weight"))

    def threshold(p):
        node = next(n for n in p.graph.node if n.name == "lif1")
        next(a for a in node.attribute if a.name == "threshold").f = 0.5

    def function(p):
        del p.functions[:]

    def steps(p):
        next(t for t in p.graph.initializer if t.name == "T").CopyFrom(onnx.numpy_helper.from_array(np.array([4]), "T"))
        entry(p, "snnsc.T").value = "4"

    for change in (weight, threshold, steps):
        changed = onnx.ModelProto()
        changed.CopyFrom(proto)
        change(changed)
        path = save(changed, tmp_path)
        fails(ModelFileError, lambda path=path: estimate(path), "another graph", "--inputs")
    function(proto)
    path = save(proto, tmp_path)
    fails(ModelFileError, lambda: estimate(path), "snnsc::LIF")


@pytest.mark.parametrize("text", ["4", "0", "-3", "", "x", "²", "9" * 5000, "1e9", "65537"])
def test_steps_in_metadata_that_are_not_those_of_the_graph(proto, tmp_path, rng, text):
    entry(proto, "snnsc.T").value = text
    path = save(proto, tmp_path)
    fails(ModelFileError, lambda: estimate(path), "snnsc.T", "export")
    if text != "4":
        event = exported_net(rng, event=True)
        event.graph.input.pop()  # the option T
        entry(event, "snnsc.T").value = text
        path = save(event, tmp_path)
        fails(ModelFileError, lambda: estimate(path), "snnsc.T", "export")


@pytest.mark.parametrize("key", ["snnsc.input", STATISTICS_KEY])
@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, '{"a":' * 200_000, "1" * 9999, "NaN", '"\\ud800"', '{"layout": 10, "format": [[1]]}', "\x00"],
)
def test_hostile_json(proto, tmp_path, key, text):
    entry(proto, key).value = text
    path = save(proto, tmp_path)
    fails(ModelFileError, lambda: estimate(path), key.split(".")[1])


def test_escape_codes_in_names_are_kept_as_data(rng, tmp_path, images):
    proto = exported_net(rng)
    name = "conv\x1b[31m\n2"
    next(n for n in proto.graph.node if n.name == "conv2").name = name
    counts = count(read_graph(proto), [{"images": images}], split="a\x1b]0;b\x07\n")
    proto.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
    report = estimate(save(proto, tmp_path)).to_dict()
    assert report["split"] == "a\x1b]0;b\x07\n"
    assert name in {row["name"] for row in report["layers"]}
    assert json.loads(json.dumps(report, allow_nan=False)) == report


# ---------------------------------------------------------------------------------------------------------- paths


def odd_paths(folder: Path) -> dict[str, Path]:
    os.mkfifo(folder / "pipe.npz")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "file").write_text("x")
    return {
        "a folder": folder,
        "a pipe": folder / "pipe.npz",
        "a device": Path(os.devnull),
        "symbolic links": folder / "loop",
        "too long": folder / ("n" * 300 + ".npz"),
        "null": folder / "a\0b",
        "no such file": folder / "gone",
        "no such file; give": folder / "file" / "below.npz",
    }


def test_paths_that_are_no_files(model, tmp_path):
    (tmp_path / "odd").mkdir()
    start = time.perf_counter()
    for words, path in odd_paths(tmp_path / "odd").items():
        fails(ModelFileError, lambda path=path: estimate(path), words)
        fails(DataError, lambda path=path: estimate(model, path), words)
    assert time.perf_counter() - start < 10


def test_files_without_permission(model, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    model.chmod(0)
    fails(ModelFileError, lambda: estimate(model), "Permission denied")
    np.save(tmp_path / "x.npy", np.ones(3))
    (tmp_path / "x.npy").chmod(0)
    fails(DataError, lambda: load_inputs(tmp_path / "x.npy", None), "Permission denied")


@pytest.mark.parametrize("suffix", [".json", ".txt", ".textproto", ".onnxjson", ".onnxtxt", ""])
def test_the_suffix_of_a_model_tells_nothing(proto, tmp_path, suffix):
    assert estimate(save(proto, tmp_path, f"net{suffix}")).source == "embedded"


def test_a_model_larger_than_protobuf(tmp_path):
    with (tmp_path / "net.onnx").open("wb") as file:
        file.truncate(2**40)
    fails(ModelFileError, lambda: read_graph(tmp_path / "net.onnx"), "2 GiB")


def test_a_model_with_an_input_larger_than_memory(rng, tmp_path):
    for axis, size in ((2, 2**40), (0, 2**62)):
        proto = exported_net(rng)
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
        path = save(proto, tmp_path)
        fails(ModelFileError, lambda path=path: estimate(path), "'images'", "elements")


# --------------------------------------------------------------------------------------------------------- inputs

STEPS = [
    np.array([3, 3]),
    np.array([], np.int64),
    np.array(2.7),
    np.array(np.nan),
    np.array("x"),
    np.array(True),
    np.array(3 + 0j),
    np.array(0),
    np.array(-1),
    np.array([65537]),
    np.array(2**40),
    np.array(2**64 - 1, np.uint64),
    np.array("2020", "datetime64[Y]"),
]


@pytest.mark.parametrize("steps", STEPS, ids=repr)
def test_steps_must_be_one_positive_integer(model, tmp_path, images, steps):
    np.savez(tmp_path / "x.npz", images=images, T=steps)
    fails(DataError, lambda: estimate(model, tmp_path / "x.npz"), "x.npz", "'T'", "65536")
    fails(DataError, lambda: count(read_graph(model), [{"images": images, "T": steps}]), "'T'", "65536")


@pytest.mark.parametrize("steps", [5, np.array(5), np.array([5], np.uint8), np.array([[5]], ">i2")])
def test_steps_of_any_shape_with_one_integer(model, tmp_path, images, steps):
    np.savez(tmp_path / "x.npz", images=images, T=steps)
    rows = estimate(model, tmp_path / "x.npz").to_dict()["layers"]
    assert next(row for row in rows if row["name"] == "lif1")["time_steps"] == 5


def test_ragged_batches_in_memory(model):
    fails(DataError, lambda: count(read_graph(model), [{"images": [[1], [1, 2]]}]), "'images'")


def npy(header: str, body: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + body


def head(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


ARRAYS = {
    "negative": npy(head("(-1, 2, 6, 6)"), bytes(999)),
    "minus two": npy(head("(-2, -2)"), bytes(999)),
    "huge": npy(head(f"({2**62}, 2, 6, 6)"), bytes(999)),
    "overflow": npy(head(f"({2**63}, {2**63})"), bytes(999)),
    "endless": npy(head("(" + "9" * 400 + ",)"), bytes(999)),
    "bomb": npy(head("(1000000000, 2, 6, 6)"), bytes(999)),
    "wide": npy(head("(2,)", "('<f4', (1000000000,))"), bytes(999)),
    "nothing": npy(head(f"({2**62}, 4)", "'<U0'"), bytes(999)),
    "bool": npy(head("(True, 2, 6, 6)"), bytes(9)),
    "object": npy(head("(4, 2, 6, 6)", "'|O'"), bytes(9999)),
    "cut header": npy("{'descr': '<f4', 'fortran_order': Fal"),
    "open bracket": npy("{'descr': '<f4', 'shape': (1, \n"),
    "open string": npy("{'descr': '''<f4\n"),
    "no header": npy(""),
    "deep": npy("(" * 9000 + "\n"),
    "long": npy(" " * 60_000 + "\n"),
    "long header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(99999),
    "python": npy("__import__('os').system('false')\n"),
    "keys": npy("{}\n"),
    "descr": npy(head("(4,)", "'nonsense'"), bytes(999)),
    "descr list": npy(head("(4,)", "[('a', '<f4'), ('a', '<f4')]"), bytes(999)),
    "shape": npy(head("'abc'"), bytes(999)),
    "version": npy(head("(4,)"), bytes(999), (9, 9)),
    "third": npy(head("(4,)"), bytes(999), (3, 0)),
    "short": npy(head("(4, 2, 6, 6)"), bytes(99)),
    "text": b"no array at all",
    "empty": b"",
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("form", ["npy", "npz", "stored as raw bytes"])
def test_hostile_arrays(model, tmp_path, name, form):
    path = tmp_path / ("x.npy" if form == "npy" else "x.npz")
    if form == "npy":
        path.write_bytes(ARRAYS[name])
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images.npy" if form == "npz" else "images", ARRAYS[name])
    fails(DataError, lambda: estimate(model, path), path.name, "cannot be read")


def test_a_zip_bomb_is_not_unpacked(model, tmp_path):
    path = tmp_path / "x.npz"
    shape = (2**22, 2, 6, 6)  # 1.1 GiB of float32
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as file:
        file.write(npy(head(str(shape)), bytes(2**20)))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24  # the size that the directory tells; the rest need not be there
    data[at : at + 4] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(data)
    fails(DataError, lambda: estimate(model, path), "x.npz", "images", "1.1 GiB")


def test_more_than_fits_is_refused_before_it_is_read(model, tmp_path, images, monkeypatch):
    monkeypatch.setattr("snnsc.energy.counting.archive._LARGEST_ARCHIVE", images.nbytes - 1)
    np.savez_compressed(tmp_path / "x.npz", images)
    fails(DataError, lambda: estimate(model, tmp_path / "x.npz"), ".npy")
    np.save(tmp_path / "x.npy", images)
    assert estimate(model, tmp_path / "x.npy").counts.samples == 4


def test_a_sample_larger_than_memory(rng, tmp_path):
    proto = exported_net(rng)
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].Clear()
    path = tmp_path / "x.npy"
    path.write_bytes(npy(head("(1, 2, 65536, 65536)")))
    with path.open("r+b") as file:
        file.truncate(2**36)
    fails(DataError, lambda: estimate(save(proto, tmp_path), path), "x.npy", "elements a sample")


def test_damaged_deflate_and_encryption(model, tmp_path, images):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=images)
    content = path.read_bytes()
    for position in range(40, len(content), max(1, len(content) // 60)):
        for bits in (0x01, 0xFF):
            damaged = bytearray(content)
            damaged[position] ^= bits
            path.write_bytes(damaged)
            try:
                estimate(model, path)
            except DataError as error:
                assert "x.npz" in str(error)  # noqa: PT017
    damaged = bytearray(content)
    damaged[6] |= 1
    damaged[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(damaged)
    fails(DataError, lambda: estimate(model, path), "x.npz", "encrypted")


def test_content_tells_the_format_not_the_suffix(model, tmp_path, images):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, images)
    with (tmp_path / "b.npy").open("wb") as file:
        np.savez(file, images=images)
    assert estimate(model, tmp_path / "a.npz").counts == estimate(model, tmp_path / "b.npy").counts
