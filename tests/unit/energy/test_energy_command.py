"""`snnsc energy` from outside: tables, files, several models, refusals."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from snnsc.cli import app, energy_display, energy_tables
from snnsc.energy import STATISTICS_KEY, count, read_graph
from snnsc.energy.pricing.targets import find_targets
from snnsc.energy.report.comparison import TOTALS, Comparison
from snnsc.energy.report.wording import number, price, priced
from snnsc.errors import DataError, ModelFileError, RecipeError

from .graphs import exported_net
from .hand import networks

OWN = """
name = "mine"
kind = "event"
summary = "a chip of mine"
[synaptic_event]
value = 2.0
unit = "pJ"
source = "myself"
process = "28 nm"
grade = "vendor"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """a.onnx and b.onnx with statistics, none.onnx without, event.onnx with another input, x.npz, mine.toml."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(5).standard_normal((4, 2, 6, 6)).astype(np.float32)
    np.savez("x.npz", images=images)
    for name, seed in (("a", 1), ("b", 2)):
        proto = exported_net(np.random.default_rng(seed))
        proto.metadata_props.add(key="snnsc.stripped", value='["shortcuts.0.weight"]')
        counts = count(read_graph(proto), [{"images": images}], split="test")
        proto.metadata_props.add(key=STATISTICS_KEY, value=counts.to_json())
        onnx.save(proto, f"{name}.onnx")
    onnx.save(exported_net(np.random.default_rng(1)), "none.onnx")
    onnx.save(exported_net(np.random.default_rng(1), event=True), "event.onnx")
    (tmp_path / "mine.toml").write_text(OWN)
    return tmp_path


def call(*arguments: str):
    """Standard output of a command that works."""
    done = CliRunner().invoke(app, ["energy", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(error: type[Exception], *arguments: str) -> str:
    """The message of a command that is refused."""
    done = CliRunner().invoke(app, ["energy", *arguments])
    assert isinstance(done.exception, error), done.exception
    return str(done.exception)


@pytest.mark.usefixtures("folder")
def test_the_report_of_one_model_can_be_read():
    text = call("a.onnx")
    assert "conv2" in text
    assert "arithmetic alone" in text
    assert "not published: what a synaptic event costs on" in text
    assert "stripped before the export: 1 tensor of removable branches (shortcuts.0.weight)" in text
    assert text.endswith("counted on 4 samples at export: test\n")
    assert "fit" not in text.splitlines()
    assert "{" not in text
    tables = [line for line in text.splitlines() if line.startswith(" ")]
    assert max(map(cell_len, tables)) <= 100


@pytest.mark.usefixtures("folder")
def test_a_target_is_shown_with_its_parts_and_its_sources_and_its_fit_if_asked_for():
    text = call("a.onnx", "--target", "loihi", "--target", "mine.toml", "--sources")
    assert "mine" in text
    assert "made of" in text
    assert "horowitz-fp32" not in text.replace("(horowitz-fp32)", "")
    assert "synaptic event 2 pJ (vendor, 28 nm): myself" in text
    text = call("a.onnx", "--target", "loihi", "--fit")
    assert any(line.startswith(" loihi") and ("fits" in line or "fit" in line or "not checked" in line)
               for line in text.splitlines())  # fmt: skip
    assert " akida" in call("a.onnx", "--fit")


@pytest.mark.usefixtures("folder")
def test_json_of_one_model_is_its_report():
    found = json.loads(call("a.onnx", "--json", "--target", "mine.toml"))
    assert [entry["model"] for entry in found["energy"]] == ["mine"]
    assert found["energy"][0]["snn_pj"] > 0
    assert found["origin"]["stripped"] == ["shortcuts.0.weight"]
    assert "models" not in found


@pytest.mark.usefixtures("folder")
def test_several_models_are_compared():
    found = json.loads(call("a.onnx", "b.onnx", "--json"))
    assert [one["model"] for one in found["models"]] == ["a.onnx", "b.onnx"]
    ratio = found["models"][1]["totals"]["events"] / found["models"][0]["totals"]["events"]
    assert found["comparison"][1]["totals"]["events"] == ratio
    text = call("a.onnx", "b.onnx", "--fit")
    assert text.count("counted on 4 samples at export: test\n") == 1, "what holds for all is said once"
    assert "tensors of" not in text
    assert (
        "removable branches, 1 tensor of a.onnx (shortcuts.0.weight); 1 tensor of b.onnx (shortcuts.0.weight)" in text
    )
    assert "fit of b.onnx" in text
    assert "not counted on the same samples" not in text
    assert "not counted on the same samples" in call("a.onnx", "none.onnx")


@pytest.mark.usefixtures("folder")
def test_several_models_on_the_same_samples():
    found = json.loads(call("a.onnx", "none.onnx", "--inputs", "x.npz", "--json"))
    assert {one["samples"] for one in found["models"]} == {4}
    assert found["warnings"] == []
    message = refused(DataError, "a.onnx", "event.onnx", "--inputs", "x.npz")
    assert message.startswith("event.onnx: does not take the samples that the networks are compared on: x.npz: ")
    assert not refused(DataError, "event.onnx", "--inputs", "x.npz").startswith("event.onnx: does not take")


def test_files_are_written_beside_the_tables(folder):
    text = call("a.onnx", "b.onnx", "--csv", "out.csv", "--html", "out.html")
    rows = list(csv.DictReader((folder / "out.csv").read_text().splitlines()))
    assert {row["model"] for row in rows} == {"a.onnx", "b.onnx"}
    assert "out.csv" not in text
    assert (folder / "out.html").read_text().startswith("<!doctype html>")
    json.loads(call("a.onnx", "--json", "--csv", "out.csv"))
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--csv", "out.txt"], "--csv out.txt: must end in .csv"),
        (["--html", "no/out.html"], "--html no/out.html: there is no folder no; make it first"),
        (["--html", "a.html"], "--html a.html: is a folder; name a file"),
        (["--target", "loihi-9"], "target 'loihi-9' does not exist; there are horowitz-fp16"),
        (["--target", "none.toml"], "none.toml: no such file"),
        (["--inferences-per-second", "0"], "--inferences-per-second: must be a number greater than 0, not 0"),
        (["--inferences-per-second", "nan"], "--inferences-per-second: must be a number greater than 0, not nan"),
    ],
)
def test_options_are_refused_before_any_model_is_read(folder, arguments, message):
    (folder / "a.html").mkdir()
    assert refused(RecipeError, "there-is-no.onnx", *arguments).startswith(message)


def test_no_file_is_written_where_a_model_is_refused(folder):
    refused(ModelFileError, "a.onnx", "there-is-no.onnx", "--html", "out.html")
    assert not (folder / "out.html").exists()


@pytest.mark.usefixtures("folder")
def test_what_a_rate_does_not_add_is_said_once():
    text = call("a.onnx", "--inferences-per-second", "30")
    assert text.count("static power of horowitz-fp16, ") == text.count("is not published: none is charged") == 1
    assert "static power of odin is in the price of an event already" in text
    assert "static power of" not in call("a.onnx")
    shared = call("a.onnx", "--target", "truenorth", "--inferences-per-second", "30")
    assert shared.count("static power of") == shared.count("truenorth is shared by 30 inferences a second") == 1
    told = "static power of mine, speck is not published: none is charged"
    arguments = ("--target", "mine.toml", "--target", "speck", "--inferences-per-second", "30")
    assert told in call("a.onnx", *arguments)
    assert call("a.onnx", "b.onnx", *arguments).count(told) == 1
    states = {
        e["model"]: e["static"] for e in json.loads(call("a.onnx", "--inferences-per-second", "30", "--json"))["energy"]
    }
    assert (states["truenorth"], states["odin"], states["loihi"]) == ("charged", "included", "not published")
    assert {e["static"] for e in json.loads(call("a.onnx", "--json"))["energy"]} == {None}
    assert json.loads(call("a.onnx", "--inferences-per-second", "30", "--json"))["inferences_per_second"] == 30


@pytest.mark.usefixtures("folder")
def test_a_reader_may_leave():
    command = f"{sys.executable} -m snnsc energy a.onnx --sources | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("operations a sample")
    assert done.stderr == ""


@pytest.mark.parametrize("width", [20, 60, 80, 200])
@pytest.mark.parametrize("name", ["measured", "hostile", "dense", "ann", "empty", "long"])
def test_no_number_is_cut_however_narrow_the_terminal(monkeypatch, capsys, width, name):
    monkeypatch.setattr(energy_tables, "console", lambda: Console(width=width, markup=False, highlight=False))
    found = networks()[name]
    several = Comparison((found, networks()["ann"], *(found,) * 4))
    energy_display.show_report(found, chosen=width == 20, fit=True, sources=False)
    energy_display.show_comparison(several, fit=True, sources=False)
    text = capsys.readouterr().out
    assert not {"\u2026", "\x1b", "\u202e"} & set(text), "rich ends what it cuts with an ellipsis"
    assert all(number(found["totals"][key]) in text for key in TOTALS)
    assert all(price(entry) in text for entry in found["energy"] if priced(entry))
    tables = [line for line in text.splitlines() if line.startswith(" ")]
    assert max(map(cell_len, tables)) <= min(max(width, 60), 120)
    energy_display.show_report(found, chosen=False, fit=False, sources=True)
    assert "\u202e" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "width", "lines"),
    [
        ("layer1.0.conv1", 16, ["layer1.0.conv1"]),
        ("/layer1/layer1.0/conv1/Conv", 16, ["/layer1/layer1.", "0/conv1/Conv"]),
        ("torch_nn_modules_conv_Conv2d", 16, ["torch_nn_", "modules_conv_", "Conv2d"]),
        ("a/" + "b" * 40 + "/c", 10, ["a/", "bbbb...bb/", "c"]),
        ("\u8a9e" * 20, 9, ["\u8a9e...\u8a9e"]),
        ("x" * 3000, 10, ["xxxx...xxx"]),
        ("/".join(["words"] * 20), 16, ["words/w.../words"]),
        ("", 10, [""]),
    ],
)
def test_names_are_folded_between_their_words(name, width, lines):
    assert energy_tables.folded(name, width).splitlines() == [line for line in lines if line]


def test_the_reasons_are_folded_between_words_and_never_within_a_number():
    line = f"bits of a weight: 32.5, at most 1,234,567 bits (/encoder/{'layers.0/' * 9}conv and 3 more layers)"
    lines = energy_tables.wrapped(line, 24).splitlines()
    assert max(map(len, lines)) <= 24
    assert "".join(lines).replace(" ", "") == line.replace(" ", "")
    assert any("1,234,567" in part for part in lines)


def test_networks_without_neurons_are_not_called_spiking(monkeypatch, capsys):
    monkeypatch.setattr(energy_tables, "console", lambda: Console(width=80, markup=False, highlight=False))
    ann, snn = networks()["ann"], networks()["measured"]
    energy_display.show_comparison(Comparison((ann, ann)), fit=False, sources=False)
    text = capsys.readouterr().out
    assert "SNN" not in text
    assert "energy, zeros skipped" in text
    assert "no price under lemaire with zero inputs skipped: " in text
    energy_display.show_comparison(Comparison((snn, ann)), fit=False, sources=False)
    text = capsys.readouterr().out
    assert "SNN, energy" not in text
    assert "b: no neurons; the energy is that with zero inputs skipped" in text.replace("net.onnx: no", "b: no")
    energy_display.show_report(ann, chosen=False, fit=False, sources=False)
    assert "SNN" not in capsys.readouterr().out


def test_the_table_of_a_deep_network_stays_short(capsys):
    found = networks()["measured"]
    rows = [{**row, "name": f"{row['name']}.{i}"} for i in range(40) for row in found["layers"]]
    energy_display.show_report({**found, "layers": rows}, chosen=False, fit=False, sources=False)
    text = capsys.readouterr().out
    assert len([line for line in text.splitlines() if line.startswith((" conv", " lif"))]) == energy_display.MOST_ROWS
    assert "100 layers with less work are left out; --csv, --html and --json have them" in text


def test_weights_and_targets_that_are_read_are_not_overwritten(folder):
    onnx.save(
        onnx.load("a.onnx"), "ext.onnx", save_as_external_data=True, location="w.csv", size_threshold=0,
        convert_attribute=False,
    )  # fmt: skip
    before = (folder / "w.csv").read_bytes()
    with pytest.raises(RecipeError, match=r"--csv w\.csv: is the file it would be made from"):
        CliRunner().invoke(app, ["energy", "ext.onnx", "--csv", "w.csv"], catch_exceptions=False)
    assert (folder / "w.csv").read_bytes() == before
    assert "written" not in call("ext.onnx", "--inputs", "x.npz")


def test_targets_that_are_no_files_are_refused_at_once(folder):
    os.mkfifo(folder / "pipe.toml")
    (folder / "large.toml").write_text("#" * 100_000)
    for name, words in (("pipe", "is a pipe or a device"), ("large", "100,000 bytes are more")):
        with pytest.raises(RecipeError, match=words):
            find_targets([f"{name}.toml"])


def test_event_frames_of_others_are_spikes_where_all_samples_are(folder):  # noqa: ARG001
    """The file does not say what its inputs hold; 0 and 1 in every sample are told from whole and real numbers."""
    images = np.load("x.npz")["images"]
    other = onnx.load("none.onnx")
    del other.metadata_props[:]
    onnx.save(other, "other.onnx")
    kinds = {}
    for name, array in (("binary", images > 0), ("integer", (images * 3).round().clip(0)), ("real", images)):
        np.save("frames.npy", array.astype(np.float32))
        layer = json.loads(call("other.onnx", "--inputs", "frames.npy", "--json"))["layers"][0]
        kinds[name] = layer["input_kind"]
        assert (layer["acs"] > 0, layer["macs"] > 0) == (name != "real", name != "binary")
    assert kinds == {name: name for name in kinds}


def test_a_file_written_under_a_name_with_a_line_end_is_one_line(folder):
    ran = CliRunner().invoke(app, ["energy", "a.onnx", "--csv", "one\ntwo.csv"])
    assert (ran.exit_code, ran.stderr) == (0, "written: one\\ntwo.csv\n")
    assert (folder / "one\ntwo.csv").exists()
