"""What a report says beside its figures: legend, chips' totals, foldable normalisations, ranges of samples."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from snnsc.cli import energy_display
from snnsc.energy import estimate, read_graph
from snnsc.energy.counting.ranges import InputRange
from snnsc.energy.graph.folding import foldable
from snnsc.energy.pricing.schema import EventTarget
from snnsc.energy.report import fits, wording

from .graphs import Builder, exported_net
from .hand import made, networks, report


def shown(capsys, found, **options):
    energy_display.show_report(found, **({"chosen": False, "fit": False, "sources": False} | options))
    return capsys.readouterr().out


def test_the_legend_tells_of_the_columns_that_are_shown(capsys):
    found = networks()
    legend = {name: next(x for x in shown(capsys, r).splitlines() if "padding" in x) for name, r in found.items()
              if name in ("measured", "dense", "ann")}  # fmt: skip
    assert legend["measured"].startswith(
        "over all 4 steps; dense MACs: with zeros, those of padding too, as in the ANN"
    )
    assert "rate: spikes a neuron and step" in legend["measured"]
    assert "rate" not in legend["dense"]
    assert "; MACs" not in legend["dense"]
    assert "steps" not in legend["ann"]
    assert "twin" not in legend["ann"]
    assert "scaled" not in legend["measured"]
    found["measured"]["layers"][0]["input_kind"] = "scaled"
    assert "scaled: multiples of one unit" in shown(capsys, found["measured"])


def test_without_samples_no_column_is_empty(capsys):
    text = shown(capsys, networks()["dense"])
    assert "dense MACs" in text
    assert "ANN twin" in text
    assert "SNN / ANN" not in text
    assert "?" not in text


def test_energies_of_chips_can_be_made_again_of_their_totals(rng, tmp_path):
    onnx.save(exported_net(rng, pool="AveragePool"), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", rng.standard_normal((4, 2, 6, 6)).astype(np.float32))
    done = estimate(tmp_path / "net.onnx", tmp_path / "x.npy")
    told = done.to_dict()["chips"]
    assert min(told.values()) > 0
    rebuilt = 0
    for entry in done.prices:
        target = entry.target
        if not isinstance(target, EventTarget):
            continue
        event, spike = target.synaptic_event.value, target.spike.value if target.spike else 0.0
        terms = [event * (told["spike_events"] + told["real_events"]), spike * told["spikes"]]
        if target.neuron_update:
            terms.append(target.neuron_update.value * told["neuron_updates"])
        if target.active_update and target.inactive_update:
            silent = told["neuron_updates"] - told["spikes"]
            terms += [target.active_update.value * told["spikes"], target.inactive_update.value * silent]
        assert entry.snn_pj == pytest.approx(sum(terms))
        rebuilt += 1
    assert rebuilt > 5
    line = wording.chips(done.to_dict())
    assert all(f"{wording.number(value)} " in line for value in told.values())
    assert wording.chips(networks()["dense"]) == wording.chips(networks()["ann"]) == ""


def normalised(before: str, between: str = ""):
    """x -> a layer -> perhaps something -> BatchNormalization -> y."""
    b = Builder()
    b.const("w", np.ones((3, 2, 1, 1) if before == "Conv" else (2, 3), np.float32))
    channels = 12 if between == "Flatten" else 3
    for name in ("scale", "bias", "mean", "var"):
        b.const(name, np.ones(channels, np.float32))
    value = b.add(before, ["x", "w"], "made")
    value = b.add(between, [value], "between") if between else value
    b.add("BatchNormalization", [value, "scale", "bias", "mean", "var"], "y", name="norm")
    x = ["B", 2, 2, 2] if before == "Conv" else ["B", 2]
    y = ["B", 12] if between == "Flatten" else ["B", 3, 2, 2] if before == "Conv" else ["B", 3]
    return b.model([("x", TensorProto.FLOAT, x)], [("y", y)])


@pytest.mark.parametrize(
    ("before", "between", "folds"),
    [("Conv", "", True), ("Gemm", "", True), ("Conv", "Identity", True), ("Conv", "Relu", False),
     ("Conv", "Flatten", False)],
)  # fmt: skip
def test_a_normalisation_folds_into_what_is_right_before_it(before, between, folds):
    assert foldable(read_graph(normalised(before, between))) == ({"norm"} if folds else set())


def test_a_normalisation_that_could_be_folded_is_told_with_its_share(tmp_path, rng):
    onnx.save(normalised("Conv"), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", rng.random((5, 2, 2, 2)).astype(np.float32) + 1)
    found = estimate(tmp_path / "net.onnx", tmp_path / "x.npy").to_dict()
    assert found["foldable"] == ["norm"]
    assert wording.unfolded(found).endswith("could be folded: 12 of 36 MACs")
    assert wording.unfolded(found) in wording.findings(found)
    assert wording.unfolded(estimate(tmp_path / "net.onnx").to_dict()).endswith("12 of 36 dense MACs")
    assert wording.unfolded(networks()["measured"]) == ""


@pytest.mark.parametrize(
    ("found", "fits_"),
    [((-0.8, 1.8), True), ((-1.0, 2.0), True), ((0.0, 16.0), False), ((-3.0, 1.0), False), ((0.0, 1.0), False),
     ((0.0, 1.5), True), ((0.0, 0.0), True)],
)  # fmt: skip
def test_samples_that_were_not_normalised_are_outside_or_from_0_to_1(found, fits_):
    assert InputRange("images", found, (-0.81, 1.85)).fits is fits_


@pytest.mark.parametrize(("largest", "warns"), [(255.0, True), (1.0, True), (0.0, False)])
def test_samples_that_were_not_normalised_are_warned_of(rng, tmp_path, largest, warns):
    told = {"layout": "BCHW", "kind": "real", "mean": [0.5, 0.4], "std": [0.25, 0.2]}
    proto = exported_net(rng)
    (entry,) = [entry for entry in proto.metadata_props if entry.key == "snnsc.input"]
    entry.value = json.dumps(told)
    onnx.save(proto, tmp_path / "net.onnx")
    images = rng.random((4, 2, 6, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", images * largest if largest else (images - 0.5) / 0.25)
    found = estimate(tmp_path / "net.onnx", tmp_path / "x.npy").to_dict()
    assert found["input_range"]["expected"] == pytest.approx([-2, 3])
    line = wording.unprepared(found)
    assert bool(line) == (line in wording.findings(found)) == warns
    if warns:
        assert "normalised pixels lie from -2 to 3: give (x - [0.5, 0.4]) / [0.25, 0.2], x from 0 to 1" in line


@pytest.mark.parametrize("told", ["{}", '{"mean": null, "std": null}', '{"mean": [0], "std": [0]}', '{"mean": 3}'])
def test_metadata_that_tell_no_normalisation_expect_no_range(rng, tmp_path, told):
    proto = exported_net(rng)
    (entry,) = [entry for entry in proto.metadata_props if entry.key == "snnsc.input"]
    entry.value = json.dumps({"layout": "BCHW", "kind": "real", **json.loads(told)})
    onnx.save(proto, tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", rng.random((4, 2, 6, 6)).astype(np.float32) * 99)
    assert estimate(tmp_path / "net.onnx", tmp_path / "x.npy").input_range is None


def test_a_fit_is_shown_where_it_is_asked_for(capsys):
    found = report(made())
    assert "verdict" not in shown(capsys, found, chosen=True)
    text = shown(capsys, found, fit=True)
    assert "verdict" in text
    assert "no limits are published, or told, of spinnaker\n" in text
    found["energy"] = [entry for entry in found["energy"] if entry["kind"] == "arithmetic"]
    assert fits.no_limits(found) == ""


def test_a_chip_of_ones_own_is_not_called_published():
    found = report(made())
    titles = [title for title, _ in wording.by_kind(found)]
    assert titles == ["arithmetic alone", "arithmetic and memory", "chips, as published"]
    next(entry for entry in found["energy"] if entry["model"] == "loihi")["model"] = "mine"
    assert wording.by_kind(found)[-1][0] == "chips, as published or as you say"


def test_the_twin_is_said_to_be_charged_for_padding(rng, tmp_path):
    onnx.save(exported_net(rng), tmp_path / "net.onnx")
    for entry in estimate(tmp_path / "net.onnx").prices:
        told = any("padding zeros" in line for line in entry.assumptions)
        assert told == (entry.ann_pj is not None)


def test_a_first_layer_that_nir_repeats_is_told():
    counts = made()
    stem = replace(counts.layers[0], facts={**counts.layers[0].facts, "sources": []})
    counts = replace(counts, layers=(stem, *counts.layers[1:]))
    assert "conv1 computes real numbers at each of 4;" in wording.every_step(report(counts, "net.nir"))
    assert wording.every_step(report(counts, "net.onnx")) == ""
    spikes = replace(counts, layers=(replace(stem, input_kind="binary"), *counts.layers[1:]))
    assert wording.every_step(report(spikes, "net.nir")) == ""
