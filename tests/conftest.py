"""Fixtures that several folders share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from snnsc.recipe.load import override, validate
from snnsc.recipe.schema import Recipe

SMALL = {
    "name": "test",
    "data": {"type": "digits"},
    "model": {"arch": "tiny"},
    "method": {"mode": "vanilla"},
    "train": {"epochs": 1, "compile": "off"},
}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, as it does not in what a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def make_recipe() -> Callable[..., Recipe]:
    """A small recipe (digits, tiny, vanilla, T = 4, eager neurons) with `key.path=value` overrides."""
    return lambda *overrides: validate(override(SMALL, overrides), "test")
