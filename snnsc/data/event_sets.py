"""Event recordings in folders: their frames are made once and cached on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from snnsc.data.cache import cache_folder, cache_key, cached_array, versions
from snnsc.data.events import ENDINGS, Layout
from snnsc.data.folders import TEST_NAMES, TRAIN_NAMES, FileList, data_folder, list_files, same_classes, split_folder
from snnsc.data.frames import FrameRows
from snnsc.data.parallel import DoesNotFitError, write_rows
from snnsc.data.samples import ArraySamples, DataSet, Progress, Split
from snnsc.errors import DataError
from snnsc.recipe.schema import EventBase, EventFolderSpec

LIBRARIES = ("aedat", "numpy", "tonic", "torch")


@dataclass(frozen=True)
class FrameCache:
    """Where and how the frames of a set are made."""

    spec: EventBase
    root: Path
    size: int
    frames: int
    progress: Progress | None
    layout: Layout = "plain"

    def split(self, files: FileList, name: str, sensor: tuple[int, int] | None) -> Split:
        """Return the split of `files`; its frames are made where the cache does not have them."""
        key = cache_key(
            {
                "rows": "frames",
                "files": files.stamps(),
                "T": self.frames,
                "slicing": self.spec.slicing,
                "size": self.size,
                "sensor": sensor,
                "versions": versions(LIBRARIES),
            }
            | ({} if self.layout == "plain" else {"layout": self.layout})  # so that earlier caches keep their keys
        )

        def build(target: Path) -> None:
            rows = FrameRows(files.paths, sensor, self.frames, self.spec.slicing, self.size, self.layout)
            for dtype in rows.dtypes():
                try:
                    write_rows(target, rows, dtype, self.spec.workers, self.progress, f"{name}: events to frames")
                except DoesNotFitError:
                    continue
                return
            message = f"{files.folder}: frames with values that float32 cannot hold"
            raise DataError(message)

        label = f"{name.replace('/', '-')}-T{self.frames}-{self.spec.slicing}-{self.size}"
        array = cached_array(cache_folder(self.root), label, key, len(files.names), build)
        return Split(ArraySamples(array), files.labels_N, files.sha256, key)


def event_folder(spec: EventFolderSpec, root: Path, frames: int, train: bool, progress: Progress | None) -> DataSet:
    """Read <folder>/train/<class>/ and <folder>/test/<class>/ (or val/)."""
    return train_and_test(
        data_folder(root, spec.folder), spec.classes, ENDINGS, spec.sensor,
        FrameCache(spec, root, spec.size, frames, progress), train,
    )  # fmt: skip


def train_and_test(
    folder: Path, classes: int | tuple[str, ...], endings: tuple[str, ...], sensor: tuple[int, int] | None,
    cache: FrameCache, train: bool,
) -> DataSet:  # fmt: skip
    """Read a folder that has its own split; everything is listed and checked before the first frame is made."""
    test_files = list_files(split_folder(folder, TEST_NAMES), endings, classes)
    train_files = None
    if train:
        train_files = list_files(split_folder(folder, TRAIN_NAMES), endings, classes)
        same_classes(train_files, test_files)
    return DataSet(
        classes=test_files.classes,
        train=cache.split(train_files, f"{folder.name}/train", sensor) if train_files is not None else None,
        test=cache.split(test_files, f"{folder.name}/test", sensor),
        libraries=LIBRARIES,
    )
