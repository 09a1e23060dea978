"""Images in class folders: decoded once into a cache file, or at every reading where they are too many."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnsc.data.cache import cache_folder, cache_key, cached_array, versions
from snnsc.data.decode import ENDINGS, ImageRows
from snnsc.data.folders import TEST_NAMES, TRAIN_NAMES, FileList, data_folder, list_files, same_classes, split_folder
from snnsc.data.parallel import processors, write_rows
from snnsc.data.samples import Array, ArraySamples, DataSet, Indices, Progress, Samples, Split
from snnsc.recipe.schema import ImageFolderSpec

LIBRARIES = ("numpy", "pillow")
CACHED_BYTES = 2 * 1024**3
"""A split that decodes to more than this is not cached."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's channels, as torchvision's models use them."""
_LUMA = (0.299, 0.587, 0.114)  # Pillow's weights of red, green and blue in a grey pixel (ITU-R 601-2)


@dataclass(frozen=True, eq=False)
class LazyImages:
    """Images decoded when they are read, by threads: Pillow decodes and resizes without the interpreter lock."""

    rows: ImageRows
    workers: int

    def __len__(self) -> int:
        return len(self.rows.paths)

    def read(self, indices_B: Indices) -> Array:
        """Return the images [B, C, H, W]; no thread outlives the call."""
        with ThreadPoolExecutor(self.workers or processors()) as threads:
            decoded = list(threads.map(self.rows.row, indices_B.tolist()))
        return np.stack(decoded) if decoded else np.zeros((0, *self.rows.shape), np.uint8)


def image_folder(spec: ImageFolderSpec, root: Path, train: bool, progress: Progress | None) -> DataSet:
    """Read <folder>/train/<class>/ and <folder>/test/<class>/ (or val/)."""
    folder = data_folder(root, spec.folder)
    test_files = list_files(split_folder(folder, TEST_NAMES), ENDINGS, spec.classes)
    train_split = None
    if train:
        train_files = list_files(split_folder(folder, TRAIN_NAMES), ENDINGS, spec.classes)
        same_classes(train_files, test_files)
        train_split = _split(spec, root, train_files, f"{folder.name}/train", progress)
    mean, std = (default if spec.channels == 3 else (grey(default),) for default in IMAGENET)
    return DataSet(
        classes=test_files.classes,
        train=train_split,
        test=_split(spec, root, test_files, f"{folder.name}/test", progress),
        mean=spec.mean or mean,
        std=spec.std or std,
        libraries=LIBRARIES,
    )


def grey(values_RGB: tuple[float, ...]) -> float:
    """Return the value of a grey image whose colour channels have `values_RGB`."""
    return round(sum(weight * value for weight, value in zip(_LUMA, values_RGB, strict=True)), 4)


def _split(spec: ImageFolderSpec, root: Path, files: FileList, name: str, progress: Progress | None) -> Split:
    """Return the images of `files`, cached or lazy by how large they are."""
    rows = ImageRows(files.paths, spec.size, spec.channels)
    if len(rows.paths) * int(np.prod(rows.shape)) > CACHED_BYTES:
        samples: Samples = LazyImages(rows, spec.workers)
        return Split(samples, files.labels_N, files.sha256)
    key = cache_key(
        {
            "rows": "images",
            "files": files.stamps(),
            "size": spec.size,
            "channels": spec.channels,
            "versions": versions(LIBRARIES),
        }
    )

    def build(target: Path) -> None:
        write_rows(target, rows, np.dtype(np.uint8), spec.workers, progress, f"{name}: decode images")

    label = f"{name.replace('/', '-')}-{spec.channels}x{spec.size}"
    array = cached_array(cache_folder(root), label, key, len(rows.paths), build)
    return Split(ArraySamples(array), files.labels_N, files.sha256, key)
