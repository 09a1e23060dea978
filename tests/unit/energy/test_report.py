"""Pricing by hand, the JSON contract, embedded statistics, bounds without samples."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest

from snnsc.energy import (
    STATISTICS_KEY,
    Counts,
    LayerCount,
    Stat,
    count,
    dense,
    estimate,
    load_targets,
    price,
    read_graph,
)
from snnsc.energy.report.report import Report
from snnsc.errors import RecipeError

from .graphs import exported_net

GRADES = {"measured", "simulated", "vendor", "secondary"}


def hand_made(op: str = "LIF") -> Counts:
    """10 samples: 1000 real events, 500 spike events, 200 graded of which 50 are additions, 300 updates."""

    def layer(name, kind, events, acs, dense_macs):
        stats = {"events": events, "acs": acs, "event_magnitude": events, "dense_macs": dense_macs}
        stats |= {"ann_macs": dense_macs, "max_events": dense_macs}
        return LayerCount(name, "Conv", kind, None, 9, {k: Stat(v, 0, v) for k, v in stats.items()})

    neuron = LayerCount(
        "n", op, "binary", 1.0, 0, {k: Stat(v, 0, v) for k, v in (("neuron_updates", 300), ("spikes", 7))}
    )
    rows = layer("a", "real", 1000, 0, 2000), layer("b", "binary", 500, 500, 3000), layer("c", "scaled", 200, 50, 400)
    return Counts(10, (*rows, neuron))


@pytest.mark.parametrize(
    ("model", "multiply", "add"),
    [("horowitz-fp32", 3.7, 0.9), ("horowitz-fp16", 1.1, 0.4), ("horowitz-int8", 0.2, 0.03)],
)
def test_price_by_hand(model, multiply, add):
    (entry,) = price(hand_made(), [model])
    macs, acs, updates = (1000 + 150) / 10, (500 + 50) / 10, 300 / 10
    mac = multiply + add
    assert entry.mac_pj == pytest.approx(macs * mac)
    assert entry.ac_pj == pytest.approx(acs * add)
    assert entry.neuron_pj == pytest.approx(updates * (multiply + add))
    assert entry.snn_pj == pytest.approx(entry.mac_pj + entry.ac_pj + entry.neuron_pj)
    assert entry.ann_pj == pytest.approx(540 * mac)
    assert entry.ratio == pytest.approx(entry.snn_pj / entry.ann_pj)
    (integrate,) = price(hand_made("IF"), [model])
    assert integrate.neuron_pj == pytest.approx(updates * add)


def test_known_constants():
    macs = {t.name: (round(t.mac_pj, 6), t.add.value) for t in load_targets() if t.kind == "arithmetic"}
    assert macs == {"horowitz-fp32": (4.6, 0.9), "horowitz-fp16": (1.5, 0.4), "horowitz-int8": (0.23, 0.03)}


def test_every_number_carries_its_source():
    for target in (t for t in load_targets() if t.kind == "arithmetic"):
        for number in (target.multiply, target.add):
            assert number.unit == "pJ"
            assert number.grade in GRADES
            assert "2014" in number.source
            assert number.process == "45 nm"
            assert number.voltage == 0.9


def test_an_unknown_neuron_is_named_not_priced_as_zero():
    assert price(hand_made("Mystery"), ["horowitz-int8"])[0].not_priced == ("Mystery",)
    assert price(hand_made(), ["horowitz-int8"])[0].not_priced == ()


def test_an_unknown_price_model_is_an_option_error():
    with pytest.raises(RecipeError, match="horowitz-fp32"):
        price(hand_made(), ["loihi-9"])


@pytest.fixture
def exported(rng, tmp_path):
    """A model file with embedded statistics, and the inputs they were measured on."""
    proto = exported_net(rng)
    images = rng.standard_normal((9, 2, 6, 6)).round(1).astype(np.float32)
    counts = count(read_graph(proto), [{"images": images[:5]}, {"images": images[5:]}], split="test")
    proto.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
    onnx.save(proto, tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", images=images)
    return tmp_path / "net.onnx", tmp_path / "x.npz"


def test_embedded_statistics_equal_a_measurement(exported):
    model, inputs = exported
    embedded, measured = estimate(model).to_dict(), estimate(model, inputs).to_dict()
    assert (embedded["source"], embedded["split"], embedded["samples"]) == ("embedded", "test", 9)
    assert (measured["source"], measured["split"]) == (str(inputs), "")
    for key in ("samples", "layers", "totals", "energy", "not_counted", "violations"):
        assert embedded[key] == measured[key]


def test_counts_survive_json(exported):
    graph = read_graph(exported[0])
    counts = Counts.from_json(graph.metadata[STATISTICS_KEY])
    assert Counts.from_json(counts.to_json()) == counts
    assert all(type(s.total) is int for layer in counts.layers for s in layer.stats.values())


def test_json_contract(exported):
    report = estimate(*exported).to_dict()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    keys = {"name", "op", "input_kind", "dense_macs", "macs", "acs", "events", "event_magnitude", "neuron_updates"}
    for row in report["layers"]:
        assert row.keys() >= keys | {"firing_rate"}
        assert row["acs"] + row["macs"] == row["events"]
        assert (row["firing_rate"] is None) == (row["op"] != "LIF")
    for key, total in report["totals"].items():
        assert total == pytest.approx(sum(row[key] for row in report["layers"]))
    assert [entry["model"] for entry in report["energy"]] == [target.name for target in load_targets()]
    assert all(entry.keys() >= {"model", "snn_pj", "ann_pj", "ratio"} for entry in report["energy"])
    rates = [row["firing_rate"] for row in report["layers"] if row["op"] == "LIF"]
    assert len(rates) == 3
    assert all(0 < rate < 1 for rate in rates)


def test_every_key_of_the_report_is_documented(exported):
    found = estimate(*exported).to_dict()
    entries = [found, found["layers"][0], found["energy"][0], found["fit"][0], found["fit"][0]["checks"][0]]
    for key in {key for entry in entries for key in entry} - {"layers", "samples", "split"}:
        assert re.search(rf"(?<![a-z_]){key}(?![a-z_])", Report.__doc__), key


def test_steps_spread_and_deviation_belong_to_the_counts(exported):
    found = estimate(*exported).to_dict()
    for row in found["layers"]:
        for key, values in row["steps"].items():
            assert sum(values) == pytest.approx(row[key])
            assert len(values) == row["time_steps"]
        for key, spread in row["spread"].items():
            assert sum(spread["samples"]) == found["samples"]
            assert spread["from"] == 0
            width = spread["to"] / len(spread["samples"])
            filled = [i for i, n in enumerate(spread["samples"]) if n]
            assert filled[0] * width <= row[f"{key}_min"] <= row[f"{key}_max"] <= (filled[-1] + 1) * width
            assert 0 <= row["std"][key] <= (row[f"{key}_max"] - row[f"{key}_min"]) / 2 + 1e-9
    neurons = [row for row in found["layers"] if row["op"] == "LIF"]
    assert {len(row["steps"]["spikes"]) for row in neurons} == {3}
    assert all(row["spread"].keys() == {"spikes"} for row in neurons)


def test_the_whole_network_over_the_samples(exported):
    found = estimate(*exported).to_dict()
    for key in ("events", "macs", "acs", "spikes"):
        row = found["network"][key]
        assert row["mean"] == pytest.approx(found["totals"][key])
        assert row["min"] <= row["mean"] <= row["max"]
        lows = [layer[f"{key}_min"] for layer in found["layers"] if layer.get(f"{key}_min") is not None]
        assert row["min"] >= sum(lows)
    rate = found["network"]["firing_rate"]
    assert rate["mean"] == pytest.approx(found["totals"]["spikes"] / found["totals"]["neuron_updates"])
    for key in ("events", "spikes"):
        assert sum(found["network"]["spread"][key]["samples"]) == found["samples"]


def test_parts_of_an_energy_add_up(exported):
    for entry in estimate(*exported).to_dict()["energy"]:
        if entry["kind"] == "not-published":
            assert entry["snn_pj"] is entry["layers"] is None
            assert entry["terms"] == {}
            continue
        assert sum(entry["terms"].values()) == pytest.approx(entry["snn_pj"])
        assert sum(entry["layers"].values()) == pytest.approx(entry["snn_pj"])
        assert entry["constants"]


def test_the_origin_is_what_the_file_tells(exported, tmp_path):
    proto = onnx.load(exported[0])
    told = {"snnsc.stripped": '["shortcuts.0.weight"]', "snnsc.version": "9.9"}
    proto.metadata_props.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in told.items())
    onnx.save(proto, tmp_path / "told.onnx")
    found = estimate(tmp_path / "told.onnx").to_dict()
    assert found["origin"]["stripped"] == ["shortcuts.0.weight"]
    assert (found["origin"]["version"], found["origin"]["time_steps"]) == ("9.9", "3")
    assert found["model"] == str(tmp_path / "told.onnx")
    assert len(found["graph"]) == 64


def test_a_report_of_counts_is_that_of_the_file(exported):
    graph = read_graph(exported[0])
    counts = Counts.from_json(graph.metadata[STATISTICS_KEY])
    made = Report.of(graph, counts, "embedded", model=str(exported[0])).to_dict()
    assert made == estimate(exported[0]).to_dict()


def test_without_samples_there_are_bounds_and_no_rates(rng, tmp_path):
    onnx.save(exported_net(rng), tmp_path / "net.onnx")
    report = estimate(tmp_path / "net.onnx").to_dict()
    assert (report["source"], report["samples"]) == ("none", 0)
    for row in report["layers"]:
        assert row["firing_rate"] is None
        assert row["input_density"] is None
        if row["dense_macs"]:
            assert row["events"] is row["macs"] is row["acs"] is None
            assert 0 < row["max_events"] <= row["dense_macs"]
    for entry in report["energy"]:
        assert entry["snn_pj"] is entry["ratio"] is None
        if entry["kind"] == "arithmetic":
            assert entry["ann_pj"] > 0
            assert entry["snn_pj_bound"] > 0
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_bound_bounds_a_measurement(rng):
    for event in (False, True):
        proto = exported_net(rng, event=event, pool="MaxPool")
        shape = (3, 4, 2, 6, 6) if event else (4, 2, 6, 6)
        name = "frames" if event else "images"
        measured = count(read_graph(proto), [{name: np.ones(shape, np.float32)}])
        bounds = dense(read_graph(proto))
        assert [r.name for r in bounds.layers] == [r.name for r in measured.layers]
        for bound, found in zip(bounds.layers, measured.layers, strict=True):
            if "events" in found.stats:
                assert found.stats["events"].high <= bound.stats["max_events"].high == found.stats["max_events"].high
        for bound, found in zip(price(bounds), price(measured), strict=True):
            assert bound.snn_pj_bound == pytest.approx(found.snn_pj_bound)
            if bound.snn_pj_bound is not None:
                assert found.snn_pj <= bound.snn_pj_bound


def test_energy_never_imports_torch(exported):
    code = (
        "import sys; from pathlib import Path; from snnsc.energy import estimate;"
        f"estimate(Path({str(exported[0])!r}), Path({str(exported[1])!r})).to_dict();"
        "sys.exit(any(name.split('.')[0] in ('torch', 'onnxscript') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_is_written_to_the_terminal(exported, capfd):
    estimate(*exported)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
