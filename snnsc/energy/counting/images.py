"""Whether bytes are an image that a model can decode; told here, as the decoder's libjpeg ends the whole process."""

from __future__ import annotations

import io
import warnings

import numpy as np

from snnsc.errors import DataError

FORMATS = ("JPEG", "PNG")


def check_image(where: str, content: np.ndarray) -> None:
    """Decode the bytes of one image.

    Raises:
        DataError: They are none, or a damaged one.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an image of so many pixels that it may be a bomb
            with Image.open(io.BytesIO(content.tobytes()), formats=FORMATS) as image:
                image.load()
    except (OSError, ValueError, SyntaxError, ArithmeticError, Warning, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{where} is no {' or '.join(FORMATS)} image, or is damaged: {reason}") from error
