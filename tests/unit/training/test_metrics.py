"""Scores against numpy, sample by sample; legend T time steps, B batch, K classes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from snnsc.training.metrics import Evaluation, LayerActivity, Scores, class_labels

T, N, K = 4, 60, 5
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(T, N, K)).astype(np.float32)
BRANCH = RNG.normal(size=(T, N, K)).astype(np.float32)
LABELS = RNG.integers(0, K, N)
SPIKES = (RNG.random((T, N, 3, 2, 2)) < 0.02).astype(np.float32)
SPIKES[:, :, 1, 0] = 0


def scored(sizes: list[int]) -> Evaluation:
    scores = Scores(K)
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        labels = torch.from_numpy(LABELS[part])
        scores.add_logits(torch.from_numpy(LOGITS[:, part]), labels)
        scores.add_branch("0_0", torch.from_numpy(BRANCH[:, part]), labels)
        scores.add_spikes("stem", torch.from_numpy(SPIKES[:, part]))
        scores.add_spikes("silent", torch.zeros(T, size, 7))
        start += size
    assert start == N
    return scores.result()


def test_against_numpy() -> None:
    found = scored([N])
    logits = LOGITS.astype(np.float64)
    out = logits.mean(0)
    predicted = out.argmax(1)
    assert found.samples == N
    assert found.accuracy == (predicted == LABELS).mean()
    by_step = [(logits[:t].mean(0).argmax(1) == LABELS).mean() for t in range(1, T + 1)]
    assert found.accuracy_by_timestep == by_step
    assert found.accuracy_by_timestep[-1] == found.accuracy
    assert len(set(by_step)) > 1
    log_p = out - np.log(np.exp(out).sum(1, keepdims=True))
    assert found.loss == pytest.approx(-log_p[np.arange(N), LABELS].mean(), rel=1e-6)
    confusion = [[int(((true == LABELS) & (predicted == p)).sum()) for p in range(K)] for true in range(K)]
    assert found.confusion == confusion
    assert confusion != np.transpose(confusion).tolist(), "the data must tell rows from columns"
    assert found.branch_accuracy == {"0_0": (BRANCH.mean(0).argmax(1) == LABELS).mean()}
    counts = SPIKES.sum((0, 1))
    assert 2 <= (counts == 0).sum() < counts.size
    assert found.layers == [
        LayerActivity("stem", pytest.approx(SPIKES.mean(), rel=1e-6), (counts == 0).mean()),
        LayerActivity("silent", 0.0, 1.0),
    ]
    assert found.firing_rate == pytest.approx(SPIKES.mean() / 2, rel=1e-6)


@pytest.mark.parametrize("sizes", [[1] * N, [7, 53], [59, 1], [20, 20, 20]])
def test_how_samples_are_batched_changes_nothing(sizes: list[int]) -> None:
    whole, parts = scored([N]), scored(sizes)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    assert dataclasses.replace(parts, loss=whole.loss) == whole


def test_bfloat16_spikes_are_counted_exactly() -> None:
    scores = Scores(2)
    scores.add_logits(torch.zeros(1, 1, 2), torch.tensor([0]))
    scores.add_spikes("a", torch.ones(10, 1000, 1, dtype=torch.bfloat16))  # 10,000 is beyond bfloat16's 256
    assert scores.result().layers == [LayerActivity("a", 1.0, 0.0)]


def test_a_class_that_never_comes() -> None:
    scores = Scores(3)
    scores.add_logits(torch.tensor([[[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]]]), torch.tensor([1, 1]))
    found = scores.result()
    assert found.confusion == [[0, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert (found.accuracy, found.firing_rate) == (0.5, 0.0)


def test_values_that_are_not_spikes_count_where_they_are_not_0() -> None:
    scores = Scores(2)
    scores.add_logits(torch.zeros(1, 2, 2), torch.tensor([0, 1]))
    scores.add_spikes("relu", torch.tensor([[[0.3, 0.0, 7.0, 0.0]], [[0.0, 0.0, 2.0, 1e-9]]]).transpose(0, 1))
    assert scores.result().layers == [LayerActivity("relu", 4 / 8, 1 / 4)]


def test_the_class_of_mixed_labels_is_the_largest_share() -> None:
    labels = torch.tensor([2, 0])
    assert class_labels(labels) is labels
    assert class_labels(torch.tensor([[0.1, 0.2, 0.7], [0.6, 0.4, 0.0]])).tolist() == [2, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_other_than_spikes_count_once(dtype: torch.dtype) -> None:
    values = torch.tensor([0.0, 1e-4, 0.5, 3.0, -2.0, 0.0], dtype=dtype)
    whole = values.repeat(3, 2, 1)
    whole[1] = 0
    scores = Scores(K)
    scores.add_spikes("relu", whole)
    assert scores.spikes["relu"].tolist() == [0, 4, 4, 4, 4, 0]
    assert torch.equal(scores.spikes["relu"], torch.count_nonzero(whole, (0, 1)).double())
