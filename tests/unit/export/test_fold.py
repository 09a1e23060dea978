"""The folded network is the network: spike by spike, in float64, where rounding is out of the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from snnsc.errors import CheckError
from snnsc.export.fold import PerStepConv, fold
from snnsc.model import SpikingNetwork, build_model
from snnsc.model.blocks import ConvNorm
from snnsc.model.neurons import Neuron, RealSpike
from snnsc.model.norms import Bntt, Norm, Tebn
from snnsc.recipe.schema import Recipe

STATIC, EVENT = "data={type='cifar10', size=16}", "data={type='nmnist', size=16}"
NORMS = ["bn", "tdbn", "tebn", "bntt"]
RESIDUAL = [("resnet20-thin", form) for form in ("standard", "sew-add", "ms")] + [("resnet20", "sew-add")]


def network(recipe: Recipe) -> SpikingNetwork:
    """In float64 but for the linear layers, which take float32; statistics, gammas, k and factors far from fresh."""
    model = build_model(recipe, branches=False)
    generator = torch.Generator().manual_seed(1)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in model.modules():
            match module:
                case Norm() | Bntt():
                    uniform(module.weight, 0.5, 2.0)
                    module.weight.mul_((torch.rand(module.weight.shape, generator=generator) < 0.8) * 2.0 - 1)
                    uniform(module.running_mean, -0.3, 0.3)
                    uniform(module.running_var, 0.05, 0.5)
                    if isinstance(module, Norm):
                        uniform(module.bias, 0.0, 0.8)
                case Tebn():
                    uniform(module.k, -0.5, 2.0)
                case RealSpike():
                    uniform(module.factor, -0.5, 2.0)
                case _:
                    pass
    model.eval().double()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.float()
    return model


def inputs(recipe: Recipe, T: int) -> Tensor:
    shape = recipe.data.channels, recipe.data.size, recipe.data.size
    x = torch.randn((T, 3, *shape) if recipe.data.is_event else (3, *shape), generator=torch.Generator().manual_seed(2))
    return x.double()


def run(model: SpikingNetwork, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits of every step, and the spikes of every layer of neurons in the order in which they run."""
    spikes: list[Tensor] = []
    hooks = [
        m.register_forward_hook(lambda _m, _a, out: spikes.append(out))
        for m in model.modules()
        if isinstance(m, Neuron)
    ]
    with torch.no_grad():
        logits = model.logits(x).main_TBK
    for hook in hooks:
        hook.remove()
    return logits, spikes


def hold_equal(recipe: Recipe) -> SpikingNetwork:
    """Fold, and compare with what it was before."""
    model, x = network(recipe), inputs(recipe, recipe.model.T)
    logits, spikes = run(model, x)
    folded, words = fold(model)
    assert len(words) == len(set(words)) > 0
    found, found_spikes = run(folded, x)
    assert not [m for m in folded.modules() if isinstance(m, Norm | Tebn | Bntt | RealSpike)]
    assert len(spikes) == len(found_spikes)
    alive = 0
    for before, after in zip(spikes, found_spikes, strict=True):
        assert set(after.unique().tolist()) <= {0.0, 1.0}
        # the neuron computes in float32: a current that is one float64 rounding off may become another float32
        assert (before != after).float().mean() < 1e-4
        alive += 0.01 < before.mean() < 0.99
    assert alive > len(spikes) / 2
    torch.testing.assert_close(found, logits, rtol=1e-3, atol=1e-3)
    return folded


@pytest.mark.parametrize("data", [STATIC, EVENT])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("arch", "form"), RESIDUAL)
def test_residual_networks(make_recipe: Callable[..., Recipe], arch: str, form: str, norm: str, data: str) -> None:
    recipe = make_recipe(data, f"model.arch={arch}", f"model.residual={form}", f"model.norm.type={norm}", "model.T=3")
    folded = hold_equal(recipe)
    steps = [m for m in folded.modules() if isinstance(m, PerStepConv)]
    assert len(steps) == (0 if norm in ("bn", "tdbn") else 21 if arch == "resnet20-thin" else 22)


@pytest.mark.parametrize("data", [STATIC, EVENT])
@pytest.mark.parametrize("neuron", ["lif", "real-spike"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("arch", ["tiny", "vggsnn"])
def test_plain_networks(make_recipe: Callable[..., Recipe], arch: str, norm: str, neuron: str, data: str) -> None:
    """Factors go through average pools, the flattened head of vggsnn, and into per-step weights."""
    folded = hold_equal(
        make_recipe(data, f"model.arch={arch}", f"model.norm.type={norm}", f"model.neuron.type={neuron}", "model.T=3")
    )
    assert {name for name, m in folded.named_modules() if isinstance(m, Neuron)} >= {"stem.neurons.0"}


def test_imagenet_stem_and_wide_stem(make_recipe: Callable[..., Recipe]) -> None:
    for extra in ("model.stem=imagenet", "model.residual=ms"):
        hold_equal(make_recipe(STATIC.replace("16", "32"), "model.arch=resnet18", extra, "model.norm.type=bntt"))


def test_the_weights_of_a_step(make_recipe: Callable[..., Recipe]) -> None:
    """w'[t] = scale[t] w, b'[t] = shift[t]: by hand for one layer, with the factors of the layer before."""
    recipe = make_recipe("model.norm.type=bntt", "model.neuron.type=real-spike", "model.T=2")
    model = network(recipe)
    block = model.stages[0][0].conv
    weight, factor = block.conv.weight.detach().clone(), model.stem.neurons[0].factor.detach().clone()
    scale_TC, shift_TC = (s.detach() for s in block.norm.scale_and_shift())
    conv = fold(model)[0].stages[0][0].conv
    assert isinstance(conv, PerStepConv)
    for t, step in enumerate(conv.steps):
        torch.testing.assert_close(step.weight, weight * scale_TC[t][:, None, None, None] * factor[:, None, None])
        torch.testing.assert_close(step.bias, shift_TC[t])
    spikes = (torch.rand(2, 3, 16, 8, 8) < 0.3).double()
    with torch.no_grad():
        both, held = conv(spikes), conv(spikes[:1])
        assert both.shape == held.shape == (2, 3, 32, 8, 8)
        assert torch.equal(both[0], held[0])
        assert not torch.equal(held[0], held[1])


def test_one_line_of_words_a_kind(make_recipe: Callable[..., Recipe]) -> None:
    def words(*overrides: str) -> list[str]:
        return fold(network(make_recipe(*overrides)))[1]

    whole = "every normalisation into the convolution before it"
    factors = "every factor of real spikes into the layer after it"
    assert words() == [whole]
    assert words("model.norm.type=tebn") == [f"{whole}, with weights for each time step"]
    assert words("model.neuron.type=real-spike") == [whole, factors]


def test_bn_folds_to_a_plain_convolution_with_bias(make_recipe: Callable[..., Recipe]) -> None:
    model = network(make_recipe())
    names = set(model.state_dict())
    folded, _ = fold(model)
    assert set(model.state_dict()) == names, "the network itself is as it was"
    layers = [name for name, m in folded.named_modules() if isinstance(m, ConvNorm)]
    assert set(folded.state_dict()) == {n for n in names if ".norm." not in n} | {f"{n}.conv.bias" for n in layers}


def test_factors_that_an_identity_path_reads_too_are_an_error(make_recipe: Callable[..., Recipe]) -> None:
    """No recipe builds this network; `fold` refuses it all the same."""
    model = network(make_recipe("model.arch=resnet20-thin"))
    block = model.stages[0][1]
    block.neuron2 = RealSpike(block.neuron2, 16)
    with pytest.raises(CheckError, match=r"^layer stages\.0\.1\.neuron2: the factors .* cannot be folded"):
        fold(model)


def test_factors_that_a_branch_reads_too_are_an_error(make_recipe: Callable[..., Recipe]) -> None:
    model = build_model(make_recipe("method={mode='shortcut'}", "model.neuron.type=real-spike"))
    with pytest.raises(CheckError, match="without branches"):
        fold(model)
