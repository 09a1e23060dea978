"""Memory of one training step of one contestant, measured in a process of its own; prints JSON.

    python benchmarks/training_memory.py resnet20-thin snnsc-small bf16 --T 4 --batch 64

saved   MiB that autograd keeps for the backward pass: all storages that pass through its saved-tensor hooks, once each
peak    MiB of resident memory at its highest in a step, above the same process after steps on two samples (compilers
        loaded, caches warm); on a GPU the most that its allocator gave out, above what it had given out before
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from contestants import NAMES, PRECISIONS, Contestant, Setting, build_contestants, make_setting
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from snnsc.model import bits
from snnsc.training.allocator import keep_freed_memory
from snnsc.training.device import pick_device

MIB = 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arch")
    parser.add_argument("contestant", choices=NAMES)
    parser.add_argument("precision", choices=PRECISIONS)
    parser.add_argument("--T", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `snnsc train` does
    setting = make_setting(options.arch, options.T, options.batch, options.size, pick_device(options.device))
    contestant = next(build_contestants(setting, [options.contestant], [options.precision]), None)
    if contestant is None:
        sys.exit(f"{options.contestant} cannot run here")
    found = {"peak": peak(contestant, setting), "saved": saved(contestant, setting)}
    print(json.dumps({key: value / MIB for key, value in found.items()}))


def peak(contestant: Contestant, setting: Setting) -> int:
    """Bytes in use at the highest point of a step, above those between steps."""
    whole = contestant.forward is not contestant.model  # compiled for its sizes: a step on two samples would not do
    for _ in range(3):
        contestant.step(setting if whole else setting.first(2))
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setting.device)
        before = torch.cuda.memory_allocated(setting.device)
        contestant.step(setting)
        return torch.cuda.max_memory_allocated(setting.device) - before
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest point starts anew
    before = _resident("VmRSS")
    contestant.step(setting)
    return _resident("VmHWM") - before


def saved(contestant: Contestant, setting: Setting) -> int:
    """Bytes that are kept for the backward pass."""
    with watched() as kept:
        loss = contestant.loss(setting)
    size = sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}.values())
    loss.backward()  # type: ignore[no-untyped-call]
    return size


@contextmanager
def watched() -> Iterator[list[Tensor]]:
    """What autograd keeps within the context; of what snnsc keeps as bits, these."""
    kept: list[Tensor] = []
    pack_bits = bits._pack

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    def pack(tensor: Tensor) -> Tensor | bits.Bits:
        packed = pack_bits(tensor)
        keep(packed if isinstance(packed, Tensor) else packed.words)
        return packed

    # hooks within hooks: only the innermost see a tensor
    with mock.patch.object(bits, "_pack", pack), saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def _resident(key: str) -> int:
    """Bytes that Linux says of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    main()
