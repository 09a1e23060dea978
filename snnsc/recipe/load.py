"""From a TOML file and overrides to a validated recipe, or to every error of the file at once.

text -> tables (tomllib) -> overrides -> Recipe (pydantic), errors as `file: key.path: what is wrong`
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from snnsc.errors import RecipeError
from snnsc.recipe.schema import ImpossibleCombination, Recipe

Key = tuple[str | int, ...]
Tables = dict[str, Any]
TAGS = ("type", "arch", "mode")
"""Keys that choose a member of a union."""
FEW = 4
"""Up to so many values of a key are all named where it has another."""
DEEPEST = 16
"""Levels of tables and arrays that are looked into; a recipe has four."""


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: A TOML file, or the name of a recipe that comes with snnsc, such as `digits`.
        overrides: `key.path=value` strings; the value is TOML, or a bare word taken as a string.

    Raises:
        RecipeError: the file cannot be read, or keys are wrong; the message has one line for each of them.
    """
    text = recipe_text(path)
    try:
        tables = override(tomllib.loads(text), overrides)
    except (ValueError, RecursionError) as e:  # a number of thousands of digits, or nested a thousand deep, too
        raise RecipeError(f"{path}: is not TOML: {e}") from e
    return validate(tables, str(path))


def recipe_text(path: str | Path) -> str:
    """The text of a recipe file, or of the recipe of that name that comes with snnsc.

    Raises:
        RecipeError: there is none, or it cannot be read as text.
    """
    try:
        return find_recipe(path).read_text(encoding="utf-8")
    except OSError as e:  # a name that is too long, too
        raise RecipeError(f"{path}: cannot be read: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise RecipeError(f"{path}: is not UTF-8 text (byte {e.start}); a recipe is a TOML file") from e


def find_recipe(path: str | Path) -> Path:
    """The file at `path`, else the recipe of that name that comes with snnsc."""
    if Path(path).is_file():
        return Path(path)
    shipped = shipped_recipes()
    if str(path) in shipped:
        return shipped[str(path)]
    if Path(path).is_dir():
        raise RecipeError(f"{path}: is a folder; give a recipe file in it")
    near = difflib.get_close_matches(Path(path).stem, shipped, n=1)
    hint = f"did you mean the shipped recipe {near[0]!r}?" if near else "`snnsc recipes` lists those that come with it"
    raise RecipeError(f"{path}: no such recipe file; {hint}")


def shipped_recipes() -> dict[str, Path]:
    """Name to file of the recipes that come with snnsc (in the wheel, or beside the package in a checkout)."""
    package = Path(str(resources.files("snnsc")))
    for folder in (package / "recipes", package.parent / "recipes"):
        if folder.is_dir():
            files = sorted(folder.rglob("*.toml"))
            return {f.relative_to(folder).with_suffix("").as_posix(): f for f in files}
    return {}


def override(tables: Tables, overrides: Sequence[str]) -> Tables:
    """A copy of `tables` with each `key.path=value` set, in order; values follow TOML's own rules.

    Raises:
        RecipeError: an override has no `=`, no key, a value that is no TOML, or goes through a key that is no table.
    """
    tables = copy.deepcopy(tables)
    overridden = {text.partition("=")[0].strip() for text in overrides}
    for text in overrides:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise RecipeError(f"--set {text!r}: is not UTF-8 text")
        key, equals, value = text.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not equals or not all(parts):
            raise RecipeError(f"--set {text}: must be KEY=VALUE, such as train.epochs=5")
        table = tables
        model: type[BaseModel] | None = Recipe
        members: dict[str, type[BaseModel]] = {}
        for i, part in enumerate(parts[:-1]):
            if part not in table and parts[-1] not in TAGS:
                table[part] = _default_tag(model, part)
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise RecipeError(f"--set {text}: {'.'.join(parts[: i + 1])} is a value, it has no keys below it")
            model, members = _chosen(model, part, table)
        table[parts[-1]] = _toml_value(value.strip(), text)
        chosen = members.get(str(table[parts[-1]]))
        if chosen is not None and parts[-1] in TAGS:
            # so that `method.mode=vanilla` is enough to leave out the branches of a recipe that sets their weight
            _drop_foreign(table, chosen, set(members.values()), ".".join(parts[:-1]), overridden)
    return tables


def _default_tag(model: type[BaseModel] | None, part: str) -> Tables:
    """What a table that the file leaves out starts from: the tag of the default, where it is a member of a union.

    So `--set model.surrogate.gamma=2` changes the triangle that the recipe has without saying so.
    """
    field = model.model_fields.get(part) if model else None
    if field is None or not field.discriminator or not isinstance(field.default, BaseModel):
        return {}
    tag = str(field.discriminator)
    return {tag: getattr(field.default, tag)}


def _chosen(
    model: type[BaseModel] | None, part: str, table: Tables
) -> tuple[type[BaseModel] | None, dict[str, type[BaseModel]]]:
    """The model of the table under `part`, by its tag where there are several, and the members of such a union."""
    found, members = _below(model, part)
    return found or next((members[str(table[tag])] for tag in TAGS if str(table.get(tag)) in members), None), members


def _drop_foreign(
    table: Tables, chosen: type[BaseModel], members: set[type[BaseModel]], path: str, overridden: set[str]
) -> None:
    """Delete keys that other members have and the chosen one has not, in its tables too; a misspelled key stays."""
    others = {name for member in members for name in member.model_fields}
    for name in list(table):
        if f"{path}.{name}" in overridden:
            continue
        if name in others and name not in chosen.model_fields:
            del table[name]
        elif isinstance(table[name], dict) and (inner := _below(chosen, name)[0]) is not None:
            siblings = {found for member in members if (found := _below(member, name)[0]) is not None}
            _drop_foreign(table[name], inner, siblings, f"{path}.{name}", overridden)


def _toml_value(value: str, text: str) -> object:
    if not value:
        raise RecipeError(f"--set {text}: has no value; an empty string is '\"\"'")
    try:
        found = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError) as e:
        if value and not set(value) & set("\"'[]{}=\n#"):
            return value  # a bare word, as shells make quoting tiresome; the schema checks it
        raise RecipeError(f"--set {text}: the value is not TOML: {e}") from e
    if len(found) > 1:
        raise RecipeError(f"--set {text}: holds more than one value; give each a --set of its own")
    return found["value"]


def validate(tables: Tables, source: str) -> Recipe:
    """Check the tables of a recipe against the schema.

    Raises:
        RecipeError: one line for every wrong key, `source: key.path: what is wrong (remedy)`.
    """
    problems = list(_unsupported(tables))
    if not problems:
        try:
            return Recipe.model_validate_json(json.dumps(tables))
        except ValidationError:
            pass
    if not any(len(key) > DEEPEST for key, _ in problems):
        problems = _all_problems(tables, problems)
    raise RecipeError(*(f"{source}: {_dotted(key)}: {what}" for key, what in problems))


def _all_problems(tables: Tables, problems: list[tuple[Key, str]]) -> list[tuple[Key, str]]:
    """`problems`, those of pydantic, and those that pydantic reports only once the others are mended.

    Wrong keys are taken out and the rest is checked again, so that an impossible combination shows
    beside a misspelled key. What a removed key alone would cause is not repeated.
    """
    tables = copy.deepcopy(tables)
    removed = {key for key, _ in problems if _remove(tables, key)}
    while True:
        try:
            Recipe.model_validate_json(json.dumps(tables))
        except ValidationError as e:
            found = _problems(e)
        else:
            return problems
        fresh = [(key, what) for key, what in found if key not in removed and (key, what) not in problems]
        problems = problems + fresh
        # a table whose tag was wrong cannot stay without its tag: it goes as a whole
        spoilt = [key for key, _ in fresh] + [key[:-1] for key, _ in found if key in removed and key[:-1]]
        removable = [key for key in spoilt if _remove(tables, key)]
        removed.update(removable)
        if not removable:
            return problems


def _problems(error: ValidationError) -> list[tuple[Key, str]]:
    problems: list[tuple[Key, str]] = []
    for item in error.errors(include_url=False):
        loc, model = _resolve(item["loc"])
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, ImpossibleCombination):
            problems += [((*loc, *key.split(".")), what) for key, what in cause.problems]
        else:
            problems.append(_problem(item["type"], loc, item, model))
    return problems


def _problem(kind: str, loc: Key, item: Any, model: type[BaseModel] | None) -> tuple[Key, str]:  # noqa: ANN401
    ctx = item.get("ctx", {})
    match kind:
        case "extra_forbidden":
            if owners := _owners(str(loc[-1]), model):
                return loc, f"unknown key here; it goes with {', '.join(owners)}"
            names = list(model.model_fields) if model else []
            return loc, "unknown key" + _suggest(str(loc[-1]), names)
        case "model_attributes_type" | "model_type" | "dict_type":
            return loc, f"is a table, not {_shown(item['input'])}; write {_table_of(loc, model)}"
        case "missing":
            return loc, "missing"
        case "union_tag_not_found":
            return (*loc, ctx["discriminator"].strip("'")), "missing"
        case "union_tag_invalid":
            tags = [tag.strip("' ") for tag in ctx["expected_tags"].split(",")]
            return (*loc, ctx["discriminator"].strip("'")), f"unknown value {ctx['tag']!r}" + _suggest(ctx["tag"], tags)
        case "literal_error":
            tags = [tag.strip("' ") for tag in ctx["expected"].replace(" or ", ", ").split(",")]
            found = item["input"]
            shown = repr(found) if isinstance(found, str) else _shown(found)
            known = f" (known: {', '.join(tags)})" if len(tags) <= FEW else _suggest(str(found), tags)
            return loc, f"unknown value {shown}{known}"
        case _:
            what = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            return loc, f"must be {what}, not {_shown(item['input'])}" if what != item["msg"] else what


def _owners(key: str, model: type[BaseModel] | None) -> list[str]:
    """The members of a union that have a key which their fellow `model` has not, as `type = glif, clif`."""
    for tag, members in _unions(Recipe):
        if model in members.values():
            found = [name for name, member in members.items() if key in member.model_fields]
            return [f"{tag} = {', '.join(found)}"] if found else []
    return []


def _unions(model: type[BaseModel]) -> Iterable[tuple[str, dict[str, type[BaseModel]]]]:
    """(tag, members) of every union of the schema below `model`."""
    for name, field in model.model_fields.items():
        inner, members = _below(model, name)
        if members:
            yield str(field.discriminator), members
        for member in {inner, *members.values()} - {None}:
            assert member is not None
            yield from _unions(member)


def _table_of(loc: Key, model: type[BaseModel] | None) -> str:
    """How the table at `loc`, a field of `model`, is written in a file and on the command line."""
    key = _dotted(loc)
    field = model.model_fields.get(str(loc[-1])) if model else None
    members = _below(model, loc[-1])[1]
    if field is not None and members:
        return f"{key}.{field.discriminator} = ..., one of {', '.join(members)}"
    inner = _below(model, loc[-1])[0]
    required = [name for name, f in inner.model_fields.items() if f.is_required()] if inner else []
    return f"{key} = {{}} for its defaults" if inner and not required else f"{key}.{(required or ['KEY'])[0]} = ..."


def _suggest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f" (did you mean {near[0]!r}?)"
    return f" (known: {', '.join(known)})" if known else ""


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _resolve(loc: tuple[str | int, ...]) -> tuple[Key, type[BaseModel] | None]:
    """A location of pydantic without union tags, and the model whose key the last part names.

    A tag stands in the location although it is no key of the file: it is the part that names a member of a union.
    """
    key: list[str | int] = []
    owner: type[BaseModel] | None = None
    model: type[BaseModel] | None = Recipe
    members: dict[str, type[BaseModel]] = {}
    for part in loc:
        if part in members:
            model, members = members[str(part)], {}
            continue
        key.append(part)
        owner = model
        model, members = _below(model, part)
    return tuple(key), owner


def _below(model: type[BaseModel] | None, part: str | int) -> tuple[type[BaseModel] | None, dict[str, type[BaseModel]]]:
    """The model behind one key of `model`, or the tagged members when it is a union."""
    field = model.model_fields.get(str(part)) if model else None
    if field is None:
        return None, {}
    annotation: Any = field.annotation
    if not field.discriminator:  # a table, perhaps one that may be left out
        options = getattr(annotation, "__args__", (annotation,))
        return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None), {}
    members = {
        tag: member
        for member in annotation.__args__
        for tag in member.model_fields[str(field.discriminator)].annotation.__args__
    }
    return None, members


def _remove(tables: Tables, key: Key) -> bool:
    """Delete the value at `key`; whether there was one."""
    table: Any = tables
    for part in key[:-1]:
        try:
            table = table[part]
        except (KeyError, IndexError, TypeError):
            return False
    if isinstance(table, dict) and key and key[-1] in table:
        del table[key[-1]]
        return True
    if isinstance(table, list):  # a wrong element spoils its list: the caller's next round takes the list out
        return _remove(tables, key[:-1])
    return False


def _unsupported(value: object, key: Key = ()) -> Iterable[tuple[Key, str]]:
    """TOML values that no key of a recipe takes and that JSON cannot carry."""
    if len(key) > DEEPEST:
        yield key, "is nested too deeply"
        return
    match value:
        case dict():
            for name, inner in value.items():
                yield from _unsupported(inner, (*key, name))
        case list():
            for i, inner in enumerate(value):
                yield from _unsupported(inner, (*key, i))
        case float() if not math.isfinite(value):
            yield key, f"must be a finite number, not {value}"
        case int() if value.bit_length() > 64:
            yield key, "must be a number of at most 64 bits"
        case str() | int() | float():
            pass
        case _:
            yield key, f"no key takes a date or time, such as {value}"


def _dotted(key: Key) -> str:
    parts = [str(part) for part in key]  # quoted as in TOML where a part is no bare word
    return ".".join(p if re.fullmatch(r"[\w-]+", p) else json.dumps(p, ensure_ascii=False) for p in parts) or "recipe"


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML, every key spelled out; `load_recipe` reads it back equal."""
    return "\n".join(_toml_lines(recipe.model_dump(mode="json", exclude_none=True), ())) + "\n"


def _toml_lines(table: Tables, path: tuple[str, ...]) -> Iterable[str]:
    values = {name: value for name, value in table.items() if not isinstance(value, dict)}
    if path and values:
        yield f"\n[{'.'.join(path)}]"
    for name, value in values.items():
        # JSON's scalars and arrays are TOML's, but for one control character that TOML wants escaped
        yield f"{name} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _toml_lines(value, (*path, name))
