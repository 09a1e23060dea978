"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from snnsc.errors import SnnscError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that at every moment `path` is the old file or the new one, whole.

    Raises:
        SnnscError: the file cannot be written (no such folder, no permission, disk full); `path` is as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as e:
        raise SnnscError(f"{path}: cannot be written: {e.strerror or e}") from e
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
