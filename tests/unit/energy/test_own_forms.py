"""Every form that `snnsc export` writes counts as the plain one does: inlined, one step, 8 bits."""

from __future__ import annotations

import json

import numpy as np
import pytest

from snnsc.energy import Counts, count, load_targets, read_graph

torch = pytest.importorskip("torch")

from snnsc.export.fold import fold  # noqa: E402
from snnsc.export.inline import inline  # noqa: E402
from snnsc.export.metadata import set_metadata, step_entries  # noqa: E402
from snnsc.export.onnx import to_onnx  # noqa: E402
from snnsc.export.quantize import quantize  # noqa: E402
from snnsc.export.step import to_step  # noqa: E402
from snnsc.model import build_model  # noqa: E402

NEURONS = ["lif,reset='soft'", "if", "plif", "glif", "clif"]


def network(make_recipe, *overrides: str):
    """A folded network with random weights that fires, its recipe and samples."""
    torch.manual_seed(0)
    recipe = make_recipe("model.T=3", *overrides)
    net = build_model(recipe).eval()
    with torch.no_grad():
        for weight in net.parameters():
            if weight.dim() > 1:
                weight.mul_(2)
    folded, _ = fold(net)
    images = 2 * np.random.default_rng(0).random((4, 1, 8, 8)).astype(np.float32)
    return folded, recipe, images


def whole(folded, recipe):
    model = to_onnx(folded, recipe)
    set_metadata(model, {"snnsc.T": str(recipe.model.T), "snnsc.input": json.dumps({"layout": "BCHW"})})
    return model


@pytest.fixture(scope="module")
def lif(make_recipe):
    """The plain form with LIF: network, recipe, images, model, counts."""
    folded, recipe, images = network(make_recipe)
    model = whole(folded, recipe)
    return folded, recipe, images, model, count(read_graph(model), [{"images": images}])


def measured(counts: Counts) -> list[tuple[dict, dict]]:
    """What every row counted, and at which time steps; operators of inlined neurons are others."""
    return [(row.stats, row.steps) for row in counts.layers]


def check_inlined(model, plain: Counts, images: np.ndarray) -> None:
    inlined = count(read_graph(inline(model)), [{"images": images}])
    assert not inlined.not_counted
    assert not inlined.violations
    assert measured(inlined) == measured(plain)
    assert [row.name for row in inlined.layers] == [row.name for row in plain.layers]
    assert sum(row.stats["spikes"].total for row in plain.layers if "spikes" in row.stats) > 100
    target = next(target for target in load_targets() if target.name == "horowitz-fp32")
    for row, told in zip(inlined.layers, plain.layers, strict=True):
        if "neuron_updates" in row.stats and told.op in target.neuron:
            update = target.neuron[told.op]
            assert (row.op, row.facts["arithmetic"]) == ("spike", [update.multiplies, update.adds])


def test_inlined_counts_as_the_plain_form(lif):
    _, _, images, model, plain = lif
    check_inlined(model, plain, images)


@pytest.mark.slow
@pytest.mark.parametrize("neuron", NEURONS)
def test_inlined_counts_as_the_plain_form_of_every_neuron(make_recipe, neuron):
    kind, _, reset = neuron.partition(",")
    folded, recipe, images = network(make_recipe, f"model.neuron={{type='{kind}'{',' + reset if reset else ''}}}")
    model = whole(folded, recipe)
    check_inlined(model, count(read_graph(model), [{"images": images}]), images)


def test_one_step_from_rest_counts_as_the_first_step(lif):
    folded, recipe, images, _, plain = lif
    model = to_step(folded, recipe)
    layout = {"snnsc.T": "3", "snnsc.input": json.dumps({"layout": "TBCHW"})}
    set_metadata(model, layout | step_entries(model))
    for step in (model, inline(model)):
        graph = read_graph(step)
        assert {i.batch_axis for i in graph.inputs} == {0}
        rest = {i.name: np.zeros((4, *i.dims[1:]), np.float32) for i in graph.inputs}
        counts = count(graph, [rest | {"image": images}])
        assert not counts.not_counted
        first = {row.name: row for row in plain.layers}
        rows = [row for row in counts.layers if row.op in ("Conv", "MatMul")]
        assert len(rows) == 4
        for row in rows:
            assert row.stats["events"].total == first[row.name].steps["events"][0]
        neurons = [row for row in counts.layers if "neuron_updates" in row.stats]
        assert [row.name for row in neurons] == [row.name for row in plain.layers if "spikes" in row.stats]
        spikes = [row.steps["spikes"][0] for row in plain.layers if "spikes" in row.steps]
        assert [row.stats["spikes"].total for row in neurons] == spikes
        assert {row.op for row in neurons} == {"LIF" if step is model else "spike"}


def test_eight_bits_keep_spikes(lif):
    _, _, images, model, plain = lif
    counts = count(read_graph(quantize(model, [images], "images")), [{"images": images}])
    assert not counts.not_counted
    assert not counts.violations
    rows, before = ({row.name: row for row in c.layers} for c in (counts, plain))
    assert rows.keys() == before.keys()
    assert [row.input_kind for row in counts.layers] == [row.input_kind for row in plain.layers]
    assert [row.stats.get("dense_macs") for row in counts.layers] == [
        row.stats.get("dense_macs") for row in plain.layers
    ]
    bits = {name: row.facts["weight_bits"] for name, row in rows.items() if row.op in ("Conv", "MatMul")}
    assert sorted(bits.values()) == [8, 8, 8, 32], "the layer that reads a real image stays float32"
    spikes = rows["stem.neurons.0"].stats["spikes"].total
    assert spikes == before["stem.neurons.0"].stats["spikes"].total > 0
