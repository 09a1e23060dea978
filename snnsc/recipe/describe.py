"""Every key that a recipe may have, in words, read off the schema: what `snnsc recipes --keys` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from snnsc.recipe.schema import Recipe


def keys(model: type[BaseModel] = Recipe, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (key path, default as TOML or "required", description), members of a union one after the other."""
    seen: set[str] = set()
    for name, field in model.model_fields.items():
        key = f"{path}{name}"
        members = [a for a in _members(field.annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not members:
            yield key, _default(field.default), field.description or ""
            continue
        for member in members:
            tag = member.model_fields.get(str(field.discriminator)) if field.discriminator else None
            if tag is not None:
                values = " | ".join(json.dumps(v) for v in tag.annotation.__args__)  # type: ignore[union-attr]
                yield f"{key}.{field.discriminator}", values, (member.__doc__ or "").splitlines()[0]
            for inner in keys(member, f"{key}."):
                if inner[0] != f"{key}.{field.discriminator}" and str(inner) not in seen:
                    seen.add(str(inner))
                    yield inner


def _members(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return tuple(annotation.__args__) if getattr(annotation, "__args__", None) else (annotation,)


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "required"
    return "none" if value is None else json.dumps(value)
