"""Our events against SpikingJelly's SynOpCounter, on equal weights.

SpikingJelly 2.0 counts the convolutions and matrix products that torch dispatches. It looks whether the whole input of
a call is 0 and 1. If so it counts its ones times the weights they meet, borders left out as here, but with the weights
that are zero; if one element is another number, it counts nothing. So it is right on spikes and weights without zeros.
"""

from __future__ import annotations

import numpy as np
import pytest
from single_layer import count_layer

from snnsc.energy import LayerCount

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter  # noqa: E402

GEOMETRY = [
    {"shape": (6, 2, 3, 3), "padding": 1, "stride": 1, "groups": 1, "dilation": 1},
    {"shape": (8, 6, 3, 3), "padding": 1, "stride": 2, "groups": 1, "dilation": 1},
    {"shape": (8, 1, 3, 3), "padding": 2, "stride": 1, "groups": 8, "dilation": 2},
    {"shape": (8, 4, 2, 2), "padding": 0, "stride": 3, "groups": 2, "dilation": 1},
    {"shape": (4, 8, 1, 1), "padding": 0, "stride": 1, "groups": 1, "dilation": 1},
]
T, B, SIZE = 3, 4, 9


def theirs(module: torch.nn.Module, frames_TBCHW: np.ndarray) -> int:
    """What SynOpCounter counts, one call a time step."""
    counter = SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([counter]):
        for frame in torch.from_numpy(frames_TBCHW):
            module(frame)
    return counter.get_total()


def conv_of(spec: dict, weight: np.ndarray) -> torch.nn.Conv2d:
    out, inside, kernel, _ = spec["shape"]
    options = {key: spec[key] for key in ("padding", "stride", "groups", "dilation")}
    conv = torch.nn.Conv2d(inside * spec["groups"], out, kernel, bias=False, **options)
    conv.weight.data = torch.from_numpy(weight)
    return conv


def ours(spec: dict, weight: np.ndarray, frames: np.ndarray, kind: str) -> LayerCount:
    """Our row of the same convolution."""
    attrs = {"pads": [spec["padding"]] * 4, "strides": [spec["stride"]] * 2, "dilations": [spec["dilation"]] * 2}
    return count_layer("Conv", weight, frames, kind, group=spec["groups"], **attrs)


def frames_of(rng: np.random.Generator, spec: dict, high: int = 1) -> np.ndarray:
    shape = (T, B, spec["shape"][1] * spec["groups"], SIZE, SIZE)
    return np.where(rng.random(shape) < 0.3, rng.integers(1, high + 1, shape), 0).astype(np.float32)


@pytest.mark.parametrize("spec", GEOMETRY)
def test_equal_on_spikes_and_weights_without_zeros(spec):
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.1, 1, spec["shape"]).astype(np.float32)
    frames = frames_of(rng, spec)
    layer = ours(spec, weight, frames, "binary")
    assert layer.stats["acs"].total == layer.stats["events"].total == theirs(conv_of(spec, weight), frames) > 1000
    assert layer.steps["events"] == tuple(theirs(conv_of(spec, weight), frames[t : t + 1]) for t in range(T))


@pytest.mark.parametrize("spec", GEOMETRY)
def test_weights_that_are_zero_are_counted_by_them(spec):
    """The difference is what spikes meet where a weight is zero: the count of the complement of the weights."""
    rng = np.random.default_rng(1)
    weight = rng.uniform(0.1, 1, spec["shape"]).astype(np.float32)
    weight[rng.random(spec["shape"]) < 0.4] = 0
    complement = np.where(weight == 0, np.float32(0.5), np.float32(0))
    frames = frames_of(rng, spec)
    own, missed = (ours(spec, w, frames, "binary").stats["events"].total for w in (weight, complement))
    assert own > 0 < missed
    assert theirs(conv_of(spec, weight), frames) == own + missed


def test_one_element_of_two_and_they_count_nothing():
    rng = np.random.default_rng(2)
    spec = GEOMETRY[0]
    weight = rng.uniform(0.1, 1, spec["shape"]).astype(np.float32)
    frames = frames_of(rng, spec)
    frames[1, 0, 0, 4, 4] = 1
    spikes = ours(spec, weight, frames, "binary")
    frames[1, 0, 0, 4, 4] = 2
    sums = ours(spec, weight, frames, "integer")
    meets = spec["shape"][0] * 9
    assert theirs(conv_of(spec, weight), frames) == spikes.stats["events"].total - spikes.steps["events"][1]
    assert sums.steps["events"] == spikes.steps["events"]
    assert sums.stats["acs"].total == spikes.stats["acs"].total - meets, "only the 2 is a multiplication"
    assert sums.stats["event_magnitude"].total == spikes.stats["events"].total + meets


def test_linear_layers():
    rng = np.random.default_rng(3)
    linear = torch.nn.Linear(30, 7)
    frames = (rng.random((T, B, 30)) < 0.2).astype(np.float32)
    layer = count_layer("Gemm", linear.weight.detach().numpy(), frames, "binary", transB=1)
    assert layer.stats["acs"].total == theirs(linear, frames) == int(np.count_nonzero(frames)) * 7 > 0
