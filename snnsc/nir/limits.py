"""What NIR cannot say, or the reader that a file is for cannot read, of networks of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from snnsc.errors import RecipeError

Encoding: TypeAlias = Literal["r", "folded", "sinabs"]
INSTEAD = "export it as ONNX (--format onnx)"
SHORTEST_DT, LONGEST_DT = 1e-12, 1e6
"""Seconds."""

_WHY = {
    "Soft": "a soft reset, which subtracts the threshold (model.neuron.reset = 'hard' can be said)",
    "Signed": "a normalisation of its membrane with a sign for each channel (mpbn)",
    "CLIF": "clif's second state and reset",
    "GLIF": "glif's gates",
}
"""Part of a function's name -> what it stands for."""


def check_neurons(layer: str, function: str, constants: Mapping[str, float], encoding: Encoding) -> None:
    """Raise RecipeError where a layer of neurons cannot be said.

    Args:
        layer: Its name.
        function: Its function, such as `GainLIF`.
        constants: The function's numbers.
        encoding: For whom it is said, see `encode`.
    """
    for word, what in _WHY.items():
        if word in function:
            raise RecipeError(f"layer {layer}: NIR cannot say {what}; {INSTEAD}")
    gain, decay = constants.get("gain", 1.0), constants.get("decay", 1.0)
    if not (gain > 0 and 0 < decay <= 1):
        raise RecipeError(
            f"layer {layer}: its neurons have decay {decay:g} and input gain {gain:g}; NIR says only decays above 0 up "
            f"to 1 and positive gains; {INSTEAD}"
        )
    if decay == 1 and encoding == "sinabs":
        raise RecipeError(
            f"layer {layer}: Sinabs reads IF neurons with a lowest membrane of -threshold, which these have not; "
            "take --encoding r or folded"
        )


def refuse_rectifiers() -> None:
    """Raise RecipeError for a network of rectifiers."""
    raise RecipeError(f"NIR cannot say rectifiers (relu); {INSTEAD}")


def refuse_step_weights() -> None:
    """Raise RecipeError for logits that are weighed by their time step."""
    raise RecipeError(f"NIR cannot say weights of time steps (method.weighting); {INSTEAD}")


def refuse_joins(where: str) -> None:
    """Raise RecipeError for a sum of two paths in a file for Sinabs."""
    raise RecipeError(
        f"{where}: Sinabs mistakes paths that join, as in residual networks; take --encoding r, or {INSTEAD}"
    )


def check_dt(dt: float) -> None:
    """Raise RecipeError where a time step is no time."""
    if not SHORTEST_DT <= dt <= LONGEST_DT:
        raise RecipeError(f"--dt {dt:g}: must be a number of seconds from {SHORTEST_DT:g} to {LONGEST_DT:g}")
