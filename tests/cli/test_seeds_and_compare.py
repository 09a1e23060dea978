"""Several seeds in one folder, stopped and killed anywhere, and arms side by side."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

EPOCHS = 3
ARGS = ["digits", "--set", f"train.epochs={EPOCHS}", "--set", "train.compile=off", "--set", "train.batch_size=16"]


def start(*args, cwd, command=(sys.executable,)):
    return subprocess.Popen(
        [*command, "-m", "snnsc", *map(str, args)], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process, code=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def snnsc(*args, cwd, code=0):
    return finish(start(*args, cwd=cwd), code)


def as_json(*args, cwd):
    out, _ = snnsc(*args, "--json", cwd=cwd)
    assert len(out.splitlines()) == 1
    return json.loads(out)


def wait_for(done, what):
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if done():
            return
        time.sleep(0.002)
    pytest.fail(f"{what} did not come")


def lines(run):
    metrics = run / "metrics.jsonl"
    return metrics.read_text().splitlines() if metrics.exists() else []


def epochs(run):
    drop = {"seconds", "samples_per_second"}
    return [{k: v for k, v in json.loads(line).items() if k not in drop} for line in lines(run)]


def assert_same_run(a, b):
    wa, wb = (torch.load(run / "last.pt", weights_only=True)["model"] for run in (a, b))
    assert wa.keys() == wb.keys()
    assert all(torch.equal(wa[name], wb[name]) for name in wa)
    assert epochs(a) == epochs(b)
    assert len(epochs(a)) == EPOCHS


def assert_same_seeds(folder, whole):
    assert {f.name for f in folder.iterdir()} == {f.name for f in whole.iterdir()} == {"seeds.json", "seed-3", "seed-1"}
    for seed in (3, 1):
        assert_same_run(folder / f"seed-{seed}", whole / f"seed-{seed}")


@pytest.fixture(scope="module")
def cwd(tmp_path_factory):
    return tmp_path_factory.mktemp("seeds")


@pytest.fixture(scope="module")
def trained(cwd):
    return as_json("train", *ARGS, "--seeds", "3,1", cwd=cwd)


@pytest.fixture(scope="module")
def whole(cwd, trained):
    return cwd / trained["run_dir"]


# ---------------------------------------------------------------------------------------------------------- training


def test_the_result_is_of_every_seed(trained):
    assert trained["run_dir"] == "runs/digits-1"
    assert [run["seed"] for run in trained["runs"]] == [3, 1]
    assert [run["run_dir"] for run in trained["runs"]] == ["runs/digits-1/seed-3", "runs/digits-1/seed-1"]
    for key, mean, std in (("accuracy", "mean", "std"), ("best_accuracy", "best_mean", "best_std")):
        values = [run[key] for run in trained["runs"]]
        assert trained[mean] == pytest.approx(statistics.mean(values))
        assert trained[std] == pytest.approx(statistics.stdev(values))
    assert {run["epochs"] for run in trained["runs"]} == {EPOCHS}


def test_each_seed_is_a_run_of_its_own(cwd, whole):
    alone = as_json("train", *ARGS, "--set", "seed=1", "--out", "alone", cwd=cwd)
    assert set(alone) == {"run_dir", "checkpoint", "best_accuracy", "accuracy", "epochs", "seconds"}
    assert_same_run(whole / "seed-1", cwd / "alone")
    assert (whole / "seed-1/recipe.toml").read_text() == (cwd / "alone/recipe.toml").read_text()
    assert {f.name for f in (whole / "seed-1").iterdir()} == {f.name for f in (cwd / "alone").iterdir()}
    assert (
        as_json("eval", whole / "seed-3/last.pt", cwd=cwd)["accuracy"]
        == json.loads(lines(whole / "seed-3")[-1])["accuracy"]
    )


def test_finished_seeds_are_not_trained_again(cwd, whole, trained):
    before = {f: f.read_bytes() for f in whole.rglob("*") if f.is_file()}
    out, err = snnsc("train", "--resume", whole, cwd=cwd)
    assert err.splitlines() == [f"seed {seed}: all {EPOCHS} epochs are done" for seed in (3, 1)]
    said = out.splitlines()
    assert said[0].startswith(f"seed 3: accuracy {trained['runs'][0]['accuracy']:.2%}, best ")
    assert said[1].startswith("seed 1: accuracy ")
    assert (
        said[2]
        == f"accuracy {100 * trained['mean']:.1f} +/- {100 * trained['std']:.1f} % (2 seeds) after epoch {EPOCHS}"
    )
    assert said[3].startswith(f"best.pt: {100 * trained['best_mean']:.1f} +/- ")
    assert said[4] == f"next: snnsc compare {whole}"
    assert {f: f.read_bytes() for f in whole.rglob("*") if f.is_file()} == before


def test_one_seed_has_no_deviation(tmp_path):
    run = as_json("train", *ARGS, "--seeds", "3", "--out", "one", "--set", "train.epochs=1", cwd=tmp_path)
    assert run["std"] is None
    out, _ = snnsc("train", "--resume", "one", cwd=tmp_path)
    assert f"accuracy {100 * run['mean']:.1f} % (1 seed) after epoch 1" in out


@pytest.mark.parametrize(("seed", "which"), [(3, signal.SIGINT), (1, signal.SIGTERM)])
def test_interrupted_and_gone_on_with(tmp_path, whole, seed, which):
    process = start("train", *ARGS, "--seeds", "3,1", "--out", "s", cwd=tmp_path)
    wait_for(lambda: lines(tmp_path / f"s/seed-{seed}"), "the first epoch")
    process.send_signal(which)
    out, err = finish(process, 130)
    assert out == ""
    assert "go on with: snnsc train --resume s\n" in err
    assert f"saved s/seed-{seed}/last.pt" in err
    assert (tmp_path / "s/seed-1").exists() == (seed == 1)
    snnsc("train", "--resume", "s", cwd=tmp_path)
    assert_same_seeds(tmp_path / "s", whole)


def test_terminated_between_the_seeds(tmp_path, whole):
    """While the second's data are loaded: it has not begun, and there is nothing to save."""
    shutil.copytree(whole, tmp_path / "s")
    shutil.rmtree(tmp_path / "s/seed-1")
    process = start("train", "--resume", "s", cwd=tmp_path)
    assert process.stderr.readline() == f"seed 3: all {EPOCHS} epochs are done\n"
    assert process.stderr.readline() == "seed 1 (2 of 2)\n"
    process.terminate()
    _, err = finish(process, 130)
    assert err.endswith("go on with: snnsc train --resume s\n")
    snnsc("train", "--resume", "s", cwd=tmp_path)
    assert_same_seeds(tmp_path / "s", whole)


def test_killed_anywhere(tmp_path, whole):
    """Each kill leaves a folder that goes on to the very same weights, or no folder of seeds at all."""
    reached = {
        "the plan": lambda: (tmp_path / "s/seeds.json").exists(),
        "a first epoch": lambda: lines(tmp_path / "s/seed-3"),
        "the second seed": lambda: (tmp_path / "s/seed-1/recipe.toml").exists(),
        "its second epoch": lambda: len(lines(tmp_path / "s/seed-1")) == 2,
    }
    arguments = [*ARGS, "--seeds", "3,1", "--out", "s"]
    for what, done in reached.items():
        process = start("train", *arguments, cwd=tmp_path)
        wait_for(done, what)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        arguments = ["--resume", "s"]
    snnsc("train", "--resume", "s", cwd=tmp_path)
    assert_same_seeds(tmp_path / "s", whole)


def test_two_processes_as_torchrun_says(tmp_path):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    arguments = ["train", *ARGS, "--set", "train.epochs=1", "--seeds", "3,1", "--out", "s", "--json"]
    out, _ = finish(start(*arguments, cwd=tmp_path, command=torchrun))
    result = json.loads(out.strip().splitlines()[-1])
    assert [run["epochs"] for run in result["runs"]] == [1, 1]
    assert len(epochs(tmp_path / "s/seed-1")) == 1


def test_an_old_folder_is_not_touched(cwd, whole):
    before = (whole / "seeds.json").read_bytes()
    _, err = snnsc("train", *ARGS, "--seeds", "5", "--out", whole, cwd=cwd, code=2)
    assert "exists already; nothing is overwritten" in err
    assert (whole / "seeds.json").read_bytes() == before


def test_a_run_that_fails_names_its_seed(tmp_path):
    arguments = ["--set", "train.optimizer={type='sgd',lr=1e30}", "--seeds", "3,1", "--out", "s"]
    _, err = snnsc("train", *ARGS, *arguments, cwd=tmp_path, code=1)
    assert "snnsc: seed 3: the loss is not finite in epoch 1, step" in err


def test_a_seed_of_another_recipe_is_not_counted_in(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "s")
    plan = json.loads((whole / "seeds.json").read_text())
    plan["recipe"]["train"]["batch_size"] = 32
    (tmp_path / "s/seeds.json").write_text(json.dumps(plan))
    _, err = snnsc("train", "--resume", "s", cwd=tmp_path, code=4)
    assert err == "snnsc: s/seed-3/last.pt: was trained with another recipe than s/seeds.json says\n"


# --------------------------------------------------------------------------------------------------------- comparing


@pytest.fixture(scope="module")
def plain(cwd):
    """Another arm than `whole`, whose method is evolutionary."""
    snnsc("train", *ARGS, "--set", "method.mode=vanilla", "--seeds", "0,1", "--out", "plain", cwd=cwd)
    return Path("plain")


def test_arms_side_by_side(cwd, whole, plain, trained):
    found = as_json("compare", plain, whole, "--png", "compare.png", cwd=cwd)
    assert found["png"] == "compare.png"
    assert (cwd / "compare.png").read_bytes().startswith(b"\x89PNG")
    first, second = found["arms"]
    assert (first["arm"], second["arm"]) == ("plain", "digits-1")
    assert second["accuracy"] == {"mean": trained["mean"], "std": trained["std"], "n": 2}
    assert second["best_accuracy"]["mean"] == pytest.approx(trained["best_mean"])
    assert (first["branch_parameters"], second["branch_parameters"]) == (0, 330)
    assert first["parameters"] == second["parameters"]
    norms = [
        statistics.mean(
            json.loads(line)["gradient_norm"]["stem.convs.0.conv"] for line in lines(whole / f"seed-{seed}")
        )
        for seed in (3, 1)
    ]
    assert second["first_gradient"]["mean"] == pytest.approx(statistics.mean(norms))
    (difference,) = found["differences"]
    assert difference["points"] == pytest.approx(100 * (second["accuracy"]["mean"] - first["accuracy"]["mean"]))
    assert sorted(p.name for p in cwd.iterdir() if p.name.startswith(".")) == []  # nothing half-written


def test_the_same_arms_as_a_table(cwd, whole, plain):
    out, err = snnsc("compare", plain, whole, "--labels", "without,with", cwd=cwd)
    assert err == ""
    assert "with - without: " in out
    assert [line.split()[0] for line in out.splitlines() if " +/- " in line][:2] == ["without", "with"]
    out, _ = snnsc("compare", plain, whole, "--markdown", cwd=cwd)
    assert out.splitlines()[0].startswith("| arm | seeds | accuracy % |")


def test_exported_arms_show_their_energy(cwd, whole, plain):
    snnsc("export", whole / "seed-1/last.pt", "--max-flip-rate", "1", cwd=cwd)
    energy = json.loads((whole / "seed-1/energy.json").read_text())["energy"]
    (entry,) = [entry for entry in energy if entry["model"] == "horowitz-fp32"]
    first, second = as_json("compare", plain, whole, cwd=cwd)["arms"]
    assert first["ratio"] is None
    assert second["ratio"] == {"mean": entry["ratio"], "std": None, "n": 1}
    assert second["snn_pj"]["mean"] == entry["snn_pj"]


def test_warnings_stand_beside_the_result(cwd, tmp_path, whole):
    shutil.copytree(whole, tmp_path / "other")
    for recipe in (tmp_path / "other").glob("*/recipe.toml"):
        recipe.write_text(recipe.read_text().replace('type = "digits"', 'type = "digits"\ntest_limit = 50'))
    (tmp_path / "other/seed-1/metrics.jsonl").unlink()
    shutil.copytree(whole / "seed-1", tmp_path / "again")
    out, err = snnsc("compare", tmp_path / "other", whole, tmp_path / "again", "--markdown", cwd=cwd)
    warnings = err.splitlines()
    assert warnings[0] == f"{tmp_path / 'other/seed-1'}: no epoch is done yet; left out"
    assert warnings[1].startswith("warning: the arms are of different data sets")
    assert "digits (test_limit=50)" in warnings[1]
    assert warnings[2].startswith("warning: digits-1: has a seed more than once (3, 1, 1)")
    table, *remarks = out.split("\n\n")
    assert len(table.splitlines()) == 4
    assert [line.strip() for line in remarks] == ["other: test_limit=50", "digits-1: test_limit=none"]
    assert len(warnings) == 3


def test_a_picture_overwrites_a_picture_and_nothing_else(cwd, whole, tmp_path):
    (tmp_path / "a.png").write_text("old")
    snnsc("compare", whole, "--png", tmp_path / "a.png", cwd=cwd)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "folder.png").mkdir()
    for path, message in (
        (tmp_path / "folder.png", "is a folder; name a file"),
        (whole / "seeds.json", "must end in .png"),
    ):
        _, err = snnsc("compare", whole, "--png", path, cwd=cwd, code=2)
        assert message in err
    link = tmp_path / "link.png"
    link.symlink_to(whole / "seed-3/metrics.jsonl")
    before = lines(whole / "seed-3")
    snnsc("compare", whole, "--png", link, cwd=cwd)  # the picture takes the place of the link
    assert lines(whole / "seed-3") == before
