"""From stored samples to the float32 tensors a network is fed; in training with random changes.

Every random number of a batch is drawn for the whole batch, over all ranks, and each rank takes those of its samples:
what happens to a sample does not depend on the number of processes. Global random state is never touched.

Shapes: B samples of this rank, T time steps, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from snnsc.data.samples import Array, Indices
from snnsc.recipe.schema import EventAugment, ImageAugment


@dataclass(frozen=True, eq=False)
class Draws:
    """Random numbers for the samples at places `mine_B` of a batch of `total`."""

    rng: np.random.Generator
    total: int
    mine_B: Indices

    def integers(self, low: int, high: int, columns: int) -> Indices:
        """Return integers [B, columns] from `low` to `high` - 1."""
        drawn: Indices = self.rng.integers(low, high, (self.total, columns))[self.mine_B]
        return drawn

    def uniform(self, columns: int) -> Array:
        """Return numbers [B, columns] in [0, 1)."""
        drawn: Array = self.rng.random((self.total, columns))[self.mine_B]
        return drawn


@dataclass(frozen=True)
class ImagePipeline:
    """uint8 images to normalised ones: AutoAugment, crop, flip, normalise, cutout.

    A resized crop and mixing are not done here: the one comes before, as the images are read, the other after, with
    the labels. See `batches.TrainBatches`.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: ImageAugment

    def train(self, images_BCHW: Array, draws: Draws) -> torch.Tensor:
        """Return augmented, normalised images float32 [B, C, H, W]."""
        augment, size = self.augment, images_BCHW.shape[-1]
        if augment.autoaugment is not None:
            images_BCHW = autoaugmented(images_BCHW, augment.autoaugment, draws)
        if augment.crop:
            pad = augment.crop
            padded = np.zeros((*images_BCHW.shape[:2], size + 2 * pad, size + 2 * pad), images_BCHW.dtype)
            padded[..., pad:-pad, pad:-pad] = images_BCHW  # a fifth of np.pad's time
            images_BCHW = windows(padded, draws.integers(0, 2 * pad + 1, 2), size)
        if augment.flip:
            images_BCHW = flipped(images_BCHW, draws.integers(0, 2, 1)[:, 0] == 1)
        normal_BCHW = self._normalised(images_BCHW)
        if augment.cutout:
            normal_BCHW = cut_out(normal_BCHW, draws.integers(0, size, 2), augment.cutout)
        return torch.from_numpy(normal_BCHW)

    def evaluate(self, images_BCHW: Array) -> torch.Tensor:
        """Return normalised images float32 [B, C, H, W]."""
        return torch.from_numpy(self._normalised(images_BCHW))

    def _normalised(self, images_BCHW: Array) -> Array:
        """Return (pixel / 255 - mean) / std, in the order of operations of torchvision's ToTensor and Normalize."""
        normal_BCHW = images_BCHW.astype(np.float32)
        normal_BCHW /= np.float32(255)
        normal_BCHW -= np.array(self.mean, np.float32)[:, None, None]
        normal_BCHW /= np.array(self.std, np.float32)[:, None, None]
        return normal_BCHW


@dataclass(frozen=True)
class FramePipeline:
    """Stored frames [B, T, 2, H, W] to the network's layout [T, B, 2, H, W], as raw counts: flip, roll."""

    augment: EventAugment

    def train(self, frames_BTCHW: Array, draws: Draws) -> torch.Tensor:
        """Return augmented frames float32 [T, B, 2, H, W]; all T frames of a sample change alike."""
        augment = self.augment
        if augment.flip:
            frames_BTCHW = flipped(frames_BTCHW, draws.integers(0, 2, 1)[:, 0] == 1)
        if augment.roll:
            reach = augment.roll
            frames_BTCHW = rolled(frames_BTCHW, reach - draws.integers(0, 2 * reach + 1, 2))
        return self.evaluate(frames_BTCHW)

    def evaluate(self, frames_BTCHW: Array) -> torch.Tensor:
        """Return frames float32 [T, B, 2, H, W], contiguous."""
        return torch.from_numpy(np.ascontiguousarray(frames_BTCHW.swapaxes(0, 1), dtype=np.float32))


def windows(padded: Array, corners_B2: Indices, size: int) -> Array:
    """Return [B, ..., size, size]: of each sample the window whose top-left corner is `corners_B2` (row, column)."""
    view = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(-2, -1))
    chosen: Array = view[np.arange(len(padded)), ..., corners_B2[:, 0], corners_B2[:, 1], :, :]
    return chosen


def rolled(samples: Array, shifts_B2: Indices) -> Array:
    """Return the samples [B, ..., H, W], each moved down and right by its shift; what leaves comes in opposite."""
    out = np.empty_like(samples)
    height, width = samples.shape[-2:]
    for moved, sample, (down, right) in zip(out, samples, shifts_B2.tolist(), strict=True):
        for rows, from_rows in _halves(down % height, height):
            for columns, from_columns in _halves(right % width, width):
                moved[..., rows, columns] = sample[..., from_rows, from_columns]
    return out


def _halves(shift: int, length: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the two parts of an axis go to and come from when it is rolled by `shift`."""
    return (slice(shift, None), slice(length - shift)), (slice(shift), slice(length - shift, None))


def flipped(samples: Array, where_B: Array) -> Array:
    """Return the samples [B, ..., W], mirrored left-right where `where_B` is true."""
    out = samples.copy()
    out[where_B] = samples[where_B][..., ::-1]
    return out


def cut_out(images_BCHW: Array, centres_B2: Indices, side: int) -> Array:
    """Set a square of each normalised image to 0, the mean.

    The centre (row, column) is any pixel, so the square may stick out (DeVries & Taylor 2017, arXiv:1708.04552).
    """
    first_B2 = centres_B2 - side // 2
    rows, columns = np.arange(images_BCHW.shape[-2]), np.arange(images_BCHW.shape[-1])
    in_row_BH = (rows >= first_B2[:, :1]) & (rows < first_B2[:, :1] + side)
    in_column_BW = (columns >= first_B2[:, 1:]) & (columns < first_B2[:, 1:] + side)
    inside_BHW = in_row_BH[:, :, None] & in_column_BW[:, None, :]
    return np.where(inside_BHW[:, None], np.float32(0), images_BCHW)


def autoaugmented(images_BCHW: Array, policy: str, draws: Draws) -> Array:
    """Apply torchvision's AutoAugment to each RGB image, on Pillow images as in the published pipelines.

    torchvision draws from the global random state in `get_params` only; it is replaced by our draws.
    """
    from PIL import Image
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    transform = AutoAugment(AutoAugmentPolicy(policy))
    policies_B = draws.integers(0, len(transform.policies), 1)[:, 0].tolist()
    chances_B2, signs_B2 = draws.uniform(2).tolist(), draws.integers(0, 2, 2).tolist()
    out = np.empty_like(images_BCHW)
    for index, drawn in enumerate(zip(policies_B, chances_B2, signs_B2, strict=True)):
        transform.get_params = lambda _count, drawn=drawn: drawn
        image = Image.fromarray(np.ascontiguousarray(images_BCHW[index].transpose(1, 2, 0)))
        out[index] = np.asarray(transform(image)).transpose(2, 0, 1)
    return out
