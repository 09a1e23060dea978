"""An advisory lock on a file, so that processes on one machine do the same work once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock on `path`, waiting for who holds it; yield whether the file system gave a lock at all.

    The system drops the lock when its holder dies. Nothing may depend on the lock for correctness: network file
    systems may refuse it, or grant it to two machines.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except (OSError, AttributeError):
            yield False
        else:
            yield True
