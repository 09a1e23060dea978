"""Random crops of an image, resized: torchvision's RandomResizedCrop as a function of the numbers drawn for it.

Shapes: A attempts to place a crop, C channels, H height, W width.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from snnsc.data.samples import Array

ATTEMPTS = 10
CHANCES = 4 * ATTEMPTS
"""Numbers in [0, 1) that the crop of one image takes."""
AREA = (0.08, 1.0)
"""Share of the image that a crop covers."""
RATIO = (3 / 4, 4 / 3)
"""Width of a crop over its height."""


def crop_box(width: int, height: int, chances_A4: Array) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of a random crop, as torchvision's RandomResizedCrop places it.

    An attempt takes an area, uniform in `AREA`, and an aspect ratio, log-uniform in `RATIO`, and counts if that fits
    into the image, at any place. After the last attempt it is the largest centred crop with a ratio in `RATIO`.

    Args:
        width: Of the image, in pixels.
        height: Likewise.
        chances_A4: Numbers in [0, 1) of area, ratio, top and left; torchvision draws them one by one.
    """
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for for_area, for_ratio, for_top, for_left in chances_A4.tolist():
        area = width * height * (AREA[0] + for_area * (AREA[1] - AREA[0]))
        ratio = math.exp(low + for_ratio * (high - low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(for_top * (height - h + 1)), int(for_left * (width - w + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def resized_crop(image: Image.Image, size: int, chances_A4: Array) -> Image.Image:
    """Return a random crop of the image, resized to a square by Pillow's bilinear, which antialiases."""
    return image.crop(crop_box(*image.size, chances_A4)).resize((size, size), Image.Resampling.BILINEAR)


def resized_crops(images_BCHW: Array, chances_BA4: Array) -> Array:
    """Return random crops of uint8 images, each resized to the size that the images have, [B, C, H, H]."""
    out = np.empty_like(images_BCHW)
    for index, chances_A4 in enumerate(chances_BA4):
        pixels_CHW = images_BCHW[index]
        image = Image.fromarray(pixels_CHW[0] if len(pixels_CHW) == 1 else pixels_CHW.transpose(1, 2, 0).copy())
        cropped = np.asarray(resized_crop(image, pixels_CHW.shape[-1], chances_A4))
        out[index] = cropped[None] if cropped.ndim == 2 else cropped.transpose(2, 0, 1)
    return out
