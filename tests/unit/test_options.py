"""Every option of a recipe, one training step: finite gradients for every weight, and the strip is equal to the bit."""

from __future__ import annotations

import pytest
import torch

from snnsc.checkpoint import main_path
from snnsc.model import build_model
from snnsc.model.masking import set_masks
from snnsc.model.shortcuts import PREFIX
from snnsc.recipe.load import load_recipe
from snnsc.training.im_loss import im_loss, input_means
from snnsc.training.losses import build_loss

RESNET = "data={type='cifar10',size=16}", "model.arch=resnet20-thin", "model.norm.type=bn"
PLAIN = ("model.norm.type=bn",)
KINDS = ("if", "plif", "diet-lif", "glif", "clif", "real-spike")
OPTIONS = {
    "shortcut": ("method.mode=shortcut",),
    "losses": ("method.combine=losses",),
    "distill": ("method.mode=distill",),
    "tet": ("method.loss={type='tet'}",),
    "tet-distill": ("method.mode=distill", "method.loss={type='tet'}"),
    "smoothing": ("train.label_smoothing=0.1",),
    "masking": ("method.masking={ratio=0.2}",),
    "weighting": ("method.weighting={}",),
    "im-loss": ("method.im_loss={}",),
    **{norm: (f"model.norm.type={norm}",) for norm in ("bn", "tdbn", "tebn", "bntt", "mpbn")},
    **{f"{norm}-resnet": (*RESNET, f"model.norm.type={norm}") for norm in ("tebn", "bntt", "mpbn")},
    **{kind: (*PLAIN, f"model.neuron={{type='{kind}'}}") for kind in KINDS},
    **{f"{kind}-resnet": (*RESNET, f"model.neuron={{type='{kind}'}}") for kind in ("plif", "glif", "clif")},
    "relu": (*PLAIN, "model.neuron={type='relu'}", "model.T=1"),
    "soft": ("model.neuron={type='lif',reset='soft'}",),
    "detached": ("model.neuron={type='lif',detach_reset=true}",),
    "gain": ("model.neuron={type='lif',input_gain=0.5,threshold=0.5}", "model.surrogate={type='piecewise-linear'}"),
    "sew-add": (*RESNET, "model.residual=sew-add"),
    "ms": (*RESNET, "model.residual=ms"),
    "ms-glif-tebn": (*RESNET, "model.residual=ms", "model.norm.type=tebn", "model.neuron={type='glif'}"),
    "long": ("model.T=18",),
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_every_weight_learns_and_the_strip_is_equal(option: str) -> None:
    recipe = load_recipe("digits", ["train.compile=off", *OPTIONS[option]])
    torch.manual_seed(0)
    full = build_model(recipe).train()
    images = torch.randn(8, recipe.data.channels, recipe.data.size, recipe.data.size)
    if recipe.method.masking is not None:
        set_masks(full, recipe.method.masking.ratio, (0, 0, 0))
    with input_means(full) as means:
        logits = full.logits(images)
    loss = build_loss(recipe.method, recipe.train.label_smoothing)(logits, torch.arange(8), 0.3)
    if recipe.method.im_loss is not None:
        loss = loss + recipe.method.im_loss.weight * im_loss(means, recipe.model.T)
    loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in full.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name
    plain = build_model(recipe, branches=False)
    plain.load_state_dict(main_path(full.state_dict()), strict=True)
    assert not [name for name in plain.state_dict() if name.startswith(PREFIX)]
    with torch.inference_mode():
        assert torch.equal(full.eval()(images), plain.eval()(images))
