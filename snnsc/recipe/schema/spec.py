"""The base of every table of a recipe, and the types that several of them use."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
Size = Annotated[int, Field(ge=4, le=1024)]
FolderName = Annotated[str, Field(min_length=1)]


class ImpossibleCombination(ValueError):
    """Keys that are each valid but not together; `problems` holds (key path, what is wrong) pairs."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{key}: {what}" for key, what in problems))


class Spec(BaseModel):
    """Base of every table of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)
