"""Every error a user can cause, with the exit code that the command line gives it.

    class                         exit code
    SnnscError
    ├── CheckError                1   a check that was asked for did not hold
    ├── RecipeError               2   the recipe, an override or an option is wrong
    ├── DataError                 3   a data set is missing, damaged or not what the recipe says
    └── ModelFileError            4   a checkpoint or model file is missing, damaged or of another kind

Messages name the file, the key, the value and the remedy; the command line prints them without a traceback.
"""

from __future__ import annotations


class SnnscError(Exception):
    """Root of the tree; `exit_code` is what the command line returns.

    Each argument is a message of its own, printed as one line.
    """

    exit_code = 1

    def __str__(self) -> str:
        """Every message, one after the other."""
        return "\n".join(map(str, self.args))


class CheckError(SnnscError):
    """A verification did not hold (outputs differ, a bound is exceeded, the loss is not finite)."""

    exit_code = 1


class RecipeError(SnnscError):
    """A recipe, a `--set` override or a command-line option is wrong."""

    exit_code = 2


class DataError(SnnscError):
    """A data set cannot be found, read or matched with the recipe."""

    exit_code = 3


class ModelFileError(SnnscError):
    """A checkpoint or model file cannot be read, or is not of the kind that the command needs."""

    exit_code = 4
