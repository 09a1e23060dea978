"""The C program, compiled and run, against the step model in onnxruntime."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from snnsc.errors import CheckError, RecipeError, SnnscError
from snnsc.export.c import LARGEST_STATIC, WEIGHTS_FILE, to_c
from snnsc.export.compiled import build, check_compiled, classify
from snnsc.export.fold import fold
from snnsc.export.metadata import set_metadata, step_entries
from snnsc.export.runtime import StepNetwork
from snnsc.export.step import to_step
from snnsc.export.verify import Bounds
from snnsc.model import build_model

pytest.importorskip("emx_onnx_cgen")
GCC = shutil.which("gcc")
needs_gcc = pytest.mark.skipif(GCC is None, reason="there is no gcc")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
NAMES = ['a "quoted" one', "two\nlines??/", "*/ ends no comment", *"3456789"]


def step_model(recipe, network, classes=tuple("0123456789")):
    kind = "TBCHW" if recipe.data.is_event else "BCHW"
    about = {
        "snnsc.T": str(recipe.model.T),
        "snnsc.classes": json.dumps(classes),
        "snnsc.input": json.dumps({"layout": kind, "coding": "as it is", "mean": [0.5], "std": [0.25]}),
    }
    if network.step_weights is not None:
        about["snnsc.step_weights"] = json.dumps(network.step_weights.tolist())
    model = to_step(fold(network)[0], recipe)
    set_metadata(model, about | step_entries(model))
    return model


def firing(recipe, samples):
    """A network whose statistics are those of the samples, and whose neurons fire."""
    network = build_model(recipe, branches=False).train()
    with torch.no_grad():
        for _ in range(12):
            network(samples)
        for name, parameter in network.named_parameters():
            if ".norm." in name and name.endswith("bias"):
                parameter.add_(0.4)
    return network.eval()


@pytest.fixture(scope="module")
def digits(make_recipe):
    """A network with weights of its steps, its step model, the C files, and real digits."""
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images[:64, None].astype(np.float32)) / 8 - 1
    recipe = make_recipe("model.T=3", "method.weighting={warmup_epochs=0}")
    network = firing(recipe, images)
    network.step_weights.copy_(torch.tensor([0.7, 1.1, 1.2]))
    model = step_model(recipe, network, NAMES)
    return network, model, to_c(model), images


@pytest.fixture(scope="module")
def program(digits, tmp_path_factory):
    return build(GCC, digits[2], tmp_path_factory.mktemp("c"))


@needs_gcc
def test_the_program_classifies_as_the_step_model(digits):
    _, model, files, images = digits
    step = StepNetwork(model, "step")
    found = check_compiled(files, step, [(images[:24], torch.zeros(24))], Bounds())
    assert found.samples == 24
    assert found.argmax_agreement == 1
    assert 0 < found.max_logit_difference < 1e-4
    assert len(set(step.run(images[:24].numpy())[0].mean(0).argmax(-1))) > 1
    json.dumps(found.to_dict())


@needs_gcc
def test_an_image_is_held_and_frames_follow_one_another(digits, program):
    network, _, _, images = digits
    with torch.no_grad():
        image, frames = network(images[:1])[0].numpy(), network(images[:3, None])[0].numpy()
    np.testing.assert_allclose(classify(program, images[0].numpy()), image, atol=1e-4)
    np.testing.assert_allclose(classify(program, images[:3].numpy()), frames, atol=1e-4)
    np.testing.assert_array_equal(
        classify(program, images[:1].repeat(3, 1, 1, 1).numpy()), classify(program, images[0])
    )
    assert np.abs(image - frames).max() > 1e-2


@needs_gcc
@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"", 3, "must hold whole frames of 256 bytes"),
        (b"\0" * 255, 3, "must hold whole frames of 256 bytes"),
        (b"\0" * 257, 3, "must hold whole frames of 256 bytes"),
        (b"\0" * 512, 3, "has 2 frames; the network weighs each of its 3 time steps"),
        (b"\xff" * 256, 3, "holds infinite values or no numbers"),
        (None, 3, "cannot be opened"),
    ],
)
def test_a_bad_file_is_one_line(program, tmp_path, content, code, message):
    path = tmp_path / "frames.bin"
    if content is not None:
        path.write_bytes(content)
    done = subprocess.run([program, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"{path}: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@needs_gcc
def test_usage_and_what_is_printed(program, digits):
    done = subprocess.run([program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "float32 frames of 1 x 8 x 8" in done.stderr
    logits = classify(program, digits[3][0])
    done = subprocess.run([program, program.with_name("sample.bin")], capture_output=True, text=True)
    first, *rows = done.stdout.splitlines()
    names = [" ".join(name.split()) for name in NAMES]
    assert first == f"class {logits.argmax()}: {names[logits.argmax()]}"
    assert [row.split(maxsplit=1)[1] for row in rows] == names


@needs_gcc
def test_our_files_compile_without_warnings_and_make_works(program):
    folder = program.parent
    done = subprocess.run([GCC, *STRICT, "-c", "main.c", "-o", "main.o"], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in folder.iterdir()} >= {"Makefile", "model.c", "model_data.c", "network.h"}
    if shutil.which("make"):
        done = subprocess.run(["make", "-B"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr


def test_the_files_say_nothing_of_this_machine_and_are_the_same_twice(digits):
    _, model, files, _ = digits
    assert to_c(model) == files
    text = "".join(files.values())
    assert not [secret for secret in ("/home", "/work", "/tmp", "site-packages", ".onnx\n") if secret in text]
    assert "two lines" not in files["model.c"]  # nothing of the metadata stands in comments


@needs_gcc
def test_events_two_states_and_weights_in_a_file(make_recipe, tmp_path, monkeypatch):
    """No large network is needed to see the file: the limit is lowered instead."""
    assert LARGEST_STATIC > 10**6
    monkeypatch.setattr("snnsc.export.c.LARGEST_STATIC", 1000)
    recipe = make_recipe("data={type='nmnist',size=16}", "model.T=4", "model.neuron.type=clif")
    frames = torch.poisson(torch.full((4, 6, 2, 16, 16), 0.7), generator=torch.Generator().manual_seed(5))
    model = step_model(recipe, firing(recipe, frames))
    files = to_c(model)
    assert len(files["model_data.c"]) < 2000
    found = check_compiled(files, StepNetwork(model, "step"), [(frames, torch.zeros(6))], Bounds())
    assert found.samples == 6
    assert found.max_logit_difference < 1e-4
    program = build(GCC, files, tmp_path)
    classify(program, frames[:, 0].numpy())
    for content in (files[WEIGHTS_FILE][:-4], None):
        program.with_name(WEIGHTS_FILE).unlink()
        if content is not None:
            program.with_name(WEIGHTS_FILE).write_bytes(content)
        done = subprocess.run([program, "sample.bin"], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr == "model.bin: missing or too short; run the program in its folder\n"


@needs_gcc
def test_another_network_is_found_out(digits):
    _, model, files, images = digits
    with pytest.raises(CheckError, match="agree on the class of"):
        check_compiled(files, StepNetwork(model, "step"), [(images[:8], None)], Bounds(min_argmax_agreement=1.1))
    broken = {**files, "model.c": "int nothing;"}
    with pytest.raises(CheckError, match="does not compile"):
        check_compiled(broken, StepNetwork(model, "step"), [(images[:8], None)], Bounds())


def test_without_a_compiler_nothing_is_said(digits, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert check_compiled(digits[2], StepNetwork(digits[1], "step"), [], Bounds()) is None


def test_without_the_generator_it_says_how_to_get_it(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "emx_onnx_cgen.compiler", None)
    with pytest.raises(RecipeError, match=r"pip install 'snnsc\[c\]'"):
        to_c(digits[1])


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Puts a shell script in the compiler's place."""

    def made(script):
        path = tmp_path / "cc"
        path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo cc && exit\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setattr(shutil, "which", lambda _: str(path))
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    return made


def test_a_full_temporary_folder_is_named(compiler, tmp_path, monkeypatch):
    compiler("echo 'ld: final link failed: No space left on device' >&2; exit 1")
    full = rf"^{tmp_path}/temporary: the temporary folder cannot be used: No space left on device"
    with pytest.raises(SnnscError, match=full):
        check_compiled({"model.c": ""}, None, [], Bounds())

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(SnnscError, match=full):
        check_compiled({"model.c": ""}, None, [], Bounds())
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
@pytest.mark.parametrize("how", ["time", "Ctrl-C"])
def test_nothing_of_an_unfinished_compiler_is_left(compiler, tmp_path, monkeypatch, how):
    started = tmp_path / "pid"
    compiler(f"sleep 60 & echo $! > {started}.part; mv {started}.part {started}; wait")
    if how == "time":
        monkeypatch.setattr("snnsc.export.compiled.SECONDS", 2)
        with pytest.raises(CheckError, match=r"does not compile: .* timed out"):
            check_compiled({"model.c": ""}, None, [], Bounds())
    else:
        thread = threading.Thread(target=interrupt_after, args=[started])
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            check_compiled({"model.c": ""}, None, [], Bounds())
        thread.join()
    deadline = time.monotonic() + 10
    while is_running(int(started.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(int(started.read_text()))
    assert list((tmp_path / "temporary").iterdir()) == []


def interrupt_after(path):
    while not path.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
