"""Every neuron against the formula of its paper or its authors' code, values and gradients; compiled against eager."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from snnsc.errors import RecipeError
from snnsc.model import sequence
from snnsc.model.neurons import LOWEST_THRESHOLD, Neuron, RealSpike, build_neuron
from snnsc.model.sequence import can_compile
from snnsc.recipe.schema import NeuronSpec, TriangleSpec

TRIANGLE = TriangleSpec(type="triangle")
T, B, C, H, W = 5, 3, 4, 6, 5


def spec(**keys: object) -> NeuronSpec:
    return TypeAdapter(NeuronSpec).validate_python(keys)


class Spike(torch.autograd.Function):
    """Heaviside with the triangle of height 1 and half-width `width` as its derivative; d = u - threshold."""

    @staticmethod
    def forward(ctx, d: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(d)
        ctx.width = width
        return (d > 0).float()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (d,) = ctx.saved_tensors
        return grad * torch.relu(1 - d.abs() / ctx.width), None


def fire(u: Tensor, threshold: Tensor | float) -> Tensor:
    width = threshold.detach() if isinstance(threshold, Tensor) else threshold
    return Spike.apply(u - threshold, width)


# --------------------------------------- the papers' loops, written out with torch's own autograd; x is [T, B, C, H, W]


def lif_loop(n: Neuron, x: Tensor) -> Tensor:
    c = n.spec
    v, out = torch.zeros_like(x[0]), []
    for x_t in x:
        u = getattr(c, "decay", 1.0) * v + getattr(c, "input_gain", 1.0) * x_t
        s = fire(u, c.threshold)
        r = s.detach() if c.detach_reset else s
        v = u - c.threshold * r if c.reset == "soft" else u * (1 - r)
        out.append(s)
    return torch.stack(out)


def plif_loop(n: Neuron, x: Tensor) -> Tensor:
    """Fang et al.: H[t] = V[t-1] + (X[t] - (V[t-1] - V_reset)) / tau, 1 / tau = sigmoid(w), V_reset = 0."""
    v, out = torch.zeros_like(x[0]), []
    for x_t in x:
        u = v + (x_t - v) * n.w.sigmoid()
        s = fire(u, n.spec.threshold)
        v = u * (1 - s) if n.spec.reset == "hard" else u - n.spec.threshold * s
        out.append(s)
    return torch.stack(out)


def diet_loop(n: Neuron, x: Tensor) -> Tensor:
    """After Rathi & Roy; the leak is here also on what the reset took, as in every neuron of methods.md."""
    v, out = torch.zeros_like(x[0]), []
    for x_t in x:
        u = n.decay * v + x_t
        s = fire(u, n.threshold)
        v = u - n.threshold * s
        out.append(s)
    return torch.stack(out)


def clif_loop(n: Neuron, x: Tensor) -> Tensor:
    """CLIFSpike of the authors, gamma = 1 - 1/tau = decay."""
    gamma, v_th = n.spec.decay, n.spec.threshold
    u = m = torch.zeros_like(x[0])
    out = []
    for x_t in x:
        u = gamma * u + x_t
        s = fire(u, v_th)
        out.append(s)
        m = m * torch.sigmoid((1.0 - gamma) * u) + s
        u = u - s * (v_th + torch.sigmoid(m))
    return torch.stack(out)


def glif_loop(n: Neuron, x: Tensor) -> Tensor:
    """LIFSpike_CW.extended_state_update of the authors, soft gates."""
    al, be, ga, tau, leak, re = (
        n.get_parameter(name).sigmoid().view(1, -1, 1, 1)
        for name in ("alpha", "beta", "gamma", "tau", "leak", "reset_potential")
    )
    v_th = n.get_parameter("threshold").sigmoid().view(1, -1, 1, 1)
    u = o = torch.zeros_like(x[0])
    out = []
    for x_t, conduct in zip(x, n.conduct.sigmoid(), strict=True):
        current = x_t * (1 - be * (1 - conduct[None, :, None, None]))
        u = ((1 - al * (1 - tau)) * u * (1 - ga * o) - (1 - al) * leak) + current - (1 - ga) * re * o
        o = fire(u, v_th)
        out.append(o)
    return torch.stack(out)


KINDS: list[tuple[NeuronSpec, Callable[[Neuron, Tensor], Tensor]]] = [
    (spec(type="lif", decay=0.8, reset="soft"), lif_loop),
    (spec(type="lif", decay=0.5, input_gain=0.5, threshold=0.5), lif_loop),
    (spec(type="lif", detach_reset=True), lif_loop),
    (spec(type="lif", reset="soft", detach_reset=True, threshold=0.75), lif_loop),
    (spec(type="if", reset="soft"), lif_loop),
    (spec(type="if", detach_reset=True), lif_loop),
    (spec(type="real-spike", decay=0.25), lif_loop),
    (spec(type="plif", tau=1.7, threshold=0.6), plif_loop),
    (spec(type="plif", threshold=0.6, reset="soft"), plif_loop),
    (spec(type="diet-lif", decay=0.7, threshold=0.9), diet_loop),
    (spec(type="clif", decay=0.6), clif_loop),
    (spec(type="glif"), glif_loop),
]
IDS = [f"{s.type}-{i}" for i, (s, _) in enumerate(KINDS)]


def made(neuron: NeuronSpec, *, compiled: bool = False) -> Neuron:
    """A layer whose learned constants are not their first values, different for every channel and step."""
    layer = Neuron(neuron, TRIANGLE, channels=C, T=T, compiled=compiled)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.2 * torch.rand(parameter.shape, generator=generator)
    return layer


def current(held: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(1 if held else T, B, C, H, W, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.4
    return x.to(dtype)


def weights() -> Tensor:
    return torch.randn(T, B, C, H, W, generator=torch.Generator().manual_seed(2))


def gradients(layer: Neuron, run: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Spikes, and the gradients of the current and of every parameter."""
    layer.zero_grad()
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    spikes = run(x)
    spikes.backward(weights().to(spikes.dtype))
    return spikes.detach(), [x.grad, *(p.grad.clone() for p in layer.parameters())]


def assert_near(found: list[Tensor], expected: list[Tensor], rtol: float = 2e-5) -> None:
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        assert torch.isfinite(f).all()
        assert e.abs().max() > 0, "a gradient of nothing but zeros shows nothing"
        torch.testing.assert_close(f, e, rtol=rtol, atol=rtol * float(e.abs().max()))


@pytest.mark.parametrize(("neuron", "loop"), KINDS, ids=IDS)
def test_it_is_the_papers_neuron(neuron: NeuronSpec, loop: Callable[[Neuron, Tensor], Tensor]) -> None:
    layer = made(neuron)
    expected, expected_gradients = gradients(layer, lambda x: loop(layer, x), current())
    spikes, found = gradients(layer, lambda x: layer(x), current())
    assert 0.05 < float(expected.mean()) < 0.95
    assert torch.equal(spikes, expected)
    assert_near(found, expected_gradients)


@pytest.mark.parametrize(("neuron", "loop"), KINDS, ids=IDS)
def test_in_parts_held_and_channels_last_it_is_the_same(
    neuron: NeuronSpec, loop: Callable[[Neuron, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = made(neuron)
    expected, expected_gradients = gradients(layer, lambda x: loop(layer, x), current())
    last = current().flatten(0, 1).contiguous(memory_format=torch.channels_last).view(T, B, C, H, W)
    spikes, found = gradients(layer, lambda x: layer(x), last)
    assert torch.equal(spikes, expected)
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert_near(found, expected_gradients)
    held, held_gradients = gradients(layer, lambda x: loop(layer, x.expand(T, -1, -1, -1, -1)), current(held=True))
    for steps in (2, T):
        monkeypatch.setattr(sequence, "UNROLLED_STEPS", steps)
        spikes, found = gradients(layer, lambda x: layer(x), current())
        assert torch.equal(spikes, expected)
        assert_near(found, expected_gradients)
        spikes, found = gradients(layer, lambda x: layer(x, T), current(held=True))
        assert torch.equal(spikes, held)
        assert_near(found, held_gradients)


@pytest.fixture(scope="module")
def _compiler() -> None:
    if not can_compile("cpu"):
        pytest.skip("no C++ compiler for torch.compile")


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("kind", ["plif", "diet-lif", "clif", "glif"])
def test_compiled_is_eager(kind: str) -> None:
    neuron = spec(type=kind)
    eager, fast = made(neuron), made(neuron, compiled=True)
    for x in (current(), current(dtype=torch.bfloat16)):
        spikes, expected = gradients(eager, lambda x: eager(x), x)
        compiled_spikes, found = gradients(fast, lambda x: fast(x), x)
        # sigmoid and exp of the compiler's are an ulp apart from torch's: a spike in a thousand may differ, no more
        assert float((spikes != compiled_spikes).float().mean()) <= (0.001 if kind == "clif" else 0)
        if torch.equal(spikes, compiled_spikes):
            assert_near(found, expected, 1e-5 if x.dtype == torch.float32 else 2e-2)


@pytest.mark.usefixtures("_compiler")
def test_kernels_of_other_constants_are_told_apart() -> None:
    # one function, whose closure alone differs; in turn, so that each finds the kernels of the others
    kinds = [
        spec(type="lif", decay=0.25),
        spec(type="lif", decay=0.75),
        spec(type="lif", threshold=0.5),
        spec(type="if"),
    ]
    pairs = [(made(kind), made(kind, compiled=True)) for kind in kinds]
    for _ in range(2):
        results = []
        for eager, fast in pairs:
            spikes, expected = gradients(eager, lambda x, run=eager: run(x), current())
            compiled_spikes, found = gradients(fast, lambda x, run=fast: run(x), current())
            assert torch.equal(spikes, compiled_spikes)
            assert_near(found, expected, 1e-5)
            results.append(spikes)
        assert all(not torch.equal(a, b) for i, a in enumerate(results) for b in results[:i])


# ------------------------------------------------------------------------------------------------ first values, bounds


def test_first_values() -> None:
    plif = Neuron(spec(type="plif", tau=4.0), TRIANGLE)
    assert float(plif.constants()["gain"].detach()) == pytest.approx(0.25)
    diet = Neuron(spec(type="diet-lif", decay=0.5, threshold=0.75), TRIANGLE)
    assert {k: float(v.detach()) for k, v in diet.constants().items()} == {"decay": 0.5, "threshold": 0.75}
    glif = Neuron(spec(type="glif"), TRIANGLE, channels=2, T=3)
    gates = {
        name: float(glif.get_parameter(name).detach().sigmoid()[0])
        for name in ("alpha", "beta", "gamma", "tau", "leak")
    }
    assert gates == pytest.approx({"alpha": 0.55, "beta": 0.65, "gamma": 0.55, "tau": 0.25, "leak": 0.0625})
    assert glif.conduct.shape == (3, 2)
    assert float(glif.conduct.detach().sigmoid()[0, 0]) == pytest.approx(0.5)


def test_learned_constants_stay_in_their_range() -> None:
    diet = Neuron(spec(type="diet-lif"), TRIANGLE)
    with torch.no_grad():
        diet.decay.fill_(1.5)
        diet.threshold.fill_(-1.0)
    assert {k: float(v.detach()) for k, v in diet.constants().items()} == {
        "decay": 1.0,
        "threshold": pytest.approx(LOWEST_THRESHOLD),
    }
    assert torch.isfinite(gradients(diet, lambda x: diet(x), current())[1][0]).all()


def test_glif_of_another_T_is_one_clear_error() -> None:
    layer = Neuron(spec(type="glif"), TRIANGLE, channels=C, T=T)
    with pytest.raises(RecipeError, match=r"model\.T = 5 time steps; it cannot run 2"):
        layer(current()[:2])


def test_detached_reset_takes_no_gradient() -> None:
    """Two steps by hand: u1 = x1 = 1.5 fires and is reset, so with a detached reset x1 has no part in step 2."""
    for detach, expected in ((True, 0.0), (False, -1.5 * 0.5 * 0.5)):
        layer = Neuron(spec(type="lif", detach_reset=detach), TRIANGLE, compiled=False)
        x = torch.tensor([[1.5], [1.0]]).requires_grad_()
        layer(x)[1].sum().backward()
        # dv1/dx1 = (1 - s) - u ds/du = 0 - 1.5 * (1 - 0.5); times decay 0.5, times the surrogate 1 at u2 = 1
        assert float(x.grad[0]) == pytest.approx(expected)


def test_relu_is_relu() -> None:
    layer = Neuron(spec(type="relu"), TRIANGLE, channels=C)
    assert torch.equal(layer(current()), current().relu())
    assert torch.equal(layer(current(held=True), 3), current(held=True).relu().expand(3, -1, -1, -1, -1))


def test_real_spike_scales_channels() -> None:
    layer = build_neuron(spec(type="real-spike"), TRIANGLE, channels=C, T=T, compiled=False)
    assert isinstance(layer, RealSpike)
    plain = layer.neuron(current())
    assert torch.equal(layer(current()), plain), "factors are 1 at first"
    with torch.no_grad():
        layer.factor.copy_(torch.tensor([0.5, 1.0, -2.0, 0.0]))
    assert torch.equal(layer(current()), plain * layer.factor.view(-1, 1, 1))
    vector = torch.randn(T, B, C)
    assert torch.equal(layer(vector), layer.neuron(vector) * layer.factor)
    x = current().requires_grad_()
    layer(x).sum().backward()
    assert torch.equal(layer.factor.grad, plain.sum((0, 1, 3, 4)))
    assert layer(current(dtype=torch.bfloat16)).dtype == torch.bfloat16


# -------------------------------------------------------------------------------------------------- membrane norm


def mpbn(keys: dict[str, object]) -> Neuron:
    layer = Neuron(spec(**keys), TRIANGLE, channels=C, T=T, membrane_norm=True)
    assert layer.membrane_norm is not None
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        layer.membrane_norm.weight.copy_(torch.tensor([1.0, -0.8, 0.5, -1.3]))
        layer.membrane_norm.bias.copy_(torch.randn(C, generator=generator) * 0.3 + 0.6)
    return layer


@pytest.mark.parametrize(
    "keys", [{"type": "lif"}, {"type": "if", "reset": "soft"}, {"type": "lif", "detach_reset": True}], ids=str
)
def test_the_membrane_is_normalised_before_it_is_compared(keys: dict[str, object]) -> None:
    layer = mpbn(keys)
    norm = nn.BatchNorm2d(C)
    norm.load_state_dict(layer.membrane_norm.state_dict())

    def loop(x: Tensor) -> Tensor:
        v, out = torch.zeros_like(x[0]), []
        for x_t in x:
            u = getattr(layer.spec, "decay", 1.0) * v + x_t
            s = fire(norm(u), 1.0)
            r = s.detach() if layer.spec.detach_reset else s
            v = u - r if layer.spec.reset == "soft" else u * (1 - r)
            out.append(s)
        return torch.stack(out)

    expected, (expected_gradient, *_) = gradients(
        layer, lambda x: loop(x) + 0 * layer(x).detach() + sum(0 * p.sum() for p in layer.parameters()), current()
    )
    layer.membrane_norm.load_state_dict(nn.BatchNorm2d(C).state_dict() | {"weight": norm.weight, "bias": norm.bias})
    spikes, (found, *_) = gradients(layer, lambda x: layer(x), current())
    assert torch.equal(spikes, expected)
    assert_near([found], [expected_gradient])
    torch.testing.assert_close(layer.membrane_norm.running_mean, norm.running_mean)
    torch.testing.assert_close(layer.membrane_norm.running_var, norm.running_var)
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_in_evaluation_the_norm_is_a_threshold_of_each_channel() -> None:
    layer = mpbn({"type": "lif"}).train()
    for _ in range(5):
        layer(current())
    layer.eval()
    sign, bar = (t.detach().view(-1, 1, 1) for t in layer.membrane_norm.threshold(1.0))
    assert sign.flatten().tolist() == [1, -1, 1, -1]
    v, out = torch.zeros_like(current()[0]), []
    for x_t in current():
        u = 0.5 * v + x_t
        s = (sign * u > bar).float()
        v = u * (1 - s)
        out.append(s)
    assert 0.05 < float(torch.stack(out).mean()) < 0.95
    assert torch.equal(layer(current()), torch.stack(out))
