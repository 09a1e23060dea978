"""Fetch a public data set with the library that knows where it is, quietly, and complete or not at all."""

from __future__ import annotations

import contextlib
import io
import shutil
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from snnsc.data.folders import ROOT_REMEDY
from snnsc.data.samples import Progress
from snnsc.errors import DataError
from snnsc.lock import locked


def download(
    root: Path, what: str, folder: str, remedy: str, fetch: Callable[[Path], None], progress: Progress | None
) -> Path:
    """Let `fetch` write `folder` into a temporary folder, and move it to `root`/`folder`; return that.

    Args:
        root: The data root; made where it does not exist.
        what: Name of the data set for messages.
        folder: Name of the folder that `fetch` makes.
        remedy: What to do by hand where there is no network.
        fetch: Downloads and unpacks into the folder it is given.
        progress: Told 0 of 1 before and 1 of 1 after.

    Raises:
        DataError: The root cannot be written, or the download failed.
    """
    target = root / folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / ".snnsc-download.lock"):
            if target.exists():  # another process was first
                return target
            if progress is not None:
                progress(f"{what}: download", 0, 1)
            temporary = Path(tempfile.mkdtemp(prefix=".snnsc-download-", dir=root))
            try:
                _fetch(fetch, temporary, what, remedy)
                (temporary / folder).rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        message = f"{root}: {what} cannot be stored there ({error.strerror or error}); {ROOT_REMEDY}"
        raise DataError(message) from error
    if progress is not None:
        progress(f"{what}: download", 1, 1)
    return target


def _fetch(fetch: Callable[[Path], None], temporary: Path, what: str, remedy: str) -> None:
    """Call `fetch` with its prints, progress bars and warnings held back."""
    held = io.StringIO()
    try:
        with contextlib.redirect_stdout(held), contextlib.redirect_stderr(held), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fetch(temporary)
    except (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        message = f"{what}: the download failed ({reason.strip()}); {remedy}"
        raise DataError(message) from error
