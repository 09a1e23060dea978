"""Write small data sets in the true on-disk formats."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

EVENT = np.dtype([("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.bool_)])


def random_events(rng: np.random.Generator, count: int, width: int = 34, height: int = 34) -> np.ndarray:
    """Events with rising time stamps."""
    events = np.empty(count, EVENT)
    events["t"] = np.sort(rng.integers(0, 300_000, count))
    events["x"], events["y"] = rng.integers(0, width, count), rng.integers(0, height, count)
    events["p"] = rng.integers(0, 2, count)
    return events


def bin_bytes(events: np.ndarray) -> bytes:
    """N-MNIST's format: x, y, polarity bit and 23 bits of time, big-endian."""
    rows = zip(events["x"].tolist(), events["y"].tolist(), events["p"].tolist(), events["t"].tolist(), strict=True)
    return b"".join(bytes((x, y)) + struct.pack(">I", (int(p) << 23) | t)[1:] for x, y, p, t in rows)


def aedat2_bytes(events: np.ndarray, header: bytes = b"#!AER-DAT2.0\r\n# Timestamps tick is 1 us\r\n") -> bytes:
    """jAER's AEDAT 2 of a DVS128: 32-bit address and time, big-endian; both axes turned round, ON is 0."""
    address = (127 - events["y"].astype(">u4")) << 8 | (127 - events["x"].astype(">u4")) << 1 | (events["p"] == 0)
    words = np.stack([address, events["t"] % 2**32], 1).astype(">u4")
    return header + words.tobytes()


def write_events(path: Path, events: np.ndarray, dimensions: tuple[int, int] = (34, 34)) -> None:
    """Write a recording in the format of its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".bin":
            path.write_bytes(bin_bytes(events))
        case ".aedat":
            path.write_bytes(aedat2_bytes(events))
        case ".npy":
            np.save(path, events)
        case ".npz":
            np.savez(path, events=events)
        case ".aedat4":
            faery = pytest.importorskip("faery")
            converted = np.empty(len(events), faery.EVENTS_DTYPE)
            for source, target in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
                converted[target] = events[source]
            faery.events_stream_from_array(converted, dimensions).to_file(path)


def event_tree(
    folder: Path, ending: str, train: int = 4, test: int = 2, classes: tuple[str, ...] = ("a", "b"), **kw: Any
) -> dict[str, np.ndarray]:
    """Write <folder>/{train,test}/<class>/<i><ending>; return the events by path relative to `folder`."""
    rng = np.random.default_rng(0)
    written = {}
    for split, count in (("train", train), ("test", test)):
        for name in classes:
            for index in range(count):
                path = folder / split / name / f"{index}{ending}"
                events = random_events(rng, 200 + 10 * index)
                write_events(path, events, **kw)
                written[path.relative_to(folder).as_posix()] = events
    return written


def image_tree(folder: Path, per_class: int = 6, size: tuple[int, int] = (12, 10), ending: str = ".jpg") -> None:
    """Write <folder>/{train,test}/{cat,dog}/<i>.jpg."""
    rng = np.random.default_rng(1)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for index in range(per_class):
                pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}{ending}")


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write MNIST's idx format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def write_mnist(root: Path, train: int = 40, test: int = 20, folder: str = "MNIST") -> dict[str, np.ndarray]:
    """Write MNIST's four files; labels go round, so they are balanced."""
    rng = np.random.default_rng(2)
    arrays = {}
    for prefix, count in (("train", train), ("t10k", test)):
        arrays[f"{prefix}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    for name, array in arrays.items():
        write_idx(root / folder / "raw" / name, array)
    return arrays
