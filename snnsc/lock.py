"""An advisory lock on a file or a folder, so that processes on one machine do not do the same work at once.

The system drops the lock when its holder dies. No file may depend on the lock for being whole: network file systems may
refuse it, or grant it to two machines.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock on the file `path`, waiting for who holds it; yield whether the file system gave a lock at all."""
    with path.open("a") as file:
        yield _lock(file.fileno())


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[bool]:
    """As `locked`, on a folder, in which nothing is left behind."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders; another may be written and not listed, or be missing
        yield False
        return
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except (OSError, AttributeError):
        return False
    return True
