"""Recipes, and CIFAR in miniature."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnsc.recipe.schema import Recipe


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNNSC_CACHE", raising=False)


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    """A recipe for the given data table; T, batch_size and seed by keyword."""

    def make(T: int = 4, batch_size: int = 8, seed: int = 0, **data: Any) -> Recipe:
        table = {
            "name": "test",
            "seed": seed,
            "data": data,
            "model": {"arch": "tiny", "T": T},
            "train": {"epochs": 1, "batch_size": batch_size},
        }
        return Recipe.model_validate_json(json.dumps(table))

    return make


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, np.ndarray]]:
    """CIFAR-10 and CIFAR-100 in miniature; torchvision's md5 lists are replaced by those of these files."""
    from torchvision.datasets import CIFAR10, CIFAR100

    rng = np.random.default_rng(3)
    written: dict[str, np.ndarray] = {}

    def dump(source: Any, name: str, entry: dict[str, Any]) -> list[str]:
        path = tmp_path / source.base_folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(entry, protocol=2))
        return [name, hashlib.md5(path.read_bytes()).hexdigest()]

    for source, key, classes in ((CIFAR10, "labels", 10), (CIFAR100, "fine_labels", 100)):
        for attribute in ("train_list", "test_list"):
            listed = []
            for name, _ in getattr(source, attribute):
                data = rng.integers(0, 256, (classes, 3072), dtype=np.uint8)
                written[name] = data
                listed.append(dump(source, name, {"data": data, key: list(range(classes))}))
            monkeypatch.setattr(source, attribute, listed)
        meta = source.meta
        name, md5 = dump(source, meta["filename"], {meta["key"]: [f"c{i}" for i in range(classes)]})
        monkeypatch.setattr(source, "meta", {"filename": name, "key": meta["key"], "md5": md5})
    return tmp_path, written
