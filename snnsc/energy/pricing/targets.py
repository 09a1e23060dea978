"""From a target file to a checked target, or to every error of the file at once.

text -> tables (tomllib) -> Target (pydantic, see `schema`), errors as `file: key.path: what is wrong`
"""

from __future__ import annotations

import difflib
import functools
import json
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from snnsc.energy.graph.paths import file_size
from snnsc.energy.pricing.schema import (
    ArithmeticTarget,
    EventTarget,
    MemoryTarget,
    NotPublishedTarget,
    Quantity,
    Target,
)
from snnsc.errors import RecipeError
from snnsc.recipe.schema.spec import ImpossibleCombination

_MEMBERS: dict[str, type[BaseModel]] = {
    "arithmetic": ArithmeticTarget,
    "memory": MemoryTarget,
    "event": EventTarget,
    "not-published": NotPublishedTarget,
}
_KINDS = tuple(_MEMBERS)
_ADAPTER: TypeAdapter[Target] = TypeAdapter(Annotated[Target, Field(discriminator="kind")])


def load_targets(extra: Path | None = None) -> tuple[Target, ...]:
    """Every target that ships, and a user's own: arithmetic first, then memory, event and not published ones.

    Raises:
        RecipeError: The user's file is wrong, or has the name of one that ships.
    """
    shipped = _shipped()
    if extra is None:
        return shipped
    own = read_target(extra)
    taken = next((target.name for target in shipped if target.name.lower() == own.name.lower()), None)
    if taken is not None:
        also = "" if taken == own.name else f" (as {taken!r})"
        raise RecipeError(f"{extra}: name: {own.name!r} is a target that comes with snnsc{also}; choose another name")
    return (*shipped, own)


def find_targets(names: Sequence[str]) -> tuple[Target, ...]:
    """Targets by name, or by file where it ends in `.toml`.

    Raises:
        RecipeError: There is none of that name, or a file is wrong.
    """
    shipped = {target.name: target for target in _shipped()}
    found: dict[str, Target] = {}
    for name in names:
        if name.endswith(".toml"):
            target = load_targets(Path(name))[-1]
        elif name in shipped:
            target = shipped[name]
        else:
            known = ", ".join(shipped)
            raise RecipeError(f"target {name!r} does not exist; there are {known}, or give a .toml file of your own")
        if found.setdefault(target.name, target) != target:
            raise RecipeError(f"{name}: name: {target.name!r} is the name of another target that you gave")
    return tuple(found.values())


def read_target(path: Path) -> Target:
    """Read and check one file.

    Raises:
        RecipeError: The file cannot be read, or keys are wrong; the message has one line for each of them.
    """
    size = file_size(path, RecipeError, "give a .toml file")
    if size > _LARGEST_FILE:
        raise RecipeError(f"{path}: {size:,} bytes are more than a target takes, {_LARGEST_FILE:,}; give a .toml file")
    try:
        return _parse(path.read_text(encoding="utf-8-sig"), str(path))
    except OSError as e:
        raise RecipeError(f"{path}: cannot be read: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise RecipeError(f"{path}: is not UTF-8 text: {e.reason}") from e


@functools.cache
def _shipped() -> tuple[Target, ...]:
    folder = resources.files("snnsc.energy.pricing") / "targets"
    files = [file for file in folder.iterdir() if file.name.endswith(".toml")]
    targets = [_parse(file.read_text(encoding="utf-8"), file.name) for file in files]
    return tuple(sorted(targets, key=lambda target: (_KINDS.index(target.kind), target.name)))


def _parse(text: str, source: str) -> Target:
    try:
        tables = tomllib.loads(text)
        return _ADAPTER.validate_json(json.dumps(tables, default=str))
    except ValidationError as e:
        lines = [line for item in e.errors(include_url=False) for line in _lines(item)]
        raise RecipeError(*(f"{source}: {line}" for line in lines)) from e
    except (ValueError, RecursionError) as e:  # a number of thousands of digits, or nested a thousand deep, too
        raise RecipeError(f"{source}: is not TOML: {' '.join(str(e).split())[:200]}") from e


def _lines(item: Any) -> list[str]:  # noqa: ANN401
    """One error of pydantic as `key.path: what is wrong`; several where keys cannot stand together."""
    loc, model = _resolve(item["loc"])
    where = ".".join(map(str, loc))
    context = item.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, ImpossibleCombination):
        return [f"{'.'.join(filter(None, (where, key)))}: {what}" for key, what in cause.problems]
    match item["type"]:
        case "extra_forbidden":
            known = list(model.model_fields) if model else []
            near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            return [f"{where}: unknown key ({hint})"]
        case "missing":
            needed = f"; a number is a table: {_EXAMPLE}" if _is_quantity(model, loc) else ""
            return [f"{where}: missing{needed}"]
        case "union_tag_not_found" | "union_tag_invalid":
            return [
                f"kind: must be one of {', '.join(_KINDS)}" + (f", not {context['tag']!r}" if "tag" in context else "")
            ]
        case "string_pattern_mismatch" if context["pattern"] == r"\S":
            return [f"{where}: must be some words, not {_shown(item['input'])}"]
        case "model_type" | "model_attributes_type":
            return [f"{where}: must be a table such as {_EXAMPLE}, not {_shown(item['input'])}"]
        case _:
            what = item["msg"].removeprefix("Input should be ")
            return [
                f"{where}: must be {what}, not {_shown(item['input'])}" if what != item["msg"] else f"{where}: {what}"
            ]


_LARGEST_FILE = 2**16
_EXAMPLE = '{ value = 1.0, unit = "pJ", source = "...", process = "28 nm", voltage = 0.9, grade = "measured" }'


def _resolve(loc: tuple[str | int, ...]) -> tuple[tuple[str | int, ...], type[BaseModel] | None]:
    """A location without the tag of the union, and the model whose key its last part is."""
    if not loc or loc[0] not in _MEMBERS:
        return loc, None
    model: type[BaseModel] | None = _MEMBERS[str(loc[0])]
    for part in loc[1:-1]:
        model = _below(model, part)
    return loc[1:], model


def _below(model: type[BaseModel] | None, part: str | int) -> type[BaseModel] | None:
    field = model.model_fields.get(str(part)) if model else None
    options = getattr(field.annotation, "__args__", (field.annotation,)) if field else ()
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _is_quantity(model: type[BaseModel] | None, loc: tuple[str | int, ...]) -> bool:
    inner = _below(model, loc[-1])
    return inner is not None and issubclass(inner, Quantity)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
