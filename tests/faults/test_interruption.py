"""Training that is interrupted, or killed, and gone on with ends with the very same weights (CPU)."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

EPOCHS = 4
ARGS = [
    "digits",
    "--set",
    f"train.epochs={EPOCHS}",
    "--set",
    "train.batch_size=16",
    "--set",
    "data.augment={crop=1}",
    "--set",
    "train.precision=bf16",
]


def start(*args, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "snnsc", "train", *args],
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process, code=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out + err


def wait_for_epoch(run, epoch):
    deadline = time.monotonic() + 200
    metrics = run / "metrics.jsonl"
    while time.monotonic() < deadline:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= epoch:
            return
        time.sleep(0.005)
    pytest.fail("training did not get there")


def weights(run):
    return torch.load(run / "last.pt", weights_only=True)["model"]


def epochs(run):
    drop = {"seconds", "samples_per_second"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in drop} for line in lines]


def assert_same_run(a, b):
    wa, wb = weights(a), weights(b)
    assert wa.keys() == wb.keys()
    assert all(torch.equal(wa[name], wb[name]) for name in wa)
    assert epochs(a) == epochs(b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("whole")
    finish(start(*ARGS, "--out", "run", cwd=cwd))
    return cwd / "run"


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path, whole, which):
    process = start(*ARGS, "--out", "run", cwd=tmp_path)
    wait_for_epoch(tmp_path / "run", 1)
    process.send_signal(which)
    said = finish(process, 130)
    assert "go on with: snnsc train --resume run" in said
    state = torch.load(tmp_path / "run/last.pt", weights_only=True)["training"]
    assert (state["epoch"], state["step"]) != (EPOCHS, 0)
    finish(start("--resume", "run", cwd=tmp_path))
    assert_same_run(tmp_path / "run", whole)


def test_killed_between_checkpoints(tmp_path, whole):
    process = start(*ARGS, "--out", "run", cwd=tmp_path)
    wait_for_epoch(tmp_path / "run", 2)
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    finish(start("--resume", "run", cwd=tmp_path))
    assert_same_run(tmp_path / "run", whole)


def test_a_finished_run_has_nothing_to_go_on_with(whole):
    before = weights(whole)
    said = finish(start("--resume", str(whole), cwd=whole.parent))
    assert f"all {EPOCHS} epochs are done" in said
    assert all(torch.equal(before[k], v) for k, v in weights(whole).items())


def test_resume_refuses_other_data(tmp_path, whole):
    content = torch.load(whole / "last.pt", weights_only=True)
    facts = json.loads(content["facts"])
    content["facts"] = json.dumps({**facts, "train_samples": 7})
    content["training"]["epoch"] = 1
    (tmp_path / "run").mkdir()
    torch.save(content, tmp_path / "run/last.pt")
    assert "the data set has changed" in finish(start("--resume", "run", cwd=tmp_path), 3)


def test_two_processes_train_the_same_network_as_torchrun_says(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "snnsc", "train", *ARGS, "--out", "run", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert result["epochs"] == EPOCHS
    assert result["best_accuracy"] > 0.8
    assert len(epochs(tmp_path / "run")) == EPOCHS
