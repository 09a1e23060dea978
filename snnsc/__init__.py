"""Train spiking neural networks with removable shortcut branches, strip the branches, deploy the rest.

The way of the data, left to right, is the way through the folders:

    recipe.load -> data.build_loaders -> model.build_model -> training.train -> checkpoint.save
                                                             -> strip.strip -> export.onnx -> export.verify
                                                             energy: graph -> plan -> counting -> pricing <- model

Public names: `load_recipe`, `build_model`, `load`. They are imported on first use, so `import snnsc` is instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["__version__", "build_model", "load", "load_recipe"]

if TYPE_CHECKING:
    from snnsc.checkpoint import load
    from snnsc.model import build_model
    from snnsc.recipe.load import load_recipe


def __getattr__(name: str) -> object:
    match name:
        case "load_recipe":
            from snnsc.recipe.load import load_recipe

            return load_recipe
        case "build_model":
            from snnsc.model import build_model

            return build_model
        case "load":
            from snnsc.checkpoint import load

            return load
        case _:
            msg = f"module 'snnsc' has no attribute {name!r}"
            raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
