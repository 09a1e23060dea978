"""Two processes over gloo: the hooks of IM-Loss, the teacher, masks, step weights and the sums of a stopped run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import hashlib, json, os
from pathlib import Path
import torch
from snnsc import checkpoint
from snnsc.checkpoint import Checkpoint
from snnsc.data import build_loaders
from snnsc.model import build_model
from snnsc.recipe.load import override, validate
from snnsc.training.distributed import joined
from snnsc.training.loop import EpochDone, Training
from snnsc.training.run import metrics_line

torch.set_num_threads(1)
tables = {"name": "two", "data": {"type": "digits", "train_limit": 96, "test_limit": 40},
          "model": {"arch": "tiny"}, "method": {"mode": "distill"},
          "train": {"epochs": 2, "batch_size": 16, "compile": "off", "precision": "fp32"}}
keys = ["method.im_loss={}", "method.weighting={warmup_epochs=0}", "method.teacher={checkpoint='teacher.pt'}",
        "method.masking={placement='weight'}"]
recipe = validate(override(tables, keys), "two")

with joined("cpu") as place:
    loaders = build_loaders(recipe, Path("unused"), rank=place.rank, world_size=place.world_size)
    facts = loaders.facts.to_dict()
    own = Path(str(place.rank))
    own.mkdir()
    os.chdir(own)
    checkpoint.save(Path("teacher.pt"), Checkpoint("train", recipe, facts, build_model(recipe).state_dict()))

    def train(training):
        return [metrics_line(e) for e in training.events() if isinstance(e, EpochDone)]

    whole = Training(recipe, loaders, place)
    lines = train(whole)
    first = Training(recipe, loaders, place)
    events = first.events()
    while (first.epoch, first.step) != (1, 4):
        next(events)
    first.gather()
    states = [first.state() if place.leads else None]
    torch.distributed.broadcast_object_list(states)
    again = Training(recipe, loaders, place, states[0])
    resumed = train(again)

    def digest(training):
        return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in training.model.parameters())).hexdigest()

    result = {"whole": digest(whole), "resumed": digest(again), "lines": lines, "resumed_lines": resumed,
              "step_weights": whole.model.step_weights.tolist()}
    Path(f"../result-{place.rank}.json").write_text(json.dumps(result))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = tmp_path_factory.mktemp("two")
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "program.py"]
    package = str(Path(__file__).parents[3])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": package}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in (0, 1)]


def test_both_hold_the_same_network(results: list[dict[str, object]]) -> None:
    one, two = results
    assert one["whole"] == two["whole"]
    assert one["step_weights"] == two["step_weights"]
    assert len(set(one["step_weights"])) > 1  # type: ignore[arg-type, call-overload]


def test_a_stopped_run_goes_on_as_the_whole_one(results: list[dict[str, object]]) -> None:
    for result in results:
        assert result["resumed"] == result["whole"]
    drop = {"seconds", "samples_per_second", "train_loss"}
    whole, resumed = results[0]["lines"][-1], results[0]["resumed_lines"][-1]  # type: ignore[index]
    assert {k: v for k, v in whole.items() if k not in drop} == {k: v for k, v in resumed.items() if k not in drop}
    assert resumed["train_loss"] == pytest.approx(whole["train_loss"], rel=1e-12)  # summed in another order
