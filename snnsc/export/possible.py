"""Can a form be made of a network? What the checkpoint alone tells, before samples are read and anything is traced.

The conditions and their words are those of the places that make a form, which hold them once more; what only a graph
shows, such as a sum too long for the exact grid, is found there.
"""

from __future__ import annotations

from snnsc.checkpoint import Checkpoint
from snnsc.export.c import need_generator
from snnsc.export.fold import fold
from snnsc.export.form import Form
from snnsc.export.grid import exact
from snnsc.export.step import check_same_steps
from snnsc.export.trace import neuron_calls
from snnsc.model import SpikingNetwork
from snnsc.neuron_functions import Call
from snnsc.nir import limits
from snnsc.nir.hdf5 import need_h5py
from snnsc.recipe.schema.model import ResNetBase


def check_possible(source: Checkpoint, form: Form) -> None:
    """Check a form against the network of a checkpoint: its recipe and what its neurons learned.

    Raises:
        RecipeError: the form cannot be made of such a network, or a package for it is not installed.
        CheckError: a neuron learned what no form can express.
        ModelFileError: the weights are not those of the recipe.
    """
    if form.format == "nir":
        need_h5py()
    if form.format == "c":
        need_generator()
    network, _ = fold(source.build(branches=False, compiled=False))
    calls = neuron_calls(network)
    if form.format != "onnx":
        check_same_steps(network)
    if form.format == "nir":
        _check_nir(network, calls, form, source)
    if form.exact_grid:
        if not calls:
            exact.refuse_rectifiers()
        for layer, made in calls.items():
            exact.neuron_powers(layer, made.name, made.attributes)


def _check_nir(network: SpikingNetwork, calls: dict[str, Call], form: Form, source: Checkpoint) -> None:
    model = source.recipe.model
    if not calls:
        limits.refuse_rectifiers()
    if network.step_weights is not None:
        limits.refuse_step_weights()
    if form.nir[0] == "sinabs" and isinstance(model, ResNetBase):
        limits.refuse_joins(f"model.arch = {model.arch!r}")
    for layer, made in calls.items():
        limits.check_neurons(layer, made.name, made.attributes, form.nir[0])
