import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from snnsc.data import parallel
from snnsc.data.parallel import DoesNotFitError, write_rows
from snnsc.errors import DataError


@dataclass(frozen=True)
class Squares:
    """Row i is i squared, but for files with special names."""

    paths: tuple[Path, ...]
    risky: bool = True
    dtype: str = "int64"
    shape: tuple[int, ...] = (2, 3)

    def row(self, index):
        match self.paths[index].name:
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "damaged":
                message = "damaged: no"
                raise DataError(message)
            case "huge":
                return np.full(self.shape, 70_000, self.dtype)
        return np.full(self.shape, index**2 % 251, self.dtype)


def paths(count, **special):
    return tuple(Path(special.get(f"at{index}", str(index))) for index in range(count))


def write(tmp_path, rows, dtype=np.uint8, workers=2, progress=None):
    write_rows(tmp_path / "rows.npy", rows, np.dtype(dtype), workers, progress, "squares")
    return np.load(tmp_path / "rows.npy")


@pytest.mark.parametrize(("risky", "workers"), [(False, 1), (True, 1), (True, 3)])
def test_rows_are_in_their_place(tmp_path, risky, workers):
    seen = []
    array = write(tmp_path, Squares(paths(100), risky), workers=workers, progress=lambda *done: seen.append(done))
    assert array.dtype == np.uint8
    assert array.shape == (100, 2, 3)
    assert np.array_equal(array[:, 0, 0], np.arange(100) ** 2 % 251)
    assert seen == [("squares", done, 100) for done in range(1, 101)]


def test_a_process_that_dies_names_its_file(tmp_path):
    with pytest.raises(DataError, match=r"^killed: the process .* died \(exit code -9\)"):
        write(tmp_path, Squares(paths(100, at51="killed")))


@pytest.mark.parametrize("risky", [True, False])
def test_an_error_is_passed_on(tmp_path, risky):
    with pytest.raises(DataError, match="damaged: no"):
        write(tmp_path, Squares(paths(100, at7="damaged"), risky), workers=2 if risky else 1)


@pytest.mark.parametrize("risky", [True, False])
def test_values_that_do_not_fit(tmp_path, risky):
    rows = Squares(paths(20, at7="huge"), risky)
    for dtype in (np.uint8, np.uint16, np.float16):
        with pytest.raises(DoesNotFitError):
            write(tmp_path, rows, dtype)
    assert write(tmp_path, rows, np.float32).max() == 70_000


def test_fractions_are_not_cut_to_whole_numbers(tmp_path):
    with pytest.raises(DoesNotFitError):
        write(tmp_path, Squares(paths(3), risky=False, dtype="float32"), np.uint8)
    assert write(tmp_path, Squares(paths(3), risky=False, dtype="float32"), np.float16)[2, 0, 0] == 4


def test_a_full_disk_is_told_before_reading(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, Squares(paths(3, at0="damaged"), risky=False))


def test_no_process_is_left_when_the_caller_stops(tmp_path):
    class StopError(Exception):
        pass

    def stop(*_):
        raise StopError

    with pytest.raises(StopError):
        write(tmp_path, Squares(paths(500)), progress=stop)
    import multiprocessing

    assert multiprocessing.active_children() == []


def test_a_start_that_fails_says_why():
    class Ended:
        exitcode = 1

        def join(self):
            pass

    assert "data.workers = 1" in str(parallel._died(Path("a"), Ended()))  # type: ignore[arg-type]
