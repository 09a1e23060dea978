"""Ctrl-C and other processes: none of them is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Let Ctrl-C wait for a few calls of the system that belong together; only the main thread is interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting = []
    before = signal.signal(signal.SIGINT, lambda *_: waiting.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if waiting:
            signal.raise_signal(signal.SIGINT)


def run_to_end(
    command: Sequence[str], seconds: float, *, folder: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Status, output and complaints of a command; where it does not come to its end, all that it started is ended.

    Args:
        command: What is run, without input.
        seconds: After which it is taken to hang.
        folder: Where it is run.
        env: Its environment; default that of this process.

    Raises:
        OSError: it cannot be started.
        TimeoutExpired: it hangs.
    """
    process: subprocess.Popen[str] | None = None
    try:
        with without_interrupts():
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        printed, said = process.communicate(timeout=seconds)
    except BaseException:
        if process is not None:
            _end(process)
        raise
    return process.returncode, printed, said


def _end(process: subprocess.Popen[str]) -> None:
    with process:  # closes its pipes, and waits
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):  # ended by itself
                os.killpg(process.pid, signal.SIGKILL)  # a compiler is a program that starts others
        else:
            process.kill()
