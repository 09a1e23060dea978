"""A run folder, and the training that is written into it.

<folder>/recipe.toml     the resolved recipe, every key spelled out
<folder>/metrics.jsonl   a line of JSON an epoch
<folder>/last.pt         after every epoch and on interruption: training goes on from it
<folder>/best.pt         the weights of the best epoch
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnsc import checkpoint
from snnsc.checkpoint import Checkpoint
from snnsc.data import Loaders
from snnsc.errors import CheckError, DataError, ModelFileError, RecipeError, SnnscError
from snnsc.files import write_atomically
from snnsc.recipe.load import to_toml
from snnsc.recipe.schema import Recipe
from snnsc.training.distributed import Place, any_process
from snnsc.training.events import EpochDone, StepDone
from snnsc.training.loop import Training
from snnsc.training.metrics import Evaluation

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

LAST, BEST, METRICS, RECIPE, LOCK = "last.pt", "best.pt", "metrics.jsonl", "recipe.toml", ".lock"
STOP_CHECK_EVERY = 16
"""Steps between the votes of a distributed run on whether to stop; a single process looks after every step."""


@dataclass(frozen=True)
class Interrupted:
    """Training was asked to stop and has saved its state."""

    epoch: int
    step: int
    checkpoint: Path


def new_folder(out: Path | None, name: str) -> Path:
    """Make the folder of a new run: `out`, which must be new or empty, else the first free runs/<name>-<n>.

    Raises:
        RecipeError: `out` is in use.
        SnnscError: it cannot be made.
    """
    try:
        if out is not None:
            if out.exists() and (not out.is_dir() or any(out.iterdir())):
                resumable = ", or --resume it" if (out / LAST).is_file() else ""
                raise RecipeError(
                    f"--out {out}: exists already; nothing is overwritten, choose another or remove it{resumable}"
                )
            out.mkdir(parents=True, exist_ok=True)
            return out
        Path("runs").mkdir(exist_ok=True)
        number = 1
        while True:
            folder = Path("runs") / f"{name}-{number}"
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                return folder
    except OSError as e:
        raise SnnscError(f"{out or 'runs'}: the run folder cannot be made: {e.strerror or e}") from e


def read_last(folder: Path) -> Checkpoint:
    """The state from which the run in `folder` goes on.

    Raises:
        ModelFileError: there is none.
    """
    if not folder.is_dir():
        raise ModelFileError(f"--resume {folder}: no such run folder")
    if not (folder / LAST).is_file():
        raise ModelFileError(f"--resume {folder}: has no {LAST}: the run ended before its first checkpoint; train anew")
    last = checkpoint.read(folder / LAST)
    if last.training is None:
        raise ModelFileError(f"{folder / LAST}: holds weights but no training state; it cannot be gone on from")
    return last


def resume(last: Checkpoint, loaders: Loaders, place: Place) -> Training:
    """The training that goes on from a checkpoint.

    Raises:
        DataError: the data are not those that the run was trained on.
        RecipeError: the run had another number of processes.
        ModelFileError: the training state is damaged.
    """
    assert last.training is not None
    assert loaders.train is not None
    state = {**last.training, "model": last.model}
    now = loaders.facts.to_dict()
    for key in ("classes", "train_samples", "files_sha256", "train_files_sha256"):
        if last.facts.get(key) != now[key]:
            raise DataError(
                f"the data set has changed since the run began: {key} was {last.facts.get(key)}, is {now[key]}"
            )
    if state.get("world_size") != place.world_size:
        raise RecipeError(
            f"the run had {state.get('world_size')} processes, this is one of {place.world_size}; use as many"
        )
    try:
        return Training(last.recipe, loaders, place, state)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as e:
        what = " ".join(str(e).split())[:200]
        raise ModelFileError(f"{last.path}: its training state is damaged, it cannot be gone on from: {what}") from e


def record(
    training: Training, folder: Path, stop_asked: Callable[[], bool]
) -> Iterator[StepDone | EpochDone | Interrupted]:
    """Train, and write the run folder as training goes; yields what `Training.events` yields.

    Args:
        training: The run.
        folder: Its folder.
        stop_asked: Whether to stop after this step; the last event is then `Interrupted`.

    Raises:
        CheckError: the loss is not finite; the last checkpoint is kept.
    """
    leads = training.place.leads
    with _alone(folder) if leads else nullcontext():
        yield from _record(training, folder, stop_asked, leads)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Refuse to write into a folder that another process is training in; a lock goes with the process that holds it."""
    try:
        with (folder / LOCK).open("w") as lock:
            if fcntl is not None:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as e:
                    raise RecipeError(
                        f"{folder}: another process is training in this folder; wait for it or stop it"
                    ) from e
            yield
    except OSError as e:
        raise SnnscError(f"{folder}: cannot be written: {e.strerror or e}") from e


def _record(
    training: Training, folder: Path, stop_asked: Callable[[], bool], leads: bool
) -> Iterator[StepDone | EpochDone | Interrupted]:
    if leads:
        write_atomically(folder / RECIPE, to_toml(training.recipe))
        _forget_epochs_from(folder / METRICS, training.epoch)
    try:
        for event in training.events():
            if isinstance(event, EpochDone) and leads:
                _write_epoch(training, folder, event)
            yield event
            finished = training.epoch == training.recipe.train.epochs
            if not finished and _must_stop(training, event, stop_asked):
                training.gather()
                if leads:
                    _save_last(training, folder)
                yield Interrupted(training.epoch, training.step, folder / LAST)
                return
    except CheckError as e:
        kept = (
            f"{folder / LAST} holds the last good state"
            if (folder / LAST).exists()
            else "no checkpoint was written yet"
        )
        raise CheckError(f"{e} ({kept})") from e


def _must_stop(training: Training, event: StepDone | EpochDone, stop_asked: Callable[[], bool]) -> bool:
    votes_now = isinstance(event, EpochDone) or event.step % STOP_CHECK_EVERY == 0
    return (training.place.world_size == 1 or votes_now) and any_process(stop_asked(), training.place)


def _write_epoch(training: Training, folder: Path, done: EpochDone) -> None:
    # metrics first: a run killed in between goes on from the older checkpoint and forgets the line
    with (folder / METRICS).open("a", encoding="utf-8") as f:
        f.write(json.dumps(metrics_line(done)) + "\n")
    if done.is_best:
        checkpoint.save(folder / BEST, _checkpoint(training, _result(done), training_state=None))
    _save_last(training, folder, done)


def _save_last(training: Training, folder: Path, done: EpochDone | None = None) -> None:
    state = training.state()
    del state["model"]
    checkpoint.save(folder / LAST, _checkpoint(training, _result(done) if done else {}, state))


def _checkpoint(training: Training, result: dict[str, Any], training_state: dict[str, Any] | None) -> Checkpoint:
    facts = training.loaders.facts.to_dict()
    return Checkpoint("train", training.recipe, facts, training.model.state_dict(), result, training_state)


def _result(done: EpochDone) -> dict[str, Any]:
    chosen_on = "evaluation" if done.validation is None else "validation"
    return {"epoch": done.epoch + 1, "accuracy": done.evaluation.accuracy, "chosen_on": chosen_on}


def metrics_line(done: EpochDone) -> dict[str, Any]:
    """What metrics.jsonl says of an epoch; `lambda` is the branches' weight at its last step."""
    return {
        "epoch": done.epoch + 1,
        "train_loss": done.train_loss,
        "train_accuracy": done.train_accuracy,
        "lambda": done.branch_weight,
        "lr": done.lr,
        "gradient_norm": done.gradient_norm,
        "first_layer_gradient": done.first_layer_gradient,
        **({} if done.step_weights is None else {"step_weights": done.step_weights}),
        **_evaluation("", done.evaluation),
        **(_evaluation("validation_", done.validation) if done.validation else {}),
        "samples_per_second": done.samples_per_second,
        "seconds": done.seconds,
    }


def _evaluation(prefix: str, evaluation: Evaluation) -> dict[str, Any]:
    return {
        f"{prefix}loss": evaluation.loss,
        f"{prefix}accuracy": evaluation.accuracy,
        f"{prefix}branch_accuracy": evaluation.branch_accuracy,
        f"{prefix}firing_rate": {layer.name: layer.firing_rate for layer in evaluation.layers},
        f"{prefix}dead": {layer.name: layer.dead for layer in evaluation.layers},
    }


def _forget_epochs_from(metrics: Path, epoch: int) -> None:
    """Drop what an interrupted run wrote past the checkpoint it goes on from."""
    if not metrics.exists():
        return
    kept = []
    for line in metrics.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["epoch"] <= epoch:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):  # the line that a kill cut short
            continue
    write_atomically(metrics, "".join(kept))


def chosen_on(recipe: Recipe) -> str:
    """Which samples choose best.pt, in words."""
    if recipe.data.validation > 0:
        return f"the validation share ({recipe.data.validation:.0%} of the training samples)"
    return "the evaluation set itself (data.validation = 0), so its accuracy is optimistic"
