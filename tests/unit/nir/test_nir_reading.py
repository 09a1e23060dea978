"""NIR files of others: what is read, and one line for each that cannot be."""

from __future__ import annotations

import os
import random
import re
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py")

import h5py
from nir_files import affine, conv, end, entry, flatten, lif, neurons, pool, small, write

from snnsc.errors import ModelFileError, RecipeError, SnnscError
from snnsc.nir import hdf5
from snnsc.nir.graph import Graph
from snnsc.nir.read import parse_nir, read_nir

MODELS = Path(os.environ.get("SNNSC_DATA", "data")) / "models"


def read_here(path: Path) -> Graph:
    """In this process, which is quicker."""
    return parse_nir(path.read_bytes(), str(path))


def refusal(path: Path, read: Callable[[Path], Graph] = read_nir) -> str:
    with pytest.raises(ModelFileError) as raised:
        read(path)
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 500
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def test_nodes_come_in_an_order_in_which_they_run(tmp_path: Path) -> None:
    nodes = {"output": end(3), "z": affine(np.ones((3, 2)), np.zeros(3)), "a": lif(3), "in": entry(2)}
    graph = read_nir(write(tmp_path / "n.nir", nodes, [("a", "output"), ("z", "a"), ("in", "z")], about="words"))
    assert list(graph.nodes) == ["in", "z", "a", "output"]
    assert (graph.input.name, graph.output.name) == ("in", "output")
    assert graph.nodes["z"].shape == (3,)
    assert graph.nodes["a"].sources == ("z",)
    assert graph.metadata == {"about": "words"}


def test_what_older_files_leave_out(tmp_path: Path) -> None:
    without = conv(np.ones((4, 1, 3, 3)))
    del without["bias"]
    unreset = {k: v for k, v in lif(4, 2, 2).items() if k != "v_reset"}
    graph = read_here(write(tmp_path / "n.nir", {"i": entry(1, 4, 4), "c": without, "l": unreset, "o": end(4, 2, 2)}))
    assert graph.nodes["c"].parameters["bias"].tolist() == [0, 0, 0, 0]
    assert (graph.nodes["l"].parameters["v_reset"] == 0).all()


def test_shapes(tmp_path: Path) -> None:
    nodes = {
        "i": entry(2, 9, 9),
        "same": conv(np.ones((4, 2, 3, 4)), padding="same"),
        "strided": conv(np.ones((6, 2, 3, 3)), stride=2, padding=1, groups=2),
        "sum": pool("SumPool2d"),
        "average": pool("AvgPool2d", 3, 1, 1),
        "part": flatten(1),
        "all": flatten(),
        "o": end(1, 1, 24),
    }
    graph = read_here(write(tmp_path / "n.nir", nodes))
    shapes = [node.shape for node in graph.nodes.values()]
    assert shapes == [(2, 9, 9), (4, 9, 9), (6, 5, 5), (6, 2, 2), (6, 2, 2), (6, 4), (24,), (24,)]


def test_a_nested_graph_becomes_part_of_the_one_around_it(tmp_path: Path) -> None:
    inner = {
        "nodes": {"x": entry(2), "fc": affine(np.eye(2), [0, 0]), "y": end(2)},
        "edges": [("x", "fc"), ("fc", "y"), ("x", "y")],
    }
    nodes = {"input": entry(2), "block": inner, "lif": lif(2), "output": end(2)}
    graph = read_here(write(tmp_path / "n.nir", nodes))
    assert graph.nodes["block.y"].sources == ("block.fc", "block.x")
    assert graph.nodes["lif"].sources == ("block.y",)


BAD_NODES = {
    "unknown type": (small(lif={"type": "Synapse"}), "node 'lif' .*'Synapse' are not supported; supported are Input"),
    "no type": (small(lif={"tau": 1.0}), "node 'lif': lacks its type"),
    "parameter missing": (small(lif={"type": "LIF", "tau": np.ones(3)}), "node 'lif'.*lacks r, v_leak, v_threshold"),
    "NaN": (small(lif=lif(3, r=np.nan)), "node 'lif'.*r holds NaN or infinity"),
    "infinity": (small(fc=affine([[np.inf, 1]] * 3, [0, 0, 0])), "node 'fc'.*weight holds NaN or infinity"),
    "text for a number": (small(lif=lif(3) | {"tau": "x"}), "node 'lif'.*tau is text"),
    "time constant 0": (small(lif=lif(3, tau=0.0)), "node 'lif'.*tau is 0, it must be positive"),
    "wrong weight": (
        small(fc=affine(np.ones((3, 5)), np.zeros(3))),
        r"node 'fc'.*bring \[2\], weight has shape \[3, 5\]",
    ),
    "wrong bias": (small(fc=affine(np.ones((3, 2)), np.zeros(4))), r"node 'fc'.*bias has shape \[4\]"),
    "wrong neurons": (small(lif=lif(4)), r"node 'lif'.*has shape \[4\], its edges bring \[3\]"),
    "wrong output": (small(output=end(7)), r"node 'output'.*shape is \[7\], its edges bring \[3\]"),
    "huge input": (small(input=entry(2**40)), "node 'input'.*gives the shape"),
    "no input": ({"fc": affine(np.eye(2), [0, 0]), "output": end(2)}, "has 0 Input nodes"),
    "two outputs": (small(o2=end(3)), "has 2 Output nodes: 'o2', 'output'"),
    "negative stride": (
        {"i": entry(1, 4, 4), "c": conv(np.ones((1, 1, 3, 3)), stride=np.array([-1, 1])), "o": end(1, 2, 2)},
        r"node 'c'.*stride is \[-1, 1\]",
    ),
    "window too large": (
        {"i": entry(1, 4, 4), "c": conv(np.ones((1, 1, 5, 5))), "o": end(1, 1, 1)},
        "node 'c'.*larger than its padded input",
    ),
    "two groups": (
        {"i": entry(2, 4, 4), "c": conv(np.ones((4, 1, 3, 3)), groups=np.array([1, 1])), "o": end(4, 2, 2)},
        "node 'c'.*groups is .*one number is expected",
    ),
    "groups": (
        {"i": entry(3, 4, 4), "c": conv(np.ones((4, 1, 3, 3)), groups=3), "o": end(4, 2, 2)},
        "node 'c'.*groups is 3",
    ),
    "flatten": ({"i": entry(1, 4, 4), "f": flatten(2, 1), "o": end(16)}, "node 'f'.*flattens axes 2 to 1 of 3"),
    "pool of a vector": ({"i": entry(4), "p": pool("SumPool2d"), "o": end(4)}, r"node 'p'.*\[C,H,W\] is expected"),
}


@pytest.mark.parametrize("name", BAD_NODES)
def test_malformed_nodes_are_one_line(name: str, tmp_path: Path) -> None:
    nodes, words = BAD_NODES[name]
    assert re.search(words, refusal(write(tmp_path / "n.nir", nodes), read_here))


CHAIN = [("input", "fc"), ("fc", "lif"), ("lif", "output")]
BAD_EDGES = {
    "recurrent": ([*CHAIN, ("lif", "fc")], "is recurrent .*'fc'.* graphs without cycles are supported"),
    "to nowhere": ([*CHAIN, ("lif", "ghost")], "the edge 'lif' -> 'ghost' leads nowhere"),
    "twice": ([*CHAIN, ("fc", "lif")], "the edge 'fc' -> 'lif' is there twice"),
    "into the input": ([*CHAIN, ("lif", "input")], "node 'input': an edge leads into it"),
    "out of the output": ([*CHAIN, ("output", "lif")], "node 'output': an edge leads out of it"),
    "lost node": ([("input", "lif"), ("lif", "output")], "node 'fc': no edge leads into it"),
    "dead end": ([("input", "fc"), ("input", "lif"), ("lif", "output")], "node 'fc': no edge leads out of it"),
    "different shapes": ([*CHAIN, ("input", "lif")], r"node 'lif'.*different shapes: 'fc' \[3\], 'input' \[2\]"),
    "none": ([], "node 'fc': no edge leads into it"),
}


@pytest.mark.parametrize("name", BAD_EDGES)
def test_malformed_edges_are_one_line(name: str, tmp_path: Path) -> None:
    edges, words = BAD_EDGES[name]
    assert re.search(words, refusal(write(tmp_path / "n.nir", small(), edges), read_here))


def _without(key: str, path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file[key]


def _with(key: str, value: object, path: Path) -> None:
    with h5py.File(path, "a") as file:
        if key in file:
            del file[key]
        file[key] = value


def _huge(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["node/nodes/fc/weight"]
        file["node/nodes/fc"].create_dataset("weight", (2**20, 2**20), "f4", chunks=(1024, 1024), compression="gzip")


BAD_FILES = {
    "no graph": (lambda p: _without("node", p), "has no group 'node'"),
    "no nodes": (lambda p: _without("node/nodes", p), "lacks nodes"),
    "no edges": (lambda p: _without("node/edges", p), "lacks edges"),
    "edges are numbers": (lambda p: _with("node/edges", np.ones((2, 2)), p), "edges hold numbers"),
    "edges of three": (lambda p: _with("node/edges", [["a", "b", "c"]], p), "no list of pairs"),
    "another type": (lambda p: _with("node/type", "LIF", p), "is 'LIF', expected is 'NIRGraph'"),
    "node is an array": (lambda p: _with("node/nodes/lif", 1.0, p), "node 'lif' is an array"),
    "claims a terabyte": (_huge, r"weight' claims \d+ bytes, of which the file holds 0"),
    "complex numbers": (lambda p: _with("node/nodes/lif/r", np.ones(3, complex), p), "has the type complex128"),
    "link to another file": (
        lambda p: _with("node/nodes/lif/r", h5py.ExternalLink("/etc/passwd", "/x"), p),
        "'node/nodes/lif/r' is a link to elsewhere",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_malformed_files_are_one_line(name: str, tmp_path: Path) -> None:
    spoil, words = BAD_FILES[name]
    path = write(tmp_path / "n.nir", small())
    spoil(path)
    assert re.search(words, refusal(path, read_here))


def test_what_is_no_hdf5_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "n.nir"
    assert refusal(path) == "no such file; give a .nir file"
    path.write_bytes(b"")
    assert refusal(path) == "the file is empty; export it again"
    path.write_bytes(b"PK\x03\x04 and more")
    assert refusal(path) == "is no HDF5 file, which a NIR file is; export it again"
    assert refusal(tmp_path) == "is a folder, not a file; give a .nir file"


def test_damage_is_one_line_whatever_it_is(tmp_path: Path) -> None:
    whole = write(tmp_path / "n.nir", small()).read_bytes()
    draws, path = random.Random(5), tmp_path / "damaged.nir"
    refused = 0
    for attempt in range(6):
        spoilt = bytearray(whole[: draws.randrange(8, len(whole))] if attempt < 2 else whole)
        for _ in range(0 if attempt < 2 else 20):
            spoilt[draws.randrange(8, min(len(spoilt), 6000))] = draws.randrange(256)
        path.write_bytes(spoilt)
        with suppress(ModelFileError):
            read_nir(path)
            continue
        refusal(path)
        refused += 1
    assert refused >= 3


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for Python")
@pytest.mark.parametrize(("does", "words"), [("kill -SEGV $$", "HDF5 fails on it"), ("sleep 60", "cannot finish")])
def test_a_file_that_ends_or_stops_the_library(
    does: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, program = write(tmp_path / "n.nir", small()), tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{does.replace('sleep', 'exec sleep')}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(hdf5, "_SECONDS", 0.3 if "sleep" in does else 60)
    assert words in refusal(path)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
@pytest.mark.parametrize("left", ["arrays", "error"])
def test_a_full_temporary_folder_is_not_the_files_fault(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    path = write(tmp_path / "n.nir", small(fc=affine(np.ones((300, 300)), np.zeros(300))))
    if left == "error":
        path.write_bytes(path.read_bytes()[:-5000])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18 if left == "arrays" else 0, limits[1]))
    try:
        with pytest.raises(SnnscError) as raised:
            read_nir(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(raised.value).startswith(f"{tmp_path}: the temporary folder cannot be used: File too large; make room")
    assert [p.name for p in tmp_path.iterdir()] == ["n.nir"]


@pytest.mark.parametrize("told", ["2", "99", "9" * 5000], ids=len)
def test_a_file_of_a_newer_snnsc(told: str, tmp_path: Path) -> None:
    said = refusal(write(tmp_path / "n.nir", small(), **{"snnsc.format": told}), read_here)
    assert said == f"was written by a newer snnsc: it has format {told[:40]}, this one reads 1; update snnsc"
    read_here(write(tmp_path / "n.nir", small(), **{"snnsc.format": "1"}))


@pytest.mark.parametrize("told", ["", "0", "one", "-1", "٣"])
def test_a_format_that_is_no_number(told: str, tmp_path: Path) -> None:
    said = refusal(write(tmp_path / "n.nir", small(), **{"snnsc.format": told}), read_here)
    assert said == f"metadata snnsc.format is {told!r}, a number is expected; export it again"


def test_nodes_may_be_called_metadata(tmp_path: Path) -> None:
    inner = {"input": entry(2), "metadata": affine(np.ones((3, 2)), np.zeros(3)), "output": end(3)}
    nested = {"nodes": inner, "edges": [("input", "metadata"), ("metadata", "output")]}
    path = write(tmp_path / "n.nir", {"i": entry(2), "nodes": nested, "metadata": lif(3), "o": end(3)}, about="words")
    with h5py.File(path, "a") as file:
        for group in ("node/nodes/metadata", "node/nodes/nodes", "node/nodes/nodes/nodes/metadata"):
            file[f"{group}/metadata/left"] = h5py.SoftLink("/nowhere")  # which is refused where it is read
    graph = read_here(path)
    assert {node.name: node.kind for node in graph.nodes.values() if node.kind in ("Affine", "LIF")} == {
        "nodes.metadata": "Affine",
        "metadata": "LIF",
    }
    assert graph.metadata == {"about": "words"}


def test_h5py_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(RecipeError, match=r"pip install 'snnsc\[nir\]'"):
        read_nir(tmp_path / "n.nir")


def test_other_neurons_need_all_their_constants(tmp_path: Path) -> None:
    cuba = neurons("CubaLIF", tau_syn=[1e-3], tau_mem=[1e-3], r=[1], v_leak=[0], v_threshold=[1])
    assert "lacks w_in" in refusal(write(tmp_path / "n.nir", small(lif=cuba)), read_here)


@pytest.mark.skipif(not (MODELS / "nir").is_dir(), reason="needs the NIR paper's files in $SNNSC_DATA/models/nir")
@pytest.mark.parametrize("name", ["braille_noDelay_bias_zero", "braille_noDelay_noBias_subtract"])
def test_recurrent_networks_are_refused(name: str) -> None:
    assert "is recurrent ('lif1" in refusal(MODELS / "nir" / f"{name}.nir")
