"""Files are written whole or not at all."""

from __future__ import annotations

import os
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from snnsc.errors import RecipeError, SnnscError
from snnsc.files import check_output, temporary_folder, write_atomically, write_together


def test_text_and_bytes(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "é\n")
    write_atomically(tmp_path / "b.bin", b"\x00\xff")
    write_atomically(tmp_path / "b.bin", b"")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n"
    assert (tmp_path / "b.bin").read_bytes() == b""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b.bin"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "a", "x")
        (tmp_path / "ordinary").write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"old")
    seen = []

    def fail(*_args: object) -> None:
        seen.append([p.name for p in tmp_path.iterdir()])
        raise OSError(28, "No space left on device")

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(SnnscError, match=r"a\.pt: cannot be written: No space left on device$"):
        write_atomically(path, b"new" * 1000)
    assert len(seen) == 1
    assert len(seen[0]) == 2, "the new content must have stood in a file beside it"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_handle: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_no_folder_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "a", Path("/dev/full/a"), tmp_path / ("a" * 300)):
        with pytest.raises(SnnscError, match="cannot be written: "):
            write_atomically(path, "x")
    (tmp_path / "b").mkdir()
    with pytest.raises(SnnscError, match="cannot be written: Is a directory"):
        write_atomically(tmp_path / "b", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    assert not list((tmp_path / "b").iterdir())


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "語" * 85, os.fsdecode(b"\xff" * 255)])
def test_names_may_be_as_long_as_the_file_system_takes_them(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, "x")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_longer_name_is_the_options_fault(tmp_path: Path) -> None:
    for name in ("a" * 253 + ".pt", "é" * 127 + ".pt"):
        with pytest.raises(RecipeError, match=r"^--out .*: the name is too long for the file system"):
            check_output("--out", tmp_path / name, suffix=".pt", keep=tmp_path / "kept.pt")
        with pytest.raises(RecipeError, match="the name is too long"):
            check_output("--out", tmp_path / name, suffix=None, keep=tmp_path / "kept.pt")


@pytest.mark.usefixtures("interruptible")
def test_an_interruption_waits_until_all_files_are_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def interrupted(part: Path, path: Path) -> Path:
        signal.raise_signal(signal.SIGINT)
        return replace(part, path)

    monkeypatch.setattr(Path, "replace", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        write_together({tmp_path / "a": "new", tmp_path / "b": "new"})
    assert signal.getsignal(signal.SIGINT) is before
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "new", "b": "new"}


def test_files_are_written_from_any_thread(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(write_atomically, tmp_path / "a", "x").result()
    assert (tmp_path / "a").read_text() == "x"


def test_a_full_temporary_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fill(*, full: bool) -> None:
        with temporary_folder() as folder:
            (folder / "a").write_text("x")
            if full:
                raise OSError(28, "No space left on device")

    with pytest.raises(SnnscError, match=rf"^{tmp_path}: the temporary folder .*: No space left on device; .*TMPDIR"):
        fill(full=True)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(SnnscError, match=r"none: the temporary folder cannot be used: No such file"):
        fill(full=False)
