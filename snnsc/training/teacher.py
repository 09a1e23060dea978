"""Knowledge distillation: a trained network whose softened outputs the head learns from.

Legend: T time steps, B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from snnsc import checkpoint
from snnsc.checkpoint import Checkpoint, check_time_steps
from snnsc.errors import ModelFileError, RecipeError, SnnscError
from snnsc.model import SpikingNetwork
from snnsc.recipe.schema import Recipe, TeacherSpec
from snnsc.training.losses import kl_divergence

KEY = "method.teacher.checkpoint"


class Teacher:
    """A trained network that teaches.

    Args:
        network: It, in evaluation mode, on the device where it is used.
        path: The file that it came from.
        sha256: Of that file.
        weight: Factor on the loss.
        temperature: Of both softmaxes.
    """

    def __init__(self, network: SpikingNetwork, *, path: Path, sha256: str, weight: float, temperature: float) -> None:
        self.network = network.requires_grad_(False)
        self.path, self.sha256 = path, sha256
        self.weight, self.temperature = weight, temperature

    def logits(self, inputs: Tensor) -> Tensor:
        """What it says of the student's inputs: logits [B, K], averaged over its time steps; without gradient."""
        with torch.no_grad():
            logits_BK: Tensor = self.network(inputs)
        return logits_BK

    def loss(self, taught_BK: Tensor, student_BK: Tensor) -> Tensor:
        """The weighted KL from teacher to student: weight * temperature^2 * KL(teacher, student), mean over the batch.

        Source: Hinton et al., Distilling the Knowledge in a Neural Network (arXiv 1503.02531); Xu et al., Constructing
        Deep SNNs from ANNs with Knowledge Distillation, CVPR 2023, for an ANN that teaches a spiking network.
        """
        kl_B = kl_divergence(taught_BK, student_BK, self.temperature)
        return self.weight * self.temperature**2 * kl_B.mean()


def load_teacher(spec: TeacherSpec, recipe: Recipe, facts: Mapping[str, object], device: torch.device) -> Teacher:
    """The teacher that a recipe names; its path is looked up from the current folder.

    Args:
        spec: Which, and how much it counts.
        recipe: The student's.
        facts: About the student's data, as `DataFacts.to_dict` gives them.
        device: Where to put it.

    Raises:
        ModelFileError: the file is missing or is no checkpoint.
        RecipeError: it was made for other classes or other inputs.
    """
    path = Path(spec.checkpoint)
    source = read_teacher(spec)
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if problem := next(_differences(source, recipe, facts), None):
            raise RecipeError(f"{path}: {problem}; a teacher must know the student's classes and see its inputs")
        network = source.build(branches=False, compiled=recipe.train.compile != "off")
        if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
            raise ModelFileError(f"{path}: its weights are not finite numbers, so it has nothing to teach")
    except SnnscError as e:
        raise type(e)(f"{KEY}: {e}") from e
    except OSError as e:
        raise ModelFileError(f"{KEY}: {path}: cannot be read: {e.strerror or e}") from e
    return Teacher(network.to(device), path=path, sha256=sha256, weight=spec.weight, temperature=spec.temperature)


def read_teacher(spec: TeacherSpec) -> Checkpoint:
    """The teacher's checkpoint; called before any data are read, too, as a wrong path is found at once.

    Raises:
        ModelFileError: the file is missing or is no checkpoint.
    """
    try:
        return checkpoint.read(Path(spec.checkpoint))
    except ModelFileError as e:
        where = "" if Path(spec.checkpoint).is_absolute() else f" (the path is looked up from {Path.cwd()})"
        raise ModelFileError(f"{KEY}: {e}{where}") from e


def _differences(teacher: Checkpoint, recipe: Recipe, facts: Mapping[str, object]) -> Iterator[str]:
    """What the teacher was trained for and the student is not."""
    theirs, ours = teacher.recipe.data, recipe.data
    if theirs.classes != ours.classes:
        yield f"was trained on {theirs.classes} classes, the data has {ours.classes}"
    if len(_names(teacher.facts)) != len(_names(facts)):
        yield f"has {len(_names(teacher.facts))} class names, the data has {len(_names(facts))}"
    for label, (was, is_) in enumerate(zip(_names(teacher.facts), _names(facts), strict=False)):
        if was != is_:
            yield f"was trained on other classes: its class {label} is {was!r}, the data's is {is_!r}"
    for key in ("is_event", "channels", "size", "slicing"):
        was, is_ = getattr(theirs, key, None), getattr(ours, key, None)
        if was != is_:
            yield f"was trained with data.{key} = {was}, the recipe has {is_}"
    if ours.is_event:  # it is given the student's frames
        try:
            check_time_steps(teacher.recipe, recipe.model.T)
        except RecipeError as e:
            yield str(e)
    for key in ("mean", "std"):
        if teacher.facts[key] != facts[key]:
            yield f"was trained on images normalised by {key} {teacher.facts[key]}, the data is by {facts[key]}"


def _names(facts: Mapping[str, object]) -> list[object]:
    names = facts["classes"]
    return list(names) if isinstance(names, list | tuple) else [names]
