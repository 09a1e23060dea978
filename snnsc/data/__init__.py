r"""Data sets: static images and event recordings, from a recipe to batches.

The way of a sample, and the files in its order:

    folders, download -> aedat2, events -> frames  \                      splits    crops, augment, mixing
                         crops, decode             -> parallel, cache  ->  loaders -> batches
                         images                   /                        facts

`loaders` reads the data set that the recipe names (images, image_folder, event_sets, tonic_sets), takes the subsets and
makes the batches; `batches` are a function of (seed, epoch, step) only.
"""

from snnsc.data.batches import EvalBatches, TrainBatches
from snnsc.data.facts import DataFacts
from snnsc.data.loaders import Loaders, build_loaders, resolve_root

__all__ = ["DataFacts", "EvalBatches", "Loaders", "TrainBatches", "build_loaders", "resolve_root"]
