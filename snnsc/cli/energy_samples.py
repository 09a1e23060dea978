"""What `snnsc energy --inputs` names: a file of samples, or a recipe whose evaluation set is taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from snnsc.errors import DataError, RecipeError
from snnsc.files import is_file

if TYPE_CHECKING:
    import numpy as np

    from snnsc.energy.counting.inputs import Samples
    from snnsc.energy.graph.graph import Graph


def find_samples(inputs: str | None, data_root: Path | None) -> Path | Samples | None:
    """A file as its path, the data of a recipe ready to be read.

    Args:
        inputs: A file of arrays; a recipe, a .toml file or the name of one that ships; or None.
        data_root: Of the recipe's data, as the option says.

    Raises:
        RecipeError: the recipe is wrong, or `data_root` is told without one.
        DataError: the recipe's data are missing or damaged.
    """
    if inputs is not None and _is_recipe(inputs):
        return _of_recipe(inputs, data_root)
    if data_root is not None:
        raise RecipeError(f"--data-root {data_root}: goes with --inputs RECIPE; leave it out")
    return None if inputs is None else Path(inputs)


def _is_recipe(inputs: str) -> bool:
    from snnsc.recipe.load import shipped_recipes

    return Path(inputs).suffix == ".toml" or (inputs in shipped_recipes() and not is_file(Path(inputs)))


def _of_recipe(name: str, data_root: Path | None) -> Samples:
    import numpy as np

    from snnsc.cli.samples import evaluation_set
    from snnsc.energy.counting.inputs import Samples
    from snnsc.recipe.load import load_recipe

    recipe = load_recipe(name)
    data = evaluation_set(recipe, data_root)

    def batches(graph: Graph) -> Iterator[dict[str, np.ndarray]]:
        if len(graph.inputs) != 1:
            raise DataError(f"{graph.source}: takes {len(graph.inputs)} inputs, a recipe's data are one; give an .npz")
        (taken,) = graph.inputs
        held = recipe.model.T if taken.batch_axis == 1 and not recipe.data.is_event else None
        for inputs, _ in data.test.batches():
            array = inputs.numpy()
            yield {taken.name: array if held is None else np.broadcast_to(array, (held, *array.shape))}

    return Samples(name, batches)
