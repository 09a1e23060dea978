"""Several networks relative to the first."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from snnsc.energy.counting.counts import Counts
from snnsc.energy.report.comparison import Comparison

from .hand import made, report


def test_ratios_are_to_the_first_network():
    first, second = report(made(), "a.onnx"), report(made(seed=9), "b.onnx")
    found = Comparison((first, second)).to_dict()
    assert found["models"] == [first, second]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    base, other = found["comparison"]
    assert (base["model"], other["model"]) == ("a.onnx", "b.onnx")
    assert set(base["totals"].values()) == {1.0}
    assert other["totals"]["events"] == second["totals"]["events"] / first["totals"]["events"] != 1
    for one, two in zip(first["energy"], second["energy"], strict=True):
        expected = None if one["snn_pj"] is None else pytest.approx(two["snn_pj"] / one["snn_pj"])
        assert other["energy"][one["model"]] == expected
    assert found["warnings"] == []


def test_nothing_is_relative_to_nothing():
    found = Comparison((report(Counts(0, ())), report(made()))).to_dict()
    assert set(found["comparison"][1]["energy"].values()) == {None}
    assert set(found["comparison"][1]["totals"].values()) == {None}


def test_other_samples_are_warned_of():
    counts = made()
    several = Comparison((report(counts, "x/a.onnx"), report(replace(counts, split="training"), "x/b.onnx")))
    (warning,) = several.warnings()
    assert "--inputs" in warning
    for line in ("a.onnx: counted on 7 samples at export: test", "b.onnx: counted on 7 samples at export: training"):
        assert line in several.findings()


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["runs/a/model.onnx", "runs/b/model.onnx"], ["a", "b"]),
        (["a.onnx", "b.onnx"], ["a.onnx", "b.onnx"]),
        (["a.onnx", "a.onnx"], ["a.onnx", "a.onnx"]),
        (["runs/model.onnx", "runs/b/model.onnx"], ["model.onnx", "b/model.onnx"]),
        (["runs/model.onnx"], ["model.onnx"]),
    ],
)
def test_labels_are_what_tells_the_files_apart(paths, labels):
    assert Comparison(tuple(report(made(), path) for path in paths)).labels() == labels
