"""The command line from outside: help, usage, and every error as one message with its exit code."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from snnsc.cli import console, main
from snnsc.cli.console import tell

RECIPES = Path(__file__).parents[2] / "recipes"
COMMANDS = ["train", "eval", "strip", "export", "energy", "compare", "recipes"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run snnsc in an empty folder."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        # main() maps errors to exit codes, so a process of its own and not typer's CliRunner
        done = subprocess.run(
            [sys.executable, "-m", "snnsc", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "120", "NO_COLOR": "1"},
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        return done

    return call


def error(done: subprocess.CompletedProcess[str], exit_code: int) -> str:
    """The message of an error: on standard error, every line after our name, nothing on standard output."""
    assert (done.returncode, done.stdout) == (exit_code, ""), done.stderr
    assert done.stderr.endswith("\n")
    lines = done.stderr.splitlines()
    assert lines
    assert all(line.startswith("snnsc: ") for line in lines), lines
    return "\n".join(line.removeprefix("snnsc: ") for line in lines)


# ----------------------------------------------------------------------------------------------------------- help


def test_help_names_every_command_and_exit_code(run: Run) -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    listed = [line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.startswith("  ")]
    assert [word for word in listed if word in COMMANDS] == COMMANDS
    assert "Exit codes: 0 done, 1 a check failed, 2 usage or recipe, 3 data, 4 checkpoint or model file" in " ".join(
        done.stdout.split()
    )
    assert run("-h").stdout == done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"snnsc {command}" in done.stdout or f" {command} [OPTIONS]" in done.stdout


def test_version(run: Run) -> None:
    import snnsc

    assert run("--version").stdout == f"snnsc {snnsc.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Usage: "),
        (["trian", "digits"], "No such command 'trian'"),
        (["--bogus"], "No such option"),
        (["train", "digits", "--bogus"], "No such option"),
        (["train", "digits", "extra"], "unexpected extra argument"),
        (["train", "digits", "--set"], "requires an argument"),
        (["strip"], "Missing argument"),
        (["export", "a.pt", "--max-flip-rate", "2"], "Invalid value for '--max-flip-rate'"),
        (["export", "a.pt", "--max-flip-rate", "x"], "Invalid value for '--max-flip-rate'"),
    ],
)
def test_usage_errors(run: Run, arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


# -------------------------------------------------------------------------------------------------------- recipes


def test_recipes_are_listed_with_their_first_line(run: Run) -> None:
    done = run("recipes")
    assert (done.returncode, done.stderr) == (0, "")
    groups = [dict(line.split(maxsplit=1) for line in group.splitlines()) for group in done.stdout.split("\n\n")]
    folders = [RECIPES, *sorted({p.parent for p in RECIPES.rglob("*.toml")} - {RECIPES})]
    assert groups == [
        {
            p.relative_to(RECIPES).with_suffix("").as_posix(): p.read_text().splitlines()[0].removeprefix("# ")
            for p in folder.glob("*.toml")
        }
        for folder in folders
    ]


def test_every_key_is_explained_once(run: Run) -> None:
    done = run("recipes", "--keys")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if line]
    said = list(zip(lines[::2], lines[1::2], strict=True))
    assert len(set(said)) == len(said)
    heads = dict(said)
    assert heads['model.neuron.type = "lif"'].startswith("    Leaky integrate-and-fire")
    assert heads['model.arch = "vggsnn"'].endswith(" Also, as above: T, neuron, surrogate, norm.")
    assert sum(line.startswith("model.norm.type = ") for line in lines) == len(
        {line for line in lines if line.startswith("model.norm.type = ")}
    )


def test_sentences_are_folded_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "digits  The embedded default: 1,797 real digits; t 1:\u00a091 %"
    tell([line], hang=8)
    assert capsys.readouterr().out == line.replace("\u00a0", " ") + "\n", "a pipe gets whole lines"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(console, "console", lambda: Console(width=40))
    tell([line], hang=8)
    tell(["a meaning " * 6], indent=4, hang=4)
    first, second, *meaning = capsys.readouterr().out.splitlines()
    assert (first, second) == ("digits  The embedded default: 1,797 real", "        digits; t 1: 91 %")
    assert len(meaning) == 2
    assert all(line.startswith("    ") and line[4] != " " for line in meaning)


def test_the_keys_of_a_part_are_explained_alone(run: Run) -> None:
    done = run("recipes", "model.norm", "--keys")
    lines = [line for line in done.stdout.splitlines() if line]
    assert {line.partition(" = ")[0] for line in lines[::2]} == {"model.norm.type", "model.norm.alpha"}
    assert "no key begins so" in error(run("recipes", "model.nor", "--keys"), 2)


def test_a_recipe_is_printed_to_start_from(run: Run) -> None:
    done = run("recipes", "digits")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (RECIPES / "digits.toml").read_text()
    assert "did you mean the shipped recipe 'digits'?" in error(run("recipes", "digit"), 2)


def test_a_recipe_that_is_no_text(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe")
    for command in ("recipes", "train"):
        assert error(run(command, "r.toml"), 2) == "r.toml: is not UTF-8 text (byte 0); a recipe is a TOML file"


def test_all_errors_of_a_recipe_with_exit_code_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        'name = "x"\n[data]\ntype = "digit"\n[model]\narch = "tiny"\n[train]\nepochs = 0\n'
    )
    assert error(run("train", "bad.toml", "--set", "train.batchsize=3", "--json"), 2).splitlines() == [
        "bad.toml: data.type: unknown value 'digit' (did you mean 'digits'?)",
        "bad.toml: train.epochs: must be greater than or equal to 1, not 0",
        "bad.toml: train.batchsize: unknown key (did you mean 'batch_size'?)",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.toml"]  # no run folder, no cache


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "train takes either a RECIPE or --resume DIR"),
        (["train", "digits", "--resume", "runs/x"], "train takes either a RECIPE or --resume DIR"),
        (["train", "--resume", "runs/x", "--set", "seed=1"], "--resume goes on with the run as it was"),
        (["train", "--resume", "runs/x", "--out", "y"], "--resume goes on with the run as it was"),
        (["train", "none.toml"], "none.toml: no such recipe file; "),
        (["train", "."], ".: is a folder; give a recipe file in it"),
        (["train", "digits", "--set", "epochs"], "--set epochs: must be KEY=VALUE"),
        (["train", "digits", "--set", "name.x=1"], "--set name.x=1: name is a value"),
        (["train", "digits", "--set", "seed=[1"], "--set seed=[1: the value is not TOML"),
        (["train", "--resume", "runs/x", "--seeds", "0,1"], "--resume goes on with the run as it was"),
        (["train", "digits", "--seeds", ""], "--seeds : '' is no whole number from 0 on"),
        (["train", "digits", "--seeds", "0,,1"], "--seeds 0,,1: '' is no whole number from 0 on"),
        (["train", "digits", "--seeds", "0,x"], "--seeds 0,x: 'x' is no whole number from 0 on"),
        (["train", "digits", "--seeds", "0,1.0"], "--seeds 0,1.0: '1.0' is no whole number from 0 on"),
        (["train", "digits", "--seeds=-1"], "--seeds -1: '-1' is no whole number from 0 on"),
        (["train", "digits", "--seeds", "1,2,01"], "--seeds 1,2,01: 1 stands there twice"),
        (["train", "digits", "--seeds", "0,4294967296"], "--seeds 0,4294967296: 4294967296 is too large"),
        (["train", "digits", "--seeds", "9" * 5000], f"--seeds {'9' * 5000}: {'9' * 5000} is too large"),
        (["train", "digits", "--seeds", "0,1", "--set", "seed =3"], "--seeds sets the seed, and --set seed does too"),
        (["compare", ".", "--json", "--markdown"], "--json and --markdown: standard output can only be one of both"),
        (["compare", ".", "--png", "a.jpg"], "--png a.jpg: must end in .png"),
        (["compare", ".", "--png", "none/a.png"], "--png none/a.png: there is no folder none"),
        (["train", "digits", "--device", "gpu"], "--device gpu: no such device here; there is cpu"),
        (["train", "a" * 300], "a" * 300 + ": cannot be read: File name too long"),
    ],
)
def test_recipe_and_option_errors(run: Run, arguments: list[str], message: str) -> None:
    assert error(run(*arguments), 2).startswith(message)


# ---------------------------------------------------------------------------------------------- checkpoints, models


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """The same `main` in this process: importing torch once, not for every command."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["snnsc", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return subprocess.CompletedProcess(arguments, ended.value.code, *capfd.readouterr())

    monkeypatch.chdir(tmp_path)
    handlers = logging.getLogger("snnsc").handlers[:]
    yield call
    logging.getLogger("snnsc").handlers[:] = handlers


@pytest.fixture
def files(tmp_path: Path) -> None:
    """A text file under both suffixes, an empty one, a folder without a checkpoint."""
    for name in ("text.pt", "text.onnx"):
        (tmp_path / name).write_text("this is no model\n" * 100)
    for name in ("empty.pt", "empty.onnx"):
        (tmp_path / name).touch()
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "last.pt").write_text("this is no checkpoint")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "x.onnx", "--inputs", "s.npy"], "`snnsc energy x.onnx --inputs s.npy` counts on samples"),
        (["eval", "x.onnx", "--dt", "1"], "an .onnx of `snnsc export` names data and time steps of its own"),
        (["eval", "x.pt", "--inputs", "s.npy"], "x.pt is a checkpoint, which names data and time steps of its own"),
    ],
)
def test_samples_are_for_nir_files(run_here: Run, arguments: list[str], message: str) -> None:
    said = error(run_here(*arguments), 2)
    assert "is for .nir files alone; " in said
    assert said.endswith(message)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--resume", "none"], "--resume none: no such run folder"),
        (["train", "--resume", "run"], "--resume run: has no last.pt"),
        (["train", "--resume", "broken"], "broken/last.pt: is no checkpoint of snnsc"),
        (["compare", "none"], "none: no such run folder"),
        (["compare", "text.pt"], "text.pt: no such run folder"),
        (["compare", "run"], "run: is no run folder, as it has no recipe.toml, and no seeds.json either"),
        (["eval", "none.pt"], "none.pt: no such file"),
        (["strip", "none.pt"], "none.pt: no such file"),
        (["export", "none.pt"], "none.pt: no such file"),
        (["eval", "text.pt"], "text.pt: is no checkpoint of snnsc"),
        (["strip", "text.pt"], "text.pt: is no checkpoint of snnsc"),
        (["export", "text.pt"], "text.pt: is no checkpoint of snnsc"),
        (["eval", "empty.pt"], "empty.pt: is no checkpoint of snnsc"),
        (["eval", "folder.pt"], "folder.pt: "),
        (["eval", "none.onnx"], "none.onnx: no such file"),
        (["energy", "none.onnx"], "none.onnx: no such file"),
        (["eval", "text.onnx"], "text.onnx: "),
        (["energy", "text.onnx"], "text.onnx: not an ONNX model"),
        (["eval", "empty.onnx"], "empty.onnx: "),
        (["energy", "empty.onnx"], "empty.onnx: "),
        (["eval", "text.onnx", "--json"], "text.onnx: "),
        (["strip", "text.pt", "--json"], "text.pt: "),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_missing_and_foreign_files(run_here: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    before = sorted(p.name for p in tmp_path.rglob("*"))
    said = error(run_here(*arguments), 4)
    assert said.startswith(message)
    assert len(said.splitlines()) == 1
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["train", "eval", "strip", "export", "energy", "compare", "recipes"])
def test_a_name_with_a_line_end_is_one_line(run_here: Run, command: str) -> None:
    code = 2 if command in ("train", "recipes") else 4
    said = error(run_here(command, "no\nfile\u2028.onnx"), code)
    assert said.startswith(r"no\nfile\u2028.onnx: no such ")
    assert len(said.splitlines()) == 1


@pytest.mark.usefixtures("files")
def test_a_foreign_file_in_a_process_of_its_own(run: Run) -> None:
    """Warnings and what libraries write at exit would show here only."""
    assert error(run("eval", "text.pt"), 4) == "text.pt: is no checkpoint of snnsc, or is damaged"
    assert error(run("eval", "text.onnx", "--json"), 4).startswith("text.onnx: ")


# ------------------------------------------------------------------------------------------ terminals, interruptions


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict", "utf-8:strict"])
def test_what_a_terminal_cannot_print_is_escaped(encoding: str) -> None:
    """Names of files, which may be no text, and of classes."""
    program = (
        "from snnsc import cli; from snnsc.cli.console import console, fail, say\n"
        "def show():\n"
        "    say('a \\u8a9e\\udcff'); console().print('b \\u8a9e\\udcff'); fail(4, 'c \\u8a9e\\udcff')\n"
        "cli.app = show; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        timeout=120,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    a, b, c = (done.stdout + done.stderr).splitlines()
    assert b == (b"b \\u8a9e\\udcff" if encoding != "utf-8:strict" else b"b \xe8\xaa\x9e\\udcff")
    assert a.startswith(b"a ")
    assert c.startswith(b"snnsc: c ")


@pytest.mark.parametrize("command", ["eval", "strip", "export"])
def test_an_interruption_is_one_line(run_here: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def interrupt(_path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("snnsc.checkpoint.read", interrupt)
    assert error(run_here(command, "a.pt"), 130) == "interrupted"
