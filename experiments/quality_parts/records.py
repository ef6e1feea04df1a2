"""The file of results: one line a run, written as it ends; what is there is never written again, nor taken off."""

from __future__ import annotations

import dataclasses
import gzip
import json
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

from quality_parts.jobs import Job, Record, Sizes

_GZIP = b"\x1f\x8b\x08"
RUN, ORIGINAL = "run", "original"
"""Kinds of lines: what a method made of a concept; what the original model says, once for each concept and sizes."""


class Results:
    """A gz-JSON-lines file, read once and appended to. Each line is a gzip member of its own.

    Args:
        path: the file; it need not exist.

    Raises:
        SystemExit: it holds runs of different models, or of one in two precisions, as joined files may.
    """

    def __init__(self, path: Path):
        self.path = path
        self.lines: list[Record] = read(path)
        if len({r["versions"]["weights"] for r in self.lines if r["line"] == ORIGINAL}) > 1:
            raise SystemExit(f"{path} holds answers of different weights, or of the same in two precisions: not mixed")
        self._runs = {r["key"]: r for r in self.lines if r["line"] == RUN}
        self._originals = {original_key(r["concept"], Sizes(**r["sizes"])): r
                           for r in self.lines if r["line"] == ORIGINAL}  # fmt: skip

    def append(self, record: Record) -> None:
        append(self.path, record)
        self.lines.append(record)
        if record["line"] == RUN:
            self._runs[record["key"]] = record
        else:
            self._originals[original_key(record["concept"], Sizes(**record["sizes"]))] = record

    def of(self, job: Job) -> Record | None:
        """The record of a run, failed ones included: what failed once would fail again.

        One whose preset has changed since is none: it says nothing of the settings of today. A setting that there was
        not yet is the same where it has its default, which does what was done before.
        """
        record = self._runs.get(job.key)
        if record and "settings" in record and {**job.defaults, **record["settings"]} != job.settings:
            return None
        return record

    def all_of(self, jobs: Iterable[Job]) -> list[Record]:
        """Records of those runs that are done."""
        return [r for j in jobs if (r := self.of(j)) is not None]

    def original(self, concept: str, sizes: Sizes) -> Record | None:
        """What the original model said."""
        return self._originals.get(original_key(concept, sizes))


def original_key(concept: str, sizes: Sizes) -> str:
    return json.dumps([concept, dataclasses.asdict(sizes)], sort_keys=True)


def append(path: Path, record: Record) -> None:
    """Add a line to a file, which need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(gzip.compress(json.dumps(record).encode() + b"\n", mtime=0))


def read(path: Path) -> list[Record]:
    """All whole lines. One that was cut short, by a kill or a full disk, is left out and told, wherever it stands:
    files are joined with `cat`.

    Raises:
        ValueError: there is no whole line in it.
    """
    if not path.exists():
        return []
    raw, found, at, cut = path.read_bytes(), [], 0, 0
    while at < len(raw):
        if (line := _line(raw, at)) is None:
            cut += 1
            at = _next(raw, at + 1)
        else:
            text, at = line
            found += [json.loads(row) for row in text.splitlines()]
    if cut:
        if not found:
            raise ValueError(f"{path} is not a file of results")
        print(f"{path}: {cut} lines were cut short and are left out", file=sys.stderr)
    return found


def _line(raw: bytes, at: int) -> tuple[bytes, int] | None:
    """The gzip member that begins there, and where it ends; None where none does, or not whole."""
    member = zlib.decompressobj(wbits=31)
    try:
        text = member.decompress(raw[at:])
    except zlib.error:
        return None
    return (text, len(raw) - len(member.unused_data)) if member.eof else None


def _next(raw: bytes, at: int) -> int:
    """Where the next whole line begins, or the end."""
    while (at := raw.find(_GZIP, at)) >= 0:
        if _line(raw, at) is not None:
            return at
        at += 1
    return len(raw)
