"""The errors a user can do something about. Anything else is a bug and is reported as one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def first_line(error: BaseException) -> str:
    """What an error of another library says, for the one line that a user reads."""
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def did_you_mean(said: str, known: Iterable[str]) -> str:
    """ "did you mean 'siu'? " where one of the known words is near what was said, "" where none is."""
    near = difflib.get_close_matches(said.lower(), known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


class UnseeError(Exception):
    """Something the user can mend: shown as one line, without a traceback, exit code 2."""

    exit_code = 2


class PictureError(UnseeError):
    """A picture that is missing, broken, too large or of no use."""


class UnknownConceptError(UnseeError):
    """The model does not recognise the concept to begin with: there is nothing to forget."""

    exit_code = 3


class RunFolderError(UnseeError):
    """A run folder that cannot be used as asked: another config, already finished, or not a run."""


class RequirementError(UnseeError):
    """The run is finished, but misses what `--require` asks for."""

    exit_code = 4


class TrainingError(UnseeError):
    """Training stopped on purpose: a loss that is not finite, or that exploded."""

    exit_code = 5
