from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from .graphs import exported_net


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def model(rng: np.random.Generator, tmp_path: Path) -> Path:
    """A file of a network such as ours, without statistics."""
    path = tmp_path / "net.onnx"
    onnx.save(exported_net(rng), path)
    return path


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    """Samples that it takes."""
    return rng.standard_normal((4, 2, 6, 6)).astype(np.float32)
