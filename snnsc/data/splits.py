"""Stratified subsets, the same for the same seed, and one hash for a list of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from snnsc.data.samples import Indices

# The first word of each random stream: two streams of one recipe must never be the same numbers. SeedSequence pads
# with zeros, so streams of different length could otherwise coincide.
TEST_SPLIT, VALIDATION_SPLIT, TRAIN_LIMIT, TEST_LIMIT, ORDER, AUGMENT, MIX, SOME = range(1, 9)


def generator(stream: int, *words: int) -> np.random.Generator:
    """Return the random generator that belongs to `stream` and `words`, whatever was drawn before."""
    return np.random.default_rng(np.random.SeedSequence((stream, *words)))


def stratified_split(labels_N: Indices, count: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Draw `count` of N samples, each class in proportion; return (the rest, the drawn), both sorted.

    Each class gives its exact share rounded down; what is missing from `count` comes from the classes with the largest
    remainders (the first of equal ones), so a set with equal classes is split equally.
    """
    classes, sizes = np.unique(labels_N, return_counts=True)
    exact = sizes * count / max(1, len(labels_N))
    taken = np.floor(exact + 1e-9).astype(np.int64)
    for index in np.argsort(taken - exact, kind="stable")[: count - int(taken.sum())]:
        taken[index] += 1
    drawn = [
        rng.permutation(np.flatnonzero(labels_N == label))[:take] for label, take in zip(classes, taken, strict=True)
    ]
    chosen = np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, np.int64)
    rest = np.setdiff1d(np.arange(len(labels_N)), chosen, assume_unique=True)
    return rest.astype(np.int64), chosen.astype(np.int64)


def files_sha256(names: Iterable[str]) -> str:
    """Return the SHA-256 of the sorted names, each ended by a zero byte (no file name can hold one)."""
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()
