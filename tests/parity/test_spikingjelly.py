"""The same weights, neuron and surrogate as a SpikingJelly network: the same spikes, and the same gradient.

SpikingJelly fires where u >= threshold, snnsc where u > threshold. The two also sum in different orders where a static
image is convolved once here and T times there. So every test first asserts that no membrane comes so close to
threshold that either could decide about a spike; `SEED` is one for which that holds.

Legend: T time steps, B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnsc import build_model
from snnsc.model import SpikingNetwork
from snnsc.model.neurons import Neuron
from snnsc.recipe.schema import Recipe

pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import functional, layer, surrogate
from spikingjelly.activation_based.neuron import IFNode, LIFNode

T, B, SIZE, CLASSES = 4, 2, 8, 10
SEED = 8
SMALLEST_MARGIN = 4e-6
"""Least distance of a membrane to threshold: several times what the order of a sum in float32 changes."""

MakeNode = Callable[[], nn.Module]
LIF, IF = {"type": "lif", "decay": 0.5, "threshold": 1.0}, {"type": "if", "threshold": 1.0}


class _Triangle(torch.autograd.Function):
    """A surrogate that SpikingJelly lacks, as its users add one."""

    @staticmethod
    def forward(ctx, d: Tensor) -> Tensor:
        ctx.save_for_backward(d)
        return surrogate.heaviside(d)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (d,) = ctx.saved_tensors
        return grad * (1 - d.abs()).clamp(min=0)


SURROGATES = {
    "atan": surrogate.ATan(alpha=2.0),
    "sigmoid": surrogate.Sigmoid(alpha=4.0),
    "piecewise-linear": surrogate.PiecewiseQuadratic(alpha=2.0),
    "triangle": _Triangle.apply,
}


def make_node(neuron: str, surrogate_name: str, tau: float = 2.0) -> MakeNode:
    """A maker of SpikingJelly's neuron with decay 1 - 1/tau, threshold 1 and hard reset to 0."""
    options = {"v_threshold": 1.0, "v_reset": 0.0, "surrogate_function": SURROGATES[surrogate_name], "step_mode": "m"}
    if neuron == "if":
        return lambda: IFNode(**options)
    return lambda: LIFNode(tau=tau, decay_input=False, **options)


def conv_norm(c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        layer.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False, step_mode="m"),
        layer.BatchNorm2d(c_out, step_mode="m"),
    )


class JellyBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, node: MakeNode) -> None:
        super().__init__()
        self.main = nn.Sequential(conv_norm(c_in, c_out, stride=stride), node(), conv_norm(c_out, c_out))
        self.around = nn.Identity() if stride == 1 and c_in == c_out else conv_norm(c_in, c_out, 1, stride)
        self.node = node()

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        return self.node(self.main(x_TBCHW) + self.around(x_TBCHW))


class JellyNetwork(nn.Module):
    """[T, B, C, H, W] -> logits [T, B, K]."""

    def __init__(self, features: nn.Sequential, channels: int) -> None:
        super().__init__()
        self.features = features
        self.linear = layer.Linear(channels, CLASSES, step_mode="m")

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        return self.linear(self.features(x_TBCHW).mean((-2, -1)))


def jelly_tiny(c_in: int, node: MakeNode) -> JellyNetwork:
    pool = layer.AvgPool2d(2, step_mode="m")
    stem = (conv_norm(c_in, 16), node())
    return JellyNetwork(nn.Sequential(*stem, conv_norm(16, 32), node(), pool, conv_norm(32, 64), node()), 64)


def jelly_resnet20_thin(c_in: int, node: MakeNode) -> JellyNetwork:
    blocks = []
    for width_before, width in pairwise((16, 16, 32, 64)):
        blocks.append(JellyBlock(width_before, width, 1 if width == width_before else 2, node))
        blocks += [JellyBlock(width, width, 1, node) for _ in range(2)]
    return JellyNetwork(nn.Sequential(conv_norm(c_in, 16), node(), *blocks), 64)


NETWORKS = {"tiny": jelly_tiny, "resnet20-thin": jelly_resnet20_thin}


def weighted_layers(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]


def both_networks(
    arch: str,
    *,
    frames: bool,
    training: bool,
    neuron: str = "lif",
    surrogate_name: str = "atan",
    tau: float = 2.0,
    compile_: str = "off",
) -> tuple[SpikingNetwork, JellyNetwork]:
    """The network in both libraries, with the same weights and running statistics, and neurons that do fire."""
    recipe = Recipe.model_validate(
        {
            "name": "parity",
            "seed": SEED,
            "data": {"type": "cifar10dvs" if frames else "cifar10", "size": SIZE},
            "model": {
                "arch": arch,
                "T": T,
                "neuron": LIF if neuron == "lif" else IF,
                "surrogate": {"type": surrogate_name},
                "norm": {"type": "bn"},
            },
            "method": {"mode": "vanilla"},
            "train": {"epochs": 1, "compile": compile_, "precision": "fp32"},
        }
    )
    ours = build_model(recipe)
    for norm in (m for m in ours.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.6, 1.4)
        nn.init.uniform_(norm.bias, 0.0, 0.6)
        norm.momentum = 1.0  # one pass makes the running statistics those of a batch, so evaluation fires too
    with torch.no_grad():
        ours(draw_inputs(frames))
    theirs = NETWORKS[arch](recipe.data.channels, make_node(neuron, surrogate_name, tau))
    for own, other in zip(weighted_layers(ours), weighted_layers(theirs), strict=True):
        other.load_state_dict(own.state_dict())
    return ours.train(training), theirs.train(training)


def draw_inputs(frames: bool) -> Tensor:
    return torch.randn(T, B, 2, SIZE, SIZE).abs() if frames else torch.randn(B, 3, SIZE, SIZE)


def record_spikes(model: nn.Module) -> list[Tensor]:
    """A list that the model's forward pass fills with the spikes of each layer."""
    spikes: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, Neuron | LIFNode | IFNode):
            module.register_forward_hook(lambda _module, _inputs, output: spikes.append(output.detach()))
    return spikes


def record_margins(model: nn.Module, decay: float) -> list[float]:
    """A list that the forward pass fills with each layer's least |u - threshold|, from the layer's own input."""
    margins: list[float] = []

    def hook(_module: nn.Module, inputs: tuple[Tensor], spikes: Tensor) -> None:
        v = torch.zeros_like(inputs[0][0])
        for x, s in zip(inputs[0].detach(), spikes.detach(), strict=True):
            u = decay * v + x
            margins.append(float((u - 1).abs().min()))
            v = u * (1 - s)

    for module in model.modules():
        if isinstance(module, LIFNode | IFNode):
            module.register_forward_hook(hook)
    return margins


def relative_error(value: Tensor, reference: Tensor) -> float:
    return float(torch.linalg.vector_norm(value - reference) / torch.linalg.vector_norm(reference))


def assert_same(ours: SpikingNetwork, theirs: JellyNetwork, *, frames: bool, decay: float) -> None:
    """Every spike equal, logits and the first convolution's gradient within 1e-5."""
    inputs, labels = draw_inputs(frames), torch.randint(CLASSES, (B,))
    spikes, their_spikes = record_spikes(ours), record_spikes(theirs)
    margins = record_margins(theirs, decay)

    logits_BK = ours.logits(inputs).main_TBK.mean(0)
    their_logits_BK = theirs(inputs if frames else inputs.repeat(T, 1, 1, 1, 1)).mean(0)
    F.cross_entropy(logits_BK, labels).backward()
    F.cross_entropy(their_logits_BK, labels).backward()
    functional.reset_net(theirs)

    assert min(margins) > SMALLEST_MARGIN, "a membrane is too near threshold: choose another SEED"
    assert len(spikes) == len(their_spikes) > 0
    for number, (own, other) in enumerate(zip(spikes, their_spikes, strict=True)):
        assert 0.02 < float(own.mean()) < 0.98, f"layer {number} is all but silent or saturated: the test is empty"
        assert torch.equal(own, other), f"spikes of layer {number}"
    assert relative_error(logits_BK.detach(), their_logits_BK.detach()) < 1e-5
    gradient, their_gradient = (weighted_layers(m)[0].weight.grad for m in (ours, theirs))
    assert float(torch.linalg.vector_norm(their_gradient)) > 0
    assert relative_error(gradient, their_gradient) < 1e-5


@pytest.fixture(autouse=True)
def fixed_seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        yield


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("frames", [False, True], ids=["images", "frames"])
@pytest.mark.parametrize("neuron", ["lif", "if"])
@pytest.mark.parametrize("arch", NETWORKS)
def test_spikes_and_gradient(arch, neuron, frames, training):
    ours, theirs = both_networks(arch, frames=frames, training=training, neuron=neuron)
    assert_same(ours, theirs, frames=frames, decay=0.5 if neuron == "lif" else 1.0)


@pytest.mark.parametrize("surrogate_name", SURROGATES)
def test_surrogates(surrogate_name):
    ours, theirs = both_networks("resnet20-thin", frames=True, training=True, surrogate_name=surrogate_name)
    assert_same(ours, theirs, frames=True, decay=0.5)


# TorchDynamo looks at the `.grad` of a tensor inside an autograd function, and torch warns about torch
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_neurons():
    ours, theirs = both_networks("tiny", frames=False, training=True, compile_="neurons")
    assert_same(ours, theirs, frames=False, decay=0.5)


def test_another_decay_is_told_apart():
    ours, theirs = both_networks("tiny", frames=True, training=True, tau=2.1)
    with pytest.raises(AssertionError, match="spikes of layer 0"):
        assert_same(ours, theirs, frames=True, decay=1 - 1 / 2.1)


def test_another_surrogate_is_told_apart():
    ours, theirs = both_networks("tiny", frames=True, training=True)
    for node in (m for m in theirs.modules() if isinstance(m, LIFNode)):
        node.surrogate_function = surrogate.ATan(alpha=2.01)
    with pytest.raises(AssertionError, match="relative_error"):
        assert_same(ours, theirs, frames=True, decay=0.5)
