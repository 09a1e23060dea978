"""A run folder as `compare` sees it: recipe.toml, metrics.jsonl and, where the run was exported, energy.json."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from snnsc.compare.seeds import SEEDS, is_seeds_folder, read_seeds, seed_folder, seed_folders
from snnsc.errors import ModelFileError
from snnsc.files import is_file, is_folder, what_is
from snnsc.recipe.load import load_recipe
from snnsc.recipe.schema import Recipe

METRICS, RECIPE, ENERGY = "metrics.jsonl", "recipe.toml", "energy.json"
FIRST_LAYER = "stem.convs.0.conv"
"""The first convolution, as `gradient_norm` names it."""
PRICES = "horowitz-fp32"
"""The price model whose energies are compared."""


@dataclass(frozen=True)
class Histogram:
    """Weight gradients of the first convolution, counted by sign and magnitude."""

    edges: tuple[float, ...]
    """Magnitudes between the bins, rising."""
    negative: tuple[int, ...]
    """Counts by magnitude: entry i lies between edges i and i + 1."""
    zero: int
    """Count below the first edge."""
    positive: tuple[int, ...]


@dataclass(frozen=True)
class Epoch:
    """A line of metrics.jsonl, as far as it is compared."""

    accuracy: float
    seconds: float
    """Since the start of training."""
    firing_rate: float | None
    """Mean over the layers; None of a network without neurons."""
    first_gradient: float | None
    """Norm of the gradient of the first convolution."""
    histogram: Histogram | None
    """None of runs of snnsc 0.1, which did not record it."""


@dataclass(frozen=True)
class Energy:
    """What the exported network takes for a sample."""

    snn_pj: float
    ratio: float
    """Over its ANN twin."""
    is_bound: bool
    """Whether it is a lower bound, because some neurons' updates have no price."""


@dataclass(frozen=True)
class Run:
    """One run folder."""

    folder: Path
    recipe: Recipe
    epochs: tuple[Epoch, ...]
    """Those that are done, one at least."""
    energy: Energy | None

    @property
    def finished(self) -> bool:
        """Whether every epoch of the recipe is done."""
        return len(self.epochs) >= self.recipe.train.epochs


@dataclass(frozen=True)
class Found:
    """What the arguments of `compare` hold."""

    runs: tuple[Run, ...]
    not_begun: tuple[Path, ...]
    """Folders of seeds of which no epoch is done yet; they are left out."""


def read_runs(arguments: Sequence[Path]) -> Found:
    """Every run of run folders and folders of seeds, in their order.

    Raises:
        ModelFileError: an argument is neither, or something in it is damaged.
        RecipeError: a recipe is not one of this snnsc.
    """
    runs: list[Run] = []
    not_begun: list[Path] = []
    for argument in arguments:
        if not is_folder(argument):
            raise ModelFileError(f"{argument}: no such run folder; give folders that `snnsc train` wrote")
        if is_file(argument / RECIPE):
            runs.append(read_run(argument))
            continue
        if is_seeds_folder(argument):
            folders = [seed_folder(argument, seed) for seed in read_seeds(argument)[1]]
        elif not (folders := seed_folders(argument)):
            raise ModelFileError(f"{argument}: is no run folder, as it has no {RECIPE}, and no {SEEDS} either")
        begun = [folder for folder in folders if _has_metrics(folder)]
        if not begun:
            raise ModelFileError(f"{argument}: no epoch of any of its seeds is done yet")
        runs += [read_run(folder) for folder in begun]
        not_begun += [folder for folder in folders if folder not in begun]
    return Found(tuple(runs), tuple(not_begun))


def _has_metrics(folder: Path) -> bool:
    return is_file(folder / METRICS) and "\n" in (folder / METRICS).read_text(encoding="utf-8", errors="replace")


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ModelFileError: no epoch is done, or a file is damaged.
        RecipeError: its recipe is not one of this snnsc.
    """
    recipe = load_recipe(folder / RECIPE)
    return Run(folder, recipe, read_metrics(folder / METRICS), read_energy(folder / ENERGY))


def read_metrics(path: Path) -> tuple[Epoch, ...]:
    """The epochs of a metrics.jsonl.

    A last line without its end is one that is being written, or that a kill cut short, and does not count.

    Raises:
        ModelFileError: there is no epoch, or a line is damaged.
    """
    if not is_file(path):
        raise ModelFileError(f"{path}: {what_is(path)}; no epoch of this run is done yet")
    *lines, _unfinished = path.read_bytes().split(b"\n")
    if not lines:
        raise ModelFileError(f"{path}: no epoch of this run is done yet")
    return tuple(_epoch(line, number, path) for number, line in enumerate(lines, 1))


def _epoch(line: bytes, number: int, path: Path) -> Epoch:
    try:
        found = json.loads(line)
        if found["epoch"] != number:
            raise ValueError(f"epoch is {found['epoch']}, not {number}")
        norms, rates = dict(found["gradient_norm"]), dict(found["firing_rate"])
        return Epoch(
            accuracy=_number(found["accuracy"], "accuracy"),
            seconds=_number(found["seconds"], "seconds"),
            firing_rate=_mean(rates),
            first_gradient=_gradient(norms[FIRST_LAYER]) if FIRST_LAYER in norms else None,
            histogram=_histogram(found["first_layer_gradient"]) if "first_layer_gradient" in found else None,
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as e:
        what = f"has no {e}" if isinstance(e, KeyError) else str(e)
        raise ModelFileError(f"{path}: line {number} is damaged: {what}") from e


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, which is no finite number")
    return float(value)


def _gradient(value: object) -> float:
    """A norm may well be infinite: that of a run whose gradients explode."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"gradient_norm is {value!r}, which is no number")
    return float(value)


def _mean(rates: Mapping[str, object]) -> float | None:
    values = [_number(rate, "firing_rate") for rate in rates.values()]
    return math.fsum(values) / len(values) if values else None


def _histogram(found: Mapping[str, object]) -> Histogram:
    edges, negative, positive = (found[key] for key in ("edges", "negative", "positive"))
    if not (isinstance(edges, list) and isinstance(negative, list) and isinstance(positive, list)):
        raise ValueError("first_layer_gradient has no lists of edges and counts")
    magnitudes = tuple(_number(edge, "first_layer_gradient.edges") for edge in edges)
    counts = [[_count(count) for count in side] for side in (negative, [found["zero"]], positive)]
    if not len(magnitudes) - 1 == len(negative) == len(positive) > 0:
        raise ValueError("first_layer_gradient has not one more edge than counts of a sign")
    if any(a >= b for a, b in itertools.pairwise(magnitudes)) or not 1e-30 < magnitudes[0] < magnitudes[-1] < 1e30:
        raise ValueError("first_layer_gradient.edges do not rise from 1e-30 to 1e30")
    return Histogram(magnitudes, tuple(counts[0]), counts[1][0], tuple(counts[2]))


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"first_layer_gradient holds {value!r}, which is no count")
    return value


def read_energy(path: Path) -> Energy | None:
    """What `snnsc export` wrote beside the checkpoints, if it did.

    Raises:
        ModelFileError: the file is damaged.
    """
    if not is_file(path):
        return None
    try:
        priced = {entry["model"]: entry for entry in json.loads(path.read_text(encoding="utf-8"))["energy"]}
        entry = priced[PRICES]
        is_bound = bool(entry.get("not_priced"))
        return Energy(_number(entry["snn_pj"], "snn_pj"), _number(entry["ratio"], "ratio"), is_bound)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as e:
        what = f"has no {e}" if isinstance(e, KeyError) else str(e)
        raise ModelFileError(f"{path}: is damaged: {what}") from e
