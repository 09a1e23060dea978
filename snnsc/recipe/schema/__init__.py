"""What a recipe may say: every key, its type, its bound and one line about it.

A recipe is one experiment. Each choice (data set, architecture, neuron, surrogate, norm, method, optimizer) is a
discriminated union, so a key that does not belong to the chosen member is an error. Everything is frozen and strict.
One file a table of the recipe; `combinations` says what cannot stand together. Nothing here imports torch or numpy:
a recipe error must be instant.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from snnsc.recipe.schema.combinations import impossible_combinations
from snnsc.recipe.schema.data import (
    Cifar10DvsSpec,
    Cifar10Spec,
    Cifar100Spec,
    DataBase,
    DataSpec,
    DigitsSpec,
    Dvs128GestureSpec,
    EventAugment,
    EventBase,
    EventFolderSpec,
    ImageAugment,
    ImageBase,
    ImageFolderSpec,
    ImagenetSpec,
    MnistSpec,
    Ncaltech101Spec,
    NmnistSpec,
)
from snnsc.recipe.schema.method import (
    Attach,
    BranchBase,
    CeSpec,
    CombineBase,
    DistillSpec,
    EvolutionarySpec,
    ImLossSpec,
    LossSpec,
    MaskingSpec,
    MethodBase,
    MethodSpec,
    RampSpec,
    Schedule,
    ShortcutSpec,
    TeacherSpec,
    TetSpec,
    VanillaSpec,
    WeightingSpec,
)
from snnsc.recipe.schema.model import (
    AtanSpec,
    BnSpec,
    BnttSpec,
    CifarNetSpec,
    ClifSpec,
    DietLifSpec,
    DspikeSpec,
    FiringBase,
    GlifSpec,
    IfSpec,
    LifSpec,
    ModelBase,
    ModelSpec,
    MpbnSpec,
    NeuronSpec,
    NormSpec,
    PiecewiseLinearSpec,
    PlifSpec,
    RealSpikeSpec,
    RectangleSpec,
    ReluSpec,
    ResNet19Spec,
    ResNet20Spec,
    ResNetBase,
    ResNetSpec,
    SigmoidSpec,
    SurrogateSpec,
    TanhSpec,
    TdbnSpec,
    TebnSpec,
    ThinResNetSpec,
    TinySpec,
    TriangleSpec,
    VggSnnSpec,
    VggSpec,
)
from snnsc.recipe.schema.spec import ImpossibleCombination, Spec
from snnsc.recipe.schema.train import AdamWSpec, OptimizerSpec, SgdSpec, TrainSpec

__all__ = [
    "AdamWSpec",
    "AtanSpec",
    "Attach",
    "BnSpec",
    "BnttSpec",
    "BranchBase",
    "CeSpec",
    "Cifar10DvsSpec",
    "Cifar10Spec",
    "Cifar100Spec",
    "CifarNetSpec",
    "ClifSpec",
    "CombineBase",
    "DataBase",
    "DataSpec",
    "DietLifSpec",
    "DigitsSpec",
    "DistillSpec",
    "DspikeSpec",
    "Dvs128GestureSpec",
    "EventAugment",
    "EventBase",
    "EventFolderSpec",
    "EvolutionarySpec",
    "FiringBase",
    "GlifSpec",
    "IfSpec",
    "ImLossSpec",
    "ImageAugment",
    "ImageBase",
    "ImageFolderSpec",
    "ImagenetSpec",
    "ImpossibleCombination",
    "LifSpec",
    "LossSpec",
    "MaskingSpec",
    "MethodBase",
    "MethodSpec",
    "MnistSpec",
    "ModelBase",
    "ModelSpec",
    "MpbnSpec",
    "Ncaltech101Spec",
    "NeuronSpec",
    "NmnistSpec",
    "NormSpec",
    "OptimizerSpec",
    "PiecewiseLinearSpec",
    "PlifSpec",
    "RampSpec",
    "RealSpikeSpec",
    "Recipe",
    "RectangleSpec",
    "ReluSpec",
    "ResNet19Spec",
    "ResNet20Spec",
    "ResNetBase",
    "ResNetSpec",
    "Schedule",
    "SgdSpec",
    "ShortcutSpec",
    "SigmoidSpec",
    "Spec",
    "SurrogateSpec",
    "TanhSpec",
    "TdbnSpec",
    "TeacherSpec",
    "TebnSpec",
    "TetSpec",
    "ThinResNetSpec",
    "TinySpec",
    "TrainSpec",
    "TriangleSpec",
    "VanillaSpec",
    "VggSnnSpec",
    "VggSpec",
    "WeightingSpec",
]


class Recipe(Spec):
    """One experiment, whole."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Name of the run folder: letters, digits, dot, dash and underscore."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the weights, the splits, the order of the samples and their augmentation."""
    data: DataSpec
    """What to train on."""
    model: ModelSpec
    """What to train."""
    method: MethodSpec = EvolutionarySpec(mode="evolutionary")
    """How the gradient reaches the shallow layers."""
    train: TrainSpec
    """How to train it."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if problems := list(impossible_combinations(self)):
            raise ImpossibleCombination(problems)
        return self
