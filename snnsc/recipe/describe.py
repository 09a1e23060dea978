"""Every key that a recipe may have, in words, read off the schema: what `snnsc recipes --keys` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from snnsc.recipe.schema import Recipe


def keys() -> Iterator[tuple[str, str, str]]:
    """Yield (key path, values and default, description); each member of a union with all of its keys in turn.

    Nothing is said twice: what members of a union have in common stands under the first, and the others name it.
    """
    yield from _keys(Recipe, "", set())


def _keys(model: type[BaseModel], path: str, said: set[object]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        if _entry(path, name, field) in said:
            continue
        said.add(_entry(path, name, field))
        key, tag = f"{path}{name}", field.discriminator
        members = _models(field.annotation)
        if not members:
            yield key, _values(field.annotation, field.default), " ".join((field.description or "").split())
        for member in members:
            shared = [n for n, f in member.model_fields.items() if n != tag and _entry(f"{key}.", n, f) in said]
            above = f"Also, as above: {', '.join(shared)}." if shared else ""
            if isinstance(tag, str):
                said.add(_entry(f"{key}.", tag, member.model_fields[tag]))
                chosen = "The default." if isinstance(field.default, member) else ""
                what = " ".join(filter(None, [(member.__doc__ or "").splitlines()[0], chosen, above]))
                yield f"{key}.{tag}", _values(member.model_fields[tag].annotation, PydanticUndefined), what
            elif above or field.default is None:
                yield key, "not set" if field.default is None else "{}", f"{field.description} {above}".strip()
            yield from _keys(member, f"{key}.", said)


def _entry(path: str, name: str, field: FieldInfo) -> object:
    """What is the same where the same would be said: key, type with all below it, default and description."""
    return f"{path}{name}", repr(field.annotation), repr(field.default), field.description


def _models(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401
    return [a for a in _members(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]


def _members(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return tuple(annotation.__args__) if getattr(annotation, "__args__", None) else (annotation,)


def _values(annotation: Any, default: object) -> str:  # noqa: ANN401
    choices = [json.dumps(v) for a in _members(annotation) for v in (_members(a) if get_origin(a) is Literal else (a,))
               if isinstance(v, str | int) and not isinstance(v, type)]  # fmt: skip
    shown = "required" if default is PydanticUndefined else "not set" if default is None else json.dumps(default)
    if not choices:
        return shown
    return " | ".join(choices) + ("" if default is PydanticUndefined else f"   (default {shown})")
