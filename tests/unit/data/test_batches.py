import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from snnsc.data.augment import FramePipeline, ImagePipeline
from snnsc.data.batches import EvalBatches, TrainBatches, prefetched
from snnsc.data.mixing import Mixing
from snnsc.data.samples import ArraySamples
from snnsc.data.splits import MIX, generator
from snnsc.recipe.schema import EventAugment, ImageAugment

AUGMENT = ImageAugment(crop=2, flip=True, cutout=3)


def loader(count=50, batch_size=8, rank=0, world_size=1, seed=0, augment=AUGMENT, chosen=None):
    """Every pixel of image i is i, so a batch says which samples it is of."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 1, 6, 6)).copy()
    pipeline = ImagePipeline((0.0,), (1 / 255,), augment)
    chosen = np.arange(count) if chosen is None else chosen
    return TrainBatches(
        ArraySamples(images), np.arange(count) % 5, chosen, pipeline, seed, batch_size, rank, world_size
    )


def collect(batches):
    return [(x.clone(), y.clone()) for x, y in batches]


def equal(left, right):
    return len(left) == len(right) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


def test_lengths_and_types():
    batches = loader()
    assert (len(batches), batches.samples) == (6, 50)
    got = collect(batches.batches(0))
    assert len(got) == 6
    inputs, labels = got[0]
    assert inputs.shape == (8, 1, 6, 6)
    assert (inputs.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_a_set_smaller_than_a_batch_is_one_batch():
    batches = loader(count=5)
    assert len(batches) == 1
    assert collect(batches.batches(0))[0][0].shape[0] == 5


@pytest.mark.parametrize("start", [0, 1, 3, 6])
def test_resumed_is_the_tail(start):
    assert equal(collect(loader().batches(4, start)), collect(loader().batches(4))[start:])


def test_epochs_and_seeds_differ():
    first = collect(loader().batches(0))
    assert equal(first, collect(loader().batches(0)))
    assert not equal(first, collect(loader().batches(1)))
    assert not equal(first, collect(loader(seed=1).batches(0)))


def test_an_epoch_has_each_sample_once():
    batches = loader(count=48, augment=ImageAugment())
    seen = torch.cat([x[:, 0, 0, 0] for x, _ in batches.batches(0)]).tolist()
    assert sorted(round(value) for value in seen) == list(range(48))


def test_only_the_chosen_samples():
    chosen = np.arange(0, 50, 2)
    seen = torch.cat([x[:, 0, 0, 0] for x, _ in loader(augment=ImageAugment(), chosen=chosen).batches(0)])
    assert {round(value) for value in seen.tolist()} <= set(chosen.tolist())


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_batch_of_one_process(world_size):
    alone = collect(loader().batches(2))
    ranks = [collect(loader(rank=rank, world_size=world_size).batches(2)) for rank in range(world_size)]
    for step, (inputs, labels) in enumerate(alone):
        for rank in range(world_size):
            assert torch.equal(ranks[rank][step][0], inputs[rank::world_size])
            assert torch.equal(ranks[rank][step][1], labels[rank::world_size])


def test_global_random_state_is_untouched():
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    collect(loader().batches(0))
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def evaluated(count=50, batch_size=8, rank=0, world_size=1):
    train = loader(count)
    return EvalBatches(train.source, train.labels_N, train.chosen_M, train.pipeline, batch_size, rank, world_size)


def test_evaluation_keeps_all_samples_in_order():
    batches = evaluated()
    got = collect(batches.batches())
    assert (len(batches), batches.samples) == (7, 50)
    assert [len(y) for _, y in got] == [8] * 6 + [2]
    assert torch.equal(torch.cat([y for _, y in got]), torch.arange(50) % 5)


@pytest.mark.parametrize("world_size", [3, 7, 60])
def test_ranks_share_the_evaluation(world_size):
    seen = []
    for rank in range(world_size):
        batches = evaluated(rank=rank, world_size=world_size)
        got = collect(batches.batches())
        assert len(got) == len(batches)
        assert batches.samples == 50
        seen += [round(value) for x, _ in got for value in x[:, 0, 0, 0].tolist()]
    assert sorted(seen) == list(range(50))


def mixed(**kw):
    batches = loader(**kw)
    return replace(batches, mixing=Mixing(0.8, 1.0, 5))


def test_mixed_labels_are_probabilities():
    (inputs, labels), (plain, classes) = (next(each.batches(0)) for each in (mixed(), loader()))
    assert (labels.shape, labels.dtype) == ((8, 5), torch.float32)
    assert torch.allclose(labels.sum(1), torch.ones(8))
    assert inputs.shape == plain.shape
    own, before = labels[torch.arange(8), classes], labels[torch.arange(8), classes.roll(1)]
    assert torch.allclose(torch.where(classes == classes.roll(1), own, own + before), torch.ones(8))


@pytest.mark.parametrize("start", [1, 4])
def test_mixed_batches_resume_and_differ_by_epoch_and_seed(start):
    whole = collect(mixed().batches(2))
    assert equal(collect(mixed().batches(2, start)), whole[start:])
    assert not equal(collect(mixed().batches(3)), whole)
    assert not equal(collect(mixed(seed=1).batches(2)), whole)


def test_a_rank_mixes_its_own_samples():
    """All ranks draw the same share and box, so mixing a rank's plain batch by hand gives what it yields."""
    for rank in range(2):
        ours, plain = mixed(rank=rank, world_size=2).batches(1), loader(rank=rank, world_size=2).batches(1)
        for step, ((inputs, labels), (raw, classes)) in enumerate(zip(ours, plain, strict=True)):
            expected = Mixing(0.8, 1.0, 5)(raw, classes, generator(MIX, 0, 1, step))
            assert torch.equal(inputs, expected[0])
            assert torch.equal(labels, expected[1])


def test_mixing_leaves_the_global_random_state_and_other_augmentation():
    torch_state = torch.random.get_rng_state()
    collect(mixed().batches(0))
    assert torch.equal(torch.random.get_rng_state(), torch_state)


def test_mixed_event_frames_are_mixed_alike_in_all_steps():
    frames = np.zeros((20, 3, 2, 8, 8), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None, None, None]
    pipeline = FramePipeline(EventAugment())
    batches = TrainBatches(
        ArraySamples(frames), np.arange(20), np.arange(20), pipeline, 0, 4, mixing=Mixing(0.5, 0.5, 20)
    )
    for inputs, labels in batches.batches(0):
        assert inputs.shape == (3, 4, 2, 8, 8)
        assert torch.equal(inputs[0], inputs[1])
        assert torch.equal(inputs[0], inputs[2])
        means = labels @ torch.arange(20.0)
        assert torch.allclose(inputs.mean((0, 2, 3, 4)), means, atol=1e-4)


def test_unaugmented_samples_of_training():
    batches = mixed(chosen=np.arange(1, 50, 2)).unaugmented()
    got = collect(batches.batches())
    assert torch.cat([y for _, y in got]).tolist() == [i % 5 for i in range(1, 50, 2)]
    assert torch.cat([x[:, 0, 0, 0] for x, _ in got]).round().tolist() == list(range(1, 50, 2))


def test_pinned_batches_are_those_that_are_not(monkeypatch):
    pinned = []

    def pin_memory(tensor):
        assert threading.current_thread().name.startswith("snnsc-data")
        copy = tensor.clone()
        pinned.append(copy.data_ptr())
        return copy

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)  # which needs a GPU
    train = replace(loader(), pinned=True)
    for ours, expected in (
        (list(train.batches(0)), collect(loader().batches(0))),
        (list(train.unaugmented().batches()), collect(loader().unaugmented().batches())),
    ):
        assert equal(ours, expected)
        assert {tensor.data_ptr() for batch in ours for tensor in batch} <= set(pinned)


def test_event_batches_are_time_first():
    frames = np.random.default_rng(0).integers(0, 9, (20, 3, 2, 8, 8), dtype=np.uint8)
    batches = TrainBatches(
        ArraySamples(frames), np.arange(20), np.arange(20), FramePipeline(EventAugment(flip=True, roll=2)), 0, 4
    )
    inputs, labels = next(batches.batches(0))
    assert inputs.shape == (3, 4, 2, 8, 8)
    assert inputs.is_contiguous()
    assert np.array_equal(inputs.sum((0, 2, 3, 4)).numpy(), frames[labels].sum((1, 2, 3, 4)))


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("snnsc-data")]


def test_an_error_reaches_the_caller_at_its_step():
    def make(step):
        if step == 3:
            message = "third"
            raise ValueError(message)
        return step

    seen = []
    with pytest.raises(ValueError, match="third"):
        seen.extend(prefetched(make, range(9)))
    iterator = prefetched(make, range(9))
    assert [next(iterator) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="third"):
        next(iterator)
    assert threads() == []


def test_an_abandoned_iterator_leaves_no_thread():
    made = []

    def make(step):
        made.append(step)
        time.sleep(0.001)
        return step

    iterator = prefetched(make, range(1000))
    assert next(iterator) == 0
    assert threads()
    iterator.close()
    assert threads() == []
    assert len(made) < 20


def test_an_iterator_that_is_never_used_starts_nothing():
    iterator = prefetched(lambda step: step, range(3))
    assert threads() == []
    del iterator


def test_some_samples_are_of_every_class():
    labels_N = np.repeat(np.arange(5), 40)  # as folders are read, class by class
    images = np.arange(200, dtype=np.uint8)[:, None, None, None]
    pipeline = ImagePipeline((0.0,), (1 / 255,), AUGMENT)
    whole = EvalBatches(ArraySamples(images), labels_N, np.arange(20, 200), pipeline, 16)
    some = whole.drawn(45, seed=3)
    inputs, labels = (torch.cat(parts) for parts in zip(*some.batches(), strict=True))
    assert some.samples == 45
    assert torch.bincount(labels).tolist() == [5, 10, 10, 10, 10]
    assert torch.equal(labels, inputs.flatten().round().long() // 40)
    assert inputs.unique().numel() == 45
    assert np.array_equal(some.chosen_M, whole.drawn(45, seed=3).chosen_M)
    assert not np.array_equal(some.chosen_M, whole.drawn(45, seed=4).chosen_M)
    assert whole.drawn(180, seed=3) is whole
