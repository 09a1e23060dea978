"""Every key that a recipe may have, in words, read off the schema: what `snnsc recipes --keys` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from snnsc.recipe.schema import Recipe


def keys(model: type[BaseModel] = Recipe, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (key path, values and default, description); each member of a union with all of its keys in turn."""
    for name, field in model.model_fields.items():
        key = f"{path}{name}"
        members = [a for a in _members(field.annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not members:
            yield key, _values(field.annotation, field.default), field.description or ""
            continue
        for member in members:
            if field.discriminator:
                tag = member.model_fields[str(field.discriminator)]
                chosen = isinstance(field.default, member)
                what = (member.__doc__ or "").splitlines()[0] + (" The default." if chosen else "")
                yield f"{key}.{field.discriminator}", _values(tag.annotation, PydanticUndefined), what
            for inner in keys(member, f"{key}."):
                if inner[0] != f"{key}.{field.discriminator}":
                    yield inner


def _members(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return tuple(annotation.__args__) if getattr(annotation, "__args__", None) else (annotation,)


def _values(annotation: Any, default: object) -> str:  # noqa: ANN401
    choices = [json.dumps(v) for a in _members(annotation) for v in (_members(a) if get_origin(a) is Literal else (a,))
               if isinstance(v, str | int) and not isinstance(v, type)]  # fmt: skip
    shown = "required" if default is PydanticUndefined else "not set" if default is None else json.dumps(default)
    if not choices:
        return shown
    return " | ".join(choices) + ("" if default is PydanticUndefined else f"   (default {shown})")
