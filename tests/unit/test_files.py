"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snnsc.errors import SnnscError
from snnsc.files import write_atomically


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
