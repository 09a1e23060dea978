"""What a benchmark writes with `--json`: every time that was measured, and what it depends on besides the code."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_report(options: argparse.Namespace, seconds: Mapping[str, object], packages: tuple[str, ...]) -> None:
    """Write the file that `--json` names; nothing without it.

    Args:
        options: The command line, kept in the report.
        seconds: Network -> contestant -> seconds of each round.
        packages: Whose versions are told, where they are installed.
    """
    if options.json:
        report = {"environment": environment(packages), "options": options_used(options), "seconds": seconds}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def environment(packages: tuple[str, ...]) -> dict[str, Any]:
    """Versions and machine."""
    versions = {name: importlib.metadata.version(name) for name in packages if importlib.util.find_spec(name)}
    return {
        "versions": versions | {"numpy": np.__version__},
        "device": platform.processor() or platform.machine(),
        "python": sys.version.split()[0],
    }


def options_used(options: argparse.Namespace) -> dict[str, Any]:
    """The command line as JSON takes it."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
