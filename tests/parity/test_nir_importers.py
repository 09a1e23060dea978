"""snnTorch, SpikingJelly and Norse import a NIR file of ours and fire the very same spikes.

They scale and sum in other orders than we, and SpikingJelly fires at the threshold, where NIR and we do not. So samples
with a membrane within 1e-5 of threshold, where either may decide, are left out.

Legend: T time steps, B batch, C channels, H W space.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from snnsc import build_model
from snnsc.export.fold import fold
from snnsc.export.step import to_step
from snnsc.model import SpikingNetwork
from snnsc.model.neurons import Neuron
from snnsc.nir.limits import Encoding
from snnsc.nir.read import parse_nir
from snnsc.nir.run import NirNetwork
from snnsc.nir.write import to_nir
from snnsc.recipe.load import override, validate

pytest.importorskip("h5py")
nir = pytest.importorskip("nir")

T, SAMPLES, TIE = 4, 8, 1e-5
SEQUENTIAL = ("model.stages=[[8,16],[16]]",)
RESIDUAL = ("model.arch=resnet20-thin",)
NETS = {
    "lif": SEQUENTIAL,
    "lif 0.3": (*SEQUENTIAL, "model.neuron.decay=0.3", "model.neuron.input_gain=0.7"),
    "if": (*SEQUENTIAL, "model.neuron.type=if"),
    "residual": RESIDUAL,
    "residual ms": (*RESIDUAL, "model.residual=ms"),
    "residual sew": (*RESIDUAL, "model.residual=sew-add"),
}
DRIVE = {net: {"lif 0.3": 4.0}.get(net, 2.0) for net in NETS}
"""Factor on the currents of a network."""
Spikes = dict[str, np.ndarray]
"""Layer of neurons -> spikes [T, B, ...]."""


class Case:
    """A network that fires, real samples that keep away from its thresholds, and the spikes it has on them."""

    def __init__(self, net: str) -> None:
        tables = {
            "name": "test",
            "data": {"type": "digits"},
            "model": {"arch": "tiny", "T": T},
            "method": {"mode": "vanilla"},
            "train": {"epochs": 1, "compile": "off"},
        }
        recipe = validate(override(tables, NETS[net]), "test")
        torch.manual_seed(3)
        network = build_model(recipe)
        images = torch.from_numpy(load_digits().images[:, None].astype(np.float32) / 16)
        for _ in range(2):
            network(images[-128:])
        with torch.no_grad():  # a network that was not trained hardly fires
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.mul_(DRIVE[net])
                    module.bias.add_(DRIVE[net] / 6)
        folded, _ = fold(network.eval())
        self.step = to_step(folded, recipe)
        near, _ = membranes(folded, images[:32])
        self.images = images[:32][near > TIE][:SAMPLES]
        assert len(self.images) == SAMPLES
        near, self.spikes = membranes(folded, self.images)
        assert near.min() > TIE
        rates = [spikes.mean() for spikes in self.spikes.values()]
        assert 0.02 < np.mean(rates) < 0.6
        assert min(rates) > 0.001

    def file(self, encoding: Encoding) -> bytes:
        return to_nir(self.step, encoding=encoding, dt=1e-4, metadata={"snnsc.T": str(T)})


def membranes(network: SpikingNetwork, images: Tensor) -> tuple[np.ndarray, Spikes]:
    """How near a membrane of each sample comes to its threshold, and every layer's spikes: the equation by hand."""
    near, spikes = np.full(len(images), np.inf), {}

    def look(module: nn.Module, given: tuple[Tensor, ...], layer: str) -> None:
        spec, learned = module.spec, {k: v.item() for k, v in module.constants().items()}
        decay = learned.get("decay", getattr(spec, "decay", 1.0))
        gain = learned.get("gain", getattr(spec, "input_gain", 1.0))
        x = given[0].double().numpy()
        v, fired = np.zeros(x.shape[1:]), []
        for t in range(T):
            u = decay * v + gain * x[min(t, len(x) - 1)]
            fired.append(u > spec.threshold)
            v = np.where(fired[-1], 0, u)
            np.minimum(near, np.abs(u - spec.threshold).reshape(len(images), -1).min(1), out=near)
        spikes[layer] = np.stack(fired).astype(np.float32)

    hooks = [
        module.register_forward_pre_hook(lambda m, given, layer=name: look(m, given, layer))
        for name, module in network.named_modules()
        if isinstance(module, Neuron)
    ]
    with torch.inference_mode():
        network(images)
    for hook in hooks:
        hook.remove()
    return near, spikes


@cache
def case(net: str) -> Case:
    return Case(net)


def watch(module: nn.Module, layers: list[str]) -> tuple[Spikes, dict[str, list[np.ndarray]]]:
    """Collects what the layers of an imported network give, step after step."""
    found: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    for layer in layers:

        def keep(_m: nn.Module, _given: object, made: object, layer: str = layer) -> None:
            spikes = made[0] if isinstance(made, tuple) else made
            found[layer].append(spikes.detach().numpy())

        module.get_submodule(layer.replace(".", "_")).register_forward_hook(keep)
    return found


def by_snntorch(path: Path, case: Case) -> Spikes:
    import_from_nir = pytest.importorskip("snntorch.import_nir").import_from_nir
    network = import_from_nir(nir.read(path))
    return one_by_one(network, case, lambda: [m.reset_mem() for m in network.modules() if hasattr(m, "reset_mem")])


def by_norse(path: Path, case: Case) -> Spikes:
    norse = pytest.importorskip("norse")
    network = norse.torch.from_nir(nir.read(path), dt=1e-4, ignore_warnings=True)
    return one_by_one(network, case, lambda: None)


def one_by_one(network: nn.Module, case: Case, reset: Callable[[], object]) -> Spikes:
    """Both take samples without a batch axis."""
    found = watch(network, list(case.spikes))
    with torch.no_grad():
        for image in case.images:
            reset()
            state = None
            for _ in range(T):
                _, state = network(image, state)
    return {
        layer: np.stack(values).reshape(SAMPLES, T, *values[0].shape).swapaxes(0, 1) for layer, values in found.items()
    }


def by_spikingjelly(path: Path, case: Case) -> Spikes:
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    network = import_from_nir(path, dt=1e-4)
    found, state = watch(network, list(case.spikes)), None
    with torch.no_grad():
        for _ in range(T):
            _, state = network(case.images, state)
    return {layer: np.stack(values) for layer, values in found.items()}


PEERS = {"snntorch": by_snntorch, "spikingjelly": by_spikingjelly, "norse": by_norse}
PAIRS = [
    *((peer, net, "folded") for net in ("lif", "lif 0.3") for peer in PEERS),
    *(
        (peer, net, "r")
        for net in ("lif", "lif 0.3", "residual", "residual ms")
        for peer in ("snntorch", "spikingjelly")
    ),
    *(("spikingjelly", net, "r") for net in ("if", "residual sew")),  # snnTorch reads IF as LIF with a decay of 0.9
    ("norse", "if", "folded"),
    ("spikingjelly", "residual", "folded"),
]


@pytest.mark.parametrize(("peer", "net", "encoding"), PAIRS, ids=lambda value: value.replace(" ", "-"))
def test_importers_fire_the_same_spikes(peer: str, net: str, encoding: Encoding, tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    path.write_bytes(case(net).file(encoding))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        found = PEERS[peer](path, case(net))
    assert {layer: int((found[layer] != spikes).sum()) for layer, spikes in case(net).spikes.items()} == dict.fromkeys(
        case(net).spikes, 0
    )


@pytest.mark.parametrize("encoding", ["r", "folded"])
@pytest.mark.parametrize("net", ["lif", "lif 0.3", "residual"])
def test_our_own_reader_too(net: str, encoding: Encoding) -> None:
    network = NirNetwork(parse_nir(case(net).file(encoding), "net.nir"))
    _, found = network.run(case(net).images.numpy())
    assert found.keys() == case(net).spikes.keys()
    for layer, spikes in case(net).spikes.items():
        np.testing.assert_array_equal(found[layer], spikes, layer)
