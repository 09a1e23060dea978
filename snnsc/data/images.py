"""The small sets of static images, whole in memory: digits, MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100.

Shapes: N images, C channels, H height, W width; pixels are uint8.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snnsc.data.download import download
from snnsc.data.samples import Array, ArraySamples, DataSet, Progress, Split
from snnsc.data.splits import TEST_SPLIT, generator, stratified_split
from snnsc.errors import DataError
from snnsc.recipe.schema import Cifar10Spec, Cifar100Spec, DigitsSpec, MnistSpec

DIGITS = tuple("0123456789")
TORCHVISION = ("numpy", "torch", "torchvision")
_READ_ERRORS = (OSError, RuntimeError, ValueError, TypeError, LookupError, AssertionError, EOFError, pickle.PickleError)

# Mean and standard deviation of the channels for pixel values in 0..1.
# digits: computed over all 1,797 images, since the split depends on the seed.
DIGITS_NORM = ((0.3053,), (0.3759,))
# MNIST: pytorch/examples mnist/main.py. Fashion-MNIST, CIFAR-10, CIFAR-100: computed over the training images, and the
# values in common use (kuangliu/pytorch-cifar has an older std for CIFAR-10); a test computes MNIST's and Fashion's.
MNIST_NORM = ((0.1307,), (0.3081,))
FASHION_NORM = ((0.2860,), (0.3530,))
CIFAR10_NORM = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100_NORM = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


def digits(spec: DigitsSpec, seed: int, train: bool) -> DataSet:
    """Return scikit-learn's digits, 80 % to train and 20 % to test, stratified by class and drawn by `seed`."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images_NCHW = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels_N = bunch.target.astype(np.int64)
    rest, drawn = stratified_split(labels_N, round(len(labels_N) / 5), generator(TEST_SPLIT, seed))
    images_NCHW = _resized(images_NCHW, spec.size)
    return DataSet(
        classes=DIGITS,
        train=Split(ArraySamples(images_NCHW[rest]), labels_N[rest]) if train else None,
        test=Split(ArraySamples(images_NCHW[drawn]), labels_N[drawn]),
        mean=DIGITS_NORM[0],
        std=DIGITS_NORM[1],
        split_seed=seed,
        libraries=("numpy", "scikit-learn", "torch", "torchvision"),
    )


def mnist(spec: MnistSpec, root: Path, train: bool, progress: Progress | None) -> DataSet:
    """Return MNIST or Fashion-MNIST of <root>/MNIST/raw or <root>/FashionMNIST/raw."""
    from torchvision.datasets import MNIST, FashionMNIST

    source = MNIST if spec.type == "mnist" else FashionMNIST
    folder = source.__name__
    names = [Path(file).stem for file, _ in source.resources]  # without .gz
    remedy = f"put {', '.join(names)} (from {source.mirrors[0]}) into {root / folder / 'raw'}"

    def read(training: bool) -> tuple[Array, Array]:
        data = source(str(root), train=training)
        return data.data.numpy()[:, None], data.targets.numpy()

    def fetch(target: Path) -> None:
        source(str(target), download=True)

    public = PublicSet(spec.type, root, folder, remedy, (1, 28, 28), len(DIGITS), fetch, read)
    train_split, test_split = public.splits(spec.size, train, progress)
    mean, std = MNIST_NORM if spec.type == "mnist" else FASHION_NORM
    classes = DIGITS if spec.type == "mnist" else tuple(FashionMNIST.classes)
    return DataSet(classes, train_split, test_split, mean, std, libraries=TORCHVISION)


def cifar(spec: Cifar10Spec | Cifar100Spec, root: Path, train: bool, progress: Progress | None) -> DataSet:
    """Return CIFAR-10 or CIFAR-100 of <root>/cifar-10-batches-py or <root>/cifar-100-python."""
    from torchvision.datasets import CIFAR10, CIFAR100

    source = CIFAR10 if spec.type == "cifar10" else CIFAR100
    folder = source.base_folder
    remedy = f"unpack {source.filename} (from {source.url}) to {root / folder}"
    classes: list[str] = []

    def read(training: bool) -> tuple[Array, Array]:
        data = source(str(root), train=training)
        classes[:] = data.classes
        return data.data.transpose(0, 3, 1, 2), np.array(data.targets)

    def fetch(target: Path) -> None:
        source(str(target), download=True)

    public = PublicSet(spec.type, root, folder, remedy, (3, 32, 32), spec.classes, fetch, read)
    train_split, test_split = public.splits(spec.size, train, progress)
    mean, std = CIFAR10_NORM if spec.type == "cifar10" else CIFAR100_NORM
    return DataSet(tuple(classes), train_split, test_split, mean, std, libraries=TORCHVISION)


@dataclass(frozen=True)
class PublicSet:
    """A data set that torchvision downloads and reads; `read(train)` returns (images [N, C, H, W], labels [N])."""

    name: str
    root: Path
    folder: str
    remedy: str
    shape: tuple[int, int, int]
    classes: int
    fetch: Callable[[Path], None]
    read: Callable[[bool], tuple[Array, Array]]

    def splits(self, size: int, train: bool, progress: Progress | None) -> tuple[Split | None, Split]:
        """Return (train or None, test), downloaded where the folder does not exist."""
        if not (self.root / self.folder).is_dir():
            download(self.root, self.name, self.folder, self.remedy, self.fetch, progress)
        return self._split(True, size) if train else None, self._split(False, size)

    def _split(self, train: bool, size: int) -> Split:
        """Read one split whole, and check it."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy, about the age of CIFAR's pickles
                images_NCHW, labels_N = self.read(train)
        except _READ_ERRORS as error:
            reason = " ".join(str(error).split()).split(". You can use")[0] or type(error).__name__
            raise self._damaged(reason) from error
        if len(images_NCHW) != len(labels_N) or images_NCHW.shape[1:] != self.shape:
            raise self._damaged(f"{len(images_NCHW)} images of {images_NCHW.shape[1:]}, {len(labels_N)} labels")
        if len(labels_N) == 0 or labels_N.min() < 0 or labels_N.max() >= self.classes:
            raise self._damaged(f"its labels are not 0 to {self.classes - 1}")
        return Split(ArraySamples(_resized(images_NCHW, size)), labels_N.astype(np.int64))

    def _damaged(self, reason: str) -> DataError:
        """Return the error for a folder that is there but not whole."""
        path = self.root / self.folder
        return DataError(
            f"{path}: {self.name} is incomplete or damaged ({reason}); remove this folder to download it again, "
            f"or {self.remedy}"
        )


def _resized(images_NCHW: Array, size: int) -> Array:
    """Return the images as uint8 [N, C, size, size], resized (bilinear, antialiased) where they have another size."""
    if images_NCHW.shape[-2:] == (size, size):
        return np.ascontiguousarray(images_NCHW)
    import torch
    from torchvision.transforms.v2.functional import resize

    parts = np.array_split(images_NCHW, max(1, len(images_NCHW) // 1000))  # resizing works in float: bound its memory
    return np.concatenate(
        [resize(torch.from_numpy(np.ascontiguousarray(part)), [size, size], antialias=True).numpy() for part in parts]
    )
