"""Bad input gets one clear error and its exit code, and nothing is lost; found by trying to break the program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from snnsc import cli


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    command = ["train", "digits", "--set", "train.epochs=2", "--set", "train.compile=off", "--out", "run"]
    subprocess.run([sys.executable, "-m", "snnsc", *command], cwd=folder, check=True, capture_output=True)
    return folder / "run/last.pt"


@pytest.fixture
def snnsc(monkeypatch, capsys):
    """Run the command line in this process; gives (exit code, stdout, stderr)."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["snnsc", *map(str, args)])
        monkeypatch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return stopped.value.code or 0, out, err

    return run


def edited(source, target, change):
    content = torch.load(source, weights_only=True)
    change(content)
    torch.save(content, target)
    return target


def test_strip_and_export_keep_their_input(snnsc, trained):
    before = trained.read_bytes()
    code, _, err = snnsc("strip", trained, "--out", trained)
    assert (code, trained.read_bytes()) == (2, before)
    assert "is the file it would be made from" in err
    assert snnsc("export", trained, "--out", trained)[0] == 2
    assert trained.read_bytes() == before


@pytest.mark.parametrize(
    ("out", "what"), [("x.json", "must end in .onnx"), ("none/x.onnx", "no folder"), ("dir.onnx", "is a folder")]
)
def test_export_refuses_a_bad_place_before_any_work(snnsc, trained, tmp_path, out, what):
    (tmp_path / "dir.onnx").mkdir()
    code, _, err = snnsc("export", trained, "--out", tmp_path / out)
    assert code == 2
    assert what in err


def test_export_writes_both_files_or_none(snnsc, trained, tmp_path):
    (tmp_path / "energy.json").mkdir()
    code, _, err = snnsc("export", trained, "--out", tmp_path / "m.onnx")
    assert code == 2
    assert "energy.json would be replaced, which snnsc export did not write" in err
    assert [f.name for f in tmp_path.iterdir()] == ["energy.json"]


def test_weights_that_are_no_numbers_are_not_exported(snnsc, trained, tmp_path):
    def spoil(content):
        content["model"]["head.linear.weight"][0] = float("nan")

    path = edited(trained, tmp_path / "nan.pt", spoil)
    for command in ("strip", "export"):
        code, _, err = snnsc(command, path)
        assert code == 1
        assert "not finite" in err
    assert [f.name for f in tmp_path.iterdir()] == ["nan.pt"]
    code, out, _ = snnsc("eval", path, "--json")
    assert code == 0
    assert json.loads(out, parse_constant=pytest.fail)["loss"] is None


CHANGES = {
    "kind": lambda c: c.update(kind="foo"),
    "stripped with branches": lambda c: c.update(kind="stripped"),
    "facts": lambda c: c.update(facts="[]"),
    "deep facts": lambda c: c.update(facts="[" * 100_000),
    "weights": lambda c: c.update(model=[1]),
    "version": lambda c: c.update(version="1"),
    "recipe": lambda c: c.update(recipe="{}"),
    "result": lambda c: c.update(result="{"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_edited_checkpoint_is_one_error(snnsc, trained, tmp_path, change):
    path = edited(trained, tmp_path / "c.pt", CHANGES[change])
    for command in ("eval", "strip", "export"):
        code, _, err = snnsc(command, path)
        assert code == 4
        assert err.startswith(f"snnsc: {path}: ")


STATES = {
    "a list": lambda c: c.update(training=[]),
    "no optimizer": lambda c: c["training"].pop("optimizer"),
    "epoch": lambda c: c["training"].update(epoch="x"),
    "step": lambda c: c["training"].update(step=10**6),
    "precision": lambda c: c["training"].update(precision="foo"),
    "steps": lambda c: c["training"].update(steps_per_epoch=3),
    "rng": lambda c: c["training"].update(rng_cpu=torch.zeros(3, dtype=torch.uint8)),
    "weight": lambda c: c["model"].pop("head.linear.bias"),
}


@pytest.mark.parametrize("change", STATES)
def test_a_damaged_training_state_is_one_error(snnsc, trained, tmp_path, change):
    (tmp_path / "run").mkdir()
    edited(trained, tmp_path / "run/last.pt", STATES[change])
    code, _, err = snnsc("train", "--resume", tmp_path / "run")
    assert code == 4
    assert "damaged" in err


def test_metrics_that_are_no_text_do_not_stop_a_resume(snnsc, trained, tmp_path):
    (tmp_path / "run").mkdir()
    edited(trained, tmp_path / "run/last.pt", lambda c: c["training"].update(epoch=1))
    (tmp_path / "run/metrics.jsonl").write_bytes(b'{"epoch": 1}\n\xff\xfe\n')
    code, _, _ = snnsc("train", "--resume", tmp_path / "run")
    assert code == 0
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_a_run_that_is_running_is_not_resumed(snnsc, trained, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "run").mkdir()
    edited(trained, tmp_path / "run/last.pt", lambda c: c["training"].update(epoch=1))
    with (tmp_path / "run/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = snnsc("train", "--resume", tmp_path / "run")
    assert code == 2
    assert "another process is training in this folder" in err


def test_a_runs_that_leads_nowhere_is_an_error(snnsc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").symlink_to("/nonexistent/x")
    code, _, err = snnsc("train", "digits", "--set", "train.epochs=1", "--set", "train.compile=off")
    assert code == 1
    assert "the run folder cannot be made" in err


def test_a_last_step_that_diverges_is_seen(snnsc, tmp_path):
    overrides = ("train.optimizer.lr=1e38", "data.train_limit=40", "train.epochs=1", "train.compile=off")
    settings = [part for setting in overrides for part in ("--set", setting)]
    code, _, err = snnsc("train", "digits", *settings, "--out", tmp_path / "run")
    assert code == 1
    assert "not finite" in err


def test_other_classes_are_refused(snnsc, trained, tmp_path):
    def rename(content):
        facts = json.loads(content["facts"])
        content["facts"] = json.dumps({**facts, "classes": [f"c{i}" for i in range(10)]})

    code, _, err = snnsc("eval", edited(trained, tmp_path / "c.pt", rename))
    assert code == 3
    assert "was trained on the classes" in err


def test_names_that_look_like_markup_are_shown_as_they_are(snnsc, tmp_path):
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="[/red]layer")
    value = onnx.helper.make_tensor_value_info
    weight = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, ["B", 4])], [value("y", 1, ["B", 3])], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    code, out, _ = snnsc("energy", tmp_path / "m.onnx")
    assert code == 0
    assert "[/red]layer" in out


@pytest.mark.parametrize("name", ["x" * 300, ".", "/dev/null"])
def test_what_is_no_file(snnsc, name):
    for command in ("eval", "strip", "export", "energy"):
        assert snnsc(command, name)[0] == 4


def test_closed_output_is_no_traceback(trained):
    command = f"{sys.executable} -m snnsc eval {trained} >&- 2>/dev/stderr"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
