"""The optimizer's update by hand; device and precision."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from snnsc.errors import RecipeError
from snnsc.model import build_model
from snnsc.recipe.schema import Recipe
from snnsc.training.device import autocast, pick_device, pick_precision
from snnsc.training.optim import build_optimizer


def steps(make_recipe: Callable[..., Recipe], table: str, grads: list[float]) -> float:
    """A weight of 1 after these gradients."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    optimizer = build_optimizer(layer, make_recipe(f"train.optimizer={{{table}}}").train.optimizer)
    for grad in grads:
        layer.weight.grad = torch.full((1, 1), grad)
        optimizer.step()
    return layer.weight.item()


def test_adamw(make_recipe: Callable[..., Recipe]) -> None:
    # one step: decay 1 - lr * wd, then lr * m_hat / sqrt(v_hat) = lr * sign(g)
    found = steps(make_recipe, "type='adamw', lr=0.1, weight_decay=0.5", [3.0])
    assert found == pytest.approx(1 - 0.05 - 0.1, rel=1e-6)
    # a second step with betas 0.5, 0.5: m = 0.5*0.5*3 + 0.5*1 = 1.25, v = 0.25*9 + 0.5*1 = 2.75, both over 0.75
    found = steps(make_recipe, "type='adamw', lr=0.1, weight_decay=0.0, betas=[0.5, 0.5]", [3.0, 1.0])
    assert found == pytest.approx(0.9 - 0.1 * (1.25 / 0.75) / (2.75 / 0.75) ** 0.5, rel=1e-6)


def test_sgd(make_recipe: Callable[..., Recipe]) -> None:
    # decay is coupled: g = 2 + 0.5 * 1; then b = 0.9 * 2.5 + 2 + 0.5 * 0.75
    table = "type='sgd', lr=0.1, weight_decay=0.5, momentum=0.9"
    assert steps(make_recipe, table, [2.0]) == pytest.approx(0.75, rel=1e-6)
    assert steps(make_recipe, table, [2.0, 2.0]) == pytest.approx(0.75 - 0.1 * (2.25 + 2.375), rel=1e-6)
    nesterov = steps(make_recipe, table + ", nesterov=true", [2.0])
    assert nesterov == pytest.approx(1 - 0.1 * (2.5 + 0.9 * 2.5), rel=1e-6)


@pytest.mark.parametrize("table", ["type='adamw'", "type='sgd', momentum=0.9"])
def test_weights_in_channels_last_memory_are_updated_where_they_lie(
    make_recipe: Callable[..., Recipe], table: str
) -> None:
    spec = make_recipe(f"train.optimizer={{{table}}}").train.optimizer
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 4, 1), nn.Linear(4, 2), nn.Conv2d(2, 2, 3))
    turned = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    optimizers = [build_optimizer(model, spec) for model in (plain, turned)]
    for _ in range(3):
        for p, q in zip(list(plain.parameters())[:-1], turned.parameters(), strict=False):  # one without a gradient
            p.grad = torch.randn(p.shape)
            q.grad = p.grad.clone()
            if q.dim() == 4:
                q.grad = q.grad.to(memory_format=torch.channels_last)
        given = {q: q.grad for q in turned.parameters()}
        for optimizer in optimizers:
            optimizer.step()
        assert all(q.grad is grad for q, grad in given.items())
    for p, q in zip(plain.parameters(), turned.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
        assert q.dim() != 4 or q.is_contiguous(memory_format=torch.channels_last)
        states = [o.state.get(parameter, {}) for o, parameter in zip(optimizers, (p, q), strict=True)]
        torch.testing.assert_close(*states, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("table", ["type='adamw'", "type='sgd', momentum=0.9"])
@pytest.mark.parametrize("weights_last", [False, True])
def test_gradients_and_state_that_lie_otherwise_than_their_weight(
    make_recipe: Callable[..., Recipe], table: str, *, weights_last: bool
) -> None:
    spec = make_recipe(f"train.optimizer={{{table}}}").train.optimizer
    torch.manual_seed(0)
    one = nn.Conv2d(3, 4, 3)
    formats = (torch.contiguous_format, torch.channels_last)
    other = copy.deepcopy(one).to(memory_format=formats[weights_last])
    optimizers = [build_optimizer(model, spec) for model in (one, other)]
    for _ in range(3):
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            p.grad = torch.randn(p.shape)
            q.grad = p.grad.contiguous(memory_format=formats[not weights_last if q.dim() == 4 else 0])
        for optimizer in optimizers:
            optimizer.step()
        for state in optimizers[1].state.values():  # as a state that was saved with other weights
            for name, value in state.items():
                state[name] = value.contiguous(memory_format=formats[not weights_last if value.dim() == 4 else 0])
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


def test_a_step_that_fails_leaves_weights_as_they_lay(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = nn.Conv2d(2, 5, 3).to(memory_format=torch.channels_last)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.ones_like(layer.weight)

    def fails(*_: object, **__: object) -> None:
        assert layer.weight.shape == (5, 3, 3, 2)  # as its memory lies
        assert layer.weight.is_contiguous()
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.AdamW, "step", fails)
    with pytest.raises(KeyboardInterrupt):
        build_optimizer(layer, make_recipe().train.optimizer).step()
    assert torch.equal(layer.weight, before)
    assert layer.weight.stride() == before.stride()


def test_the_loss_of_a_closure_is_handed_on(make_recipe: Callable[..., Recipe]) -> None:
    layer = nn.Conv2d(1, 1, 3).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(layer, make_recipe().train.optimizer)

    def closure() -> float:
        loss = layer(torch.ones(1, 1, 3, 3)).sum()
        loss.backward()
        return loss.item()

    before = layer(torch.ones(1, 1, 3, 3)).item()
    assert optimizer.step(closure) == before
    assert layer(torch.ones(1, 1, 3, 3)).item() < before


def test_every_parameter_is_trained(make_recipe: Callable[..., Recipe]) -> None:
    layer = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    for table in ("type='adamw'", "type='sgd'"):
        optimizer = build_optimizer(layer, make_recipe(f"train.optimizer={{{table}}}").train.optimizer)
        held = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert held == [id(p) for p in layer.parameters()]


@pytest.mark.parametrize(
    ("keys", "constants"),
    [
        (["model.neuron={type='plif'}"], {"w"}),
        (["model.neuron={type='diet-lif'}"], {"decay", "threshold"}),
        (["model.neuron={type='real-spike'}"], {"factor"}),
        (
            ["model.neuron={type='glif'}"],
            {"alpha", "beta", "gamma", "tau", "threshold", "leak", "reset_potential", "conduct"},
        ),
        (["model.norm={type='mpbn'}"], set()),
        (["model.norm={type='tebn'}"], set()),
        ([], set()),
    ],
    ids=lambda o: " ".join(sorted(o)) or "-",
)
def test_constants_of_neurons_do_not_decay(
    make_recipe: Callable[..., Recipe], keys: list[str], constants: set[str]
) -> None:
    recipe = make_recipe("train.optimizer={type='sgd', lr=0.5, weight_decay=0.5}", *keys)
    model = build_model(recipe)
    optimizer = build_optimizer(model, recipe.train.optimizer)
    assert len(optimizer.param_groups) == (2 if constants else 1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    held = {id(p) for p in optimizer.param_groups[-1]["params"]} if constants else set()
    for name, parameter in model.named_parameters():
        is_constant = name.rpartition(".")[2] in constants
        assert (id(parameter) in held) == is_constant, name
        torch.testing.assert_close(parameter, before[name] * (1 if is_constant else 0.75), rtol=1e-6, atol=0)


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "cuda:99", "", "cpu:x"):
        with pytest.raises(RecipeError, match=f"^--device {name}: no such device here; there is cpu"):
            pick_device(name)


def test_precision() -> None:
    cpu = torch.device("cpu")
    assert [pick_precision(p, cpu) for p in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert pick_precision("auto", cpu) in {"fp32", "bf16"}
    a = torch.ones(2, 2)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(precision, cpu):
            assert (a @ a).dtype == dtype
