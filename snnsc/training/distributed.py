"""Distributed training is torch's own: `torchrun --nproc-per-node N -m snnsc train RECIPE`.

One process a GPU over NCCL, or a CPU process over gloo; every process sees its share of each batch, gradients are
averaged by DistributedDataParallel. Without torchrun there is one process and nothing here has an effect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from snnsc.training.device import pick_device

T = TypeVar("T")

SETTLE_SECONDS = 0.1
"""How long a process waits after gloo's last work. Its threads live on in what DistributedDataParallel leaves behind;
they still let go of tensors, for which they need the interpreter, and one that ends meanwhile aborts (pytorch issue
190489)."""


@dataclass(frozen=True)
class Place:
    """Where this process stands among the processes of a run."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process prints and saves."""
        return self.rank == 0


@contextmanager
def joined(device: str | None) -> Iterator[Place]:
    """Join the process group that torchrun describes in the environment, if any; leave it at the end."""
    if "RANK" not in os.environ:
        yield Place(pick_device(device))
        return
    use_cuda = torch.cuda.is_available() and (device is None or device.startswith("cuda"))
    place = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if use_cuda else pick_device(device or "cpu")
    if use_cuda:
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if use_cuda else "gloo")
    try:
        yield Place(place, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
        if not use_cuda:
            time.sleep(SETTLE_SECONDS)


def share_model(model: nn.Module, place: Place) -> nn.Module:
    """What to call in the forward pass: `model`, or `model` with its gradients averaged over the processes."""
    if place.world_size == 1:
        return model
    return DistributedDataParallel(model, device_ids=[place.device] if place.device.type == "cuda" else None)


def share_buffers(model: nn.Module, place: Place) -> None:
    """Give every process the leader's running statistics, as the leader's are those that are saved."""
    if place.world_size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def add_up(sums: torch.Tensor, place: Place) -> None:
    """Add `sums` up over the processes, in place."""
    if place.world_size > 1:
        dist.all_reduce(sums)


def same_everywhere(make: Callable[[], T], place: Place) -> T:
    """What the leader's call of `make` gives, in every process."""
    if place.world_size == 1:
        return make()
    made: list[Any] = [make() if place.leads else None]
    dist.broadcast_object_list(made)
    return made[0]  # type: ignore[no-any-return]


def any_process(flag: bool, place: Place) -> bool:
    """Whether `flag` is set in any process; all must call."""
    if place.world_size == 1:
        return flag
    votes = torch.tensor(int(flag), device=place.device)
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes)
