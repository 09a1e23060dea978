"""The sets of event recordings: event-folder, N-MNIST, CIFAR10-DVS; their frames are cached on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from snnsc.data.cache import cache_folder, cache_key, cached_array, versions
from snnsc.data.download import download
from snnsc.data.events import ENDINGS, NMNIST_SENSOR
from snnsc.data.folders import (
    TEST_NAMES,
    TRAIN_NAMES,
    FileList,
    data_folder,
    list_files,
    same_classes,
    split_folder,
    subfolder,
)
from snnsc.data.frames import FrameRows
from snnsc.data.parallel import DoesNotFitError, write_rows
from snnsc.data.samples import ArraySamples, DataSet, Progress, Split
from snnsc.data.splits import TEST_SPLIT, generator, stratified_split
from snnsc.errors import DataError
from snnsc.recipe.schema import Cifar10DvsSpec, EventBase, EventFolderSpec, NmnistSpec

LIBRARIES = ("aedat", "numpy", "tonic", "torch")
DIGITS = tuple("0123456789")
DVS_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DVS_SENSOR = (128, 128)


@dataclass(frozen=True)
class FrameCache:
    """Where and how the frames of a set are made."""

    spec: EventBase
    root: Path
    size: int
    frames: int
    progress: Progress | None

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
        )

        def build(target: Path) -> None:
            rows = FrameRows(files.paths, sensor, self.frames, self.spec.slicing, self.size)
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
    return _train_and_test(
        data_folder(root, spec.folder), spec.classes, ENDINGS, spec.sensor,
        FrameCache(spec, root, spec.size, frames, progress), train,
    )  # fmt: skip


def nmnist(spec: NmnistSpec, root: Path, frames: int, train: bool, progress: Progress | None) -> DataSet:
    """Read NMNIST/Train/<digit>/*.bin and NMNIST/Test, as tonic unpacks them; nmnist and N-MNIST are found too."""

    def fetch(folder: Path) -> None:
        import tonic

        tonic.datasets.NMNIST(str(folder), train=True)
        tonic.datasets.NMNIST(str(folder), train=False)

    names = ("NMNIST", "N-MNIST")
    folder = subfolder(root, names) if root.is_dir() else None
    if folder is None:
        remedy = f"unpack train.zip and test.zip of N-MNIST to {root}/NMNIST/Train/<digit>/*.bin and .../Test"
        folder = download(root, "nmnist", "NMNIST", remedy, fetch, progress)
    cache = FrameCache(spec, root, spec.size, frames, progress)
    return _train_and_test(folder, DIGITS, (".bin",), NMNIST_SENSOR, cache, train)


def cifar10dvs(spec: Cifar10DvsSpec, root: Path, frames: int, train: bool, progress: Progress | None) -> DataSet:
    """Read CIFAR10DVS/<class>/*.aedat4, tonic's repack, and split each class 9:1 into training and test.

    The files are sorted here (tonic takes them as the file system lists them), so `split_seed` alone makes the split.
    """

    def fetch(folder: Path) -> None:
        import tonic

        tonic.datasets.CIFAR10DVS(str(folder))

    folder = subfolder(root, ("CIFAR10DVS", "CIFAR10-DVS")) if root.is_dir() else None
    if folder is None:
        remedy = (
            f"unpack CIFAR10DVS.zip of https://figshare.com/ndownloader/files/38023437 to {root}/CIFAR10DVS/<class>/"
        )
        folder = download(root, "cifar10dvs", "CIFAR10DVS", remedy, fetch, progress)
    files = list_files(folder, (".aedat4",), DVS_CLASSES)
    count = round(len(files.names) / 10)
    chosen = stratified_split(files.labels_N, count, generator(TEST_SPLIT, spec.split_seed))
    if count < len(DVS_CLASSES):
        message = f"{folder}: {len(files.names)} recordings are too few for a 9:1 split of {len(DVS_CLASSES)} classes"
        raise DataError(message)
    cache = FrameCache(spec, root, spec.size, frames, progress)
    name = f"{folder.name}-split{spec.split_seed}"
    return DataSet(
        classes=files.classes,
        train=cache.split(files.subset(chosen[0]), f"{name}/train", DVS_SENSOR) if train else None,
        test=cache.split(files.subset(chosen[1]), f"{name}/test", DVS_SENSOR),
        split_seed=spec.split_seed,
        libraries=LIBRARIES,
    )


def _train_and_test(
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
