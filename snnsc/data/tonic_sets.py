"""The public event sets, in the folders that tonic makes: N-MNIST, CIFAR10-DVS, DVS128 Gesture, N-Caltech101.

Each is downloaded by tonic where its folder does not exist, and its files are listed here: sorted, and checked.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from snnsc.data.aedat2 import DVS128_SENSOR
from snnsc.data.download import download
from snnsc.data.event_sets import LIBRARIES, FrameCache, train_and_test
from snnsc.data.events import NMNIST_SENSOR
from snnsc.data.folders import FileList, list_files, subfolder
from snnsc.data.samples import DataSet, Progress
from snnsc.data.splits import TEST_SPLIT, generator, stratified_split
from snnsc.errors import DataError
from snnsc.recipe.schema import Cifar10DvsSpec, Dvs128GestureSpec, Ncaltech101Spec, NmnistSpec

DIGITS = tuple("0123456789")
DVS_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GESTURES = (
    "Hand clapping", "Right hand wave", "Left hand wave", "Right arm cw", "Right arm ccw", "Left arm cw",
    "Left arm ccw", "Arm roll", "Air drums", "Air guitar", "Other gestures",
)  # fmt: skip


def nmnist(spec: NmnistSpec, root: Path, frames: int, train: bool, progress: Progress | None) -> DataSet:
    """Read NMNIST/Train/<digit>/*.bin and NMNIST/Test, as tonic unpacks them; nmnist and N-MNIST are found too."""

    def fetch(folder: Path) -> None:
        import tonic

        tonic.datasets.NMNIST(str(folder), train=True)
        tonic.datasets.NMNIST(str(folder), train=False)

    folder = _existing(root, "NMNIST", "N-MNIST")
    if folder is None:
        remedy = f"unpack train.zip and test.zip of N-MNIST to {root}/NMNIST/Train/<digit>/*.bin and .../Test"
        folder = download(root, "nmnist", "NMNIST", remedy, fetch, progress)
    cache = FrameCache(spec, root, spec.size, frames, progress)
    return train_and_test(folder, DIGITS, (".bin",), NMNIST_SENSOR, cache, train)


def cifar10dvs(spec: Cifar10DvsSpec, root: Path, frames: int, train: bool, progress: Progress | None) -> DataSet:
    """Read CIFAR10DVS/<class>/*.aedat, the original files, or *.aedat4, tonic's repack, which is what is downloaded.

    Which one was read is the `source` of the data set. Both are split alike: the names but for their endings are the
    same, and they are sorted here (tonic takes files as the file system lists them).
    """

    def fetch(folder: Path) -> None:
        import tonic

        tonic.datasets.CIFAR10DVS(str(folder))

    folder = _existing(root, "CIFAR10DVS", "CIFAR10-DVS")
    if folder is None:
        remedy = (
            f"unpack CIFAR10DVS.zip of https://figshare.com/ndownloader/files/38023437 to {root}/CIFAR10DVS/<class>/"
        )
        folder = download(root, "cifar10dvs", "CIFAR10DVS", remedy, fetch, progress)
    files = list_files(folder, (".aedat", ".aedat4"), DVS_CLASSES)
    endings = sorted({Path(name).suffix.lower() for name in files.names})
    if len(endings) > 1:
        raise DataError(f"{folder}: has recordings as .aedat and as .aedat4; keep those of one format, move the others")
    cache = FrameCache(spec, root, spec.size, frames, progress)
    return _nine_to_one(files, folder.name, spec.split_seed, cache, DVS128_SENSOR, train, endings[0].removeprefix("."))


def dvs128gesture(spec: Dvs128GestureSpec, root: Path, frames: int, train: bool, progress: Progress | None) -> DataSet:
    """Read DVSGesture/ibmGestureTrain/<user>_<light>/<label>.npy and .../ibmGestureTest, as tonic unpacks them.

    tonic's files are preprocessed: one gesture each, times in milliseconds; 1,077 to train and 264 to test.
    """

    def fetch(folder: Path) -> None:
        import tonic

        tonic.datasets.DVSGesture(str(folder), train=True)
        tonic.datasets.DVSGesture(str(folder), train=False)

    folder = _existing(root, "DVSGesture")
    if folder is None:
        remedy = (
            "unpack ibmGestureTrain.tar.gz and ibmGestureTest.tar.gz of https://figshare.com/ndownloader/files/38022171"
            f" and .../38020584 to {root}/DVSGesture/ibmGestureTrain/<user>_<light>/<label>.npy and .../ibmGestureTest"
        )
        folder = download(root, "dvs128gesture", "DVSGesture", remedy, fetch, progress)
    test_files = _gesture_files(folder, "ibmGestureTest")
    train_files = _gesture_files(folder, "ibmGestureTrain") if train else None
    cache = FrameCache(spec, root, spec.size, frames, progress, "gesture")
    return DataSet(
        classes=GESTURES,
        train=cache.split(train_files, f"{folder.name}/train", DVS128_SENSOR) if train_files is not None else None,
        test=cache.split(test_files, f"{folder.name}/test", DVS128_SENSOR),
        libraries=LIBRARIES,
    )


def ncaltech101(spec: Ncaltech101Spec, root: Path, frames: int, train: bool, progress: Progress | None) -> DataSet:
    """Read NCALTECH101/Caltech101/<class>/*.bin, as tonic unpacks it, and split each class 9:1.

    Recordings differ in size. As in tonic, the sensor of each is the box around its events, resized to the frame.
    """

    def fetch(folder: Path) -> None:
        import tonic

        tonic.datasets.NCALTECH101(str(folder))
        target = folder / "NCALTECH101"
        for packed in sorted(target.rglob("Caltech101.zip")):  # tonic leaves an archive in the archive as it is
            with zipfile.ZipFile(packed) as archive:
                archive.extractall(target)

    folder = _existing(root, "NCALTECH101", "N-Caltech101")
    if folder is None:
        remedy = (
            "unpack Caltech101.zip of N-Caltech101 (https://www.garrickorchard.com/datasets/n-caltech101) to "
            f"{root}/NCALTECH101/Caltech101/<class>/*.bin"
        )
        folder = download(root, "ncaltech101", "NCALTECH101", remedy, fetch, progress)
    inner = [*sorted(folder.glob("Caltech101")), *sorted(folder.glob("*/Caltech101"))]
    files = list_files(inner[0] if inner else folder, (".bin",), spec.classes)
    cache = FrameCache(spec, root, spec.size, frames, progress, "trimmed")
    return _nine_to_one(files, folder.name, spec.split_seed, cache, None, train)


def _existing(root: Path, *names: str) -> Path | None:
    """Return the folder with one of `names` in the data root, if there is one."""
    return subfolder(root, names) if root.is_dir() else None


def _nine_to_one(
    files: FileList, name: str, seed: int, cache: FrameCache, sensor: tuple[int, int] | None, train: bool,
    source: str | None = None,
) -> DataSet:  # fmt: skip
    """Split recordings 9:1, stratified by class and drawn by `seed`."""
    count = round(len(files.names) / 10)
    if count < len(files.classes):
        message = (
            f"{files.folder}: {len(files.names)} recordings are too few for a 9:1 split of {len(files.classes)} classes"
        )
        raise DataError(message)
    rest, drawn = stratified_split(files.labels_N, count, generator(TEST_SPLIT, seed))
    name = f"{name}-split{seed}"
    return DataSet(
        classes=files.classes,
        train=cache.split(files.subset(rest), f"{name}/train", sensor) if train else None,
        test=cache.split(files.subset(drawn), f"{name}/test", sensor),
        split_seed=seed,
        source=source,
        libraries=LIBRARIES,
    )


def _gesture_files(folder: Path, split: str) -> FileList:
    """List `folder`/`split`/<user>_<light>/<label>.npy by label, then by name; like tonic, leave others out.

    Raises:
        DataError: There are none, or one is not named after a label.
    """
    top = folder / split
    names = sorted(path.relative_to(top).as_posix() for path in top.glob("*/*.npy") if not path.name.startswith("."))
    if not names:
        raise DataError(f"{top}: no files <user>_<light>/<label>.npy; remove {folder} to download them again")
    labels = {str(label): label for label in range(len(GESTURES))}
    for name in names:
        if Path(name).stem not in labels:
            raise DataError(f"{top / name}: is not named after a label, 0 to {len(GESTURES) - 1}; remove it")
    labels_N = np.array([labels[Path(name).stem] for name in names], np.int64)
    order = np.argsort(labels_N, kind="stable")
    return FileList(top, GESTURES, tuple(names[i] for i in order), labels_N[order])
