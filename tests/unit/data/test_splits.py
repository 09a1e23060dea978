import numpy as np
import pytest

from snnsc.data.splits import VALIDATION_SPLIT, files_sha256, generator, stratified_split


def split(labels, count, seed=0):
    return stratified_split(np.asarray(labels), count, generator(VALIDATION_SPLIT, seed))


def test_parts_are_disjoint_and_complete():
    rest, drawn = split(np.arange(100) % 7, 31)
    assert len(drawn) == 31
    assert sorted([*rest, *drawn]) == list(range(100))


def test_equal_classes_are_split_equally():
    labels = np.repeat(np.arange(10), 1000)
    _, drawn = split(labels, 1000)
    assert np.bincount(labels[drawn]).tolist() == [100] * 10


def test_unequal_classes_in_proportion():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    _, drawn = split(labels, 10)
    assert np.bincount(labels[drawn]).tolist() == [6, 3, 1]


def test_same_seed_same_split_other_seed_another():
    labels = np.arange(200) % 10
    assert np.array_equal(split(labels, 20, 5)[1], split(labels, 20, 5)[1])
    assert not np.array_equal(split(labels, 20, 5)[1], split(labels, 20, 6)[1])


@pytest.mark.parametrize("count", [0, 100])
def test_nothing_and_everything(count):
    rest, drawn = split(np.arange(100) % 10, count)
    assert (len(rest), len(drawn)) == (100 - count, count)


def test_files_hash_is_of_the_sorted_names():
    assert files_sha256(["b", "a"]) == files_sha256(["a", "b"])
    assert files_sha256(["ab"]) != files_sha256(["a", "b"])


def test_streams_differ():
    first = [generator(stream, 0).integers(2**32) for stream in range(1, 8)]
    assert len(set(first)) == 7
