"""The file of results: one line a run, written as it ends; nothing that is there is ever written again."""

from __future__ import annotations

import dataclasses
import gzip
import json
import zlib
from collections.abc import Iterable
from pathlib import Path

from quality_parts.jobs import Job, Record, Sizes

RUN, ORIGINAL = "run", "original"
"""Kinds of lines: what a method made of a concept; what the original model says, once for each concept and sizes."""


class Results:
    """A gz-JSON-lines file, read once and appended to. Each line is a gzip member of its own.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self.lines: list[Record] = read(path)
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

        One whose preset has changed since is none: it says nothing of the settings of today.
        """
        record = self._runs.get(job.key)
        if record and "settings" in record and record["settings"] != job.settings:
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
    """All whole lines. A last one that was cut short, by a kill or a full disk, is taken off the file."""
    if not path.exists():
        return []
    raw, found, end = path.read_bytes(), [], 0
    while end < len(raw):
        member = zlib.decompressobj(wbits=31)
        try:
            text = member.decompress(raw[end:])
        except zlib.error:
            break
        if not member.eof:
            break
        found += [json.loads(line) for line in text.splitlines()]
        end = len(raw) - len(member.unused_data)
    if end < len(raw):
        if not found:
            raise ValueError(f"{path} is not a file of results")
        with path.open("r+b") as file:
            file.truncate(end)
    return found
