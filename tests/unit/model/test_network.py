"""Architectures: sizes, shapes, names, branches."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from snnsc.model import Logits, build_model
from snnsc.recipe.schema import Recipe

from .by_hand import NORM

THIN = [f"resnet{n}-thin" for n in (20, 32, 44, 56, 110, 152)]
RESIDUAL = ["resnet18", "resnet34", "resnet20", "resnet19", *THIN]
ARCHS = [*RESIDUAL, "vggsnn", "cifarnet", "vgg11", "vgg16", "tiny"]
RGB, EVENTS = "data={type='cifar10', size=16}", "data={type='nmnist', size=16}"


def parameters(recipe: Recipe) -> int:
    return sum(p.numel() for p in build_model(recipe).parameters())


def residual(c_in: int, stem: int, convs: int, blocks: list[int], widths: list[int], head: int) -> int:
    """Parameters of a residual network: convolutions without bias, two a norm, 1x1 downsampling."""
    total, c = sum(9 * (c_in if i == 0 else stem) * stem + 2 * stem for i in range(convs)), stem
    for s, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        for b in range(count):
            total += 9 * c * width + 9 * width * width + 4 * width
            if (b == 0 and s > 0) or c != width:
                total += c * width + 2 * width
            c = width
    return total + head


W = [64, 128, 256, 512]


@pytest.mark.parametrize(
    ("arch", "K", "millions", "exact"),
    [
        ("resnet18", 10, 11.174, residual(3, 64, 1, [2] * 4, W, 5130)),
        ("resnet18", 100, 11.220, residual(3, 64, 1, [2] * 4, W, 51300)),
        ("resnet34", 10, 21.282, residual(3, 64, 1, [3, 4, 6, 3], W, 5130)),
        ("resnet34", 100, 21.328, residual(3, 64, 1, [3, 4, 6, 3], W, 51300)),
        ("resnet19", 10, 12.569, residual(3, 128, 1, [3, 3, 2], W[1:], 5130)),
        ("resnet19", 100, 12.615, residual(3, 128, 1, [3, 3, 2], W[1:], 51300)),
        ("resnet19-tet", 10, 12.631, residual(3, 64, 1, [3, 3, 2], W[1:], 512 * 256 + 256 + 256 * 10 + 10)),
        ("resnet20", 10, 11.248, residual(3, 64, 3, [2] * 4, W, 5130)),
        ("resnet20", 100, 11.294, residual(3, 64, 3, [2] * 4, W, 51300)),
        ("resnet20-thin", 10, 0.272, residual(3, 16, 1, [3] * 3, [16, 32, 64], 650)),
        ("resnet56-thin", 10, 0.856, residual(3, 16, 1, [9] * 3, [16, 32, 64], 650)),
        ("resnet110-thin", 10, 1.731, residual(3, 16, 1, [18] * 3, [16, 32, 64], 650)),
        ("resnet152-thin", 10, 2.411, residual(3, 16, 1, [25] * 3, [16, 32, 64], 650)),
    ],
)
def test_parameter_counts(make_recipe: Callable[..., Recipe], arch: str, K: int, millions: float, exact: int) -> None:
    """Against the table in methods.md, section 9, and against the sum over the layers."""
    name, _, variant = arch.partition("-tet")
    variant = ["model.variant=tet"] if arch.endswith("-tet") else []
    found = parameters(make_recipe(f"data={{type='cifar{K}'}}", f"model.arch={name}", *variant))
    assert found == exact
    assert round(found / 1e6, 3) == millions


def test_parameter_count_of_vggsnn_and_tiny(make_recipe: Callable[..., Recipe]) -> None:
    convs = [(2, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 512), (512, 512)]
    exact = sum(9 * a * b + 2 * b for a, b in convs) + 512 * 3 * 3 * 10 + 10
    assert parameters(make_recipe("data={type='cifar10dvs', size=48}", "model.arch=vggsnn")) == exact
    assert round(exact / 1e6, 2) == 9.27
    tiny = sum(9 * a * b + 2 * b for a, b in [(1, 16), (16, 32), (32, 64)]) + 650
    assert parameters(make_recipe()) == tiny


@pytest.mark.parametrize(
    ("arch", "millions", "exact"),
    [
        ("resnet18", 11.690, residual(3, 64, 1, [2] * 4, W, 513_000) + (49 - 9) * 3 * 64),
        ("resnet34", 21.798, residual(3, 64, 1, [3, 4, 6, 3], W, 513_000) + (49 - 9) * 3 * 64),
    ],
)
def test_parameter_count_of_the_imagenet_stem(
    make_recipe: Callable[..., Recipe], arch: str, millions: float, exact: int
) -> None:
    found = parameters(make_recipe("data={type='imagenet'}", f"model.arch={arch}", "model.stem=imagenet"))
    assert found == exact
    assert round(found / 1e6, 3) == millions


@pytest.mark.parametrize(
    ("arch", "millions", "widths"),
    [
        ("cifarnet", 19.49, [256] * 4 + [512] * 2 + [1024] * 2),
        ("vgg11", 9.23, [64, 128, 256, 256, 512, 512, 512, 512]),
        ("vgg16", 14.72, [64, 64, 128, 128, 256, 256, 256] + [512] * 6),
    ],
)
def test_parameter_counts_of_plain_networks(
    make_recipe: Callable[..., Recipe], arch: str, millions: float, widths: list[int]
) -> None:
    convs = zip([3, *widths[:-1]], widths, strict=True)
    exact = sum(9 * a * b + 2 * b for a, b in convs) + widths[-1] * 10 + 10
    assert parameters(make_recipe("data={type='cifar10'}", f"model.arch={arch}")) == exact
    assert round(exact / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("arch", "extra"),
    [
        *((arch, "model.T=3") for arch in ARCHS),
        *((arch, f"model.residual={form}") for arch in RESIDUAL[:4] + THIN[:1] for form in ("sew-add", "ms")),
        ("resnet18", "model.stem=imagenet"),
        ("resnet19", "model.variant=tet"),
    ],
)
def test_output_shapes(make_recipe: Callable[..., Recipe], arch: str, extra: str) -> None:
    size = 32 if "imagenet" in extra else 16
    for data, shape in ((RGB, (2, 3, size, size)), (EVENTS, (3, 2, 2, size, size))):
        data = data.replace("16", str(size))
        model = build_model(make_recipe(data, f"model.arch={arch}", "model.T=3", extra, "method={mode='shortcut'}"))
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            logits = model(x)
            assert isinstance(logits, Logits)
            for each in (logits.main_TBK, *logits.branches_TBK.values()):
                assert each.shape == (3, 2, 10)
                assert each.dtype == torch.float32
                assert each.isfinite().all()
            assert list(logits.branches_TBK) == list(model.shortcuts)
            model.eval()
            out = model(x)
            assert out.shape == (2, 10)
            assert torch.equal(out, model.logits(x).main_TBK.mean(0))
            assert torch.equal(out, model(x)), "state leaked from one call into the next"


def test_logits_are_float32_under_autocast(make_recipe: Callable[..., Recipe]) -> None:
    for overrides in ((), ("model.arch=resnet19", "model.variant=tet"), (RGB, "model.arch=vggsnn")):
        recipe = make_recipe(*overrides, "method={mode='shortcut'}")
        model = build_model(recipe)
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            logits = model(torch.randn(2, recipe.data.channels, recipe.data.size, recipe.data.size))
        assert {t.dtype for t in (logits.main_TBK, *logits.branches_TBK.values())} == {torch.float32}


@pytest.mark.parametrize(
    ("arch", "size", "stem", "stages"),
    [
        ("resnet18", 16, (64, 16), [(64, 16), (128, 8), (256, 4), (512, 2)]),
        ("resnet18", 13, (64, 13), [(64, 13), (128, 7), (256, 4), (512, 2)]),
        ("resnet18-imagenet", 32, (64, 8), [(64, 8), (128, 4), (256, 2), (512, 1)]),
        ("resnet18-imagenet", 35, (64, 9), [(64, 9), (128, 5), (256, 3), (512, 2)]),
        ("resnet20", 16, (64, 8), [(64, 8), (128, 4), (256, 2), (512, 1)]),
        ("resnet19", 16, (128, 16), [(128, 16), (256, 8), (512, 4)]),
        ("resnet20-thin", 16, (16, 16), [(16, 16), (32, 8), (64, 4)]),
        ("vggsnn", 16, (64, 16), [(128, 16), (256, 8), (512, 4), (512, 2)]),
        ("cifarnet", 16, (256, 16), [(256, 16), (256, 8), (512, 4), (1024, 2)]),
        ("cifarnet", 11, (256, 11), [(256, 11), (256, 5), (512, 2), (1024, 1)]),
        ("vgg11", 17, (64, 17), [(128, 8), (256, 4), (512, 2), (512, 1)]),
        ("vgg16", 16, (64, 16), [(64, 16), (128, 8), (256, 4), (512, 2), (512, 1)]),
        ("tiny", 16, (16, 16), [(32, 16), (64, 8)]),
    ],
)
def test_sizes_after_each_stage(make_recipe: Callable[..., Recipe], arch: str, size: int, stem, stages) -> None:
    """Halved sizes are rounded up by strides, and down by 2x2 pools."""
    name = arch.removesuffix("-imagenet")
    extra = ["model.stem=imagenet"] if arch != name else []
    for form in ("standard", "sew-add", "ms") if name.startswith("resnet18") else (None,):
        residual_form = [f"model.residual={form}"] if form else []
        data = f"data={{type='cifar10', size={size}}}"
        model = build_model(make_recipe(data, f"model.arch={name}", "model.T=2", *extra, *residual_form)).eval()
        seen: list[tuple[int, ...]] = []
        for module in (model.stem, *(blocks[-1] for blocks in model.stages if len(blocks))):
            module.register_forward_hook(lambda _m, _a, out, seen=seen: seen.append(tuple(out.shape)))
        with torch.no_grad():
            model(torch.randn(1, 3, size, size))
        assert seen == [(2, 1, c, side, side) for c, side in (stem, *stages)]


# -------------------------------------------------------------------------------------------------------- names


def conv_norm(prefix: str) -> list[str]:
    return [f"{prefix}.conv.weight", *(f"{prefix}.norm.{name}" for name in NORM)]


def linear(prefix: str) -> list[str]:
    return [f"{prefix}.linear.weight", f"{prefix}.linear.bias"]


def test_state_dict_keys_are_frozen(make_recipe: Callable[..., Recipe]) -> None:
    """Checkpoints hold these names; changing one makes old files unreadable."""
    tiny = build_model(make_recipe("method={mode='evolutionary'}"))
    assert list(tiny.state_dict()) == [
        *conv_norm("stem.convs.0"),
        *conv_norm("stages.0.0.conv"),
        *conv_norm("stages.1.0.conv"),
        *linear("head"),
        *linear("shortcuts.0_0"),
    ]
    thin = build_model(make_recipe("method={mode='evolutionary'}", "model.arch=resnet20-thin"))
    blocks = [
        key
        for s in range(3)
        for b in range(3)
        for part in (["conv1", "conv2", "downsample"] if s > 0 and b == 0 else ["conv1", "conv2"])
        for key in conv_norm(f"stages.{s}.{b}.{part}")
    ]
    names = ["0_0", "0_1", "0_2", "1_0", "1_1", "1_2", "2_0", "2_1"]
    branches = [key for name in names for key in linear(f"shortcuts.{name}")]
    assert list(thin.state_dict()) == [*conv_norm("stem.convs.0"), *blocks, *linear("head"), *branches]


def test_state_dict_keys_of_the_options_are_frozen(make_recipe: Callable[..., Recipe]) -> None:
    def keys(*overrides: str) -> list[str]:
        return list(build_model(make_recipe(*overrides)).state_dict())

    plain = keys("model.arch=resnet20-thin")
    assert keys("model.arch=resnet20-thin", "model.residual=sew-add") == plain
    head = ["head.head.linear.weight", "head.head.linear.bias"]
    assert keys("model.arch=resnet20-thin", "model.residual=ms") == [*plain[:-2], *head]
    assert [k for k in keys("model.norm.type=tebn") if k.startswith("stem")] == [
        "stem.convs.0.conv.weight",
        "stem.convs.0.norm.k",
        *(f"stem.convs.0.norm.bn.{name}" for name in NORM),
    ]
    assert [k for k in keys("model.norm.type=bntt") if k.startswith("stem")] == [
        "stem.convs.0.conv.weight",
        *(f"stem.convs.0.norm.{name}" for name in ("weight", "running_mean", "running_var")),
    ]


@pytest.mark.parametrize(
    ("arch", "block", "stage"),
    [
        ("resnet18", "0_0 0_1 1_0 1_1 2_0 2_1 3_0", "0_1 1_1 2_1"),
        ("resnet19", "0_0 0_1 0_2 1_0 1_1 1_2 2_0", "0_2 1_2"),
        ("resnet20-thin", "0_0 0_1 0_2 1_0 1_1 1_2 2_0 2_1", "0_2 1_2"),
        ("vggsnn", "0_0 1_0 1_1 2_0 2_1 3_0", "0_0 1_1 2_1"),
        ("cifarnet", "0_0 1_0 1_1 2_0 2_1 3_0", "0_0 1_1 2_1"),
        ("vgg11", "1_0 2_0 2_1 3_0 3_1 4_0", "1_0 2_1 3_1"),
        ("tiny", "0_0", "0_0"),
    ],
)
def test_branches(make_recipe: Callable[..., Recipe], arch: str, block: str, stage: str) -> None:
    plain = build_model(make_recipe(RGB, f"model.arch={arch}"))
    assert not [name for name in plain.state_dict() if name.startswith("shortcuts")]
    for attach, names in (("block", block.split()), ("stage", stage.split())):
        for mode in ("shortcut", "evolutionary", "distill"):
            recipe = make_recipe(RGB, f"model.arch={arch}", f"method={{mode={mode!r}, attach={attach!r}}}")
            model = build_model(recipe)
            assert list(model.shortcuts) == names
            extra = model.state_dict().keys() - plain.state_dict().keys()
            assert extra == {f"shortcuts.{n}.linear.{p}" for n in names for p in ("weight", "bias")}
            assert build_model(recipe, branches=False).state_dict().keys() == plain.state_dict().keys()
            for name in names:  # a branch is as wide as the block it reads
                s, b = map(int, name.split("_"))
                channels = [m.out_channels for m in model.stages[s][b].modules() if isinstance(m, torch.nn.Conv2d)][-1]
                assert model.shortcuts[name].linear.in_features == channels
                assert model.shortcuts[name].linear.out_features == 10


def test_stages_of_tiny(make_recipe: Callable[..., Recipe]) -> None:
    for stages, names in (
        ("[[4], [5, 5]]", {"block": ["1_0"]}),
        ("[[4], [5], [6]]", {"block": ["1_0"], "stage": ["1_0"]}),  # the stem is the first stage's only convolution
        ("[[4, 5, 6], [7, 8]]", {"block": ["0_0", "0_1", "1_0"], "stage": ["0_1"]}),
    ):
        for attach, expected in names.items():
            recipe = make_recipe(f"model.stages={stages}", f"method={{mode='shortcut', attach='{attach}'}}")
            model = build_model(recipe)
            assert list(model.shortcuts) == expected
            assert model(torch.randn(2, 1, 8, 8)).main_TBK.shape == (4, 2, 10)


def test_a_branch_is_pooled_spikes_through_a_linear_layer(make_recipe: Callable[..., Recipe]) -> None:
    model = build_model(
        make_recipe("model.arch=resnet20-thin", "method={mode='shortcut', attach='stage'}", "model.T=2")
    )
    spikes: dict[str, Tensor] = {}
    for name, (s, b) in {"0_2": (0, 2), "1_2": (1, 2)}.items():
        model.stages[s][b].register_forward_hook(lambda _m, _a, out, name=name: spikes.update({name: out}))
    found = model(torch.randn(3, 1, 8, 8)).branches_TBK
    for name, out in spikes.items():
        layer = model.shortcuts[name].linear
        expected = np.einsum("tbc,kc->tbk", out.numpy(force=True).mean((-2, -1)), layer.weight.numpy(force=True))
        np.testing.assert_allclose(found[name].numpy(force=True), expected + layer.bias.numpy(force=True), atol=1e-5)


def test_branches_touch_nothing_of_the_main_path(make_recipe: Callable[..., Recipe]) -> None:
    for arch in ("tiny", "resnet20-thin", "vggsnn"):
        plain = build_model(make_recipe(RGB, f"model.arch={arch}", "seed=3"))
        full = build_model(make_recipe(RGB, f"model.arch={arch}", "seed=3", "method={mode='evolutionary'}"))
        for name, tensor in plain.state_dict().items():
            assert torch.equal(tensor, full.state_dict()[name]), name
        x = torch.randn(2, 3, 16, 16)
        assert torch.equal(plain(x).main_TBK, full(x).main_TBK)
        assert torch.equal(plain.eval()(x), full.eval()(x))


# ------------------------------------------------------------------------------------------------------- building


def test_the_seed_alone_makes_the_weights(make_recipe: Callable[..., Recipe]) -> None:
    first = build_model(make_recipe("seed=1")).state_dict()
    torch.rand(3)
    assert all(torch.equal(first[n], t) for n, t in build_model(make_recipe("seed=1")).state_dict().items())
    other = build_model(make_recipe("seed=2")).state_dict()
    assert not torch.equal(first["stem.convs.0.conv.weight"], other["stem.convs.0.conv.weight"])


def test_build_model_leaves_the_random_states_alone(make_recipe: Callable[..., Recipe]) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    build_model(make_recipe("seed=1", "method={mode='evolutionary'}"))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_a_static_image_is_convolved_once(make_recipe: Callable[..., Recipe]) -> None:
    model = build_model(make_recipe("model.T=5")).eval()
    shapes: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _m, args, _o: shapes.append(tuple(args[0].shape)))
    with torch.no_grad():
        image = torch.randn(3, 1, 8, 8)
        held = model.logits(image).main_TBK
        assert shapes == [(3, 1, 8, 8), (15, 16, 8, 8), (15, 32, 4, 4)]
        shapes.clear()
        # the same image given at every step as frames: convolved five times, with the same result
        repeated = model.logits(image.expand(5, -1, -1, -1, -1)).main_TBK
        assert shapes[0] == (15, 1, 8, 8)
        torch.testing.assert_close(held, repeated)
        assert model.logits(image, T=2).main_TBK.shape == (2, 3, 10)
        assert torch.equal(model.logits(image, T=2).main_TBK, held[:2])
