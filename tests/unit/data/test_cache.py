import multiprocessing
import os

import numpy as np
import pytest

from snnsc import lock
from snnsc.data import cache
from snnsc.data.cache import cache_folder, cache_key, cached_array
from snnsc.errors import DataError

FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of threads


def save(target, array):
    with target.open("wb") as file:
        np.save(file, array)


def builder(array, calls):
    def build(target):
        calls.append(target)
        save(target, array)

    return build


def test_second_call_reads_the_file(tmp_path):
    array, calls = np.arange(12).reshape(4, 3), []
    first = cached_array(tmp_path, "a", "key", 4, builder(array, calls))
    second = cached_array(tmp_path, "a", "key", 4, builder(array, calls))
    assert len(calls) == 1
    assert isinstance(second, np.memmap)
    assert np.array_equal(first, second)
    assert np.array_equal(second, array)


def test_another_key_is_another_file(tmp_path):
    calls = []
    for key in ("k1", "k2"):
        cached_array(tmp_path, "a", key, 2, builder(np.zeros((2, 2)), calls))
    assert len(calls) == 2


def test_key_is_of_every_part_and_the_format(monkeypatch):
    key = cache_key({"T": 4, "size": 8})
    assert key == cache_key({"size": 8, "T": 4})
    assert key != cache_key({"T": 5, "size": 8})
    monkeypatch.setattr(cache, "FORMAT", 999)
    assert key != cache_key({"T": 4, "size": 8})


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError])
def test_an_interrupted_build_leaves_nothing(tmp_path, error):
    def build(target):
        target.write_bytes(b"half")
        raise error

    with pytest.raises(error):
        cached_array(tmp_path, "a", "key", 2, build)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


@FORKS
def test_a_killed_build_is_not_taken_for_complete_and_is_cleaned_up(tmp_path):
    def build(target):
        target.write_bytes(b"half")
        os._exit(9)

    pid = os.fork()
    if pid == 0:
        cached_array(tmp_path, "a", "key", 2, build)
    os.waitpid(pid, 0)
    assert any(path.suffix == ".tmp" for path in tmp_path.iterdir())
    calls = []
    cached_array(tmp_path, "a", "key", 2, builder(np.zeros((2, 2)), calls))
    assert len(calls) == 1
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".npy"]


@pytest.mark.parametrize("damage", [lambda b: b[:-8], lambda b: b[:20], lambda _: b""])
def test_a_damaged_cache_file_is_made_again(tmp_path, damage):
    calls = []
    cached_array(tmp_path, "a", "key", 2, builder(np.ones((2, 2)), calls))
    path = next(tmp_path.glob("*.npy"))
    path.write_bytes(damage(path.read_bytes()))
    assert cached_array(tmp_path, "a", "key", 2, builder(np.ones((2, 2)), calls)).sum() == 4
    assert len(calls) == 2


def test_where_it_lives(tmp_path, monkeypatch):
    assert cache_folder(tmp_path) == tmp_path / ".snnsc-cache"
    monkeypatch.setenv("SNNSC_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder(tmp_path) == tmp_path / "elsewhere"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="SNNSC_CACHE"):
        cached_array(tmp_path / "file" / "cache", "a", "key", 2, builder(np.zeros((2, 2)), []))


def test_a_full_disk(tmp_path):
    def build(target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"No space left on device.*SNNSC_CACHE"):
        cached_array(tmp_path, "a", "key", 2, build)
    assert not list(tmp_path.glob("*.tmp"))


def _race(folder, barrier, queue, with_lock):
    if not with_lock:
        lock.fcntl = None

    def build(target):
        barrier_passed = not with_lock and barrier.wait(10) is not None
        save(target, np.full((500, 100), 7))
        queue.put(barrier_passed)

    queue.put(int(cached_array(folder, "a", "key", 500, build).sum()))


@FORKS
@pytest.mark.parametrize("with_lock", [True, False])
def test_two_builders_at_once(tmp_path, with_lock):
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(2), context.Queue()
    builders = [context.Process(target=_race, args=(tmp_path, barrier, queue, with_lock)) for _ in range(2)]
    for process in builders:
        process.start()
    answers = [queue.get(timeout=20) for _ in range(3 if with_lock else 4)]
    for process in builders:
        process.join()
        assert process.exitcode == 0
    assert [answer for answer in answers if answer > 1] == [350_000, 350_000]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".npy"]
