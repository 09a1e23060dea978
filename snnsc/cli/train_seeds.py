"""`snnsc train --seeds`: one recipe with several seeds, one after the other, into one folder."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from snnsc.checkpoint import Checkpoint
from snnsc.cli.console import note, say, show_json, shown
from snnsc.cli.train_run import Outcome, stopped, train_run
from snnsc.compare.seeds import SEEDS, seed_folder, with_seed, write_seeds
from snnsc.compare.spread import Spread, percent, spread
from snnsc.errors import ModelFileError, SnnscError
from snnsc.files import is_file
from snnsc.model.shortcuts import PREFIX
from snnsc.recipe.schema import Recipe
from snnsc.training.distributed import Place
from snnsc.training.run import LAST, METRICS, chosen_on, new_folder, read_last


class Seeds:
    """The runs of one recipe with several seeds.

    Args:
        recipe: The experiment; its own seed plays no part.
        seeds: The seeds, in their order.
        folder: The folder of seeds to go on with; None makes a new one once the first seed's data are loaded.
        out: Where a new one is made, as in `new_folder`.
    """

    def __init__(
        self, recipe: Recipe, seeds: Sequence[int], *, folder: Path | None = None, out: Path | None = None
    ) -> None:
        self.recipe, self.seeds, self.folder, self.out = recipe, seeds, folder, out

    def train(self, data_root: Path | None, place: Place) -> list[Outcome]:
        """Train those that are not finished; ends the program when it is interrupted."""
        outcomes: list[Outcome] = []
        try:
            with _sigterm_interrupts():
                for seed in self.seeds:
                    outcome = self._train(with_seed(self.recipe, seed), data_root, place)
                    outcomes.append(outcome)
                    if not outcome.finished or (outcome.stopped and len(outcomes) < len(self.seeds)):
                        break
                else:
                    return outcomes
        except KeyboardInterrupt:
            if self.folder is None:
                raise
        assert self.folder is not None
        raise stopped(self.folder, data_root, place)

    def _train(self, recipe: Recipe, data_root: Path | None, place: Place) -> Outcome:
        last = self._last(recipe)
        if last is not None and (done := _finished(last)) is not None:
            if place.leads:
                note(f"seed {recipe.seed}: all {done.epochs} epochs are done")
            return done
        if place.leads:
            if last is None and self.folder and is_file(seed_folder(self.folder, recipe.seed) / METRICS):
                note(f"seed {recipe.seed}: has results but no {LAST} to go on from; it is trained anew")
            note(f"seed {recipe.seed} ({self.seeds.index(recipe.seed) + 1} of {len(self.seeds)})")
        try:
            outcome = train_run(recipe, last, lambda: self._make_folder(recipe.seed), data_root, place)
        except SnnscError as e:
            if self.folder is None:
                raise
            raise type(e)(f"seed {recipe.seed}: {e}") from e
        self.folder = outcome.folder.parent  # in the other processes too
        return outcome

    def _last(self, recipe: Recipe) -> Checkpoint | None:
        """What the run of a seed goes on from; None where it has not begun, or was killed in its first epoch."""
        if self.folder is None or not is_file(seed_folder(self.folder, recipe.seed) / LAST):
            return None
        last = read_last(seed_folder(self.folder, recipe.seed))
        if last.recipe != recipe:
            raise ModelFileError(f"{last.path}: was trained with another recipe than {self.folder / SEEDS} says")
        return last

    def _make_folder(self, seed: int) -> Path:
        if self.folder is None:
            folder = new_folder(self.out, self.recipe.name)
            write_seeds(folder, self.recipe, self.seeds)
            self.folder = folder
        run = seed_folder(self.folder, seed)
        try:
            run.mkdir(exist_ok=True)
        except OSError as e:
            raise SnnscError(f"{run}: the run folder cannot be made: {e.strerror or e}") from e
        return run


def show_seeds(outcomes: Sequence[Outcome], recipe: Recipe, seeds: Sequence[int], *, json_: bool) -> None:
    """Print a line a seed, mean and standard deviation; or all of it as one JSON object."""
    folder = outcomes[0].folder.parent
    last, best = (_spread([getattr(o, key) for o in outcomes]) for key in ("accuracy", "best_accuracy"))
    if json_:
        runs = [{"seed": seed, **o.to_dict()} for seed, o in zip(seeds, outcomes, strict=True)]
        means = {"mean": last.mean, "std": last.std, "best_mean": best.mean, "best_std": best.std}
        show_json({"run_dir": str(folder), "runs": runs, **means})
        return
    for seed, o in zip(seeds, outcomes, strict=True):
        dead = "; no layer fires, the network is dead" if o.silent else ""
        say(
            f"seed {seed}: accuracy {o.accuracy:.2%}, best {o.best_accuracy:.2%}, {o.seconds:.0f} s, "
            f"{o.folder / LAST}{dead}"
        )
    say(f"accuracy {percent(last)} ({last.n} seed{'' if last.n == 1 else 's'}) after epoch {recipe.train.epochs}")
    say(f"best.pt: {percent(best)}, chosen on {chosen_on(recipe)}")
    say(f"next: {shown('snnsc', 'compare', folder)}")


def _spread(values: Sequence[float]) -> Spread:
    found = spread(values)
    assert found is not None, "there is a seed at least"
    return found


def _finished(last: Checkpoint) -> Outcome | None:
    """What a run has come to, if it has come to its end."""
    state = last.training or {}
    if state.get("epoch") != last.recipe.train.epochs:
        return None
    try:
        accuracy, best, seconds = (float(state[key]) for key in ("last_accuracy", "best_accuracy", "seconds"))
    except (KeyError, TypeError, ValueError) as e:
        raise ModelFileError(f"{last.path}: its training state is damaged: {e}") from e
    branches = any(name.startswith(PREFIX) for name in last.model)
    folder = last.path.parent
    return Outcome(folder, accuracy, best, last.recipe.train.epochs, seconds, finished=True, has_branches=branches)


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Between the runs, whose own handlers let them save, SIGTERM is as Ctrl-C: it ends with how to go on."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
