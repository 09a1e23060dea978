"""A model of one time step takes samples alone: states that a file lacks have their initial value."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from snnsc.energy import estimate
from snnsc.errors import DataError, ModelFileError

from .graphs import Builder

STATES = {"lif.v": {"next": "lif.v_next", "shape": ["B", 4], "initial": 0.25}}


def step(path, states: str):
    """x @ w + v / 2 > 1/2, the rest of which is the next v."""
    b = Builder()
    for name, number in {"half": 0.5, "nought": 0.0}.items():
        b.const(name, np.float32(number))
    b.const("w", np.random.default_rng(1).integers(-1, 2, (3, 4)).astype(np.float32))
    b.add("MatMul", ["x", "w"], "current", name="lin")
    b.add("Add", [b.add("Mul", ["lif.v", "half"], "kept"), "current"], "u")
    b.add("Greater", ["u", "half"], "fires")
    b.add("Cast", ["fires"], "spikes", name="lif", to=TensorProto.FLOAT)
    b.add("Where", ["fires", "nought", "u"], "lif.v_next")
    inputs = [("x", TensorProto.FLOAT, ["B", 3]), ("lif.v", TensorProto.FLOAT, ["B", 4])]
    told = {"snnsc.artifact": "step", "snnsc.states": states, "snnsc.input": '{"layout": "TBC"}'}
    onnx.save(b.model(inputs, [("spikes", ["B", 4]), ("lif.v_next", ["B", 4])], metadata=told), path)
    return path


@pytest.mark.parametrize("form", ["x.npy", "x.npz"])
def test_missing_states_are_at_rest(tmp_path, form):
    model = step(tmp_path / "step.onnx", json.dumps(STATES))
    x = np.random.default_rng(2).integers(0, 2, (5, 3)).astype(np.float32)
    np.savez(tmp_path / "all.npz", **{"x": x, "lif.v": np.full((5, 4), 0.25, np.float32)})
    np.save(tmp_path / form, x) if form.endswith("npy") else np.savez(tmp_path / form, x=x)
    given, rest = (estimate(model, tmp_path / name) for name in ("all.npz", form))
    assert rest.counts == given.counts
    assert rest.counts.samples == 5
    assert given.source == str(tmp_path / "all.npz")
    assert rest.source == f"{tmp_path / form}, states at their initial values: 1"


def test_samples_are_still_needed(tmp_path):
    np.savez(tmp_path / "x.npz", **{"lif.v": np.zeros((5, 4), np.float32)})
    with pytest.raises(DataError, match=r"'x' .* is missing"):
        estimate(step(tmp_path / "step.onnx", json.dumps(STATES)), tmp_path / "x.npz")


@pytest.mark.parametrize("states", ['{"lif.v": {}}', '{"lif.v": {"initial": "much"}}', '{"lif.v": 3}', "[1]", "{"])
def test_damaged_states(tmp_path, states):
    np.save(tmp_path / "x.npy", np.zeros((5, 3), np.float32))
    with pytest.raises(ModelFileError, match=r"snnsc\.states is damaged"):
        estimate(step(tmp_path / "step.onnx", states), tmp_path / "x.npy")
