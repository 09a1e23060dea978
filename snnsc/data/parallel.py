"""Make the rows of one .npy file by several processes, each of which writes its own rows.

Processes, not threads: reading recordings holds Python's interpreter lock. They also shield the caller: the decoder of
.aedat4 files ends its whole process (abort) on some damaged files, and a worker that dies names the file it was at.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Generator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol

import numpy as np

from snnsc.data.samples import Array, Progress
from snnsc.errors import DataError

FEW = 64
"""Up to this many files are read in this process: starting others takes seconds."""


class Rows(Protocol):
    """How to make the rows; sent to the processes, so it is picklable."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file of each row."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        ...

    @property
    def risky(self) -> bool:
        """Whether reading may end the process."""
        ...

    def row(self, index: int) -> Array:
        """Make row `index` from `paths[index]`."""
        ...


class DoesNotFitError(Exception):
    """A row holds values that the chosen dtype cannot."""


def write_rows(
    target: Path, rows: Rows, dtype: np.dtype[np.generic], workers: int, progress: Progress | None, what: str
) -> None:
    """Write all rows as one .npy file [N, *rows.shape] of `dtype` at `target`; `workers` = 0 is one a processor.

    Raises:
        DataError: A file is damaged, or a process died.
        DoesNotFitError: A value does not fit `dtype`.
        OSError: The disk is full or not writable.
    """
    count = len(rows.paths)
    with target.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count, *rows.shape)}
        np.lib.format.write_array_header_2_0(file, header)
        file.flush()
        start = file.tell()
        size = start + count * int(np.prod(rows.shape)) * dtype.itemsize
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is better told before an hour of reading
        else:
            file.truncate(size)
    chosen = workers or min(processors(), -(-count // 32))
    if not rows.risky and (workers == 1 or count <= FEW):
        indices: Generator[int, None, None] = _write_here(target, start, rows, dtype)
    else:
        indices = _write_by_processes(target, start, rows, dtype, min(chosen, count))
    with contextlib.closing(indices):
        for done, _ in enumerate(indices, 1):
            if progress is not None:
                progress(what, done, count)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write_here(target: Path, start: int, rows: Rows, dtype: np.dtype[np.generic]) -> Generator[int, None, None]:
    """Write every row in this process; yield each index when it is written."""
    with target.open("rb+") as file:
        for index in range(len(rows.paths)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of decoders, about metadata that we do not read
                row = rows.row(index)
            _write_row(file.fileno(), start, index, _cast(row, dtype))
            yield index


def _write_by_processes(
    target: Path, start: int, rows: Rows, dtype: np.dtype[np.generic], workers: int
) -> Generator[int, None, None]:
    """Write the rows by `workers` processes, each every `workers`-th; yield each index when it is written."""
    # Not "fork": the caller may hold threads and a CUDA context. The fork server imports the libraries once.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["snnsc.data.frames", "snnsc.data.decode", "tonic.io"])
    at: dict[Connection, int] = {}
    processes = {}
    try:
        for first in range(workers):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(  # type: ignore[attr-defined]
                target=_work, args=(theirs, target, start, rows, dtype, first, workers), daemon=True
            )
            process.start()
            theirs.close()  # then a process that dies closes the pipe
            at[ours], processes[ours] = first, process
        while at:
            for ready in wait(list(at)):
                assert isinstance(ready, Connection)
                try:
                    message = ready.recv()
                except EOFError:
                    index = at.pop(ready)
                    if index < len(rows.paths):
                        raise _died(rows.paths[index], processes[ready]) from None
                    continue
                if isinstance(message, Exception):
                    raise message
                at[ready] = message + workers
                yield message
    finally:
        for connection, process in processes.items():
            connection.close()
            process.terminate()
            process.join()


def _died(path: Path, process: multiprocessing.process.BaseProcess) -> DataError:
    """Return the error for a process that ended while it was at `path`."""
    process.join()
    if process.exitcode == 1:  # Python's own, before the first file: the traceback is on stderr
        return DataError(
            "the processes that read the data cannot start: a script that builds loaders needs the guard "
            "`if __name__ == '__main__':`; or set data.workers = 1"
        )
    return DataError(
        f"{path}: the process that was reading this file died (exit code {process.exitcode}); the file is damaged, or "
        "memory ran out: remove or replace it, or lower data.workers"
    )


def _work(
    pipe: Connection, target: Path, start: int, rows: Rows, dtype: np.dtype[np.generic], first: int, step: int
) -> None:
    """Body of a process: write rows first, first + step, ...; send each index, or the exception that ended it."""
    import torch

    torch.set_num_threads(1)  # the processes are the parallelism
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller gets it, and ends us
    with Path(os.devnull).open("w") as nowhere, contextlib.suppress(BrokenPipeError), target.open("rb+") as file:
        sys.stderr.flush()
        os.dup2(nowhere.fileno(), 2)  # a decoder that aborts writes its backtrace there
        try:
            for index in range(first, len(rows.paths), step):
                _write_row(file.fileno(), start, index, _cast(rows.row(index), dtype))
                pipe.send(index)
        except BrokenPipeError:  # the caller is gone
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's to see
            pipe.send(error)


def _cast(row: Array, dtype: np.dtype[np.generic]) -> Array:
    """Return `row` as `dtype`: counts exactly, resized (float) values rounded.

    Raises:
        DoesNotFitError: It cannot be done.
    """
    if row.dtype == dtype:
        return np.ascontiguousarray(row)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = np.ascontiguousarray(row, dtype=dtype)
    fits = bool((cast == row).all()) if row.dtype.kind in "iu" else dtype.kind == "f" and bool(np.isfinite(cast).all())
    if not fits:
        message = f"values up to {row.max()} as {dtype}"
        raise DoesNotFitError(message)
    return cast


def _write_row(descriptor: int, start: int, index: int, row: Array) -> None:
    """Write `row` at its place; a short write goes on until the system says why it was short."""
    data = row.reshape(-1).view(np.uint8).data
    position = start + index * len(data)
    while data:
        written = os.pwrite(descriptor, data, position)
        data, position = data[written:], position + written
