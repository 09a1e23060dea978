"""A network in float64 computes in float64, the reference of exact exports; in float32 as it always did."""

import pytest
import torch
from pydantic import TypeAdapter

from snnsc.model.blocks import Cells
from snnsc.model.neurons import Neuron
from snnsc.model.resnet import HiddenHead
from snnsc.model.shortcuts import PooledLinear
from snnsc.model.vgg import FlattenHead
from snnsc.recipe.schema import BnSpec, LifSpec, NeuronSpec, TriangleSpec

CELLS = Cells(LifSpec(type="lif"), TriangleSpec(type="triangle"), BnSpec(type="bn"), T=3, compiled=False)


@pytest.mark.parametrize("head", [PooledLinear(3, 5), FlattenHead(12, 5), HiddenHead(CELLS, 3, 4, 5)], ids=type)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_heads(head, dtype):
    spikes = (torch.rand(3, 2, 3, 4, 4) < 0.4).to(dtype)
    assert head.to(dtype)(spikes).dtype == dtype
    if dtype == torch.float32:
        assert head(spikes.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("keys", [{"type": "lif"}, {"type": "clif"}, {"type": "glif"}, {"type": "plif"}], ids=str)
@pytest.mark.parametrize("held", [False, True])
def test_neurons_integrate_in_float64(keys, held):
    """A current that float32 rounds to the threshold fires."""
    spec = TypeAdapter(NeuronSpec).validate_python(keys)
    neuron = Neuron(spec, TriangleSpec(type="triangle"), channels=2, T=3, compiled=False)
    x = torch.full((1 if held else 3, 1, 2, 4), 1.0, dtype=torch.float64)
    assert neuron.double()(x, 3).dtype == torch.float64
    lif = Neuron(LifSpec(type="lif"), TriangleSpec(type="triangle"), compiled=False)
    above = x + 2.0**-40
    assert lif(above, 3)[0].all()
    assert not lif(above.float(), 3)[0].any()
    assert lif(x.bfloat16(), 3).dtype == torch.bfloat16
