"""Every option of the method in the loop: it does what it says, and a resumed run is the uninterrupted one."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from snnsc import checkpoint
from snnsc.checkpoint import Checkpoint
from snnsc.data import build_loaders
from snnsc.errors import RecipeError
from snnsc.model import Logits, build_model
from snnsc.recipe.schema import Recipe
from snnsc.training.distributed import Place
from snnsc.training.evaluate import evaluate
from snnsc.training.loop import EpochDone, Training
from snnsc.training.metrics import class_labels

CPU = Place(torch.device("cpu"))
SMALL = ["data={type='digits', train_limit=96, test_limit=40}", "train={epochs=3, batch_size=16, compile='off'}"]
OPTIONS = {
    "plain": [],
    "weighting": ["method.weighting={warmup_epochs=1}"],
    "surrogate": ["method.masking={ratio=0.5, ramp={start=1, ratio=0.9}}"],
    "weight": ["method.masking={ratio=0.5, placement='weight', ramp={start=1, ratio=0.0}}"],
    "im-loss": ["method.im_loss={weight=0.5}"],
    "distill-tet": ["method={mode='distill', loss={type='tet'}}"],
    "mixup": ["data.augment={mixup=0.5, cutmix=0.5}"],
    "plif": ["model.neuron={type='plif'}"],
}


@pytest.fixture
def start(make_recipe: Callable[..., Recipe]) -> Callable[..., Training]:
    """A run of these options, on 96 digits: 6 steps an epoch."""

    def make(*options: str, state: dict[str, Any] | None = None) -> Training:
        recipe = make_recipe(*SMALL, "train.precision=fp32", *options)
        return Training(recipe, build_loaders(recipe, Path("unused")), CPU, state)

    return make


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def timeless(done: EpochDone) -> dict[str, Any]:
    return {k: v for k, v in vars(done).items() if k not in ("seconds", "samples_per_second")}


@pytest.mark.parametrize("option", OPTIONS)
def test_resumed_is_uninterrupted(start: Callable[..., Training], option: str) -> None:
    whole = start(*OPTIONS[option])
    expected = [timeless(e) for e in whole.events() if isinstance(e, EpochDone)]
    assert len(expected) == 3
    first = start(*OPTIONS[option])
    events = first.events()
    while (first.epoch, first.step) != (1, 4):
        next(events)
    again = start(*OPTIONS[option], state=through_a_file(first.state()))
    found = [timeless(e) for e in again.events() if isinstance(e, EpochDone)]
    assert found == expected[1:]
    weights = again.model.state_dict()
    assert all(torch.equal(weights[name], w) for name, w in whole.model.state_dict().items())
    assert sum(found[-1]["first_layer_gradient"]["positive"]) > 0


class Reads(TorchDispatchMode):
    """The operations that a processor can finish only when the device has caught up."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in self.WAITING:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("option", OPTIONS)
def test_a_step_reads_nothing_from_the_device(start: Callable[..., Training], option: str) -> None:
    training = start(*OPTIONS[option], "train.clip_norm=1.0")
    training.model.train()
    inputs, labels = next(training.train_batches.batches(0))
    for _ in range(2):
        with Reads() as reads:
            training._train_step(training.model, inputs, labels, 1.0, 0.01, measure=True)
        assert reads.found == []
    with reads:  # as the loop on a CPU does at every step, on a GPU at every FINITE_CHECK_EVERY-th
        training._check_finite()
    assert reads.found == ["_local_scalar_dense"]


def test_options_change_what_is_learned(start: Callable[..., Training]) -> None:
    def trained(options: list[str]) -> torch.Tensor:
        training = start(*options)
        for _ in training.events():
            pass
        return training.model.head.linear.weight.detach()

    found = {name: trained(options) for name, options in OPTIONS.items()}
    for name, weight in found.items():
        assert name == "plain" or not torch.equal(weight, found["plain"]), name


def test_step_weights_follow_the_training_accuracy_of_each_step(start: Callable[..., Training]) -> None:
    training = start("method.weighting={warmup_epochs=1, momentum=0.6}", "model.T=3")
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    loss = training.loss

    def spy(logits: Logits, labels: torch.Tensor, weight: float) -> torch.Tensor:
        seen.append((logits.main_TBK.detach().numpy(), class_labels(labels).numpy()))
        return loss(logits, labels, weight)

    training.loss = spy
    expected = np.ones(3)
    for event in training.events():
        if not isinstance(event, EpochDone):
            continue
        right = np.concatenate([o.argmax(-1) == y for o, y in seen], axis=1)
        if event.epoch >= 1:
            expected = 0.6 * expected + 0.4 * right.mean(1) / right.mean()
        assert right.shape == (3, 96)
        assert event.step_weights == pytest.approx(expected.tolist(), rel=1e-6)
        assert event.step_weights == training.model.step_weights.tolist()
        # the evaluation is of the weights as updated
        now = evaluate(training.model, training.loaders.test.batches(), 10, CPU.device)
        assert now.loss == event.evaluation.loss
        seen.clear()
    assert len(set(expected)) > 1


def test_masking_every_surrogate_leaves_the_head_alone(start: Callable[..., Training]) -> None:
    training = start("method.masking={ratio=1.0}")
    next(training.events())
    grads = {name: p.grad for name, p in training.model.named_parameters()}
    assert grads["head.linear.weight"].abs().max() > 0
    assert all(not grad.any() for name, grad in grads.items() if not name.startswith("head."))


def test_masking_every_weight_leaves_norms_and_biases(start: Callable[..., Training]) -> None:
    training = start(
        "method.masking={ratio=1.0, placement='weight'}", "train.optimizer={type='sgd', lr=0.1, weight_decay=0}"
    )
    before = {name: w.clone() for name, w in training.model.state_dict().items()}
    next(training.events())
    moved = {name for name, p in training.model.named_parameters() if not torch.equal(p, before[name])}
    assert "head.linear.bias" in moved
    assert "stem.convs.0.norm.bias" in moved
    assert not any(name.endswith(("conv.weight", "linear.weight")) for name in moved)


def test_masks_are_those_of_seed_iteration_and_rank(start: Callable[..., Training], monkeypatch: Any) -> None:
    seen: list[tuple[float, tuple[int, ...]]] = []
    monkeypatch.setattr("snnsc.training.loop.set_masks", lambda _model, ratio, seed: seen.append((ratio, seed)))
    training = start("method.masking={ratio=0.5, ramp={start=1, ratio=1.0}}", "seed=7")
    for _ in training.events():
        pass
    assert [seed for _, seed in seen] == [(7, i, 0) for i in range(18)]
    assert [ratio for ratio, _ in seen] == pytest.approx([0.5] * 6 + [0.5 + i / 24 for i in range(12)])


# ------------------------------------------------------------------------------------------------- the teacher's file


@pytest.fixture
def taught(make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: Any) -> list[str]:
    """Options with a teacher, whose file lies in the current folder."""
    monkeypatch.chdir(tmp_path)
    save_teacher(make_recipe, Path("ann.pt"))
    return ["method.teacher={checkpoint='ann.pt', weight=2.0, temperature=3.0}"]


def save_teacher(make_recipe: Callable[..., Recipe], path: Path, *options: str) -> None:
    recipe = make_recipe(*SMALL, "model={arch='tiny', T=1, neuron={type='relu'}, norm={type='bn'}}", *options)
    facts = build_loaders(recipe, Path("unused")).facts.to_dict()
    checkpoint.save(path, Checkpoint("train", recipe, facts, build_model(recipe).state_dict()))


def test_a_taught_run_resumes_and_its_teacher_stays_as_it_is(start: Callable[..., Training], taught: list[str]) -> None:
    whole = start(*taught)
    assert whole.teacher is not None
    teacher = {name: w.clone() for name, w in whole.teacher.network.state_dict().items()}
    events = whole.events()
    for _ in range(4):
        next(events)
    again = start(*taught, state=through_a_file(whole.state()))
    for _ in events:
        pass
    for _ in again.events():
        pass
    weights = again.model.state_dict()
    assert all(torch.equal(weights[name], w) for name, w in whole.model.state_dict().items())
    assert all(torch.equal(teacher[name], w) for name, w in whole.teacher.network.state_dict().items())
    assert not any("teacher" in name for name in weights)


def test_the_teachers_part_of_the_loss(start: Callable[..., Training], taught: list[str]) -> None:
    def first_losses(*options: str) -> tuple[Training, float]:
        training = start(*options, "train.label_smoothing=0")
        return training, next(e for e in training.events()).loss

    training, with_teacher = first_losses(*taught)
    _, alone = first_losses()
    inputs, _ = next(iter(start().train_batches.batches(0)))
    student = build_model(training.recipe).train()  # as it was before the first step
    teacher = checkpoint.read(Path("ann.pt")).build()
    with torch.no_grad():
        o, p = student(inputs).main_TBK.mean(0).double().numpy(), teacher(inputs).double().numpy()
    p, q = (np.exp(x / 3) / np.exp(x / 3).sum(1, keepdims=True) for x in (p, o))
    assert with_teacher - alone == pytest.approx(2.0 * 9 * (p * np.log(p / q)).sum(1).mean(), rel=1e-4)


def test_a_resume_with_another_teacher_is_refused(
    start: Callable[..., Training], taught: list[str], make_recipe: Callable[..., Recipe]
) -> None:
    first = start(*taught)
    next(first.events())
    state = through_a_file(first.state())
    save_teacher(make_recipe, Path("ann.pt"), "seed=1")
    with pytest.raises(
        RecipeError, match=r"^method\.teacher\.checkpoint: ann\.pt: is not the file that the run began with"
    ):
        start(*taught, state=state)
