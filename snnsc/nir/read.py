"""Read NIR files, ours and others'."""

from __future__ import annotations

from pathlib import Path

from snnsc.nir.graph import Graph, build
from snnsc.nir.hdf5 import read_bytes, read_file


def read_nir(path: Path) -> Graph:
    """Read a NIR file.

    Args:
        path: The file; it may be anything.

    Raises:
        ModelFileError: it is missing or damaged, its graph is malformed or has cycles, or it has nodes of a type that
            is not supported.
        RecipeError: h5py is not installed.
    """
    path = Path(path)
    return build(read_file(path), str(path))


def parse_nir(content: bytes, source: str) -> Graph:
    """Read what `to_nir` wrote.

    Args:
        content: Of the file.
        source: Its name, for messages.

    Raises:
        ModelFileError: as `read_nir`.
    """
    return build(read_bytes(content, source), source)
