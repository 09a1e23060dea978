"""Whole networks and blocks computed again by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from snnsc.model import build_model
from snnsc.recipe.schema import Recipe

from .by_hand import conv_bn, lif, pool, randomise

RGB = "data={type='cifar10', size=16}"


def test_tiny_by_hand(make_recipe: Callable[..., Recipe]) -> None:
    model = build_model(make_recipe("model.T=3", "data={type='nmnist', size=8}")).eval()
    w = randomise(model)
    x = torch.randn(3, 4, 2, 8, 8, generator=torch.Generator().manual_seed(2))
    s1 = lif(conv_bn(w, "stem.convs.0", x, padding=1), 3)
    s2 = lif(conv_bn(w, "stages.0.0.conv", s1, padding=1), 3)
    s3 = lif(conv_bn(w, "stages.1.0.conv", pool(s2), padding=1), 3)
    assert all(0.05 < s.mean() < 0.95 for s in (s1, s2, s3))
    expected = (s3.mean((-2, -1)) @ w["head.linear.weight"].T + w["head.linear.bias"]).mean(0)
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize(("arch", "pooled"), [("resnet18", False), ("resnet20", True)])
def test_residual_blocks_by_hand(make_recipe: Callable[..., Recipe], arch: str, pooled: bool) -> None:
    """out = LIF(BN(conv(LIF(BN(conv x)))) + shortcut(x)), tdBN's factor over sqrt(2) on the two summands."""
    recipe = make_recipe(RGB, f"model.arch={arch}", "model.norm={type='tdbn', alpha=1.5}")
    model = build_model(recipe).eval()
    w = randomise(model)
    half = 1.5 / 2**0.5
    generator = torch.Generator().manual_seed(2)
    x = (torch.rand(4, 2, 64, 8, 8, generator=generator) > 0.7).float()
    first = lif(conv_bn(w, "stages.0.1.conv1", x, 1.5, padding=1), 4)
    expected = lif(conv_bn(w, "stages.0.1.conv2", first, half, padding=1) + x, 4)
    assert 0.05 < expected.mean() < 0.95
    first = lif(conv_bn(w, "stages.1.0.conv1", x, 1.5, padding=1, stride=2), 4)
    around = pool(x) if pooled else x
    around = conv_bn(w, "stages.1.0.downsample", around, half, stride=1 if pooled else 2)
    halved = lif(conv_bn(w, "stages.1.0.conv2", first, half, padding=1) + around, 4)
    with torch.no_grad():
        # a handful of currents lie within rounding of the threshold
        assert (model.stages[0][1](x) != expected).float().mean() < 1e-3
        assert (model.stages[1][0](x) != halved).float().mean() < 1e-3
    assert 0.05 < halved.mean() < 0.95


def test_resnet19_tet_head_by_hand(make_recipe: Callable[..., Recipe]) -> None:
    model = build_model(make_recipe(RGB, "model.arch=resnet19", "model.variant=tet")).eval()
    w = {name: 4 * t for name, t in model.head.state_dict().items()}
    model.head.load_state_dict(w)
    x = (torch.rand(4, 2, 512, 4, 4, generator=torch.Generator().manual_seed(2)) > 0.5).float()
    hidden = lif(x.mean((-2, -1)) @ w["linear1.weight"].T + w["linear1.bias"], 4)
    assert hidden.mean() > 0.02
    with torch.no_grad():
        torch.testing.assert_close(model.head(x), hidden @ w["linear2.weight"].T + w["linear2.bias"])


# -------------------------------------------------------------------------------------- where the shortcut joins


def spikes_in(channels: int) -> torch.Tensor:
    return (torch.rand(4, 2, channels, 8, 8, generator=torch.Generator().manual_seed(2)) > 0.7).float()


@pytest.mark.parametrize(("arch", "pooled"), [("resnet18", False), ("resnet20", True)])
def test_sew_blocks_by_hand(make_recipe: Callable[..., Recipe], arch: str, pooled: bool) -> None:
    """out = LIF(BN(conv(LIF(BN(conv x))))) + x, or + LIF(BN(conv x)); tdBN's factor is whole everywhere."""
    recipe = make_recipe(RGB, f"model.arch={arch}", "model.norm={type='tdbn', alpha=1.5}", "model.residual=sew-add")
    model = build_model(recipe).eval()
    w = randomise(model)
    x = spikes_in(64) + spikes_in(64).roll(1, 2)  # 0, 1 and 2, as an earlier block gives it
    first = lif(conv_bn(w, "stages.0.1.conv1", x, 1.5, padding=1), 4)
    expected = lif(conv_bn(w, "stages.0.1.conv2", first, 1.5, padding=1), 4) + x
    first = lif(conv_bn(w, "stages.1.0.conv1", x, 1.5, padding=1, stride=2), 4)
    main = lif(conv_bn(w, "stages.1.0.conv2", first, 1.5, padding=1), 4)
    around = pool(x) if pooled else x
    around = lif(conv_bn(w, "stages.1.0.downsample", around, 1.5, stride=1 if pooled else 2), 4)
    assert all(0.05 < s.mean() < 0.95 for s in (first, main, around))
    with torch.no_grad():
        found, halved = model.stages[0][1](x), model.stages[1][0](x)
    assert set(found.unique().tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert (found != expected).float().mean() < 1e-3
    assert (halved != main + around).float().mean() < 1e-3


@pytest.mark.parametrize(("arch", "pooled"), [("resnet18", False), ("resnet20", True)])
def test_ms_blocks_by_hand(make_recipe: Callable[..., Recipe], arch: str, pooled: bool) -> None:
    """out = x + BN(conv(LIF(BN(conv(LIF(x)))))), or BN(conv x) + ...; over sqrt(2) on the summands."""
    recipe = make_recipe(RGB, f"model.arch={arch}", "model.norm={type='tdbn', alpha=1.5}", "model.residual=ms")
    model = build_model(recipe).eval()
    w = randomise(model)
    half = 1.5 / 2**0.5
    x = torch.randn(4, 2, 64, 8, 8, generator=torch.Generator().manual_seed(2)) + 0.5
    inner = lif(conv_bn(w, "stages.0.1.conv1", lif(x, 4), 1.5, padding=1), 4)
    expected = x + conv_bn(w, "stages.0.1.conv2", inner, half, padding=1)
    inner = lif(conv_bn(w, "stages.1.0.conv1", lif(x, 4), 1.5, padding=1, stride=2), 4)
    around = conv_bn(w, "stages.1.0.downsample", pool(x) if pooled else x, half, stride=1 if pooled else 2)
    halved = around + conv_bn(w, "stages.1.0.conv2", inner, half, padding=1)
    assert 0.05 < inner.mean() < 0.95
    with torch.no_grad():  # one spike that flips within rounding moves nine outputs
        assert ((model.stages[0][1](x) - expected).abs() > 1e-3).float().mean() < 1e-2
        assert ((model.stages[1][0](x) - halved).abs() > 1e-3).float().mean() < 1e-2


@pytest.mark.parametrize("event", [False, True])
def test_ms_carries_currents_from_the_stem_to_the_head(make_recipe: Callable[..., Recipe], event: bool) -> None:
    data = "data={type='nmnist', size=16}" if event else RGB
    model = build_model(make_recipe(data, "model.arch=resnet20-thin", "model.residual=ms", "model.T=3")).eval()
    w = randomise(model)
    x = torch.randn((3, 2, 2, 16, 16) if event else (1, 2, 3, 16, 16), generator=torch.Generator().manual_seed(2))
    current = conv_bn(w, "stem.convs.0", x, padding=1)
    with torch.no_grad():
        found = model.stem(x, 3)
        torch.testing.assert_close(found, current.expand(3, -1, -1, -1, -1))
        currents = torch.randn(3, 2, 64, 4, 4, generator=torch.Generator().manual_seed(3)) + 0.5
        logits = lif(currents, 3).mean((-2, -1)) @ w["head.head.linear.weight"].T + w["head.head.linear.bias"]
        torch.testing.assert_close(model.head(currents), logits)


def test_resnet20_of_ms_fires_twice_in_its_stem_and_pools_the_current(make_recipe: Callable[..., Recipe]) -> None:
    model = build_model(make_recipe(RGB, "model.arch=resnet20", "model.residual=ms", "model.T=3")).eval()
    w = randomise(model)
    x = torch.randn(1, 2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    spikes = lif(conv_bn(w, "stem.convs.0", x, padding=1), 3)
    spikes = lif(conv_bn(w, "stem.convs.1", spikes, padding=1), 3)
    expected = pool(conv_bn(w, "stem.convs.2", spikes, padding=1))
    assert 0.05 < spikes.mean() < 0.95
    with torch.no_grad():
        assert ((model.stem(x, 3) - expected).abs() > 1e-3).float().mean() < 1e-2


@pytest.mark.parametrize("form", ["standard", "sew-add", "ms"])
def test_imagenet_stem_by_hand(make_recipe: Callable[..., Recipe], form: str) -> None:
    """7x7 of stride 2, then the mean of 3x3 with zeros around the border: spikes are pooled, in ms currents."""
    data = "data={type='cifar10', size=33}"
    recipe = make_recipe(data, "model.arch=resnet18", "model.stem=imagenet", f"model.residual={form}", "model.T=3")
    model = build_model(recipe).eval()
    w = randomise(model)
    x = torch.randn(1, 2, 3, 33, 33, generator=torch.Generator().manual_seed(2))
    before = conv_bn(w, "stem.convs.0", x, padding=3, stride=2)
    assert before.shape[-2:] == (17, 17)
    before = before.expand(3, -1, -1, -1, -1) if form == "ms" else lif(before, 3)
    padded = torch.nn.functional.pad(before, (1, 1, 1, 1))
    expected = sum(padded[..., i : i + 17 : 2, j : j + 17 : 2] for i in range(3) for j in range(3)) / 9
    with torch.no_grad():
        found = model.stem(x, 3)
    assert found.shape == (3, 2, 64, 9, 9)
    assert ((found - expected).abs() > 1e-4).float().mean() < 1e-3


@pytest.mark.parametrize("form", ["standard", "sew-add", "ms"])
def test_a_branch_reads_what_its_block_gives(make_recipe: Callable[..., Recipe], form: str) -> None:
    model = build_model(
        make_recipe("model.arch=resnet20-thin", f"model.residual={form}", "method={mode='shortcut', attach='stage'}")
    )
    outputs: list[torch.Tensor] = []
    model.stages[1][2].register_forward_hook(lambda _m, _a, out: outputs.append(out))
    found = model(torch.randn(3, 1, 8, 8)).branches_TBK["1_2"]
    layer = model.shortcuts["1_2"].linear
    expected = outputs[0].mean((-2, -1)) @ layer.weight.T + layer.bias
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert model.stem.convs[0].conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("norm", ["tebn", "bntt"])
def test_tiny_with_steps_told_apart_by_hand(make_recipe: Callable[..., Recipe], norm: str) -> None:
    """Each step's current is normalised by the step's own scale and shift, the held image's too."""
    model = build_model(make_recipe("model.T=3", f"model.norm.type={norm}")).eval()
    w = randomise(model)
    convs = [("stem.convs.0", model.stem.convs[0]), ("stages.0.0.conv", model.stages[0][0].conv)]
    x = torch.rand(1, 4, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for prefix, module in convs:
            y = torch.nn.functional.conv2d(x.flatten(0, 1), w[f"{prefix}.conv.weight"], padding=1)
            scale, shift = (s[:, None, :, None, None] for s in module.norm.scale_and_shift())
            assert not torch.equal(scale[0], scale[1])
            current = scale * y.view(len(x), 4, *y.shape[1:]) + shift
            torch.testing.assert_close(module(x), current, rtol=1e-4, atol=1e-4)
            x = lif(current, 3)
        assert 0.02 < x.mean() < 0.98
        assert model(torch.rand(4, 1, 8, 8)).shape == (4, 10)
