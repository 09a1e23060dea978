import threading
import time

import numpy as np
import pytest
import torch

from snnsc.data.augment import FramePipeline, ImagePipeline
from snnsc.data.batches import EvalBatches, TrainBatches, prefetched
from snnsc.data.samples import ArraySamples
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
