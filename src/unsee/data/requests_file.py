"""Deletion requests as a user writes them, with the names of files: on the command line, or several in one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from unsee.data.concept import Concept, Fact, Request
from unsee.data.pictures import load_picture
from unsee.errors import UnseeError, did_you_mean, first_line

KEYS = ("concept", "kind", "image", "alias", "test_images", "protect", "facts", "new_answer")
"""What a request in a file may say; each is the option of `unsee forget` of that name."""
_MANY = ("image", "alias", "protect")
_FILES = ("image", "test_images", "facts")


@dataclass(frozen=True)
class Written:
    """One request before its files are read.

    Args:
        concept: what to forget.
        images: files of pictures of it.
        test_images: folder of other pictures of it, to measure on.
        protect: concepts to hold on to in text.
        facts: file of facts about it that stay true; see `load_facts`.
        new_answer: as in `Request`.
    """

    concept: Concept
    images: tuple[Path, ...]
    test_images: Path | None = None
    protect: tuple[Concept, ...] = ()
    facts: Path | None = None
    new_answer: str | None = None

    @classmethod
    def of(
        cls,
        concept: str,
        image: Sequence[Path],
        kind: Any = "thing",
        alias: Sequence[str] = (),
        protect: Sequence[str] = (),
        **more: Any,
    ) -> Written:
        """From what is said under each of `KEYS`.

        Raises:
            UnseeError: the concept has no name, or its kind is none.
        """
        protected = tuple(Concept(name, kind) for name in protect)
        return cls(Concept(concept, kind, tuple(alias)), tuple(image), protect=protected, **more)

    def load(self) -> Request:
        """The request, its pictures and facts read; it has no protected pictures yet.

        Raises:
            PictureError: a picture file is none.
            UnseeError: the file of facts is none.
        """
        pictures = tuple(load_picture(path) for path in self.images)
        return Request(self.concept, pictures, load_facts(self.facts), self.protect, new_answer=self.new_answer)


def written(file: Path | None, options: dict[str, Any]) -> list[Written]:
    """The requests of a file, or the one that the options of a command say.

    Args:
        file: as in `read_requests`; None: there is none.
        options: those that were given, by the names of `KEYS`.

    Raises:
        UnseeError: both are given, or the options lack something; or as `read_requests` and `Written.of`.
    """
    if file is not None:
        if options:
            named = ", ".join(f"--{name.replace('_', '-')}" for name in options)
            raise UnseeError(f"--requests says this of each request; leave out {named}")
        return read_requests(file)
    if missing := [f"--{name}" for name in ("concept", "image") if name not in options]:
        raise UnseeError(f"forget needs {' and '.join(missing)}, or --requests (see --help)")
    return [Written.of(**options)]


def read_requests(path: Path) -> list[Written]:
    """Read several requests from a YAML or JSON file: a list of mappings with some of `KEYS`.

    Args:
        path: of the file; the files that it names are seen from its folder.

    Raises:
        UnseeError: there is no such file, it is not such a list, or a request in it lacks something, has an unknown
            key or a value of no use.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UnseeError(f"cannot read the requests file {path}: {' '.join(str(error).split())}") from None
    if not isinstance(rows, list) or not rows:
        raise UnseeError(f"{path}: a list of requests is needed, each with a concept and an image")
    found = [_written(row, path.parent, f"{path}, request {number}") for number, row in enumerate(rows, 1)]
    without = [one.concept.name for one in found if one.test_images is None]
    if 0 < len(without) < len(found):
        raise UnseeError(f"{path}: test_images are needed of all requests or of none; {without[0]!r} has none")
    return found


def _written(row: Any, folder: Path, where: str) -> Written:
    if not isinstance(row, dict):
        raise UnseeError(f"{where}: a mapping with a concept and an image is needed, not {row!r}")
    for key in row:
        if key not in KEYS:
            hint = did_you_mean(str(key).replace("-", "_"), KEYS)
            raise UnseeError(f"{where}: unknown key {key!r}; {hint}there are: {', '.join(KEYS)}")
    said: dict[str, Any] = {}
    for key, value in row.items():
        texts = value if isinstance(value, list) and key in _MANY else [value]
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise UnseeError(f"{where}: {key!r} must be a text{' or a list of texts' * (key in _MANY)}, not {value!r}")
        read = [folder / text for text in texts] if key in _FILES else texts
        said[key] = read if key in _MANY else read[0]
    if missing := [key for key in ("concept", "image") if key not in said]:
        raise UnseeError(f"{where}: it lacks {missing[0]!r}")
    try:
        return Written.of(**said)
    except UnseeError as error:
        raise UnseeError(f"{where}: {error}") from None


def load_facts(path: Path | None) -> tuple[Fact, ...]:
    """Read facts that stay true: a JSON list of {question, answer}; of no file none.

    Raises:
        UnseeError: the file is none.
    """
    if path is None:
        return ()
    try:
        facts = [Fact(row["question"], row["answer"]) for row in json.loads(path.read_text(encoding="utf-8"))]
        if not all(isinstance(text, str) and text.strip() for f in facts for text in (f.question, f.answer)):
            raise ValueError("a question or an answer is empty or no text")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise UnseeError(
            f"cannot read facts from {path}: a list of {{question, answer}} is needed ({reason})"
        ) from None
    return tuple(facts)
