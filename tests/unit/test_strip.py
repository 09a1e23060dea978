import dataclasses

import pytest
import torch

from snnsc import checkpoint
from snnsc.checkpoint import Checkpoint
from snnsc.errors import CheckError, ModelFileError
from snnsc.model import build_model
from snnsc.recipe.load import load_recipe
from snnsc.strip import branch_weights, strip

FACTS: dict[str, object] = {
    "classes": list("0123456789"), "mean": None, "std": None, "whole_counts": False,
    "files_sha256": None, "train_samples": 1438,
}  # fmt: skip
ARCHS = ["tiny", "resnet20-thin", "resnet19", "vggsnn"]


def made(arch="tiny", *overrides):
    data = "data={type='cifar10',size=16}"
    recipe = load_recipe("digits", [data, f"model={{arch='{arch}',T=2}}", "train.compile=off", *overrides])
    network = build_model(recipe)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics become those of this batch, with which every layer fires
    with torch.no_grad():
        network(torch.randn(16, 3, 16, 16))
    return Checkpoint("train", recipe, FACTS, network.state_dict())


def batch(size):
    return torch.randn(size, 3, 16, 16), torch.zeros(size, dtype=torch.int64)


@pytest.mark.parametrize("arch", ARCHS)
def test_removes_the_branches_and_nothing_else(tmp_path, arch):
    source = made(arch)
    before = {k: v.clone() for k, v in source.model.items()}
    done = strip(source, [batch(3), batch(1)], tmp_path / "s.pt")
    stripped = checkpoint.read(tmp_path / "s.pt")
    removed = {k for k in source.model if k.startswith("shortcuts.")}
    assert removed
    assert set(done.removed) == removed
    assert stripped.model.keys() == source.model.keys() - removed
    assert stripped.kind == "stripped"
    assert stripped.training is None
    assert done.samples == 4
    assert done.parameters_before - done.parameters_after == sum(source.model[k].numel() for k in removed)
    assert branch_weights(stripped) == ()
    assert all(torch.equal(before[k], source.model[k]) for k in before)  # the input is as it was

    x = torch.randn(5, 3, 16, 16)
    with torch.inference_mode():
        expected = source.build()(x)
        assert torch.equal(expected, stripped.build()(x))
    assert not torch.equal(expected[0], expected[1]), "the network fires"


def test_a_differing_output_writes_nothing(tmp_path, monkeypatch):
    source = made()
    main_path = checkpoint.main_path

    def wrong(weights):
        return {k: v + 0.01 if k == "head.linear.bias" else v for k, v in main_path(weights).items()}

    monkeypatch.setattr(checkpoint, "main_path", wrong)
    with pytest.raises(CheckError, match=r"differs from the full one by up to 0\.01"):
        strip(source, [batch(2)], tmp_path / "s.pt")
    assert not (tmp_path / "s.pt").exists()


def test_no_samples_prove_nothing(tmp_path):
    with pytest.raises(CheckError, match="no samples"):
        strip(made(), [], tmp_path / "s.pt")
    assert not (tmp_path / "s.pt").exists()


def test_a_missing_weight_of_the_main_path_is_an_error(tmp_path):
    source = made()
    weights = {k: v for k, v in source.model.items() if k != "head.linear.bias"}
    with pytest.raises(ModelFileError, match=r"head\.linear\.bias"):
        strip(dataclasses.replace(source, model=weights), [batch(2)], tmp_path / "s.pt")


def test_the_weights_of_the_time_steps_stay(tmp_path):
    source = made("tiny", "method.weighting={warmup_epochs=1}")
    weights = source.model | {"step_weights": torch.tensor([1.25, 0.75])}
    strip(dataclasses.replace(source, model=weights), [batch(2)], tmp_path / "s.pt")
    stripped = checkpoint.read(tmp_path / "s.pt")
    assert stripped.model["step_weights"].tolist() == [1.25, 0.75]
    x, plain = torch.randn(3, 3, 16, 16), source.build()
    with torch.inference_mode():
        assert not torch.equal(stripped.build()(x), plain(x)), "they count"
