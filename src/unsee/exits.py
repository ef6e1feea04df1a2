"""How a command ends: one line for what a user can mend, a file to send for what is a bug."""

from __future__ import annotations

import errno
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from cyclopts import CycloptsError
from rich.console import Console
from rich.text import Text

from unsee import __version__
from unsee.errors import UnseeError, first_line

USAGE = 2
INTERRUPTED = 130
UNEXPECTED = 70
"""EX_SOFTWARE of sysexits.h."""

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
_STORAGE_WORDS = ("No space left on device", "File too large", "Disk quota exceeded", "Read-only file system")


def ending(work: Callable[[], object]) -> int:
    """Do the work and return the exit code, whatever happens.

    0: done. 2: wrong usage, or anything else a user can mend; some errors have codes of their own
    (`unsee.errors`). 70: a bug. 130: Ctrl-C. 1: whoever read the output has left.
    """
    try:
        work()
        sys.stdout.flush()
    except UnseeError as error:
        _say("error:", str(error))
        return error.exit_code
    except CycloptsError as error:
        _say("error:", f"{error} (see --help)")
        return USAGE
    except KeyboardInterrupt:
        goes_on = sys.argv[1:2] in (["demo"], ["forget"])
        _say("stopped:", "the same command goes on where it was" if goes_on else "nothing is left half-written")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        kept = "what was finished is kept, the same command goes on from there"
        if type(error).__name__ == "OutOfMemoryError":  # torch's; this module does not wait for torch to be loaded
            _say("error:", f"out of GPU memory ({first_line(error)[:120]}); {kept}: give it a larger device")
            return USAGE
        if (storage := _storage_problem(error)) is None:
            return _unexpected(error)
        _say("error:", f"{storage}; {kept}")
        return USAGE
    return 0


def _say(what: str, line: str) -> None:
    said = Text.assemble((what, "bold red"), " ", " ".join(line.split()))
    Console(stderr=True).print(said, soft_wrap=True)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it, each once."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
    yield from seen


def _storage_problem(error: BaseException) -> str | None:
    """What a full disk or a forbidden place says, by whichever library it comes; None where it is something else."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in _STORAGE:
            return os.strerror(one.errno) + (f" ({one.filename})" if one.filename else "")
        for words in _STORAGE_WORDS:  # safetensors and pyarrow have errors without a number
            if words in str(one):
                return words
    return None


def _unexpected(error: Exception) -> int:
    """A bug: not dressed up. It exits with 70 and leaves a file that a person can send."""
    _say("unexpected error:", type(error).__name__ + ("" if _redacted() else f": {first_line(error)}"))
    story = "".join(traceback.format_exception(error)) if not _redacted() else _frames(error)
    about = f"Python {platform.python_version()}, {platform.platform()}, {', '.join(_versions())}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="unsee-bug-", suffix=".txt", delete=False) as file:
            file.write(f"{about}\ncommand: {_command()}\n\n{story}")
    except OSError:
        print(story, file=sys.stderr)
        return UNEXPECTED
    _say("This is a bug in unsee.", f"What happened is written to {file.name}; please read it and send it to us.")
    return UNEXPECTED


def _redacted() -> bool:
    """Whether what the user wrote is to be kept out: nobody should have to read a file for it before sending it."""
    return any(word.startswith("--redact") for word in sys.argv[1:])


def _command() -> list[str]:
    """The command line; one that is to be redacted without what its options were given."""
    given = sys.argv[1:]
    return [word.partition("=")[0] if word.startswith("--") else "…" for word in given] if _redacted() else given


def _frames(error: Exception) -> str:
    """Where an error came from, without what it says, in which a name may stand."""
    return "\n".join(
        f"{type(one).__name__}, from:\n{''.join(traceback.format_tb(one.__traceback__))}" for one in _chain(error)
    )


def _versions() -> Iterator[str]:
    yield f"unsee {__version__}"
    for name in ("torch", "transformers", "peft"):
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} not installed"
