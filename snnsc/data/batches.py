"""Batches as a function of (seed, epoch, step) and nothing else, so a resumed run sees the same ones.

Shapes: B samples of a batch on this rank, T time steps, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch

from snnsc.data.augment import Draws, FramePipeline, ImagePipeline
from snnsc.data.crops import ATTEMPTS, CHANCES
from snnsc.data.mixing import Mixing
from snnsc.data.parallel import processors
from snnsc.data.samples import Array, Crops, Indices, Samples
from snnsc.data.splits import AUGMENT, MIX, ORDER, SOME, generator, stratified_split

Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""(inputs, labels): images float32 [B, C, H, W] or frames float32 [T, B, 2, H, W], and labels int64 [B]; in training
with MixUp or CutMix the labels are the probabilities of the K classes, float32 [B, K]."""
_THREADS = 4


@dataclass(frozen=True, eq=False)
class TrainBatches:
    """Training batches in random order, augmented.

    A batch of all ranks is `batch_size` samples; rank r of R takes its samples r, r + R, ... The order of the samples
    and what happens to each do not depend on R, but with `mixing`: a rank mixes its own samples among themselves.

    Args:
        source: Where the samples are read.
        labels_N: Labels of all samples of `source`.
        chosen_M: The samples trained on, as places in `source`.
        pipeline: From stored samples to tensors.
        seed: Of the order and the augmentation.
        batch_size: Samples a step, over all ranks.
        rank: This process.
        world_size: R.
        crops: Reads random crops of the images, resized, in the place of `source`.
        mixing: Done to a batch at the end.
        pinned: Whether batches lie in page-locked memory, see `prefetched`.
    """

    source: Samples
    labels_N: Indices
    chosen_M: Indices
    pipeline: ImagePipeline | FramePipeline
    seed: int
    batch_size: int
    rank: int = 0
    world_size: int = 1
    crops: Crops | None = None
    mixing: Mixing | None = None
    pinned: bool = False

    @property
    def samples(self) -> int:
        """Samples trained on, over all ranks."""
        return len(self.chosen_M)

    def __len__(self) -> int:
        """Return the steps of an epoch; the last incomplete batch is dropped, unless it is the only one."""
        return max(1, self.samples // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of `epoch` from step `start` on.

        Each is (inputs, labels): images float32 [B, C, H, W] or frames float32 [T, B, 2, H, W], and int64 [B], or with
        `mixing` float32 [B, K].
        """
        order_M = self.chosen_M[generator(ORDER, self.seed, epoch).permutation(self.samples)]

        def batch(step: int) -> Batch:
            whole = order_M[step * self.batch_size : (step + 1) * self.batch_size]
            mine_B = np.arange(self.rank, len(whole), self.world_size)
            draws = Draws(generator(AUGMENT, self.seed, epoch, step), len(whole), mine_B)
            indices_B = whole[mine_B]
            inputs = self.pipeline.train(self._stored(indices_B, draws), draws)
            labels_B = torch.from_numpy(self.labels_N[indices_B])
            if self.mixing is None:
                return inputs, labels_B
            return self.mixing(inputs, labels_B, generator(MIX, self.seed, epoch, step))

        return prefetched(batch, range(start, len(self)), pinned=self.pinned)

    def unaugmented(self) -> EvalBatches:
        """Return the same samples as for evaluation: in their order, as they are, with labels [B]."""
        per_rank = -(-self.batch_size // self.world_size)
        return EvalBatches(
            self.source, self.labels_N, self.chosen_M, self.pipeline, per_rank, self.rank, self.world_size, self.pinned
        )

    def _stored(self, indices_B: Indices, draws: Draws) -> Array:
        """Return the samples at `indices_B` that the pipeline starts from."""
        if self.crops is None:
            return self.source.read(indices_B)
        return self.crops(indices_B, draws.uniform(CHANCES).reshape(-1, ATTEMPTS, 4))


@dataclass(frozen=True, eq=False)
class EvalBatches:
    """All samples of a split in their order, un-augmented; rank r of R reads the samples r, r + R, ...

    Args:
        source: Where the samples are read.
        labels_N: Labels of all samples of `source`.
        chosen_M: The samples evaluated on, as places in `source`.
        pipeline: From stored samples to tensors.
        batch_size: Samples of a batch on this rank; the last one is shorter.
        rank: This process.
        world_size: R.
        pinned: Whether batches lie in page-locked memory, see `prefetched`.
    """

    source: Samples
    labels_N: Indices
    chosen_M: Indices
    pipeline: ImagePipeline | FramePipeline
    batch_size: int
    rank: int = 0
    world_size: int = 1
    pinned: bool = False

    @property
    def samples(self) -> int:
        """Samples evaluated on, over all ranks."""
        return len(self.chosen_M)

    def __len__(self) -> int:
        """Return the number of batches of this rank."""
        return -(-len(self._mine()) // self.batch_size)

    def batches(self) -> Iterator[Batch]:
        """Yield this rank's batches: images float32 [B, C, H, W] or frames float32 [T, B, 2, H, W], and labels [B]."""
        mine = self._mine()

        def batch(step: int) -> Batch:
            indices_B = mine[step * self.batch_size : (step + 1) * self.batch_size]
            inputs = self.pipeline.evaluate(self.source.read(indices_B))
            return inputs, torch.from_numpy(self.labels_N[indices_B])

        return prefetched(batch, range(len(self)), pinned=self.pinned)

    def drawn(self, count: int, seed: int) -> EvalBatches:
        """Return `count` of the samples, each class in proportion and drawn by `seed`, or all where these are fewer."""
        if count >= self.samples:
            return self
        _, places = stratified_split(self.labels_N[self.chosen_M], count, generator(SOME, seed))
        return replace(self, chosen_M=self.chosen_M[places])

    def _mine(self) -> Indices:
        """Return the places in `source` of this rank's samples."""
        return self.chosen_M[self.rank :: self.world_size]


def prefetched(make: Callable[[int], Batch], steps: Iterable[int], *, pinned: bool = False) -> Iterator[Batch]:
    """Yield ``make(step)`` of each step in order, made by a few threads that many steps ahead.

    `make` depends on its step alone, so the number of threads changes nothing. An exception of `make` is raised here,
    at its step. The threads end with the iterator, also where it is abandoned.

    Args:
        make: Makes the batch of a step.
        steps: Which.
        pinned: Move the batches to page-locked memory, from where a GPU takes them without the caller's waiting.
    """

    def pin(step: int) -> Batch:
        inputs, labels = make(step)
        return inputs.pin_memory(), labels.pin_memory()

    count = min(_THREADS, processors())
    threads = ThreadPoolExecutor(count, thread_name_prefix="snnsc-data")
    waiting: deque[Future[Batch]] = deque()
    try:
        for step in steps:
            waiting.append(threads.submit(pin if pinned else make, step))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
