"""Layers of spiking neurons: which equation, with which learned constants. Current in, spikes out.

Legend: T time steps, B batch, C channels, H W space.

A layer keeps no state: a sequence starts at rest inside forward. What is learned is stored unconstrained and brought
into its range by `constants`, so that the kernels see small tensors of plain numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnsc.errors import RecipeError
from snnsc.model.bits import mark
from snnsc.model.equations import Equation, Fire, State, clif_step, glif_constants, glif_step, known, lif_step
from snnsc.model.fused import Form, FusedKernels, form_of, fused_spikes
from snnsc.model.pending import Pending
from snnsc.model.sequence import (
    UNROLLED_STEPS,
    Kernels,
    at_rest,
    can_compile,
    channels_last,
    channels_third,
    run_sequence,
    run_steps,
    step_of,
)
from snnsc.model.surrogates import build_surrogate
from snnsc.recipe.schema import (
    ClifSpec,
    DietLifSpec,
    GlifSpec,
    IfSpec,
    LifSpec,
    NeuronSpec,
    PlifSpec,
    RealSpikeSpec,
    ReluSpec,
    SurrogateSpec,
)

LOWEST_THRESHOLD = 1e-3
"""Below this a learned threshold is held."""


def build_neuron(
    spec: NeuronSpec,
    surrogate: SurrogateSpec,
    *,
    channels: int,
    T: int,
    membrane_norm: bool = False,
    compiled: bool = True,
) -> nn.Module:
    """A layer of neurons of `channels` channels: `Neuron`, or `RealSpike` around one. Arguments as `Neuron`'s."""
    neuron = Neuron(spec, surrogate, channels=channels, T=T, membrane_norm=membrane_norm, compiled=compiled)
    return RealSpike(neuron, channels) if isinstance(spec, RealSpikeSpec) else neuron


class Neuron(nn.Module):
    """A layer of neurons (or of rectifiers, where the recipe says relu).

    Args:
        spec: Which neuron, with its constants.
        surrogate: Its surrogate gradient.
        channels: Channels of the layer, for constants that are learned per channel.
        T: Time steps, for constants that are learned per step.
        membrane_norm: Whether the membrane potential is normalised before it is compared (MPBN).
        compiled: Run as compiled kernels where a compiler is found, else eagerly; the results are the same.
    """

    def __init__(
        self,
        spec: NeuronSpec,
        surrogate: SurrogateSpec,
        *,
        channels: int = 1,
        T: int = 1,
        membrane_norm: bool = False,
        compiled: bool = True,
    ) -> None:
        super().__init__()
        self.spec, self.surrogate = spec, surrogate
        self.channels, self.T = channels, T
        self.compiled = compiled
        self.mask: Tensor | None = None
        """Of the surrogate gradient in the next backward pass, see `masking`; no part of the layer's state."""
        self.membrane_norm = MembraneNorm(channels) if membrane_norm else None
        self._learn(spec)

    def _learn(self, spec: NeuronSpec) -> None:
        """Make the learned constants, unconstrained."""
        match spec:
            case PlifSpec(tau=tau):
                self.w = nn.Parameter(torch.tensor(-math.log(tau - 1)))
            case DietLifSpec(decay=decay, threshold=threshold):
                self.decay = nn.Parameter(torch.tensor(decay))
                self.threshold = nn.Parameter(torch.tensor(threshold))
            case GlifSpec():
                for name, value in zip(("alpha", "beta", "gamma"), spec.gates, strict=True):
                    self.register_parameter(name, _logit_parameter((value - 0.5) * 0.5 + 0.5, self.channels))
                for name, value in (("tau", spec.tau), ("threshold", spec.threshold), ("leak", spec.leak)):
                    self.register_parameter(name, _logit_parameter(value, self.channels))
                self.reset_potential = _logit_parameter(spec.threshold, self.channels)
                self.conduct = _logit_parameter(spec.conduct, self.T, self.channels)
            case LifSpec() | IfSpec() | ClifSpec() | RealSpikeSpec() | ReluSpec():
                pass
            case _:
                assert_never(spec)

    def constants(self) -> dict[str, Tensor]:
        """The learned constants in their range, by name: 0-d, [C], or [T, C] for `gain` of glif; else empty."""
        match self.spec:
            case PlifSpec():
                gain = torch.sigmoid(self.w)
                return {"decay": 1 - gain, "gain": gain}
            case DietLifSpec():
                return {"decay": self.decay.clamp(0, 1), "threshold": self.threshold.clamp(min=LOWEST_THRESHOLD)}
            case GlifSpec():
                names = ("alpha", "beta", "gamma", "tau", "leak", "reset_potential", "conduct")
                mixed = glif_constants(*(torch.sigmoid(self.get_parameter(name)) for name in names))
                return mixed | {"threshold": torch.sigmoid(self.get_parameter("threshold"))}
            case _:
                return {}

    def forward(self, current: Tensor | Pending, T: int | None = None) -> Tensor:
        """Spikes of a sequence that starts at rest.

        Args:
            current: [T, B, C, ...], or [1, B, C, ...] with `T` given: a current that is the same at every step. In
                training it may be pending.
            T: Number of time steps; default the current's.

        Returns:
            Spikes [T, B, C, ...], 0 or 1, of the type of `current`, in channels-last memory; of relu its activations.

        Raises:
            RecipeError: constants belong to time steps, and T is not their number.
        """
        if isinstance(current, Pending):
            steps = current.shape[0] if T is None else T
            if self._fuses(current, steps):
                fused = _fused(self.spec, self.surrogate, steps, form_of(current))
                return mark(fused_spikes(fused, current, steps, tuple(self.constants().values()), self.mask))
            current = current.value
        if isinstance(self.spec, ReluSpec):
            active = F.relu(current)
            return active if T is None or active.shape[0] != 1 else active.expand(T, *active.shape[1:])
        T = current.shape[0] if T is None else T
        if isinstance(self.spec, GlifSpec) and self.T != T:
            raise RecipeError(
                f"glif learned a conductance for each of model.T = {self.T} time steps; it cannot run {T}"
            )
        if self.membrane_norm is not None or torch.compiler.is_compiling():
            return self._plain(current, T)
        constants = tuple(self.constants().values())
        ordered = channels_last(current)
        rows = (-1, ordered.shape[-1]) if any(c.dim() for c in constants) else (-1,)
        flat = ordered.reshape(current.shape[0], *rows)
        compiled = self.compiled and can_compile(current.device.type)
        kernels = functools.partial(_kernels, self.spec, self.surrogate, compiled)
        spikes = run_sequence(kernels, flat, T, constants, self.mask)
        return mark(channels_third(spikes.view(T, *ordered.shape[1:])))

    def _fuses(self, current: Pending, T: int) -> bool:
        """Whether the kernels may compute the current; else it is computed first."""
        return (
            self.compiled
            and not isinstance(self.spec, ReluSpec)
            and not (isinstance(self.spec, GlifSpec) and self.T != T)
            and self.membrane_norm is None
            and T <= UNROLLED_STEPS
            and current.is_uniform
            and can_compile(current.device.type)
        )

    def _plain(self, current: Tensor, T: int) -> Tensor:
        """Operation by operation, with autograd's own gradients.

        So runs a layer whose membrane is normalised (statistics are those of single time steps, which no elementwise
        kernel can take), and one of a network that is compiled as a whole.
        """
        equation, slope = build_equation(self.spec, self.membrane_norm), build_surrogate(self.surrogate)
        states, timed = _sizes(self.spec)
        step = step_of(equation, tuple(self.constants().values()), timed, slope, self.mask)
        if self.membrane_norm is None:
            current = channels_last(current)
        with torch.autocast(current.device.type, enabled=False):
            spikes = run_steps(step, current, T, at_rest(current, states))[0]
        return spikes if self.membrane_norm is not None else channels_third(spikes)

    def extra_repr(self) -> str:
        """The constants, as `print(model)` shows them."""
        return f"{self.spec!r}, {self.surrogate!r}"


class RealSpike(nn.Module):
    """A layer of neurons whose spikes are multiplied by a factor learned per channel, 1 at first.

    It folds into the weights of the next layer: deployed spikes are binary.

    Source: Guo et al., Real Spike, ECCV 2022.
    """

    def __init__(self, neuron: Neuron, channels: int) -> None:
        super().__init__()
        self.neuron = neuron
        self.factor = nn.Parameter(torch.ones(channels))

    def forward(self, current: Tensor | Pending, T: int | None = None) -> Tensor:
        """Spikes times their channel's factor; arguments as `Neuron.forward`."""
        spikes: Tensor = self.neuron(current, T)
        return spikes * self.factor.to(spikes.dtype).view(-1, *[1] * (spikes.dim() - 3))


class MembraneNorm(nn.BatchNorm2d):
    """Batch normalisation of a membrane potential [B, C, ...] at one time step."""

    def _check_input_dim(self, u: Tensor) -> None:
        """Any number of dimensions in space."""

    def threshold(self, threshold: float) -> tuple[Tensor, Tensor]:
        """Evaluation mode as a comparison of u itself: norm(u) > threshold exactly where sign * u > bar; both [C].

        sign is that of gamma, as a negative gamma turns the comparison round; it is 0 where gamma is 0.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        sign = self.weight.sign()
        bar = (threshold - self.bias) * torch.sqrt(self.running_var + self.eps) / self.weight + self.running_mean
        return sign, bar * sign


def _logit_parameter(value: float, *shape: int) -> nn.Parameter:
    """A parameter whose sigmoid is `value`."""
    return nn.Parameter(torch.full(shape, -math.log(1 / value - 1)))


@functools.cache
def _fused(spec: NeuronSpec, surrogate: SurrogateSpec, T: int, form: Form) -> FusedKernels:
    """Kernels of their own for each form of the current, as torch compiles one function a few times only."""
    return FusedKernels(build_equation(spec), build_surrogate(surrogate), *_sizes(spec), T, form)


@functools.cache
def _kernels(spec: NeuronSpec, surrogate: SurrogateSpec, compiled: bool, T: int) -> Kernels:
    return Kernels(build_equation(spec), build_surrogate(surrogate), *_sizes(spec), T, compiled=compiled)


def _sizes(spec: NeuronSpec) -> tuple[int, tuple[bool, ...]]:
    """Tensors of the state, and which learned constants have a value for each time step."""
    timed = tuple(isinstance(spec, GlifSpec) and name == "gain" for name in learned_names(spec))
    return (2 if isinstance(spec, ClifSpec) else 1), timed


def learned_names(spec: NeuronSpec) -> tuple[str, ...]:
    """What `Neuron.constants` gives, in its order."""
    match spec:
        case PlifSpec():
            return ("decay", "gain")
        case DietLifSpec():
            return ("decay", "threshold")
        case GlifSpec():
            return ("gain", "leak", "decay", "hard", "subtract", "threshold")
        case _:
            return ()


def build_equation(spec: NeuronSpec, norm: MembraneNorm | None = None) -> Equation:
    """One time step of the neuron that `spec` names; it takes what `Neuron.constants` gives, in order.

    `norm` normalises the membrane of lif and if before it is compared.
    """
    names = learned_names(spec)
    match spec:
        case LifSpec() | IfSpec() | RealSpikeSpec():
            decay = 1.0 if isinstance(spec, IfSpec) else spec.decay
            gain = spec.input_gain if isinstance(spec, LifSpec) and spec.input_gain != 1 else None
            fixed = known(decay=decay, threshold=spec.threshold, **({} if gain is None else {"gain": gain}))
            return _with_reset(functools.partial(lif_step, norm=norm), fixed, names, spec)
        case PlifSpec():
            return _with_reset(lif_step, known(threshold=spec.threshold), names, spec)
        case DietLifSpec():
            return _with_reset(lif_step, known(), names, spec)
        case ClifSpec(decay=decay, threshold=threshold):
            fixed = known(decay=decay, threshold=threshold)

            def clif(state: State, x: Tensor, _learned: tuple[Tensor, ...], fire: Fire | None) -> tuple[Tensor, State]:
                s, v, m = clif_step(state[0], state[1], x, **fixed(), fire=fire)
                return s, (v, m)

            return clif
        case GlifSpec():

            def glif(state: State, x: Tensor, learned: tuple[Tensor, ...], fire: Fire | None) -> tuple[Tensor, State]:
                s, v = glif_step(state[0], x, **dict(zip(names, learned, strict=True)), fire=fire)
                return s, (v,)

            return glif
        case ReluSpec():
            raise AssertionError("relu is no neuron")
        case _:
            assert_never(spec)


def _with_reset(
    step: Callable[..., tuple[Tensor, Tensor]],
    fixed: Callable[[], dict[str, float]],
    names: tuple[str, ...],
    spec: LifSpec | IfSpec | RealSpikeSpec | PlifSpec | DietLifSpec,
) -> Equation:
    """`lif_step` as an equation: its fixed and learned constants by name, its reset as the spec says."""
    soft, detach = spec.reset == "soft", spec.detach_reset

    def equation(state: State, x: Tensor, learned: tuple[Tensor, ...], fire: Fire | None) -> tuple[Tensor, State]:
        constants = fixed() | dict(zip(names, learned, strict=True))
        s, v = step(*state, x, **constants, soft=soft, detach=detach, fire=fire)
        return s, (v,)

    return equation
