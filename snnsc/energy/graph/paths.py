"""Whether a path is a file that can be read, told at once: a pipe or a device would block or never end."""

from __future__ import annotations

import stat
from pathlib import Path

from snnsc.errors import SnnscError


def file_size(path: Path, error: type[SnnscError], remedy: str) -> int:
    """Size of a regular file in bytes.

    Args:
        path: The file.
        error: What to raise.
        remedy: What to give instead, for the message.

    Raises:
        SnnscError: `error`: there is no such file, or it is a folder, a pipe, a device, or may not be looked at.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as cause:
        msg = f"{path}: no such file; {remedy}"
        raise error(msg) from cause
    except (OSError, ValueError) as cause:  # too long a name, a circle of links, a null byte, no permission
        msg = f"{_short(path)}: cannot be opened: {reason(cause)}; {remedy}"
        raise error(msg) from cause
    if stat.S_ISDIR(found.st_mode):
        msg = f"{path}: is a folder, not a file; {remedy}"
        raise error(msg)
    if not stat.S_ISREG(found.st_mode):
        msg = f"{path}: is a pipe or a device, not a file; {remedy}"
        raise error(msg)
    return found.st_size


def reason(error: BaseException) -> str:
    """What an exception says, in one short line and without the path that the message names already."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (" ".join(text.split()) or type(error).__name__)[:300]


def _short(path: Path) -> str:
    text = str(path).replace("\0", "\\0")
    return text if len(text) <= 200 else f"{text[:200]}..."
