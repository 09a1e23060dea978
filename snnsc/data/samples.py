"""What a data set is to the rest of this package: rows that can be read by index, with a label each.

Shapes: N samples, B samples of a batch, T time steps, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Indices: TypeAlias = npt.NDArray[np.int64]
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (what is being done, done so far, total)."""
Crops: TypeAlias = Callable[[Indices, Array], Array]
"""Given places [B] and the chances [B, A, 4] of `crops.crop_box`, returns a random crop of each image [B, C, H, W]."""


class Samples(Protocol):
    """Rows of one shape and dtype: images [C, H, W] as uint8, or frames [T, 2, H, W]."""

    def __len__(self) -> int: ...

    def read(self, indices_B: Indices) -> Array:
        """Return a fresh, writable array [B, ...] of the rows at `indices_B`."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySamples:
    """Rows of an array in memory, or of a memory-mapped file."""

    array: Array

    def __len__(self) -> int:
        return len(self.array)

    def read(self, indices_B: Indices) -> Array:
        """Return a copy [B, ...] of the rows at `indices_B`."""
        # np.asarray: indexing a memmap gives an array that calls itself a memmap; it is a copy in memory.
        return np.asarray(self.array[indices_B])


@dataclass(frozen=True, eq=False)
class Split:
    """One split: its samples, their labels [N], and for folders what the files were."""

    samples: Samples
    labels_N: Indices
    files_sha256: str | None = None
    cache_key: str | None = None
    crops: Crops | None = None
    """Random crops of the images as they are on disk, where `samples` are smaller."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """The splits of one data set before any subset is taken; `train` is None where it was not read."""

    classes: tuple[str, ...]
    train: Split | None
    test: Split
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    split_seed: int | None = None
    source: str | None = None
    """Which of its forms was read, where a data set has several."""
    libraries: tuple[str, ...] = ()
    """Distributions whose version may change the samples."""
