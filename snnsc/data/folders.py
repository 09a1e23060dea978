"""Data sets that are folders: <split>/<class>/<file>, found, listed in a fixed order, and checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnsc.data.samples import Indices
from snnsc.data.splits import files_sha256
from snnsc.errors import DataError

TRAIN_NAMES = ("train",)
TEST_NAMES = ("test", "val")
ROOT_REMEDY = "set data.root, --data-root or SNNSC_DATA to the folder that holds the data sets"
_LITTER = ("thumbs.db", "desktop.ini")


@dataclass(frozen=True, eq=False)
class FileList:
    """The files of a split, sorted by class and then by name; `names` are relative to `folder`, with slashes."""

    folder: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels_N: Indices

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(self.folder / name for name in self.names)

    def path(self, index: int) -> Path:
        """Return file `index`."""
        return self.folder / self.names[index]

    @property
    def sha256(self) -> str:
        """Hash of the names."""
        return files_sha256(self.names)

    def stamps(self) -> list[tuple[str, int, int]]:
        """Return (name, bytes, modification time in ns) of each file: what changes when the files do."""
        try:
            status = [os.stat(os.path.join(self.folder, name)) for name in self.names]  # noqa: PTH116, PTH118 - 5x faster
        except OSError as error:
            message = f"{error.filename}: cannot be read ({error.strerror})"
            raise DataError(message) from error
        return [(name, s.st_size, s.st_mtime_ns) for name, s in zip(self.names, status, strict=True)]

    def subset(self, indices: Indices) -> FileList:
        """Return the list of the files at `indices`."""
        return FileList(self.folder, self.classes, tuple(self.names[i] for i in indices), self.labels_N[indices])


def subfolder(parent: Path, names: Sequence[str]) -> Path | None:
    """Return the folder in `parent` with one of `names`, earlier names first, whatever its letters' case."""
    found = {entry.name: entry for entry in _folders(parent)}
    for name in names:
        for candidate in (name, *sorted(found)):
            if candidate in found and candidate.lower() == name.lower():
                return found[candidate]
    return None


def data_folder(root: Path, folder: str) -> Path:
    """Return the folder of a data set under the data root.

    Raises:
        DataError: The root or the folder does not exist.
    """
    if not root.is_dir():
        message = f"{root}: no such data root; {ROOT_REMEDY}"
        raise DataError(message)
    path = root / folder
    if not path.is_dir():
        there = ", ".join(entry.name for entry in _folders(root)[:10]) or "no folders"
        message = f"{path}: no such folder (data.folder = {folder!r}); {root} has {there}; {ROOT_REMEDY}"
        raise DataError(message)
    return path


def split_folder(folder: Path, names: Sequence[str]) -> Path:
    """Return the folder of a split.

    Raises:
        DataError: There is none.
    """
    if (found := subfolder(folder, names)) is None:
        wanted = " or ".join(f"{name}/" for name in names)
        message = f"{folder}: no split folder {wanted}; files belong into {folder.name}/{names[0]}/<class>/"
        raise DataError(message)
    return found


def list_files(folder: Path, endings: Sequence[str], classes: int | Sequence[str]) -> FileList:
    """List `folder`/<class>/**/<file>; hidden files and folders are left out.

    Args:
        folder: The split.
        endings: Accepted file endings, in lower case.
        classes: Number of class folders, or their names in the order of the labels.

    Raises:
        DataError: The class folders are not as many or not those that `classes` says, one has no files, or a file has
            another ending.
    """
    folders = {entry.name: entry for entry in _folders(folder)}
    order = _class_names(folder, sorted(folders), classes)
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(order):
        files = _files(folder, name)
        if not files:
            message = f"{folders[name]}: no files in this class folder; expected {', '.join(endings)}"
            raise DataError(message)
        for file in files:
            if not file.lower().endswith(tuple(endings)):
                message = f"{folder / file}: unknown file ending; expected {', '.join(endings)}: remove or convert it"
                raise DataError(message)
        names += files
        labels += [label] * len(files)
    return FileList(folder, order, tuple(names), np.array(labels, np.int64))


def same_classes(train: FileList, test: FileList) -> None:
    """Raise DataError where two splits have other class folders."""
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        message = f"{test.folder}: the classes are not those of {train.folder}; only in one of them: {_some(odd)}"
        raise DataError(message)


def _class_names(folder: Path, found: list[str], wanted: int | Sequence[str]) -> tuple[str, ...]:
    """Return the class names in the order of their labels."""
    if isinstance(wanted, int):
        if len(found) != wanted:
            message = f"{folder}: {len(found)} class folders ({_some(found)}), but the recipe says {wanted} classes"
            raise DataError(message)
        return tuple(found)
    missing, other = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or other:
        message = f"{folder}: expected the class folders {', '.join(wanted)}"
        message += f"; missing: {_some(missing)}" if missing else ""
        message += f"; not a class: {_some(other)}" if other else ""
        raise DataError(message)
    return tuple(wanted)


def _some(names: Sequence[str]) -> str:
    """Return a few of the names for a message."""
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "none"


def _folders(parent: Path) -> list[Path]:
    """Return the visible folders in `parent`, sorted; none where it cannot be listed."""
    try:
        entries = sorted(parent.iterdir())
    except OSError as error:
        message = f"{parent}: cannot be listed ({error.strerror})"
        raise DataError(message) from error
    return [entry for entry in entries if not entry.name.startswith((".", "__MACOSX")) and entry.is_dir()]


def _files(folder: Path, name: str) -> list[str]:
    """Return the visible files under `folder`/`name`, relative to `folder`, sorted; links to folders are followed."""
    found: list[str] = []
    start = len(str(folder)) + 1
    for parent, folders, files in os.walk(folder / name, followlinks=True):
        folders[:] = [child for child in folders if not child.startswith(".")]
        below = parent[start:].replace(os.sep, "/")
        found += [f"{below}/{file}" for file in files if not file.startswith(".") and file.lower() not in _LITTER]
    return sorted(found)
