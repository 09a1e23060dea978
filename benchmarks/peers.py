"""The networks of snnsc in other libraries: the same layers in the same order, so that weights copy one to one.

A network is written once, over a `Kit`: how a library convolves, normalises, pools and fires. SpikingJelly's layers
take [T, B, C, H, W]; torch's own, used for the ReLU twin and for snnTorch, take [T*B, C, H, W].

Legend: T time steps, B batch, C channels, H W space, K classes; N = T*B, or T, B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from snnsc.model import Logits
from snnsc.model.resnet import resnet_plan
from snnsc.model.vgg import vgg_plan
from snnsc.recipe.schema import Recipe, VggSnnSpec

ALPHA = 2.0
"""Of the arc-tangent surrogate, in every library."""


@dataclass(frozen=True)
class Kit:
    """What a library builds a network of."""

    neuron: Callable[[], nn.Module]
    conv: Callable[..., nn.Module] = nn.Conv2d
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d
    pool: Callable[[int], nn.Module] = nn.AvgPool2d
    keeps_time: bool = False
    """Whether its layers take [T, B, ...] rather than [T*B, ...]."""

    def conv_norm(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
        """Convolution without bias, then normalisation."""
        return nn.Sequential(self.conv(c_in, c_out, kernel, stride, kernel // 2, bias=False), self.norm(c_out))


class Block(nn.Module):
    """Residual block: neuron(norm(conv(neuron(norm(conv x)))) + shortcut(x))."""

    def __init__(self, kit: Kit, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(kit.conv_norm(c_in, c_out, stride=stride), kit.neuron(), kit.conv_norm(c_out, c_out))
        same = stride == 1 and c_in == c_out
        self.around = nn.Identity() if same else kit.conv_norm(c_in, c_out, kernel=1, stride=stride)
        self.neuron = kit.neuron()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Spikes, or activations."""
        return self.neuron(self.main(x_NCHW) + self.around(x_NCHW))  # type: ignore[no-any-return]


class Network(nn.Module):
    """Features, space averaged or flattened, linear: frames [T, B, C, H, W] -> `Logits`, in float32 as in snnsc."""

    def __init__(self, features: nn.Module, linear: nn.Linear, *, keeps_time: bool, flatten: bool) -> None:
        super().__init__()
        self.features = features
        self.linear = linear
        self.keeps_time = keeps_time
        self.flatten = flatten

    def forward(self, frames_TBCHW: Tensor) -> Logits:
        """Logits of every time step."""
        y = self.features(frames_TBCHW if self.keeps_time else frames_TBCHW.flatten(0, 1))
        with torch.autocast(y.device.type, enabled=False):
            wide = y if y.dtype == torch.float64 else y.float()
            y = wide.flatten(-3) if self.flatten else wide.mean((-2, -1))
            return Logits(self.linear(y).view(*frames_TBCHW.shape[:2], -1), {})


def build_network(recipe: Recipe, kit: Kit) -> Network:
    """The network of a recipe, of the layers of `kit`."""
    data, spec = recipe.data, recipe.model
    if isinstance(spec, VggSnnSpec):
        return _plain(kit, vgg_plan(spec).stages, data.channels, data.size, data.classes)
    plan = resnet_plan(spec)  # type: ignore[arg-type]
    layers: list[nn.Module] = [kit.conv_norm(data.channels, plan.stem), kit.neuron()]
    c_in = plan.stem
    for s, (count, width) in enumerate(zip(plan.blocks, plan.widths, strict=True)):
        for b in range(count):
            layers.append(Block(kit, c_in, width, stride=2 if b == 0 and s > 0 else 1))
            c_in = width
    return Network(nn.Sequential(*layers), nn.Linear(c_in, data.classes), keeps_time=kit.keeps_time, flatten=False)


def _plain(kit: Kit, stages: Sequence[Sequence[int]], c_in: int, size: int, classes: int) -> Network:
    layers: list[nn.Module] = []
    for widths in stages:
        for width in widths:
            layers += [kit.conv_norm(c_in, width), kit.neuron()]
            c_in = width
        layers.append(kit.pool(2))
    linear = nn.Linear(c_in * (size // 2 ** len(stages)) ** 2, classes)
    return Network(nn.Sequential(*layers), linear, keeps_time=kit.keeps_time, flatten=True)


def weighted_layers(model: nn.Module) -> list[nn.Module]:
    """Convolutions, normalisations and linear layers in the order of their definition."""
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Give `target` the weights and statistics of `source`, layer by layer; shapes must agree."""
    for own, other in zip(weighted_layers(source), weighted_layers(target), strict=True):
        other.load_state_dict(own.state_dict())


def relu_kit() -> Kit:
    """The twin: ReLU in place of neurons, no time."""
    return Kit(partial(nn.ReLU, inplace=True))


# ------------------------------------------------------------------------------------------------ SpikingJelly 2.0


def spikingjelly_kit(decay: float, *, float32_membrane: bool = False) -> Kit:
    """SpikingJelly's multi-step layers, with `LIFNode` as it is or with its function and a membrane in float32.

    Under bf16 autocast a `LIFNode` keeps its membrane in bf16, and so falls back from the library's own kernel to its
    reference implementation. The public function `lif_multi_step` takes the membrane as an argument.
    """
    from spikingjelly.activation_based import layer
    from spikingjelly.activation_based.neuron import LIFNode
    from spikingjelly.activation_based.surrogate import ATan

    tau = 1 / (1 - decay)
    if float32_membrane:
        neuron: Callable[[], nn.Module] = partial(_SpikingJellyFunction, tau)
    else:
        neuron = lambda: LIFNode(tau, False, 1.0, 0.0, ATan(ALPHA), step_mode="m")  # noqa: E731
    multi = {"step_mode": "m"}
    return Kit(
        neuron,
        conv=partial(layer.Conv2d, **multi),
        norm=partial(layer.BatchNorm2d, **multi),
        pool=partial(layer.AvgPool2d, **multi),
        keeps_time=True,
    )


class _SpikingJellyFunction(nn.Module):
    """`functional.lif_multi_step` from rest, with a float32 membrane."""

    def __init__(self, tau: float) -> None:
        super().__init__()
        from spikingjelly.activation_based import functional, surrogate

        self.run = functional.lif_multi_step
        self.surrogate = surrogate.ATan(ALPHA)
        self.tau = tau

    def forward(self, current_TBCHW: Tensor) -> Tensor:
        """Spikes."""
        wide = torch.float64 if current_TBCHW.dtype == torch.float64 else torch.float32
        rest = torch.zeros_like(current_TBCHW[0], dtype=wide)
        return self.run(current_TBCHW, rest, self.tau, False, 1.0, 0.0, self.surrogate)[0]  # type: ignore[no-any-return]


def reset_spikingjelly(model: nn.Module) -> None:
    """Put every membrane back to rest, as SpikingJelly asks for after each step."""
    from spikingjelly.activation_based import functional

    functional.reset_net(model)


# -------------------------------------------------------------------------------------------------------- snnTorch


def snntorch_kit(decay: float, T: int) -> Kit:
    """A loop over time of snnTorch's `Leaky`, between torch's layers."""
    return Kit(lambda: _SnnTorchLoop(decay, T))


class _SnnTorchLoop(nn.Module):
    """`Leaky` with hard reset in the step of the spike, from rest: [T*B, ...] -> spikes [T*B, ...]."""

    def __init__(self, decay: float, T: int) -> None:
        super().__init__()
        import snntorch

        options: dict[str, Any] = {"reset_mechanism": "zero", "reset_delay": False}
        self.node = snntorch.Leaky(decay, 1.0, spike_grad=snntorch.surrogate.atan(ALPHA), **options)
        self.T = T

    def forward(self, current_NCHW: Tensor) -> Tensor:
        """Spikes."""
        membrane, spikes = self.node.reset_mem(), []
        for current in current_NCHW.unflatten(0, (self.T, -1)).unbind(0):
            spike, membrane = self.node(current, membrane)
            spikes.append(spike)
        return torch.cat(spikes)
