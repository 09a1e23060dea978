"""`snnsc energy` of NIR files: the counts of the same network in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("h5py")

from nir_files import affine, end, entry, flatten, lif, neurons, pool, write

from snnsc import build_model
from snnsc.energy import count, estimate, load_targets, read_graph
from snnsc.energy.report.wording import every_step
from snnsc.errors import ModelFileError, RecipeError
from snnsc.export.fold import fold
from snnsc.export.onnx import to_onnx
from snnsc.export.step import to_step
from snnsc.nir.write import to_nir
from snnsc.recipe.schema import Recipe

FUNCTIONS = {"LIF", "IF", "GainLIF", "GainIF", "AnyLIF", "AnyIF", "CubaLIF", "LI", "Threshold"}
COUNTED = ("dense_macs", "events", "acs", "neuron_updates", "spikes", "residual_adds")


def test_a_network_costs_in_nir_what_it_costs_in_onnx(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = make_recipe("model.stages=[[4,6],[8]]")
    torch.manual_seed(1)
    network, _ = fold(build_model(recipe).eval())
    images = np.random.default_rng(0).random((6, 1, 8, 8), np.float32) * 20
    frames = np.broadcast_to(images, (4, *images.shape))
    whole = count(read_graph(to_onnx(network, recipe)), [{"images": images}])
    path = tmp_path / "n.nir"
    path.write_bytes(to_nir(to_step(network, recipe), encoding="r", dt=1e-4, metadata={"snnsc.T": "4"}))
    np.savez(tmp_path / "x.npz", frames)
    report = estimate(path, tmp_path / "x.npz")
    assert not report.counts.not_counted
    layers = {layer.name: layer.stats for layer in report.counts.layers}
    compared = 0
    for layer in whole.layers:
        head = layer.name.startswith("head")  # which may be said in another way
        if layer.name not in layers or head or layer.name == "stem.convs.0":
            continue
        compared += 1
        for key in set(COUNTED) & layer.stats.keys():
            assert layers[layer.name][key] == layer.stats[key], (layer.name, key)
    assert compared == 6
    # NIR has no time axis to hold an image along: its first layer runs at every step
    stem = next(layer.stats for layer in whole.layers if layer.name == "stem.convs.0")
    assert layers["stem.convs.0"]["events"].total == 4 * stem["events"].total
    assert "stem.convs.0 computes real numbers at each of 4" in every_step(report.to_dict())
    assert report.prices[0].not_priced == ()
    without = estimate(path)
    assert without.source == "none"
    assert [row.name for row in without.counts.layers] == [row.name for row in report.counts.layers]


def test_events_of_a_summed_pool_are_additions_where_they_are_single(tmp_path: Path) -> None:
    nodes = {
        "input": entry(1, 4, 4),
        "pool": pool("SumPool2d"),
        "flat": flatten(),
        "fc": affine(np.ones((3, 4)), np.zeros(3)),
        "lif": lif(3),
        "output": end(3),
    }
    frames = np.zeros((2, 1, 1, 4, 4), np.float32)
    frames[0, 0, 0, 0, 0] = 1  # a window with one event
    frames[1, 0, 0, 2:, 2:] = 1  # one with four
    np.savez(tmp_path / "x.npz", frames)
    report = estimate(write(tmp_path / "n.nir", nodes), tmp_path / "x.npz")
    row = next(layer for layer in report.to_dict()["layers"] if layer["name"] == "fc")
    assert (row["input_kind"], row["events"], row["acs"], row["macs"]) == ("scaled", 6, 3, 3)
    assert report.counts.violations == ()


@pytest.mark.parametrize(("value", "kind"), [(1, "binary"), (2, "integer"), (0.5, "real")])
def test_what_an_input_holds_the_samples_tell_as_of_onnx_files(tmp_path: Path, value: float, kind: str) -> None:
    path = write(tmp_path / "n.nir", {"input": entry(2), "fc": affine(np.ones((3, 2)), np.zeros(3)), "output": end(3)})
    np.savez(tmp_path / "x.npz", np.array([[[0, value]], [[value, value]]], np.float32))
    report = estimate(path, tmp_path / "x.npz")
    assert report.counts.layers[0].input_kind == kind
    assert report.counts.violations == ()


def test_the_open_axis_of_a_nir_file_is_called_time(tmp_path: Path) -> None:
    path = write(tmp_path / "n.nir", {"input": entry(2), "fc": affine(np.ones((3, 2)), np.zeros(3)), "output": end(3)})
    with pytest.raises(
        ModelFileError, match=r"\[T,N,2\] leaves sizes open, T is the number of time steps; give --inputs"
    ):
        estimate(path)


def test_real_inputs_are_multiplications_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "n.nir", {"input": entry(2), "fc": affine(np.ones((3, 2)), np.zeros(3)), "output": end(3)})
    np.savez(tmp_path / "x.npz", np.full((2, 1, 2), 0.5, np.float32))
    row = estimate(path, tmp_path / "x.npz").to_dict()["layers"][0]
    assert (row["events"], row["macs"], row["acs"]) == (12, 12, 0)


def test_a_leaky_integrator_gives_no_spikes(tmp_path: Path) -> None:
    integrator = neurons("LI", tau=[2e-4] * 3, r=[1] * 3, v_leak=[0] * 3)
    nodes = {"input": entry(3), "li": integrator, "fc": affine(np.ones((2, 3)), [0, 0]), "output": end(2)}
    np.savez(tmp_path / "x.npz", np.ones((4, 2, 3), np.float32))
    report = estimate(write(tmp_path / "n.nir", nodes), tmp_path / "x.npz").to_dict()
    integrating, linear = report["layers"][:2]
    assert (integrating["op"], integrating["neuron_updates"], integrating["spikes"]) == ("LI", 12, 0)
    assert (linear["input_kind"], linear["macs"]) == ("real", 24)


def test_every_function_has_a_price() -> None:
    for target in (t for t in load_targets() if t.kind in ("arithmetic", "memory")):
        assert target.neuron.keys() >= FUNCTIONS


def test_the_time_step_is_for_nir_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "n.nir", {"input": entry(1), "lif": lif(1, tau=1e-2, r=100.0), "output": end(1)})
    np.savez(tmp_path / "x.npz", np.ones((10, 1, 1), np.float32))
    spikes = [estimate(path, tmp_path / "x.npz", dt=dt).to_dict()["layers"][0]["spikes"] for dt in (None, 1e-4, 5e-3)]
    assert spikes == [5, 5, 10]
    with pytest.raises(RecipeError, match=r"--dt 0.1: .*model.onnx is no NIR file"):
        estimate(tmp_path / "model.onnx", dt=0.1)
    with pytest.raises(ModelFileError, match=r"missing.nir: no such file"):
        estimate(tmp_path / "missing.nir")
