"""The commands a user types, in their order, on the embedded data; and what scripts rely on."""

import json
import subprocess
import sys

import pytest

FAST = ["--set", "train.epochs=6"]


def snnsc(*args, cwd, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "snnsc", *map(str, args)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


def as_json(*args, cwd):
    done = snnsc(*args, "--json", cwd=cwd)
    assert len(done.stdout.splitlines()) == 1
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def trained(folder):
    return as_json("train", "digits", *FAST, cwd=folder)


@pytest.fixture(scope="module")
def exported(folder, trained):
    return as_json("export", trained["checkpoint"], cwd=folder)


def test_train(folder, trained):
    assert trained["run_dir"] == "runs/digits-1"
    assert trained["checkpoint"] == "runs/digits-1/last.pt"
    assert trained["epochs"] == 6
    assert trained["best_accuracy"] > 0.9
    run = folder / trained["run_dir"]
    assert {f.name for f in run.iterdir()} >= {"last.pt", "best.pt", "metrics.jsonl", "recipe.toml"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    last = lines[-1]
    assert lines[0]["lambda"] > last["lambda"] > 0
    assert set(last["firing_rate"]) == {"stem.neurons.0", "stages.0.0.neuron", "stages.1.0.neuron"}
    assert all(0 < rate < 1 for rate in last["firing_rate"].values())
    assert set(last["gradient_norm"]) == {"stem.convs.0.conv", "stem", "stages.0.0", "stages.1.0", "head"}
    assert all(norm > 0 for norm in last["gradient_norm"].values())
    assert set(last["branch_accuracy"]) == {"0_0"}
    assert last["train_loss"] < lines[0]["train_loss"]


def test_the_resolved_recipe_trains_again(folder, trained):
    recipe = folder / trained["run_dir"] / "recipe.toml"
    again = as_json("train", recipe, "--set", "train.epochs=1", cwd=folder)
    assert again["run_dir"] == "runs/digits-2"  # nothing is overwritten


def test_eval(folder, trained):
    found = as_json("eval", trained["checkpoint"], cwd=folder)
    last = json.loads((folder / trained["run_dir"] / "metrics.jsonl").read_text().splitlines()[-1])
    assert found["accuracy"] == last["accuracy"]
    assert found["samples"] == sum(map(sum, found["confusion"]))
    assert len(found["accuracy_by_timestep"]) == 4
    assert found["accuracy_by_timestep"][-1] == found["accuracy"]
    assert {"name", "firing_rate", "dead"} <= set(found["layers"][0])
    assert sum(found["confusion"][i][i] for i in range(10)) / found["samples"] == found["accuracy"]


def test_strip(folder, trained):
    done = as_json("strip", trained["checkpoint"], cwd=folder)
    assert done["equal"] is True
    assert done["output"] == "runs/digits-1/last.stripped.pt"
    assert done["removed"] == ["shortcuts.0_0.linear.weight", "shortcuts.0_0.linear.bias"]
    assert done["parameters_before"] - done["parameters_after"] == 32 * 10 + 10
    assert done["samples"] >= 256
    full = as_json("eval", trained["checkpoint"], cwd=folder)
    plain = as_json("eval", done["output"], cwd=folder)
    assert (plain["accuracy"], plain["loss"]) == (full["accuracy"], full["loss"])
    again = snnsc("strip", done["output"], cwd=folder)
    assert "stripped already" in again.stdout


def test_strip_of_vanilla_says_so(folder):
    run = as_json("train", "digits", *FAST, "--set", "method={mode='vanilla'}", "--out", "v", cwd=folder)
    assert "no branches" in snnsc("strip", run["checkpoint"], cwd=folder).stdout
    done = as_json("strip", run["checkpoint"], cwd=folder)
    assert done["removed"] == []
    assert done["parameters_before"] == done["parameters_after"]


def test_export(exported):
    names = ["model.onnx", "energy.json", "verification.json"]
    assert exported["files"] == [f"runs/digits-1/{name}" for name in names]
    found = exported["verification"]
    assert found["samples"] >= 256
    assert found["argmax_agreement"] >= 0.99
    assert found["max_spike_flip_rate"] <= 1e-3
    assert abs(found["accuracy_torch"] - found["accuracy_onnx"]) <= 0.01


def test_eval_of_the_onnx_file_is_eval_of_the_checkpoint(folder, trained, exported):
    ours = as_json("eval", trained["checkpoint"], cwd=folder)
    theirs = as_json("eval", exported["files"][0], cwd=folder)
    assert theirs["accuracy"] == pytest.approx(ours["accuracy"], abs=0.01)
    assert theirs["accuracy_by_timestep"] == pytest.approx(ours["accuracy_by_timestep"], abs=0.01)
    for a, b in zip(ours["layers"], theirs["layers"], strict=True):
        assert a["name"] == b["name"]
        assert a["firing_rate"] == pytest.approx(b["firing_rate"], rel=1e-2)


def test_energy(folder, exported):
    found = as_json("energy", exported["files"][0], cwd=folder)
    assert found | {"model": "model.onnx"} == json.loads((folder / exported["files"][1]).read_text())
    assert (found["source"], found["model"]) == ("embedded", exported["files"][0])
    assert {e["model"] for e in found["energy"]} >= {"horowitz-fp32", "horowitz-fp16", "horowitz-int8"}
    for key in ("dense_macs", "macs", "acs", "events", "event_magnitude", "neuron_updates"):
        assert found["totals"][key] == pytest.approx(sum(layer[key] for layer in found["layers"]))
    assert found["totals"]["events"] == pytest.approx(found["totals"]["macs"] + found["totals"]["acs"])
    for entry in (entry for entry in found["energy"] if entry["kind"] in ("arithmetic", "memory")):
        assert entry["ratio"] == pytest.approx(entry["snn_pj"] / entry["ann_pj"])


def test_an_old_run_folder_is_not_touched(folder, trained):
    before = (folder / trained["checkpoint"]).read_bytes()
    done = snnsc("train", "digits", *FAST, "--out", trained["run_dir"], cwd=folder, code=2)
    assert "exists already" in done.stderr
    assert (folder / trained["checkpoint"]).read_bytes() == before


def test_validation_share_chooses_best(folder):
    run = as_json("train", "digits", *FAST, "--set", "data.validation=0.2", "--out", "val", cwd=folder)
    lines = [json.loads(line) for line in (folder / "val/metrics.jsonl").read_text().splitlines()]
    assert run["best_accuracy"] == max(line["validation_accuracy"] for line in lines)


def test_a_diverging_loss_stops_and_keeps_the_last_checkpoint(folder):
    args = ["--set", "train.optimizer={type='sgd',lr=1e30}", "--out", "nan"]
    done = snnsc("train", "digits", *FAST, *args, cwd=folder, code=1)
    assert "the loss is not finite in epoch 1, step" in done.stderr
    assert "train.clip_norm" in done.stderr
    assert not (folder / "nan/last.pt").exists()
