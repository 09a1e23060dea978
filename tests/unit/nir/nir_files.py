"""NIR files as other programs write them, good and bad."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

Nodes = dict[str, dict[str, object]]
Edges = list[tuple[str, str]]


def write(path: Path, nodes: Nodes, edges: Edges | None = None, **root: object) -> Path:
    """A file with these nodes; without edges one after the other."""
    names = list(nodes)
    with h5py.File(path, "w") as file:
        file["version"] = "1.0"
        graph(file.create_group("node"), nodes, list(pairwise(names)) if edges is None else edges)
        for name, value in root.items():
            file[f"node/metadata/{name}"] = value
    return path


def graph(group: h5py.Group, nodes: Nodes, edges: Edges) -> None:
    group["type"] = "NIRGraph"
    group.create_dataset("edges", data=np.array(edges, object).reshape(-1, 2), dtype=h5py.string_dtype())
    inside = group.create_group("nodes")
    for name, node in nodes.items():
        made = inside.create_group(name)
        if "nodes" in node:
            graph(made, node["nodes"], node["edges"])
            continue
        for key, value in node.items():
            made[key] = value


def entry(*shape: int) -> dict[str, object]:
    return {"type": "Input", "shape": np.array(shape)}


def end(*shape: int) -> dict[str, object]:
    return {"type": "Output", "shape": np.array(shape)}


def affine(weight: object, bias: object) -> dict[str, object]:
    return {"type": "Affine", "weight": np.array(weight, float), "bias": np.array(bias, float)}


def conv(weight: np.ndarray, **changed: object) -> dict[str, object]:
    ones = np.array([1, 1])
    return {
        "type": "Conv2d",
        "weight": weight,
        "bias": np.zeros(len(weight)),
        "stride": ones,
        "padding": 0 * ones,
        "dilation": ones,
        "groups": 1,
        **changed,
    }


def pool(kind: str, kernel: int = 2, stride: int = 2, padding: int = 0) -> dict[str, object]:
    sizes = {"kernel_size": kernel, "stride": stride, "padding": padding}
    return {"type": kind, **{key: np.array([value, value]) for key, value in sizes.items()}}


def flatten(start: int = 0, last: int = -1) -> dict[str, object]:
    return {"type": "Flatten", "start_dim": start, "end_dim": last}


def neurons(kind: str, **constants: object) -> dict[str, object]:
    return {"type": kind, **{key: np.asarray(value, float) for key, value in constants.items()}}


def lif(*shape: int, tau: float = 2e-4, r: float = 2.0, **changed: object) -> dict[str, object]:
    """Decay 1/2 and gain 1 at the default time step."""
    constants = {"tau": tau, "r": r, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **changed}
    return neurons("LIF", **{key: np.broadcast_to(value, shape) for key, value in constants.items()})


def small(**changed: dict[str, object]) -> Nodes:
    """Input [2] -> Affine -> LIF [3] -> Output."""
    nodes = {"input": entry(2), "fc": affine(np.ones((3, 2)), np.zeros(3)), "lif": lif(3), "output": end(3)}
    return nodes | changed
