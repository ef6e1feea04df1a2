"""The HTML report of a run: one self-contained page, made from the files of its folder alone."""

from __future__ import annotations

import os
from pathlib import Path

from unsee.report.page import render
from unsee.report.read import RunView, read_run
from unsee.report.redaction import redact as redact_view
from unsee.report.verdict import Verdict, judge


def write(run: Path, redact: bool = False) -> Path:
    """Write `report.html` into a run folder, whole or not at all, over an earlier one.

    Args:
        run: the run folder. Only `config.yaml` must be there; what else is missing is missing on the page.
        redact: leave out the concept's pictures, names and facts (`unsee.report.redaction`).

    Returns:
        The path of the report.

    Raises:
        RunFolderError: no run folder, or a file in it is damaged.
    """
    run = Path(run)
    view = read_run(run)
    # A lone surrogate, as broken JSON may hold, cannot be encoded and must not cost the report.
    page = render(redact_view(view) if redact else view).encode("utf-8", errors="replace")
    path = run / "report.html"
    temporary = run / f".report.html.{os.getpid()}.tmp"
    try:
        temporary.write_bytes(page)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


__all__ = ["RunView", "Verdict", "judge", "read_run", "redact_view", "render", "write"]
