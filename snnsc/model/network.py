"""A spiking network: stem, stages of blocks, head; and the branches that read the blocks in training.

Legend: T time steps, B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn

from snnsc.model.shortcuts import PooledLinear, branch_name


class Logits(NamedTuple):
    """Outputs of every time step, in float32."""

    main_TBK: Tensor
    """The network's own head."""
    branches_TBK: dict[str, Tensor]
    """One entry a branch, from the shallowest on; empty without branches."""


class SpikingNetwork(nn.Module):
    """Stem, stages and head, with removable branches.

    Args:
        stem: Called with (input [T or 1, B, C, H, W], T); gives spikes [T, B, C, H, W].
        stages: Blocks of each stage.
        head: From the last block's spikes to logits [T, B, K].
        T: Time steps for which a static image is held.
        taps: (stage, block, channels) of each branch.
        classes: K.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Sequence[nn.Module]],
        head: nn.Module,
        *,
        T: int,
        taps: Iterable[tuple[int, int, int]] = (),
        classes: int,
    ) -> None:
        super().__init__()
        self.T = T
        self.stem = stem
        self.stages = nn.ModuleList(nn.ModuleList(blocks) for blocks in stages)
        self.head = head
        self.shortcuts = nn.ModuleDict({branch_name(s, b): PooledLinear(channels, classes) for s, b, channels in taps})

    def logits(self, x: Tensor, T: int | None = None) -> Logits:
        """Logits of every time step, of the head and of the branches.

        Args:
            x: Event frames [T, B, C, H, W], or static images [B, C, H, W].
            T: Time steps for which images are held; default the network's own. Not for frames, which bring theirs.
        """
        if x.dim() == 4:
            x, T = x.unsqueeze(0), self.T if T is None else T
        else:
            T = x.shape[0]
        spikes_TBCHW = self.stem(x, T)
        branches = {}
        for s, blocks in enumerate(self.stages):
            for b, block in enumerate(cast(nn.ModuleList, blocks)):
                spikes_TBCHW = block(spikes_TBCHW)
                if (name := branch_name(s, b)) in self.shortcuts:
                    branches[name] = self.shortcuts[name](spikes_TBCHW)
        return Logits(self.head(spikes_TBCHW), branches)

    def forward(self, x: Tensor) -> Tensor | Logits:
        """In evaluation mode the logits [B, K], averaged over time; in training mode those of every step and branch."""
        if self.training:
            return self.logits(x)
        return self.logits(x).main_TBK.mean(0)
