"""Normalisation of the input current of a spiking layer.

Legend: T time steps, B batch, C channels, H W space. Every normalisation takes [T, B, C, H, W], or [1, B, C, H, W] for
a current that is the same at every step. `scale_and_shift` is its evaluation mode as y = scale * x + shift: both [C],
or [T, C] where the time steps are told apart; this is what folds into a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnsc.recipe.schema import BnSpec, BnttSpec, MpbnSpec, NormSpec, TdbnSpec, TebnSpec


class Norm(nn.BatchNorm2d):
    """Batch normalisation with a fixed factor: y = factor * gamma * (x - mean) / sqrt(var + eps) + beta.

    Statistics are over time, batch and space. factor = 1 is plain batch normalisation; factor = alpha * threshold is
    tdBN (Zheng et al., AAAI 2021).
    """

    def __init__(self, channels: int, factor: float = 1.0) -> None:
        super().__init__(channels)
        self.factor = factor

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Normalised x, of its shape; the running statistics move in training mode."""
        x = x_TBCHW.flatten(0, 1)
        return over_time(_as_many(x, self._normalised) if self.training else self._normalised(x), x_TBCHW)

    def _normalised(self, x: Tensor) -> Tensor:
        if self.factor == 1.0:
            return super().forward(x)
        moves = self.track_running_stats or not self.training
        if self.training and moves:
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return F.batch_norm(
            x,
            self.running_mean if moves else None,
            self.running_var if moves else None,
            self.weight * self.factor,
            self.bias,
            self.training,
            self.momentum or 0.0,
            self.eps,
        )

    @torch.no_grad()
    def track(self, mean: Tensor, var: Tensor, size: int) -> None:
        """Move the running statistics, as in a training step over `size` values a channel of this mean and variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        if not self.track_running_stats:
            return
        momentum = self.momentum or 0.0
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_((var * (size / max(1, size - 1))).to(self.running_var.dtype), momentum)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Evaluation mode as scale and shift, both [C]."""
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight * self.factor * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    def extra_repr(self) -> str:
        """The constants, as `print(model)` shows them."""
        return f"{self.num_features}, factor={self.factor:g}"


class Tebn(nn.Module):
    """Temporal effective batch normalisation: y[t] = k[t] * bn(x)[t], k learned and 1 at first.

    Source: Duan et al., Temporal Effective Batch Normalization in Spiking Neural Networks, NeurIPS 2022.
    """

    def __init__(self, channels: int, T: int) -> None:
        super().__init__()
        self.bn = Norm(channels)
        self.k = nn.Parameter(torch.ones(T))

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Normalised x [T, B, C, H, W]."""
        y: Tensor = self.bn(x_TBCHW)
        return y * self.k.to(y.dtype)[:, None, None, None, None]

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Evaluation mode as scale and shift, both [T, C]."""
        scale_C, shift_C = self.bn.scale_and_shift()
        return torch.outer(self.k, scale_C), torch.outer(self.k, shift_C)


class Bntt(nn.Module):
    """Batch normalisation through time: y[t] = gamma[t] * (x[t] - mean[t]) / sqrt(var[t] + eps), without beta.

    Each time step has statistics and gamma of its own; mean, var and gamma are [T, C]. The constants are those of
    torch's batch normalisation.

    Source: Kim & Panda, Revisiting Batch Normalization for Training Low-Latency Deep SNNs From Scratch, 2021.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, T: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.track_running_stats = True
        self.weight = nn.Parameter(torch.ones(T, channels))
        self.register_buffer("running_mean", torch.zeros(T, channels))
        self.register_buffer("running_var", torch.ones(T, channels))

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Normalised x [T, B, C, H, W]; the running statistics move in training mode."""
        T, C = self.weight.shape
        x_TBCHW = x_TBCHW.expand(T, *x_TBCHW.shape[1:])
        moves = self.track_running_stats or not self.training

        def normalised(x: Tensor) -> Tensor:
            return F.batch_norm(
                x,
                self.running_mean.view(-1) if moves else None,
                self.running_var.view(-1) if moves else None,
                self.weight.flatten(),
                None,
                self.training,
                self.momentum,
                self.eps,
            )

        # every step's channels are channels of their own: one call for all steps
        x = x_TBCHW.transpose(0, 1).flatten(1, 2)
        y = _as_many(x, normalised) if self.training else normalised(x)
        return y.view(-1, T, C, *y.shape[2:]).transpose(0, 1)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Evaluation mode as scale and shift, both [T, C]."""
        scale_TC = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale_TC, -self.running_mean * scale_TC


def build_norm(spec: NormSpec, channels: int, *, threshold: float, T: int, summands: int = 1) -> nn.Module:
    """The normalisation after a convolution that `spec` names.

    Args:
        spec: Which normalisation; that of the membrane potential, in mpbn, is the neuron's.
        channels: Channels of its input.
        threshold: Firing threshold of the neuron it feeds.
        T: Time steps, for what is learned per step.
        summands: Normalised currents that are added before that neuron: 2 where a residual path joins.
    """
    match spec:
        case BnSpec() | MpbnSpec():
            return Norm(channels)
        case TdbnSpec(alpha=alpha):
            return Norm(channels, alpha * threshold / math.sqrt(summands))
        case TebnSpec():
            return Tebn(channels, T)
        case BnttSpec():
            return Bntt(channels, T)
        case _:
            assert_never(spec)


@contextmanager
def without_tracking(module: nn.Module) -> Iterator[None]:
    """Within the context, no pass in training mode moves running statistics of a module: it was run before."""
    norms = [p for p in module.modules() if isinstance(p, nn.BatchNorm2d | Bntt) and p.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def _as_many(x: Tensor, normalised: Callable[[Tensor], Tensor]) -> Tensor:
    """Normalised x [N, C, H, W]; one image is shown as H W images of one place.

    On a CPU torch 2.14 takes wrong gradients of a single image whose memory lies otherwise than the gradient's.
    """
    if x.shape[0] != 1:
        return normalised(x)
    places = x.movedim(1, -1)
    return normalised(places.reshape(-1, places.shape[-1], 1, 1)).view(places.shape).movedim(-1, 1)


def over_time(y: Tensor, like_TB: Tensor) -> Tensor:
    """[T*B, ...] as [T, B, ...], with the T and B of `like_TB`."""
    return y.view(like_TB.shape[0], like_TB.shape[1], *y.shape[1:])
