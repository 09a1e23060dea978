"""The command line: one file a command, each parses, loads, calls one function and prints.

Nothing here or in a command's top level imports torch, so help, completion and recipe errors are instant.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

import snnsc
from snnsc.cli import compare, energy, eval_, export, recipes, strip, train
from snnsc.cli.console import fail
from snnsc.errors import SnnscError

EXIT_CODES = (
    "Exit codes: 0 done, 1 a check failed, 2 usage or recipe, 3 data, 4 checkpoint or model file, 130 interrupted."
)

app = typer.Typer(
    name="snnsc",
    help="Train spiking neural networks with removable shortcut branches, strip the branches, deploy the rest.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (train, eval_, strip, export, energy, compare, recipes):
    short = str(module.__doc__).partition(": ")[2].partition("\n")[0]
    app.command(module.NAME, short_help=short)(module.command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"snnsc {snnsc.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train spiking neural networks with removable shortcut branches, strip the branches, deploy the rest."""


def main() -> None:
    """Run the command line; every error of ours is one message and its exit code."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - as long as the process lives
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files and classes may be no text of the terminal's
    if sys.argv[1:2] != ["train"] and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly with our reader, such as `head`; training goes on
    try:
        app()
    except SnnscError as e:
        fail(e.exit_code, *e.args)
    except OSError as e:  # a file that cannot be opened, a name that is too long
        fail(1, e)
    except KeyboardInterrupt:
        fail(130, "interrupted")
    except SystemExit as e:
        if isinstance(getattr(e.__context__, "__cause__", None), KeyboardInterrupt):  # typer ends without a word
            fail(130, "interrupted")
        raise
