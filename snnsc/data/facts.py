"""What is worth remembering about the data a model was trained on; it goes into every checkpoint and export."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DataFacts:
    """Facts about the data as read; a value is None where it does not apply or was not read.

    `mean` and `std` are a value a channel, for pixel values in 0..1. The file hashes are over the sorted list of paths
    relative to the split's folder, so a moved data set keeps its hash and another split has another one.
    """

    type: str
    """The recipe's data.type."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    channels: tuple[str, ...]
    """What the input channels are: grey; red, green, blue; or OFF, ON."""
    size: int
    """Side of the input in pixels."""
    whole_counts: bool
    """Whether the inputs are whole numbers of events: frames that were not resized."""
    train_samples: int | None
    """Samples trained on, after `data.validation` and `data.train_limit`."""
    validation_samples: int | None
    """Samples kept apart to choose the best checkpoint."""
    test_samples: int
    """Samples evaluated on, after `data.test_limit`."""
    mean: tuple[float, ...] | None
    """Subtracted from each channel; None for event frames, which are raw counts."""
    std: tuple[float, ...] | None
    """Then divides each channel; None for event frames."""
    files_sha256: str | None
    """Hash of the test split's file list; None for sets that are not folders of files."""
    train_files_sha256: str | None
    """Hash of the training split's file list, validation samples included."""
    split_seed: int | None
    """Seed of the split into train and test, where the data set has none of its own."""
    cache_keys: dict[str, str] = field(default_factory=dict)
    """Key of the cache file of each split that has one: a hash of everything that shapes its rows."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the libraries that read, decoded and resized the samples."""
    source: str | None = None
    """Which of its forms was read, where a data set has several: CIFAR10-DVS as `aedat` or `aedat4`."""

    def to_dict(self) -> dict[str, object]:
        """Return the facts as values that JSON can hold."""
        as_lists = {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }
        return dict(as_lists)
