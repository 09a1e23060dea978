"""A spiking network: stem, stages of blocks, head; and the branches that read the blocks in training.

Legend: T time steps, B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from snnsc.errors import RecipeError
from snnsc.model.bits import spikes_as_bits
from snnsc.model.recompute import recomputed
from snnsc.model.shortcuts import PooledLinear, branch_name
from snnsc.recipe.schema.train import Memory


class Logits(NamedTuple):
    """Outputs of every time step, in float32."""

    main_TBK: Tensor
    """The network's own head."""
    branches_TBK: dict[str, Tensor]
    """One entry a branch, from the shallowest on; empty without branches."""


class SpikingNetwork(nn.Module):
    """Stem, stages and head, with removable branches.

    Args:
        stem: Called with (input [T or 1, B, C, H, W], T); gives spikes (or currents, see `residual`) [T, B, C, H, W].
        stages: Blocks of each stage.
        head: From the last block's output to logits [T, B, K].
        T: Time steps for which a static image is held.
        taps: (stage, block, channels) of each branch.
        classes: K.
        weighted: Whether all logits are multiplied by `step_weights` [T], a buffer of ones that training moves (TWO).
        per_step: What was learned for each time step alone, as recipe keys; such a network runs for its own T only.
        memory: What is kept for the backward pass: everything, spikes as bits (balanced), or as bits and of blocks only
            what they read (small).
    """

    step_weights: Tensor | None

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Sequence[nn.Module]],
        head: nn.Module,
        *,
        T: int,
        taps: Iterable[tuple[int, int, int]] = (),
        classes: int,
        weighted: bool = False,
        per_step: Sequence[str] = (),
        memory: Memory = "speed",
    ) -> None:
        super().__init__()
        self.T, self.memory = T, memory
        self.per_step = tuple(per_step)
        self.register_buffer("step_weights", torch.ones(T) if weighted else None)
        self.stem = stem
        self.stages = nn.ModuleList(nn.ModuleList(blocks) for blocks in stages)
        self.head = head
        self.shortcuts = nn.ModuleDict({branch_name(s, b): PooledLinear(channels, classes) for s, b, channels in taps})

    def logits(self, x: Tensor, T: int | None = None) -> Logits:
        """Logits of every time step, of the head and of the branches.

        Args:
            x: Event frames [T, B, C, H, W], or static images [B, C, H, W].
            T: Time steps for which images are held; default the network's own. Not for frames, which bring theirs.

        Raises:
            RecipeError: something was learned for each time step alone, and T is not their number.
        """
        if x.dim() == 4:
            x, T = x.unsqueeze(0), self.T if T is None else T
        else:
            T = x.shape[0]
        if self.per_step and T != self.T:
            raise RecipeError(
                f"T = {T}: the network runs for T = {self.T} only, because it learned something for each of its time "
                f"steps ({', '.join(self.per_step)}); give it {self.T} steps, or train one with model.T = {T}"
            )
        learns = self.training and torch.is_grad_enabled()
        with spikes_as_bits(wanted=learns and self.memory != "speed"):
            logits = self._run(x, T, recomputed if learns and self.memory == "small" else _called)
        return logits if self.step_weights is None else _weighted(logits, self.step_weights)

    def _run(self, x: Tensor, T: int, run: Callable[..., Tensor]) -> Logits:
        x_TBCHW = run(self.stem, x, T)
        branches = {}
        for s, blocks in enumerate(self.stages):
            for b, block in enumerate(cast(nn.ModuleList, blocks)):
                x_TBCHW = run(block, x_TBCHW)
                if (name := branch_name(s, b)) in self.shortcuts:
                    branches[name] = self.shortcuts[name](x_TBCHW)
        return Logits(self.head(x_TBCHW), branches)

    def forward(self, x: Tensor) -> Tensor | Logits:
        """In evaluation mode the logits [B, K], averaged over time; in training mode those of every step and branch."""
        if self.training:
            return self.logits(x)
        return self.logits(x).main_TBK.mean(0)


def _called(block: nn.Module, *inputs: Any) -> Tensor:  # noqa: ANN401
    return block(*inputs)  # type: ignore[no-any-return]


def _weighted(logits: Logits, weights_T: Tensor) -> Logits:
    """Every step's logits times its weight: the temporally weighted output (Li et al., Neural Networks 2024)."""
    weights_T11 = weights_T[:, None, None]
    branches = {name: branch_TBK * weights_T11 for name, branch_TBK in logits.branches_TBK.items()}
    return Logits(logits.main_TBK * weights_T11, branches)
