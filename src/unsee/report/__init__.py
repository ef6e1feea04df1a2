"""The HTML report of a run, and the comparison of several: self-contained pages made from run folders alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from unsee.errors import RunFolderError, UnseeError
from unsee.files import whole
from unsee.report.comparability import comparability
from unsee.report.comparison import render_comparison
from unsee.report.page import render
from unsee.report.read import RunView, read_finished, read_run
from unsee.report.redaction import redact as redact_view
from unsee.report.redaction import redact_together
from unsee.report.verdict import Verdict, judge


def write(run: Path, redact: bool = False, output: Path | None = None) -> Path:
    """Write `report.html` into a run folder, whole or not at all, over an earlier one.

    Args:
        run: the run folder. Only `config.yaml` must be there; what else is missing is missing on the page.
        redact: leave out the concept's pictures, names and facts (`unsee.report.redaction`); a run that was made to
            be redacted always is.
        output: another file to write; it must not exist.

    Returns:
        The path of the report.

    Raises:
        RunFolderError: no run folder, or a file in it is damaged.
        UnseeError: the output exists, or cannot be written there.
    """
    run = Path(run)
    if output is not None:
        _refuse_output(output)
    page = render(shown(run, redact))
    if output is not None:
        return _write_new(output, page)
    _write(run / "report.html", page)
    return run / "report.html"


def shown(run: Path, redact: bool = False) -> RunView:
    """A run as it may be shown: redacted where that is asked for now, or was when it was made.

    Raises:
        RunFolderError: no run folder, or a file in it is damaged.
    """
    view = read_run(run)
    return redact_view(view) if redact or view.config.get("redact") else view


def compare(runs: Sequence[Path], output: Path = Path("comparison.html"), redact: bool = False) -> Path:
    """Write one page that sets finished runs side by side, whole or not at all.

    Runs that cannot fairly be compared (other models, questions or concepts) are compared all the same; the page
    says so on top.

    Args:
        runs: two or more run folders, in the order of the page.
        output: the file to write; it must not exist.
        redact: leave out the pictures, names and facts of every run's concept. A run that was made to be redacted
            makes the whole page so, for the others may tell what it hides.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: no run folder, an unfinished run, one without answers, or a file in it is damaged.
        UnseeError: fewer than two runs, the same one twice, or the page cannot be written there.
    """
    runs, output = [Path(run) for run in runs], Path(output)
    if len(runs) < 2:
        raise UnseeError("a comparison needs two runs or more")
    _refuse_output(output)
    seen: dict[Path, Path] = {}
    for run in runs:
        if (same := seen.setdefault(run.resolve(), run)) is not run:
            raise UnseeError(f"{run} is given twice" + (f", once as {same}" if str(same) != str(run) else ""))
    found = {number: _read_finished(run) for number, run in enumerate(runs, 1)}
    together = comparability(found)
    if redact or any(view.config.get("redact") for view in found.values()):
        views = dict(zip(found, redact_together(list(found.values())), strict=True))
        links = {}
    else:
        views = found
        links = {n: _address(v.folder / "report.html", output) for n, v in found.items()}
    return _write_new(output, render_comparison(views, together, links))


def _read_finished(run: Path) -> RunView:
    view = read_run(run)
    read_finished(run)
    if not any(exchange.after is not None for exchange in view.exchanges):
        raise RunFolderError(f"{run} has no answers of the unlearned model: answers.parquet is missing or empty")
    return view


def _refuse_output(path: Path) -> None:
    if os.path.lexists(path):
        raise UnseeError(f"{path} exists already; choose another --output, or remove it first")
    if not path.parent.is_dir():
        raise UnseeError(f"cannot write {path}: there is no folder {path.parent}")


def _address(report: Path, page: Path) -> str:
    """The address of a file as seen from a page, or "" where there is no such file."""
    if not report.is_file():
        return ""
    # Quoted, a folder's name cannot be read as a scheme such as "javascript:".
    return quote(os.fsencode(os.path.relpath(report.resolve(), page.parent.resolve())))


def _write_new(path: Path, page: str) -> Path:
    try:
        _write(path, page)
    except OSError as error:
        raise UnseeError(f"cannot write {path}: {error.strerror}") from None
    return path


def _write(path: Path, page: str) -> None:
    with whole(path) as temporary:
        # A lone surrogate, as broken JSON may hold, cannot be encoded and must not cost the page.
        temporary.write_bytes(page.encode("utf-8", errors="replace"))


__all__ = ["RunView", "Verdict", "compare", "judge", "read_run", "redact_view", "render", "shown", "write"]
