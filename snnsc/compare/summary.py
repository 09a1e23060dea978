"""What `compare` says of each arm, and of each arm against the first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from snnsc.compare.arms import Arm
from snnsc.compare.runs import Run
from snnsc.compare.spread import Spread, pooled_std, spread
from snnsc.recipe.schema import Recipe


@dataclass(frozen=True)
class Parameters:
    """Trainable numbers of a network."""

    stripped: int
    """Without the branches: what is deployed."""
    branches: int


@dataclass(frozen=True)
class Summary:
    """An arm in numbers, each over its runs; None where no run has it.

    `accuracy`, `best_accuracy` and `firing_rate` are shares; `accuracy` and `firing_rate` are of the last epoch that is
    done, `best_accuracy` is the highest of all epochs, on the evaluation set. Gradients are norms of the gradient of
    the first convolution: mean over the epochs, and in the first. `seconds` is the training time so far.
    """

    arm: Arm
    parameters: Parameters
    accuracy: Spread
    best_accuracy: Spread
    first_gradient: Spread | None
    first_gradient_epoch_1: Spread | None
    firing_rate: Spread | None
    seconds: Spread
    snn_pj: Spread | None
    ratio: Spread | None
    """Energy over that of the ANN twin."""
    energy_is_bound: bool
    """Whether the energies are lower bounds, because some neurons' updates have no price."""

    def to_dict(self) -> dict[str, object]:
        """The `--json` contract; keys are only ever added."""
        spreads = {name: value for name, value in vars(self).items() if isinstance(value, Spread | None)}
        return {
            "arm": self.arm.label,
            "finished": self.arm.finished,
            "parameters": self.parameters.stripped,
            "branch_parameters": self.parameters.branches,
            **{name: None if value is None else asdict(value) for name, value in spreads.items()},
            "energy_is_bound": self.energy_is_bound,
            "runs": [_run(run) for run in self.arm.runs],
        }


@dataclass(frozen=True)
class Difference:
    """How far the accuracy of an arm lies from that of the first."""

    arm: str
    baseline: str
    points: float
    """Percentage points between the means."""
    pooled_std: float
    """In percentage points."""
    in_stds: float
    """`points` in pooled standard deviations; infinite where those are 0, NaN where both are."""

    def to_dict(self) -> dict[str, object]:
        """The `--json` contract; keys are only ever added."""
        return asdict(self)


def summarise(arm: Arm) -> Summary:
    """The numbers of an arm; builds its network, without weights, to count them."""
    runs = arm.runs
    last = [run.epochs[-1] for run in runs]
    accuracy = spread([epoch.accuracy for epoch in last])
    best = spread([max(epoch.accuracy for epoch in run.epochs) for run in runs])
    seconds = spread([epoch.seconds for epoch in last])
    assert accuracy is not None
    assert best is not None
    assert seconds is not None
    energies = [run.energy for run in runs if run.energy is not None]
    return Summary(
        arm=arm,
        parameters=count_parameters(arm.recipe),
        accuracy=accuracy,
        best_accuracy=best,
        first_gradient=spread([g for run in runs if (g := _mean_gradient(run)) is not None]),
        first_gradient_epoch_1=spread([g for run in runs if (g := run.epochs[0].first_gradient) is not None]),
        firing_rate=spread([epoch.firing_rate for epoch in last if epoch.firing_rate is not None]),
        seconds=seconds,
        snn_pj=spread([energy.snn_pj for energy in energies]),
        ratio=spread([energy.ratio for energy in energies]),
        energy_is_bound=any(energy.is_bound for energy in energies),
    )


def differences(summaries: Sequence[Summary]) -> list[Difference]:
    """Each later arm against the first, where both are finished and have two runs at least."""
    first, *others = summaries
    found = []
    for other in others:
        pooled = pooled_std(first.accuracy, other.accuracy)
        if pooled is None or not (first.arm.finished and other.arm.finished):
            continue
        points = 100 * (other.accuracy.mean - first.accuracy.mean)
        in_stds = points / (100 * pooled) if pooled else math.copysign(math.inf, points) if points else math.nan
        found.append(Difference(other.arm.label, first.arm.label, points, 100 * pooled, in_stds))
    return found


def count_parameters(recipe: Recipe) -> Parameters:
    """Parameters of the recipe's network, which is built on the `meta` device: shapes without memory."""
    import torch  # takes a second or two, and the command line must answer wrong options at once

    from snnsc.model import build_model

    with torch.device("meta"):
        whole, plain = (build_model(recipe, branches=branches, compiled=False) for branches in (True, False))
    stripped = sum(p.numel() for p in plain.parameters())
    return Parameters(stripped, sum(p.numel() for p in whole.parameters()) - stripped)


def _mean_gradient(run: Run) -> float | None:
    norms = [epoch.first_gradient for epoch in run.epochs if epoch.first_gradient is not None]
    return sum(norms) / len(norms) if norms else None


def _run(run: Run) -> dict[str, object]:
    last = run.epochs[-1]
    return {
        "run_dir": str(run.folder),
        "seed": run.recipe.seed,
        "epochs": len(run.epochs),
        "epochs_planned": run.recipe.train.epochs,
        "accuracy": last.accuracy,
        "best_accuracy": max(epoch.accuracy for epoch in run.epochs),
        "first_gradient": _mean_gradient(run),
        "first_gradient_epoch_1": run.epochs[0].first_gradient,
        "firing_rate": last.firing_rate,
        "seconds": last.seconds,
        "snn_pj": run.energy.snn_pj if run.energy else None,
        "ratio": run.energy.ratio if run.energy else None,
    }
