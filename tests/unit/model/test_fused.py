"""Normalisation and neuron in one kernel give what they give one after the other."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from snnsc.model.fused import FusedKernels, form_of, fused_spikes
from snnsc.model.masking import set_masks
from snnsc.model.neurons import Neuron, build_equation
from snnsc.model.norms import Norm
from snnsc.model.pending import Pending
from snnsc.model.sequence import can_compile
from snnsc.model.surrogates import build_surrogate
from snnsc.recipe.schema import (
    AtanSpec,
    ClifSpec,
    DietLifSpec,
    GlifSpec,
    IfSpec,
    LifSpec,
    NeuronSpec,
    PlifSpec,
    ReluSpec,
    TriangleSpec,
)

T, B, C, H, W = 3, 2, 4, 5, 3
TRIANGLE = TriangleSpec(type="triangle")
SPECS: dict[str, NeuronSpec] = {
    "lif": LifSpec(type="lif", decay=0.5, threshold=1.0),
    "soft": LifSpec(type="lif", decay=0.25, threshold=0.5, reset="soft", detach_reset=True, input_gain=1.5),
    "if": IfSpec(type="if"),
    "plif": PlifSpec(type="plif"),
    "diet": DietLifSpec(type="diet-lif"),
    "clif": ClifSpec(type="clif"),
    "glif": GlifSpec(type="glif"),
}


def neuron(spec: NeuronSpec, *, compiled: bool) -> Neuron:
    made = Neuron(spec, TRIANGLE, channels=C, T=T, compiled=compiled)
    return made.double()


def norms(count: int, factor: float = 1.0) -> list[Norm]:
    torch.manual_seed(7)
    made = [Norm(C, factor).double() for _ in range(count)]
    for norm in made:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return made


def currents(steps: int = T, *, last: bool = False) -> Tensor:
    y = 3 * torch.randn(steps, B, C, H, W, dtype=torch.float64) + 5
    if last:  # channels-last, as some convolutions give it
        y = y.flatten(0, 1).contiguous(memory_format=torch.channels_last).view(steps, B, C, H, W)
    return y.requires_grad_()


def run(layer: Neuron, made: list[Norm], ys: list[Tensor], added: list[Tensor], grad: Tensor) -> dict[str, Tensor]:
    """Spikes, all gradients and the running statistics."""
    spikes = layer(Pending(list(zip(ys, made, strict=True)), added), T)
    learned = {
        **dict(layer.named_parameters()),
        **{f"{i}.{k}": p for i, m in enumerate(made) for k, p in m.named_parameters()},
    }
    wanted = {**{f"y{i}": y for i, y in enumerate(ys)}, **{f"a{i}": a for i, a in enumerate(added)}, **learned}
    gradients = torch.autograd.grad(spikes, list(wanted.values()), grad)
    statistics = {f"{i}.{k}": b.clone() for i, m in enumerate(made) for k, b in m.named_buffers()}
    return {"spikes": spikes.detach(), **dict(zip(wanted, gradients, strict=True)), **statistics}


def both(
    spec: NeuronSpec, build: Any, *, masks: float = 0.0, factor: float = 1.0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """In one kernel, and one after the other without a compiler."""
    found = []
    for compiled in (True, False):
        torch.manual_seed(1)
        ys, added = build()
        layer = neuron(spec, compiled=compiled)
        if masks:
            set_masks(nn.Sequential(layer, nn.Linear(1, 1)), masks, (3,))
        found.append(run(layer, norms(len(ys), factor), ys, added, torch.randn(T, B, C, H, W, dtype=torch.float64)))
    return found[0], found[1]


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    torch.testing.assert_close(one.pop("spikes"), other.pop("spikes"), rtol=0, atol=0)
    for name, value in one.items():
        torch.testing.assert_close(
            value, other[name], rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("kind", ["lif", *(pytest.param(k, marks=pytest.mark.slow) for k in SPECS if k != "lif")])
def test_every_neuron_after_a_normalisation(kind: str) -> None:
    one, other = both(SPECS[kind], lambda: ([currents()], []))
    assert 0 < one["spikes"].mean() < 1
    assert one["y0"].abs().max() > 0
    assert_same(one, other)


def test_a_compiler_knows_the_sizes_of_a_tile_and_all_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[list[Any]] = []

    def noting(graph: torch.fx.GraphModule, _given: list[Any], **_: Any) -> torch.fx.GraphModule:
        graphs.append([node.meta["example_value"] for node in graph.graph.nodes if node.op == "placeholder"])
        return graph

    assert can_compile("cpu")  # before compilers are noted
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=noting))
    y = torch.randn(2, 6, 64, 16, 16, requires_grad=True)
    current = Pending([(y, Norm(64, factor=0.75))], [torch.zeros_like(y)])
    spec = LifSpec(type="lif", decay=0.375, threshold=0.875)
    kernels = FusedKernels(
        build_equation(spec), build_surrogate(AtanSpec(type="atan", alpha=1.75)), 1, (), 2, form_of(current)
    )
    fused_spikes(kernels, current, 2, (), None).sum().backward()  # type: ignore[no-untyped-call]
    assert kernels.tile == (8, 1024)
    assert len(graphs) == 2  # forwards, backwards
    for given in graphs:
        tensors = [x for x in given if isinstance(x, Tensor)]
        known = {tuple(map(is_concrete_int, x.shape[1:])) for x in tensors if x.dim() == 4}
        assert known == {(False, True, True)}  # [T, G, R, W]: any number of tiles
        assert all(x.dim() > 0 for x in tensors)


@pytest.mark.parametrize("last", [False, True], ids=["channels-first", "channels-last"])
@pytest.mark.parametrize(("count", "added"), [(1, 1), (2, 0), (2, 1)])
def test_sums_of_several_currents(count: int, added: int, *, last: bool) -> None:
    def build() -> tuple[list[Tensor], list[Tensor]]:
        return [currents(last=last) for _ in range(count)], [currents() for _ in range(added)]

    assert_same(*both(SPECS["lif"], build, factor=0.7))


def test_a_current_that_is_held() -> None:
    assert_same(*both(SPECS["lif"], lambda: ([currents(1)], [])))


def test_masked_gradients_are_the_same_ones() -> None:
    one, other = both(SPECS["lif"], lambda: ([currents()], []), masks=0.5)
    free, _ = both(SPECS["lif"], lambda: ([currents()], []))
    assert not torch.equal(one["y0"], free["y0"])
    assert_same(one, other)


def test_what_the_kernels_do_not_take_is_computed_first() -> None:
    y, (norm,) = currents(), norms(1)
    rectifier = Neuron(ReluSpec(type="relu"), TriangleSpec(type="triangle"), channels=C, T=1)
    twin = norms(1)[0]
    torch.testing.assert_close(rectifier(Pending([(y, norm)])), torch.relu(twin(y)), rtol=0, atol=0)
    held = Pending([(currents(1), norm)], [currents()])  # one of them held, the other not
    assert not held.is_uniform
    assert neuron(SPECS["lif"], compiled=True)(held, T).shape == (T, B, C, H, W)


def test_statistics_move_once_if_somebody_looked_at_the_current() -> None:
    y, (norm,), (twin,) = currents(), norms(1), norms(1)
    pending = Pending([(y, norm)])
    _ = pending.value
    neuron(SPECS["lif"], compiled=True)(pending)
    twin(y)
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_mean, twin.running_mean, rtol=0, atol=0)


def test_large_means_lose_no_digits() -> None:
    """The sums that batch normalisation asks for are taken around the mean."""
    torch.manual_seed(0)
    y = (torch.randn(T, B, C, H, W, dtype=torch.float64) + 1000).requires_grad_()
    grad = torch.randn(T, B, C, H, W, dtype=torch.float64)
    exact = run(neuron(SPECS["lif"], compiled=False), norms(1), [y], [], grad)["y0"]
    single = y.detach().float().requires_grad_()
    layer = Neuron(SPECS["lif"], TriangleSpec(type="triangle"), channels=C, T=T)
    found = run(layer, [n.float() for n in norms(1)], [single], [], grad.float())["y0"]
    assert (found - exact).norm() < 2e-2 * exact.norm()
