"""Every form of artifact from one checkpoint: verified, recorded, the same bytes twice, and nothing of this machine."""

import json
import socket

import numpy as np
import onnx
import pytest
import torch

from snnsc.checkpoint import Checkpoint
from snnsc.data import build_loaders
from snnsc.errors import CheckError, ModelFileError, RecipeError, SnnscError
from snnsc.export.evidence import EVIDENCE
from snnsc.export.export import REFERENCE, export
from snnsc.export.form import Form
from snnsc.export.verify import Bounds
from snnsc.model import build_model

FORMS = {
    "model.onnx": Form(),
    "model.inline.onnx": Form(inline=True),
    "model.int8.onnx": Form(int8=True),
    "model.exact.onnx": Form(exact_grid=True),
    "model.step.onnx": Form("step"),
    "model.step.exact.inline.onnx": Form("step", inline=True, exact_grid=True),
    "model.nir": Form("nir", encoding="folded"),
    "model_c": Form("c"),
}


@pytest.fixture(scope="module")
def trained(make_recipe, tmp_path_factory):
    """A network after a few steps on digits, and samples."""
    recipe = make_recipe("data={type='digits', test_limit=64}", "train.batch_size=64", "model.T=3")
    network = build_model(recipe)
    loaders = build_loaders(recipe, tmp_path_factory.mktemp("data"))
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    for inputs, labels in loaders.train.batches(0):
        loss = torch.nn.functional.cross_entropy(network(inputs).main_TBK.mean(0), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source = Checkpoint("train", recipe, loaders.facts.to_dict(), network.state_dict())
    return source, list(loaders.test.batches()), next(iter(loaders.train.unaugmented().batches()))


def write(trained, folder, name, **other):
    source, samples, calibration = trained
    form = FORMS[name]
    bounds = Bounds.of(form, None, 0.1)
    return export(source, samples, "evaluation set", folder / name, bounds, form, [calibration], **other)


@pytest.fixture(scope="module")
def twice(trained, tmp_path_factory):
    """All forms, in two folders."""
    folders = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    done = {name: [write(trained, folder, name) for folder in folders] for name in FORMS}
    return folders, done


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_named_and_verified(twice, name):
    (folder, _), done = twice
    assert FORMS[name].file_name == name
    first = done[name][0]
    assert (folder / name).exists()
    assert first.verification.samples == 64
    assert first.verification.accuracy_torch > 0.5, "the network has learned something"
    assert first.verification.neuron_steps == 64 * 3 * (16 * 64 + 32 * 64 + 64 * 16)
    assert (REFERENCE in first.also) == FORMS[name].inline
    assert (first.report is not None) == (FORMS[name].format == "onnx")


@pytest.mark.parametrize("name", FORMS)
def test_the_same_bytes_twice_and_nothing_of_this_machine(twice, name):
    (folder, other), done = twice
    secrets = [
        str(folder.parent),
        "/home",
        "/root",
        "site-packages",
        ".py\0",
        *([socket.gethostname()] * (len(socket.gethostname()) > 5)),
    ]
    for path in done[name][0].files:
        content = path.read_bytes()
        if path.name != EVIDENCE:
            assert content == (other / path.relative_to(folder)).read_bytes()
        for secret in secrets:
            assert secret.encode() not in content, path


def test_the_evidence_of_all_of_them(twice):
    (folder, _), done = twice
    entries = json.loads((folder / EVIDENCE).read_text())
    assert entries.keys() == FORMS.keys()
    import hashlib

    for name, entry in entries.items():
        assert entry["format"] == FORMS[name].format
        assert entry["samples"] == 64
        assert entry["spike_flip_rate"].keys() == {"stem.neurons.0", "stages.0.0.neuron", "stages.1.0.neuron"}
        assert entry["accuracy_difference"] == entry["accuracy_onnx"] - entry["accuracy_torch"]
        assert entry["max_spike_flip_rate"] <= entry["bounds"]["max_spike_flip_rate"]
        assert entry["versions"]["torch"] == torch.__version__.partition("+")[0]
        for path in done[name][0].files[:-1]:
            assert entry["files"][path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entries["model.exact.onnx"]["exact_grid"]["grid"]["T"] == 3
    assert entries["model.exact.onnx"]["max_spike_flip_rate"] == 0
    assert entries["model.int8.onnx"]["bytes"]["int8"] < entries["model.int8.onnx"]["bytes"]["float32"] / 2
    assert "exact_grid" not in entries["model.onnx"] or entries["model.onnx"]["exact_grid"] is False


def test_entries_of_artifacts_that_are_gone_go_too(trained, tmp_path):
    write(trained, tmp_path, "model.step.onnx")
    (tmp_path / "model.step.onnx").rename(tmp_path / "moved.onnx")
    write(trained, tmp_path, "model.nir")
    assert json.loads((tmp_path / EVIDENCE).read_text()).keys() == {"model.nir"}


@pytest.mark.parametrize("content", ["[]", "{", "\xff", "[" * 100_000])
def test_a_verification_json_of_others_is_kept(trained, tmp_path, content):
    (tmp_path / EVIDENCE).write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelFileError, match=r"verification\.json: is not a verification\.json of snnsc; move it away"):
        write(trained, tmp_path, "model.step.onnx")
    assert [f.name for f in tmp_path.iterdir()] == [EVIDENCE]


@pytest.mark.parametrize("name", ["model.step.onnx", "model.nir", "model_c"])
def test_a_failed_bound_writes_nothing(trained, tmp_path, monkeypatch, name):
    from snnsc.export import step as module

    whole = module.trace

    def wrong(*args):
        model = whole(*args)
        for tensor in model.graph.initializer:
            if tensor.name.endswith("convs.0.conv.bias"):
                tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 0.5, tensor.name))
        return model

    monkeypatch.setattr(module, "trace", wrong)
    with pytest.raises(CheckError, match=r"of the spikes of layer .* differ .*; nothing is written"):
        write(trained, tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_in_the_folder_are_kept(trained, tmp_path):
    (tmp_path / "model_c").mkdir()
    (tmp_path / "model_c/Makefile").write_text("mine")
    with pytest.raises(RecipeError, match=r"model_c: holds Makefile, which snnsc export did not write"):
        write(trained, tmp_path, "model_c")
    assert [f.name for f in (tmp_path / "model_c").iterdir()] == ["Makefile"]
    assert (tmp_path / "model_c/Makefile").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_not_left_behind(trained, tmp_path):
    (tmp_path / EVIDENCE).mkdir()
    with pytest.raises(SnnscError, match=r"verification\.json"):
        write(trained, tmp_path, "model_c")
    assert [f.name for f in tmp_path.iterdir()] == [EVIDENCE]


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"format": "nir", "inline": True}, "--inline: goes with --format onnx or step, not nir"),
        ({"format": "c", "int8": True}, "--int8: goes with --format onnx, not c"),
        ({"int8": True, "exact_grid": True}, "--int8 and --exact-grid"),
        ({"format": "nir", "exact_grid": True}, "--exact-grid: NIR"),
        ({"format": "nir", "dt": 0.0}, "--dt 0: must be a number of seconds from 1e-12"),
        ({"format": "nir", "dt": float("nan")}, "--dt nan"),
        ({"dt": 1e-4}, "--dt 0.0001: goes with --format nir, not onnx; leave it out"),
        ({"encoding": "r"}, "--encoding r: goes with --format nir, not onnx; leave it out"),
        ({"format": "c", "encoding": "folded"}, "--encoding folded: goes with --format nir, not c; leave it out"),
        ({"int8": True, "inline": True}, "--int8 and --inline"),
    ],
)
def test_what_does_not_go_together(keys, what):
    with pytest.raises(RecipeError, match=what):
        Form(**keys)


def test_eight_bits_without_samples(trained, tmp_path):
    source, samples, _ = trained
    with pytest.raises(CheckError, match="no training samples"):
        export(source, samples, "", tmp_path / "m.onnx", Bounds(), Form(int8=True))
    assert list(tmp_path.iterdir()) == []


def test_a_drop_of_accuracy_is_held(trained, tmp_path):
    source, samples, calibration = trained
    wrong = [(inputs, torch.from_numpy(np.roll(labels.numpy(), 1))) for inputs, labels in samples]
    bounds = Bounds(max_spike_flip_rate=1, min_argmax_agreement=0, max_accuracy_drop=-2)
    with pytest.raises(CheckError, match=r"more than --max-accuracy-drop -2 below"):
        export(source, wrong, "", tmp_path / "m.onnx", bounds, Form(int8=True), [calibration])
