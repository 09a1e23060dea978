"""Decode one image file to the square the network sees: its middle, or in training a random crop of it.

Shapes: C channels, H = W = size, A attempts to place a crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from snnsc.data.crops import resized_crop
from snnsc.data.samples import Array
from snnsc.errors import DataError

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp")


def decode_image(path: Path, size: int, channels: int, shorter: int | None = None) -> Array:
    """Return the image as uint8 [C, size, size]: shorter side resized to `shorter`, then cropped at the centre.

    Resizing is Pillow's bilinear, which antialiases. Transparency is dropped, 16-bit grey keeps its upper 8 bits.

    Args:
        path: The file.
        size: Side of the square.
        channels: 1 is grey, 3 is RGB.
        shorter: At least `size`, which is the default.

    Raises:
        DataError: The file cannot be decoded whole.
    """
    return _pixels(_square(_whole(path, channels), size, shorter or size))


def decode_crop(path: Path, size: int, channels: int, chances_A4: Array) -> Array:
    """Return a random crop of the whole image, resized to uint8 [C, size, size]; see `crops.crop_box`.

    Raises:
        DataError: The file cannot be decoded whole.
    """
    return _pixels(resized_crop(_whole(path, channels), size, chances_A4))


def _whole(path: Path, channels: int) -> Image.Image:
    """Return the image as it is stored, grey or RGB."""
    try:
        with Image.open(path) as image:
            image.load()
            return _converted(image, "L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        message = f"{path}: cannot be decoded as an image ({reason}); replace or remove the file"
        raise DataError(message) from error


def _pixels(image: Image.Image) -> Array:
    """Return the pixels of a grey or RGB image [C, H, W]."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """Return the image in `mode`."""
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:  # the way Pillow asks for in a warning
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def _square(image: Image.Image, size: int, shorter: int) -> Image.Image:
    """Return the image resized and cropped, with the sizes and offsets of torchvision's Resize and CenterCrop."""
    width, height = image.size
    least = min(width, height)
    if least != shorter:
        width, height = max(shorter, width * shorter // least), max(shorter, height * shorter // least)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if (width, height) == (size, size):
        return image
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


@dataclass(frozen=True)
class ImageRows:
    """The decoded image of each file; what the processes that build the cache receive."""

    paths: tuple[Path, ...]
    size: int
    channels: int
    shorter: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape [C, H, W] of a row."""
        return self.channels, self.size, self.size

    @property
    def risky(self) -> bool:
        """Whether reading may end the process."""
        return False

    def row(self, index: int) -> Array:
        """Return image `index`."""
        return decode_image(self.paths[index], self.size, self.channels, self.shorter)
