"""The version of what model files say of themselves: metadata `snnsc.format`, in ONNX and NIR files alike."""

from __future__ import annotations

from snnsc.errors import ModelFileError

FORMAT_KEY = "snnsc.format"
FORMAT = 1


def check_format(told: str | None, source: str) -> None:
    """Raise ModelFileError where a file was written by a newer snnsc.

    Args:
        told: The metadata; None where there is none, as in files of others.
        source: The file, for the message.
    """
    if told is None or told == str(FORMAT):
        return
    if not (told.isascii() and told.isdigit() and told.lstrip("0")):
        raise ModelFileError(f"{source}: metadata {FORMAT_KEY} is {told[:40]!r}, a number is expected; export it again")
    raise ModelFileError(
        f"{source}: was written by a newer snnsc: it has format {told[:40]}, this one reads {FORMAT}; update snnsc"
    )
