"""Dependencies point one way, the command line starts at once, and the public surface is frozen."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import snnsc
from snnsc import errors

PACKAGE = Path(snnsc.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# part of the package -> parts of the package that it may import besides itself (architecture.md, drawn there)
MAY_IMPORT = {
    "errors": set(),
    "recipe": {"errors"},
    "processes": set(),
    "files": {"errors", "processes"},
    "file_format": {"errors"},
    "lock": set(),
    "neuron_functions": set(),
    "sessions": {"errors"},
    "nir": {"errors", "files", "file_format", "neuron_functions", "processes", "sessions"},
    "energy": {"errors", "recipe", "files", "file_format", "nir", "sessions"},
    "data": {"errors", "recipe", "lock"},
    "model": {"errors", "recipe"},
    "checkpoint": {"errors", "recipe", "files", "model", "version"},
    "training": {"errors", "recipe", "files", "data", "model", "checkpoint"},
    "strip": {"errors", "recipe", "files", "model", "checkpoint"},
    "compare": {"errors", "recipe", "files", "model"},
    "export": {
        "errors", "recipe", "files", "file_format", "lock", "processes", "sessions", "neuron_functions", "data",
        "model", "checkpoint", "training", "strip", "energy", "nir", "version",
    },
    "cli": {
        "errors", "recipe", "files", "data", "model", "checkpoint", "training", "strip", "energy", "nir", "export",
        "compare", "version",
    },
    "__main__": {"cli"},
    "__init__": {"recipe", "model", "checkpoint"},
}  # fmt: skip


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, at its top or inside a function, as (dotted name, line)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module
            if node.module == "snnsc":
                yield from ((f"snnsc.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield node.module, node.lineno


def ours(name: str) -> str | None:
    """The part of snnsc that a dotted name lies in; `import snnsc` alone is for the version."""
    if name == "snnsc":
        return "version"
    return name.split(".")[1] if name.startswith("snnsc.") else None


def test_every_part_is_listed() -> None:
    assert {part(path) for path in SOURCES} == MAY_IMPORT.keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    here = part(path)
    for name, line in imports(path):
        there = ours(name)
        if there in {None, here} or (there == "version" and here == "cli"):
            continue
        assert there in MAY_IMPORT[here], f"{path}:{line}: {here} must not import {name}"


def test_the_table_has_no_circle() -> None:
    done: set[str] = {"version"}
    left = {name: set(parts) for name, parts in MAY_IMPORT.items()}
    while left:
        ready = [name for name, parts in left.items() if parts <= done]
        assert ready, f"a circle among {sorted(left)}"
        done.update(ready)
        for name in ready:
            del left[name]


def test_libraries_stay_where_they_belong() -> None:
    for path in SOURCES:
        libraries = {name.split(".")[0] for name, _ in imports(path)}
        if part(path) in {"energy", "nir", "neuron_functions", "sessions"}:
            assert not libraries & {"torch", "torchvision"}, path
        if part(path) in {"recipe", "errors", "files", "file_format", "lock", "processes"}:
            assert not libraries & {"torch", "torchvision", "numpy", "onnx", "onnxruntime"}, path
        if part(path) != "cli":
            assert not libraries & {"typer", "rich", "click"}, path


def test_only_the_command_line_prints() -> None:
    for path in SOURCES:
        if part(path) == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"print", "input", "breakpoint"}, f"{path}:{node.lineno}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
                # a worker process sends the complaints of C libraries about single images to nowhere
                allowed = {"stderr"} if path.name == "parallel.py" else set()
                assert node.attr not in {"stdout", "stderr", "exit"} - allowed, f"{path}:{node.lineno}"


def test_every_module_imports_and_says_what_it_is() -> None:
    names = [m.name for m in pkgutil.walk_packages([str(PACKAGE)], "snnsc.") if m.name != "snnsc.__main__"]
    assert len(names) > 40
    for name in names:
        assert importlib.import_module(name).__doc__, name


# ------------------------------------------------------------------------------------------------------- start-up


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(' '.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


HEAVY = {"torch", "torchvision", "numpy", "onnx", "onnxruntime", "onnxscript", "sklearn", "tonic", "scipy", "PIL"}


def test_the_command_line_is_light() -> None:
    assert not loaded_by("import snnsc.cli") & (HEAVY | {"pydantic"})
    assert not loaded_by("import snnsc") & (HEAVY | {"pydantic", "typer"})


def test_runs_are_compared_and_drawn_without_torch_but_for_their_parameters() -> None:
    modules = "arms, picture, runs, seeds, spread, summary, table"
    assert not loaded_by(f"from snnsc.compare import {modules}") & (HEAVY | {"matplotlib"})


def test_energy_runs_without_torch() -> None:
    assert not loaded_by("import snnsc.energy, snnsc.cli.energy") & {"torch", "torchvision"}


@pytest.mark.parametrize(
    ("arguments", "exit_code"), [(["--help"], 0), (["train", "digits", "--set", "train.epoch=1"], 2)]
)
def test_help_and_recipe_errors_are_instant(arguments: list[str], exit_code: int) -> None:
    # the best of five, as other programs on the machine only ever add; 0.09 s and 0.25 s on an idle core
    best = 10.0
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "snnsc", *arguments], capture_output=True, check=False)
        best = min(best, time.perf_counter() - start)
        assert done.returncode == exit_code
        if best < 0.5:
            return
    pytest.fail(f"{best:.2f} s")


# ------------------------------------------------------------------------------------------------- public surface


def test_public_names_are_frozen() -> None:
    assert snnsc.__all__ == ["__version__", "build_model", "load", "load_recipe"]
    assert dir(snnsc) == sorted(snnsc.__all__)
    from snnsc.checkpoint import load
    from snnsc.model import build_model
    from snnsc.recipe.load import load_recipe

    assert (snnsc.load, snnsc.build_model, snnsc.load_recipe) == (load, build_model, load_recipe)
    with pytest.raises(AttributeError, match="module 'snnsc' has no attribute 'nothing'"):
        snnsc.nothing  # noqa: B018
    assert all(part.isdigit() for part in snnsc.__version__.split("."))


def test_exit_codes_are_frozen() -> None:
    found = {name: c.exit_code for name, c in vars(errors).items() if isinstance(c, type) and issubclass(c, Exception)}
    assert found == {"SnnscError": 1, "CheckError": 1, "RecipeError": 2, "DataError": 3, "ModelFileError": 4}
    for name in found:
        assert issubclass(getattr(errors, name), errors.SnnscError)
        assert f"{name}  " in errors.__doc__ or name == "SnnscError", "the docstring draws the tree"
