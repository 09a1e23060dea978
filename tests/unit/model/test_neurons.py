"""The neuron: hand-computed voltages, the gradient against plain autograd, compiled against eager."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from snnsc.model import sequence
from snnsc.model.equations import lif_step, with_slope
from snnsc.model.neurons import Neuron
from snnsc.model.sequence import State, can_compile, run_steps
from snnsc.model.surrogates import build_surrogate
from snnsc.recipe.schema import AtanSpec, IfSpec, LifSpec, NeuronSpec, SurrogateSpec, TriangleSpec

LIF, IF, TRIANGLE = LifSpec(type="lif"), IfSpec(type="if"), TriangleSpec(type="triangle")


# ------------------------------------------------------------------------------------------------ the equation


@pytest.mark.parametrize(
    ("decay", "threshold", "currents", "spikes", "membranes"),
    [
        # u: 0.75, 1.125 (spike, reset), 0.5, 1.0 (strict: no spike), 2.5 (spike)
        (0.5, 1.0, [0.75, 0.75, 0.5, 0.75, 2.0], [0, 1, 0, 0, 1], [0.75, 0.0, 0.5, 1.0, 0.0]),
        # no leak: u: 0.5, 1.0 (strict), 1.5 (spike), 0.5, 0.25
        (1.0, 1.0, [0.5, 0.5, 0.5, 0.5, -0.25], [0, 0, 1, 0, 0], [0.5, 1.0, 0.0, 0.5, 0.25]),
        # below rest, another threshold: u: -1, 0 -> -0.25 + 0.5 = 0.25 (strict), 0.0625 + 0.25 = 0.3125 (spike), 0
        (0.25, 0.25, [-1.0, 0.5, 0.25, 0.0], [0, 0, 1, 0], [-1.0, 0.25, 0.0, 0.0]),
    ],
)
def test_hand_computed_voltages(decay, threshold, currents, spikes, membranes) -> None:
    v = torch.zeros(())
    for x, s_expected, v_expected in zip(currents, spikes, membranes, strict=True):
        s, v = lif_step(v, torch.tensor(x), decay=decay, threshold=threshold)
        assert (float(s), float(v)) == (s_expected, v_expected)
    s_T, (v_last,) = run_steps(
        steps(decay, threshold), torch.tensor(currents)[:, None], len(currents), (torch.zeros(1),)
    )
    assert s_T[:, 0].tolist() == spikes
    assert v_last.tolist() == [membranes[-1]]


def steps(decay: float, threshold: float = 1.0) -> Callable[[State, Tensor, int], tuple[Tensor, State]]:
    def step(state: State, x: Tensor, _t: int) -> tuple[Tensor, State]:
        s, v = lif_step(*state, x, decay=decay, threshold=threshold)
        return s, (v,)

    return step


def test_the_comparison_is_strict() -> None:
    at = torch.tensor([1.0, 1.0 + 2**-23, 1.0 - 2**-24])
    s, v = lif_step(torch.zeros(3), at, decay=0.5, threshold=1.0)
    assert s.tolist() == [0, 1, 0]
    assert v.tolist() == [1.0, 0.0, 1.0 - 2**-24]


def test_the_surrogate_changes_no_value() -> None:
    v, x = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    plain = lif_step(v, x, decay=0.5, threshold=1.0)
    with_gradient = lif_step(v, x, decay=0.5, threshold=1.0, fire=with_slope(build_surrogate(TRIANGLE)))
    assert all(map(torch.equal, plain, with_gradient))


def test_run_steps_goes_on_from_a_membrane() -> None:
    """Streaming: two halves with the state handed over are the whole."""
    current = currents(6, 50)
    whole, v_whole = run_steps(steps(0.5), current, 6, (torch.zeros(50),))
    first, v = run_steps(steps(0.5), current[:2], 2, (torch.zeros(50),))
    second, v = run_steps(steps(0.5), current[2:], 4, v)
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(v[0], v_whole[0])
    assert v[0].dtype == torch.float32


def test_the_membrane_is_float32_whatever_the_current() -> None:
    # 1 + 2^-9 is no bfloat16: a membrane in bfloat16 would never leave 1 and never spike
    current = torch.tensor([[1.0], [2.0**-9]], dtype=torch.bfloat16)
    s, (v,) = run_steps(steps(1.0), current, 2, (torch.zeros(1),))
    assert s.flatten().tolist() == [0, 1]
    assert (s.dtype, v.dtype) == (torch.bfloat16, torch.float32)


# ------------------------------------------------------- reference: an eager loop under torch's own autograd


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.threshold = threshold
        return (u > threshold).float()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return grad * torch.relu(1 - (u - ctx.threshold).abs() / ctx.threshold), None


def reference(current: Tensor, grad: Tensor, decay: float = 0.5, threshold: float = 1.0) -> tuple[Tensor, Tensor]:
    """Spikes and gradient of the current, with the triangle surrogate; a held current is expanded."""
    x = current.detach().clone().requires_grad_()
    u_after = torch.zeros_like(x[0], dtype=torch.float32)
    spikes = []
    for t in range(len(grad)):
        u = decay * u_after + (x[t] if len(x) > 1 else x[0]).float()
        s = Spike.apply(u, threshold)
        u_after = u * (1 - s)
        spikes.append(s)
    torch.stack(spikes).backward(grad.float())
    return torch.stack(spikes).detach().to(current.dtype), x.grad


def currents(T: int, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return (torch.randn(T, *shape, generator=torch.Generator().manual_seed(seed)) * 1.2 + 0.4).to(dtype)


def run(current: Tensor, grad: Tensor, *, compiled: bool, spec: NeuronSpec = LIF, surrogate: SurrogateSpec = TRIANGLE):
    x = current.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    spikes = Neuron(spec, surrogate, compiled=compiled)(x, len(grad))
    spikes.backward(grad)
    return spikes.detach(), x.grad


def assert_near(found: Tensor, expected: Tensor, rtol: float = 1e-6) -> None:
    assert expected.abs().max() > 0, "a gradient of nothing but zeros shows nothing"
    torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol * float(expected.abs().max()))


@pytest.mark.parametrize("decay", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("threshold", [1.0, 0.5])
@pytest.mark.parametrize("T", [1, 2, 6, 40])
def test_gradient_is_plain_autograds(T: int, decay: float, threshold: float) -> None:
    assert sequence.UNROLLED_STEPS < 40, "T = 40 is here to take the path of several kernels"
    spec = IfSpec(type="if", threshold=threshold) if decay == 1 else LifSpec(
        type="lif", decay=decay, threshold=threshold
    )  # fmt: skip
    current, grad = currents(T, 3, 4, 5, 5), currents(T, 3, 4, 5, 5, seed=1)
    spikes, found = run(current, grad, compiled=False, spec=spec)
    expected_spikes, expected = reference(current, grad, decay, threshold)
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(spikes, expected_spikes)
    assert_near(found, expected)


@pytest.mark.parametrize("T", [1, 4, 40])
def test_a_held_current_is_the_repeated_one(T: int) -> None:
    held, grad = currents(1, 3, 4, 5, 5), currents(T, 3, 4, 5, 5, seed=1)
    spikes, found = run(held, grad, compiled=False)
    repeated_spikes, repeated = run(held.expand(T, -1, -1, -1, -1), grad, compiled=False)
    assert spikes.shape == (T, 3, 4, 5, 5)
    assert torch.equal(spikes, repeated_spikes)
    assert_near(found, repeated.sum(0, keepdim=True), 2e-6)
    assert_near(found, reference(held, grad)[1], 2e-6)


def test_another_surrogate_reaches_the_gradient() -> None:
    """One step by hand: ds/dx is the surrogate at x - threshold."""
    current, grad = currents(1, 100), currents(1, 100, seed=1)
    found = run(current, grad, compiled=False, surrogate=AtanSpec(type="atan"))[1]
    assert_near(found, grad / (1 + (torch.pi * (current - 1)) ** 2))


def test_bfloat16_is_float32_rounded_once() -> None:
    current, grad = (currents(4, 8, 50, seed=s).bfloat16() for s in (0, 1))
    spikes, found = run(current, grad, compiled=False)
    expected_spikes, expected = reference(current.float(), grad.float())
    assert (spikes.dtype, found.dtype) == (torch.bfloat16, torch.bfloat16)
    assert torch.equal(spikes.float(), expected_spikes)
    assert torch.equal(found, expected.bfloat16())
    held = current[:1]
    assert torch.equal(run(held, grad, compiled=False)[1], reference(held.float(), grad.float())[1].bfloat16())


def test_channels_last_is_kept_and_changes_nothing() -> None:
    T, B = 3, 4
    current, grad = currents(T * B, 6, 5, 7), currents(T * B, 6, 5, 7, seed=1)
    expected_spikes, expected = reference(current.view(T, B, 6, 5, 7), grad.view(T, B, 6, 5, 7))
    last = current.contiguous(memory_format=torch.channels_last).view(T, B, 6, 5, 7)
    for given in (grad.view(T, B, 6, 5, 7), grad.contiguous(memory_format=torch.channels_last).view(T, B, 6, 5, 7)):
        spikes, found = run(last, given, compiled=False)
        assert torch.equal(spikes, expected_spikes)
        assert_near(found, expected)
        assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
        assert found.stride() == last.stride()


def test_no_state_is_kept() -> None:
    layer = Neuron(LIF, TRIANGLE, compiled=False)
    a, b = currents(4, 2, 10), currents(4, 2, 10, seed=1)
    first = layer(a)
    layer(b)
    assert torch.equal(layer(a), first)
    assert not layer.state_dict()
    # the samples of a batch do not meet either
    assert torch.equal(layer(torch.cat([a, b], 1)), torch.cat([layer(a), layer(b)], 1))


def test_spikes_are_zeros_and_ones_of_the_currents_type() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        spikes = Neuron(IF, TRIANGLE, compiled=False)(currents(5, 200, dtype=dtype))
        assert spikes.dtype == dtype
        assert set(spikes.unique().tolist()) == {0.0, 1.0}


# -------------------------------------------------------------------------------------------- compiled = eager

# Compiling takes seconds a kernel: one neuron, one surrogate, and the same kernels for several questions.


@pytest.fixture(scope="module")
def _compiler() -> None:
    if not can_compile("cpu"):
        pytest.skip("no C++ compiler for torch.compile")


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("held", [False, True], ids=["sequence", "held"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_compiled_is_eager(dtype: torch.dtype, held: bool) -> None:
    T = 3
    current = currents(1 if held else T, 8, 16, 9, 9, dtype=dtype)
    grad = currents(T, 8, 16, 9, 9, dtype=dtype, seed=1)
    compiled, eager = run(current, grad, compiled=True), run(current, grad, compiled=False)
    assert torch.equal(compiled[0], eager[0])
    assert_near(compiled[1], eager[1])


@pytest.mark.usefixtures("_compiler")
def test_compiled_on_other_sizes_and_orders() -> None:
    """The kernel of the test above, on other numbers of neurons and on channels-last memory."""
    for shape in ((5, 3), (2, 7, 4, 4)):
        current, grad = currents(3, *shape), currents(3, *shape, seed=1)
        assert torch.equal(run(current, grad, compiled=True)[0], reference(current, grad)[0])
        torch.testing.assert_close(run(current, grad, compiled=True)[1], reference(current, grad)[1])
    last = currents(6, 7, 4, 4).contiguous(memory_format=torch.channels_last).view(3, 2, 7, 4, 4)
    grad = currents(3, 2, 7, 4, 4, seed=1)
    spikes, found = run(last, grad, compiled=True)
    assert torch.equal(spikes, reference(last, grad)[0])
    assert_near(found, reference(last, grad)[1])


@pytest.mark.usefixtures("_compiler")
def test_compiled_in_parts_is_one_long_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    # parts of 2 steps, as compiling the real length of 32 takes a minute
    monkeypatch.setattr(sequence, "UNROLLED_STEPS", 2)
    current, grad = currents(4, 8, 16, 9, 9), currents(4, 8, 16, 9, 9, seed=1)
    spikes, found = run(current, grad, compiled=True)
    expected_spikes, expected = reference(current, grad)
    assert torch.equal(spikes, expected_spikes)
    assert_near(found, expected)


@pytest.mark.usefixtures("_compiler")
def test_compiled_single_step() -> None:
    current, grad = currents(1, 8, 100), currents(1, 8, 100, seed=1)
    spikes, found = run(current, grad, compiled=True)
    expected_spikes, expected = reference(current, grad)
    assert torch.equal(spikes, expected_spikes)
    assert_near(found, expected)


def test_parts_of_any_length_are_one_long_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    current, grad = currents(7, 3, 40), currents(7, 3, 40, seed=1)
    expected_spikes, expected = reference(current, grad)
    for steps in (1, 2, 3, 6, 7, 8):
        monkeypatch.setattr(sequence, "UNROLLED_STEPS", steps)
        spikes, found = run(current, grad, compiled=False)
        assert torch.equal(spikes, expected_spikes)
        assert_near(found, expected)


def test_without_a_compiler_it_runs_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_args: object, **_options: object) -> Callable[..., object]:
        raise RuntimeError("no C++ compiler\nand a long story")

    can_compile.cache_clear()
    monkeypatch.setattr(torch, "compile", no_compiler)
    try:
        current = currents(4, 10)
        for _ in range(2):
            assert torch.equal(Neuron(LIF, TRIANGLE)(current), reference(current, torch.ones(4, 10))[0])
        assert caplog.messages == ["no compiler for cpu, neurons run eagerly (slower): no C++ compiler"]
    finally:
        can_compile.cache_clear()


def test_a_layer_shows_its_constants() -> None:
    shown = str(nn.Sequential(Neuron(LIF, TRIANGLE)))
    assert "decay=0.5" in shown
    assert "threshold=1.0" in shown
