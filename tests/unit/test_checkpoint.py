import dataclasses

import pytest
import torch

from snnsc import checkpoint, load
from snnsc.checkpoint import Checkpoint, check_time_steps, with_time_steps
from snnsc.errors import ModelFileError, RecipeError, SnnscError
from snnsc.model import build_model
from snnsc.recipe.load import load_recipe

FACTS: dict[str, object] = {
    "classes": list("0123456789"), "mean": None, "std": None, "whole_counts": False,
    "files_sha256": None, "train_samples": 1438,
}  # fmt: skip


@pytest.fixture
def source():
    recipe = load_recipe("digits", ["train.compile=off"])
    return Checkpoint("train", recipe, FACTS, build_model(recipe).state_dict(), {"accuracy": 0.5})


def test_read_gives_what_save_wrote(tmp_path, source):
    path = tmp_path / "c.pt"
    checkpoint.save(path, source)
    back = checkpoint.read(path)
    assert dataclasses.replace(back, model={}) == dataclasses.replace(source, model={})
    assert back.model.keys() == source.model.keys()
    assert all(torch.equal(back.model[k], source.model[k]) for k in source.model)


def test_load_gives_the_network_in_evaluation_mode(tmp_path, source):
    path = tmp_path / "c.pt"
    checkpoint.save(path, source)
    model = load(path)
    x = torch.randn(3, 1, 8, 8)
    assert not model.training
    assert torch.equal(model(x), source.build()(x))
    assert model(x).shape == (3, 10)


def test_no_partial_file_when_the_disk_is_full(tmp_path, source, monkeypatch):
    path = tmp_path / "c.pt"
    checkpoint.save(path, source)
    before = path.read_bytes()

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SnnscError, match=r"c\.pt: cannot be written: No space left"):
        checkpoint.save(path, source)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def saved(path, source):
    checkpoint.save(path, source)
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_truncated_file_is_one_error(tmp_path, source, share):
    path = tmp_path / "c.pt"
    content = saved(path, source)
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelFileError, match="damaged"):
        checkpoint.read(path)


def test_a_flipped_bit_in_the_weights_is_seen(tmp_path, source):
    path = tmp_path / "c.pt"
    content = bytearray(saved(path, source))
    where = content.find(source.model["head.linear.weight"].numpy().tobytes())
    assert where > 0
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="damaged"):
        checkpoint.read(path)


def test_a_file_of_another_library_is_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"state_dict": {"w": torch.zeros(3)}}, path)
    with pytest.raises(ModelFileError, match=r"other\.pt: is no checkpoint of snnsc"):
        checkpoint.read(path)


class Hostile:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, capsys):
    path = tmp_path / "evil.pt"
    torch.save({"format": checkpoint.FORMAT, "payload": Hostile()}, path)
    with pytest.raises(ModelFileError):
        checkpoint.read(path)
    assert capsys.readouterr().out == ""


def test_a_newer_version_says_so(tmp_path, source, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    path = tmp_path / "c.pt"
    checkpoint.save(path, source)
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match=r"version 2.*update snnsc"):
        checkpoint.read(path)


def test_weights_of_another_network_are_refused(source):
    other = load_recipe("digits", ["model.stages=[[8,8],[8]]", "train.compile=off"])
    with pytest.raises(ModelFileError, match="do not fit the recipe"):
        dataclasses.replace(source, recipe=other).build()


def test_with_time_steps_changes_T_and_nothing_else():
    recipe = load_recipe("digits", [])
    other = with_time_steps(recipe, 7)
    assert other.model.T == 7
    assert with_time_steps(other, 4) == recipe
    assert with_time_steps(recipe, 4) is recipe


def test_time_steps_of_a_network_that_has_weights_for_each(source):
    bound = load_recipe("digits", ["model.norm={type='bntt'}"])
    check_time_steps(bound, 4)
    check_time_steps(source.recipe, 9)
    for look in (check_time_steps, with_time_steps):
        with pytest.raises(RecipeError, match=r"^T = 9: the network has weights for each of its 4 time steps"):
            look(bound, 9)
