"""Images in class folders, ImageNet among them: decoded once into a cache file, or at every reading.

The latter where they are too many for the cache, and where training takes random crops of whole images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnsc.data.cache import cache_folder, cache_key, cached_array, versions
from snnsc.data.decode import ENDINGS, ImageRows, decode_crop, decode_image
from snnsc.data.folders import TEST_NAMES, TRAIN_NAMES, FileList, data_folder, list_files, same_classes, split_folder
from snnsc.data.parallel import processors, write_rows
from snnsc.data.samples import Array, ArraySamples, DataSet, Indices, Progress, Split
from snnsc.errors import DataError
from snnsc.recipe.schema import ImageFolderSpec, ImagenetSpec

LIBRARIES = ("numpy", "pillow")
CACHED_BYTES = 2 * 1024**3
"""A split that decodes to more than this is not cached."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's channels, as torchvision's models use them."""
_LUMA = (0.299, 0.587, 0.114)  # Pillow's weights of red, green and blue in a grey pixel (ITU-R 601-2)


@dataclass(frozen=True, eq=False)
class LazyImages:
    """Images decoded when they are read, by threads: Pillow decodes and resizes without the interpreter lock."""

    files: FileList
    size: int
    channels: int
    shorter: int
    workers: int

    def __len__(self) -> int:
        return len(self.files.names)

    def read(self, indices_B: Indices) -> Array:
        """Return the middle of each image [B, C, H, W]."""

        def decoded(index: int) -> Array:
            return decode_image(self.files.path(index), self.size, self.channels, self.shorter)

        return self._by_threads(decoded, indices_B.tolist())

    def read_crops(self, indices_B: Indices, chances_BA4: Array) -> Array:
        """Return a random crop of each whole image [B, C, H, W]."""

        def decoded(index: int, chances_A4: Array) -> Array:
            return decode_crop(self.files.path(index), self.size, self.channels, chances_A4)

        return self._by_threads(decoded, indices_B.tolist(), chances_BA4)

    def _by_threads(self, decode: Callable[..., Array], *arguments: Iterable[object]) -> Array:
        """Return the stacked results of `decode`; no thread outlives the call."""
        with ThreadPoolExecutor(self.workers or processors()) as threads:
            decoded = list(threads.map(decode, *arguments))
        return np.stack(decoded) if decoded else np.zeros((0, self.channels, self.size, self.size), np.uint8)


def image_folder(spec: ImageFolderSpec, root: Path, train: bool, progress: Progress | None) -> DataSet:
    """Read <folder>/train/<class>/ and <folder>/test/<class>/ (or val/)."""
    train_files, test_files = _files(spec, root, TEST_NAMES, train)
    mean, std = (default if spec.channels == 3 else (grey(default),) for default in IMAGENET)
    return _data_set(spec, root, train_files, test_files, spec.size, spec.mean or mean, spec.std or std, progress)


def imagenet(spec: ImagenetSpec, root: Path, train: bool, progress: Progress | None) -> DataSet:
    """Read <folder>/train/<wnid>/ and <folder>/val/<wnid>/, as torchvision's ImageNet lays them out.

    The shorter side is resized to size * 256/224, as usual in evaluation; the unlabelled test images are not looked at.
    """
    try:
        train_files, test_files = _files(spec, root, ("val",), train)
    except DataError as error:
        message = (
            f"{error}; ImageNet-1k is not downloaded: get ILSVRC2012 from https://image-net.org and lay it out as "
            f"{spec.folder}/train/<wnid>/*.JPEG and {spec.folder}/val/<wnid>/*.JPEG, {spec.classes} folders each"
        )
        raise DataError(message) from error
    return _data_set(spec, root, train_files, test_files, round(spec.size * 256 / 224), *IMAGENET, progress)


def grey(values_RGB: tuple[float, ...]) -> float:
    """Return the value of a grey image whose colour channels have `values_RGB`."""
    return round(sum(weight * value for weight, value in zip(_LUMA, values_RGB, strict=True)), 4)


def _files(
    spec: ImageFolderSpec | ImagenetSpec, root: Path, test_names: tuple[str, ...], train: bool
) -> tuple[FileList | None, FileList]:
    """List the files to train on, unless they are not asked for, and to test on."""
    folder = data_folder(root, spec.folder)
    test_files = list_files(split_folder(folder, test_names), ENDINGS, spec.classes)
    if not train:
        return None, test_files
    train_files = list_files(split_folder(folder, TRAIN_NAMES), ENDINGS, spec.classes)
    same_classes(train_files, test_files)
    return train_files, test_files


def _data_set(
    spec: ImageFolderSpec | ImagenetSpec, root: Path, train_files: FileList | None, test_files: FileList, shorter: int,
    mean: tuple[float, ...], std: tuple[float, ...], progress: Progress | None,
) -> DataSet:  # fmt: skip
    """Read the images of the files; `shorter` is the length that the shorter side is resized to."""
    name = (root / spec.folder).name
    train = None
    if train_files is not None and spec.augment.resized_crop:
        train = _lazy(spec, train_files, shorter)  # a cache of squares would serve the validation share alone
    elif train_files is not None:
        train = _cached(spec, root, train_files, shorter, f"{name}/train", progress)
    return DataSet(
        classes=test_files.classes,
        train=train,
        test=_cached(spec, root, test_files, shorter, f"{name}/test", progress),
        mean=mean,
        std=std,
        libraries=LIBRARIES,
    )


def _lazy(spec: ImageFolderSpec | ImagenetSpec, files: FileList, shorter: int) -> Split:
    """Return a split whose images are decoded at every reading."""
    images = LazyImages(files, spec.size, spec.channels, shorter, spec.workers)
    return Split(images, files.labels_N, files.sha256, crops=images.read_crops)


def _cached(
    spec: ImageFolderSpec | ImagenetSpec, root: Path, files: FileList, shorter: int, name: str,
    progress: Progress | None,
) -> Split:  # fmt: skip
    """Return a split whose images are decoded once, unless they are too many to keep."""
    if len(files.names) * spec.channels * spec.size**2 > CACHED_BYTES:
        return _lazy(spec, files, shorter)
    key = cache_key(
        {
            "rows": "images",
            "files": files.stamps(),
            "size": spec.size,
            "channels": spec.channels,
            "versions": versions(LIBRARIES),
        }
        | ({} if shorter == spec.size else {"shorter": shorter})  # so that earlier caches keep their keys
    )

    def build(target: Path) -> None:
        rows = ImageRows(files.paths, spec.size, spec.channels, shorter)
        write_rows(target, rows, np.dtype(np.uint8), spec.workers, progress, f"{name}: decode images")

    label = f"{name.replace('/', '-')}-{spec.channels}x{spec.size}"
    array = cached_array(cache_folder(root), label, key, len(files.names), build)
    return Split(ArraySamples(array), files.labels_N, files.sha256, key)
