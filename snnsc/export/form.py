"""What can be written: a format, and what is done to the network on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from snnsc.errors import RecipeError
from snnsc.nir.limits import Encoding, check_dt

Format = Literal["onnx", "step", "nir", "c"]

ENCODING: Encoding = "r"
"""Default way to say the neurons' equation in NIR."""
DT = 1e-4
"""Default length of a time step in seconds."""


@dataclass(frozen=True)
class Form:
    """What an export writes.

    Attributes:
        format: `onnx` the whole sequence, `step` one time step with states in and out, `nir`, `c` a step as C99.
        inline: Standard operators in place of the neurons' functions (onnx, step).
        int8: Weights and activations of 8 bits, calibrated on training samples (onnx).
        exact_grid: Weights and inputs on grids on which float32 sums are exact in any order.
        encoding: How NIR says the neurons' equation; None for the default, as for every other format.
        dt: Length of a time step in seconds, for NIR; None for the default, as for every other format.

    Raises:
        RecipeError: two of these do not go together.
    """

    format: Format = "onnx"
    inline: bool = False
    int8: bool = False
    exact_grid: bool = False
    encoding: Encoding | None = None
    dt: float | None = None

    def __post_init__(self) -> None:
        if self.inline and self.format not in ("onnx", "step"):
            raise RecipeError(f"--inline: goes with --format onnx or step, not {self.format}")
        if self.int8 and self.format != "onnx":
            raise RecipeError(f"--int8: goes with --format onnx, not {self.format}")
        if self.int8 and self.inline:
            raise RecipeError("--int8 and --inline: tools that know no functions know no quantized operators either")
        for option, said in (("--encoding", self.encoding), ("--dt", self.dt)):
            if said is not None and self.format != "nir":
                raise RecipeError(f"{option} {said}: goes with --format nir, not {self.format}; leave it out")
        if self.int8 and self.exact_grid:
            raise RecipeError("--int8 and --exact-grid: one rounds to 8 bits, the other to exact sums; choose one")
        if self.format == "nir" and self.exact_grid:
            raise RecipeError(
                "--exact-grid: NIR has differential equations, whose readers round; take another --format"
            )
        check_dt(self.nir[1])

    @property
    def nir(self) -> tuple[Encoding, float]:
        """Encoding and length of a time step."""
        return self.encoding or ENCODING, DT if self.dt is None else self.dt

    @property
    def file_name(self) -> str:
        """Default name of what is written; for C that of a folder."""
        words = {"exact": self.exact_grid, "int8": self.int8, "inline": self.inline}
        variant = "".join(f".{word}" for word, said in words.items() if said)
        match self.format:
            case "onnx":
                return f"model{variant}.onnx"
            case "step":
                return f"model.step{variant}.onnx"
            case "nir":
                return f"model{variant}.nir"
            case "c":
                return f"model_c{variant.replace('.', '_')}"

    @property
    def is_plain(self) -> bool:
        """Whether it is the trained network itself, of the whole sequence, to which `energy.json` belongs."""
        return self.format == "onnx" and not (self.int8 or self.exact_grid or self.inline)

    def beside(self, checkpoint: Path) -> Path:
        """Where it is written by default."""
        return checkpoint.with_name(self.file_name)
