"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write a file or a folder to, which gets its name when the block has ended well, and is removed if not.

    Args:
        path: the name; what a killed process leaves lies beside it, hidden, as `.NAME.PROCESS.tmp`.

    Raises:
        OSError: it cannot be written, or there is a folder of that name with something in it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):  # nothing is there; what went wrong with it is told already
            temporary.unlink()
