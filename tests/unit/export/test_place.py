"""Where an export may be written, and two of them into one folder at once."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from snnsc.errors import ModelFileError, RecipeError
from snnsc.export import evidence
from snnsc.export.evidence import EVIDENCE, refuse_others, write_with_evidence
from snnsc.export.form import Form
from snnsc.export.place import checked_place

REPORT = {"samples": 1, "layers": [], "totals": {}, "energy": []}


def refusal(out: str | Path, form: Form, checkpoint: Path) -> str:
    with pytest.raises(RecipeError) as raised:
        checked_place(Path(out), form, checkpoint)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint that is never read, in a folder below the one that the user is in."""
    (tmp_path / "here" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here" / "runs" / "best.pt"


def test_the_default_is_beside_the_checkpoint(checkpoint: Path) -> None:
    for form in (Form(), Form("step"), Form("nir"), Form("c")):
        assert checked_place(None, form, checkpoint) == checkpoint.with_name(form.file_name)
    assert checked_place(Path("runs/c"), Form("c"), checkpoint) == Path("runs/c")
    assert checked_place(Path("../here/runs/../c"), Form("c"), checkpoint) == Path("c")
    assert checked_place(Path("m.onnx"), Form(), checkpoint) == Path("m.onnx")


def test_c_files_get_a_folder_of_their_own(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "here")
    for out in (".", "..", "/", "runs/..", "../link", tmp_path / "here", tmp_path):
        assert refusal(out, Form("c"), checkpoint) == (
            f"--out {out}: is the folder that you are in, or one around it; name one for the C files"
        )


@pytest.mark.parametrize("form", [Form(), Form("step"), Form("nir"), Form("c")], ids=lambda form: form.format)
@pytest.mark.parametrize("name", ["verification.json", "energy.json"])
def test_names_of_files_beside_it_are_taken(checkpoint: Path, form: Form, name: str) -> None:
    assert refusal(f"runs/{name}", form, checkpoint) == (
        f"--out runs/{name}: is the name of a file that goes beside what is exported; take another"
    )


@pytest.mark.parametrize(
    ("out", "form", "message"),
    [
        ("m.nir", Form(), "--out m.nir: must end in .onnx; for a NIR file take --format nir"),
        ("m.nir", Form("step"), "--out m.nir: must end in .onnx; for a NIR file take --format nir"),
        ("m.onnx", Form("nir"), "--out m.onnx: must end in .nir; for an ONNX model take --format onnx"),
        ("m.onnx", Form("c"), "--out m.onnx: --format c writes a folder; for an ONNX model take --format onnx"),
        ("m.pt", Form(), "--out m.pt: must end in .onnx"),
        ("m", Form("nir"), "--out m: must end in .nir"),
        ("none/m.onnx", Form(), "--out none/m.onnx: there is no folder none; make it first"),
    ],
)
def test_the_ending_tells_the_format(checkpoint: Path, out: str, form: Form, message: str) -> None:
    assert refusal(out, form, checkpoint) == message


def test_an_energy_report_of_others_is_kept(checkpoint: Path) -> None:
    theirs = checkpoint.with_name("energy.json")
    for content in ("{}", "[1]", "bills", "\xff", '{"energy": 3}'):
        theirs.write_text(content, encoding="latin-1")
        assert refusal("runs/m.onnx", Form(), checkpoint) == (
            "--out runs/m.onnx: runs/energy.json would be replaced, which snnsc export did not write; "
            "name another folder"
        )
        with pytest.raises(RecipeError, match="did not write"):
            write_with_evidence(checkpoint.with_name("m.onnx"), {theirs: "new"}, {})
        assert theirs.read_text(encoding="latin-1") == content
        for form in (Form(int8=True), Form(exact_grid=True), Form("step")):  # which write none
            checked_place(Path("runs/m.onnx"), form, checkpoint)
    theirs.write_text(json.dumps(REPORT))
    checked_place(Path("runs/m.onnx"), Form(), checkpoint)


def test_c_files_of_others_are_kept(checkpoint: Path) -> None:
    folder = checkpoint.with_name("program")
    folder.mkdir()
    (folder / "sketch.ino").touch()
    assert checked_place(folder, Form("c"), checkpoint) == folder
    (folder / "Makefile").touch()
    assert "program: holds Makefile, which snnsc export did not write" in refusal(folder, Form("c"), checkpoint)
    checkpoint.with_name(EVIDENCE).write_text('{"program": {}}')
    assert checked_place(folder, Form("c"), checkpoint) == folder
    checkpoint.with_name(EVIDENCE).write_text("[]")
    with pytest.raises(ModelFileError, match=r"is not a verification\.json of snnsc"):
        checked_place(folder, Form("c"), checkpoint)


def test_exports_into_one_folder_at_once_keep_every_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = evidence._entries

    def slowly(path: Path) -> dict[str, object]:
        entries = read(path)
        time.sleep(0.02)
        return entries

    monkeypatch.setattr(evidence, "_entries", slowly)
    outputs = [tmp_path / f"{i}.onnx" for i in range(6)]
    with ThreadPoolExecutor(len(outputs)) as pool:
        done = [pool.submit(write_with_evidence, path, {path: b"model"}, {"n": path.name}) for path in outputs]
    assert {future.result() for future in done} == {tmp_path / EVIDENCE}
    assert read(tmp_path / EVIDENCE) == {path.name: {"n": path.name} for path in outputs}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([EVIDENCE, *(path.name for path in outputs)])


def test_a_missing_folder_is_not_made_by_the_lock(tmp_path: Path) -> None:
    from snnsc.errors import SnnscError

    with pytest.raises(SnnscError, match="cannot be written: No such file"):
        write_with_evidence(tmp_path / "none" / "m.onnx", {tmp_path / "none" / "m.onnx": b""}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_model_file_itself_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    refuse_others(tmp_path / "m.onnx", [tmp_path / "m.onnx"])
