"""Does the C program classify as the step model that it was made from? Compiled and run, where there is a compiler."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import TimeoutExpired

import numpy as np
from torch import Tensor

from snnsc.errors import CheckError
from snnsc.export.runtime import Array, Runnable
from snnsc.export.verify import Bounds
from snnsc.files import temporary_folder
from snnsc.processes import run_to_end

COMPILERS = ("cc", "gcc", "clang")
SECONDS = 600
"""After which a compiler or a program is taken to hang."""


@dataclass(frozen=True)
class Compiled:
    """What was found on how many samples."""

    compiler: str
    """Its first line about itself."""
    samples: int
    argmax_agreement: float
    """Share of samples that the program and the step model put in the same class."""
    max_logit_difference: float

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return asdict(self)


def check_compiled(
    files: Mapping[str, str | bytes], step: Runnable, batches: Iterable[tuple[Tensor, Tensor]], bounds: Bounds
) -> Compiled | None:
    """Compile the files of `to_c` in a temporary folder, and run them on samples; None without a C compiler.

    Args:
        files: Name -> content.
        step: The step model in onnxruntime.
        batches: A few real samples, one process is started for each: (frames [T, B, C, H, W] or images [B, C, H, W],
            labels [B]).
        bounds: Of which the agreement of classes is held.

    Raises:
        CheckError: the program does not compile or run, or classifies otherwise.
        SnnscError: the temporary folder is full.
    """
    compiler = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    if compiler is None:
        return None
    about = _run([compiler, "--version"], Path.cwd(), "has a compiler that does not run")
    expected: list[Array] = []
    found: list[Array] = []
    with temporary_folder() as folder:
        program = build(compiler, files, folder)
        for inputs, _ in batches:
            logits_TBK, _ = step.run(inputs.numpy())
            expected.extend(logits_TBK.mean(0))
            found.extend(classify(program, sample.numpy()) for sample in inputs.unbind(inputs.dim() - 4))
    if not found:
        raise CheckError("there are no samples to run the C program on")
    ours, theirs = np.stack(found), np.stack(expected)
    agreement = float((ours.argmax(-1) == theirs.argmax(-1)).mean())
    if agreement < bounds.min_argmax_agreement:
        raise CheckError(
            f"the C program and onnxruntime agree on the class of {agreement:.2%} of {len(ours)} samples, fewer than "
            f"{bounds.min_argmax_agreement:.0%}; nothing is written"
        )
    return Compiled(about.partition("\n")[0], len(ours), agreement, float(np.abs(ours - theirs).max()))


def build(compiler: str, files: Mapping[str, str | bytes], folder: Path) -> Path:
    """Write and compile the program in an existing folder; returns where it is.

    Raises:
        CheckError: it does not compile.
    """
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    sources = sorted(name for name in files if name.endswith(".c"))
    _run([compiler, "-std=c99", "-O2", "-o", "network", *sources, "-lm"], folder, "does not compile")
    return folder / "network"


def classify(program: Path, sample: Array) -> Array:
    """Logits [K] that a program gives for frames [T, C, H, W] or an image [C, H, W].

    Raises:
        CheckError: it does not run.
    """
    given = program.with_name("sample.bin")
    given.write_bytes(np.ascontiguousarray(sample, "<f4").tobytes())
    printed = _run([str(program), given.name], program.parent, "does not run")
    return np.array([float(line.split(maxsplit=1)[0]) for line in printed.splitlines()[1:]], np.float32)


def _run(command: list[str], folder: Path, complaint: str) -> str:
    try:
        status, printed, said = run_to_end(command, SECONDS, folder=folder)
    except (OSError, TimeoutExpired) as e:
        raise CheckError(f"the C program {complaint}: {' '.join(str(e).split())[:300]}") from e
    if status != 0:
        if (full := os.strerror(errno.ENOSPC)) in said:
            raise OSError(errno.ENOSPC, full)
        why = " ".join(said.split())[:300] or f"{command[0]} ends with status {status}"
        raise CheckError(f"the C program {complaint}: {why}")
    return printed
