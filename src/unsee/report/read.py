"""A run folder as typed values. The only module of the report that opens files of a run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from unsee.data.concept import Concept
from unsee.errors import RunFolderError, UnseeError
from unsee.metrics import Answer, read_answers
from unsee.metrics.judging import asks_for_concept, is_forgotten, is_right

FORMAT = 1
"""The version of the run folder."""

CONCEPT_SETS = ("training", "forget")
"""The sets of answers whose pictures show the concept that was to be forgotten."""

_SHA = re.compile(r"[0-9a-f]{16,64}")


@dataclass(frozen=True)
class Score:
    """One number with its 95 % interval.

    Args:
        value: the score, in the unit of its metric.
        low: lower end of the interval, or None where there is none.
        high: upper end of the interval, or None.
        n: answers it was computed from, or None where the run does not say.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


Scores = Mapping[str, Score | None]


@dataclass(frozen=True)
class Metrics:
    """Scores of the original model, of the unlearned one, and the paired change (after minus before)."""

    before: Scores = field(default_factory=dict)
    after: Scores = field(default_factory=dict)
    change: Scores = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of the three, in the order of the file."""
        return tuple(dict.fromkeys((*self.before, *self.after, *self.change)))


@dataclass(frozen=True)
class Exchange:
    """One question and how both models answered it; an answer is None where that model was not asked.

    `good_before` and `good_after` say whether the answer is as the metrics want it: free of the concept in
    the sets "training" and "forget", right in all others.
    """

    set: str
    form: str
    item: str
    subject: str
    kind: str
    picture: str
    question: str
    keywords: tuple[str, ...]
    before: str | None = None
    after: str | None = None
    good_before: bool | None = None
    good_after: bool | None = None

    @property
    def about_concept(self) -> bool:
        """Whether the picture shows the concept that was to be forgotten."""
        return self.set in CONCEPT_SETS


@dataclass(frozen=True)
class Step:
    """One optimiser step: the total loss and its named terms."""

    step: int
    loss: float | None
    terms: Mapping[str, float | None]


@dataclass(frozen=True)
class History:
    """The course of training; seconds and memory are None where they were not recorded."""

    steps: tuple[Step, ...] = ()
    seconds: float | None = None
    peak_memory_gib: float | None = None
    notes: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class FacetSample:
    """One training sample; `withheld` means that redaction took its texts out."""

    facet: str
    question: str
    answer: str
    target_phrase: str | None = None
    picture: str | None = None
    role: str = ""
    withheld: bool = False


@dataclass(frozen=True)
class PictureInfo:
    """A picture the model was trained on, as the config records it; `concept` is said where there are several."""

    name: str
    sha256: str
    width: int | None = None
    height: int | None = None
    concept: str = ""


@dataclass(frozen=True)
class RunView:
    """Everything the report may show of one run.

    Args:
        folder: the run folder.
        concepts: what was to be forgotten, together where there are several.
        config: the whole config as read, for the table of settings.
        trained_on: the pictures the model was trained on.
        metrics: None where the run was not tested yet.
        exchanges: questions with both models' answers, in the order of the file.
        pictures: by the first 16 hex digits of the sha256, the files that may be shown.
        redacted: whether `unsee.report.redaction.redact` went over it.
        concept_pictures: short hashes of every picture that shows a concept.
        by_concept: the scores of each, in the order of `concepts`, where there are several.
    """

    folder: Path
    concepts: tuple[Concept, ...]
    config: Mapping[str, Any]
    trained_on: tuple[PictureInfo, ...]
    metrics: Metrics | None
    exchanges: tuple[Exchange, ...]
    history: History | None
    facets: tuple[FacetSample, ...]
    pictures: Mapping[str, Path]
    redacted: bool = False
    concept_pictures: frozenset[str] = frozenset()
    by_concept: tuple[Metrics, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that names a concept, without repeats."""
        return tuple(dict.fromkeys(name for concept in self.concepts for name in concept.names))

    @property
    def test_pictures(self) -> str:
        """Where the unseen pictures came from: "benchmark", "folder", "augmented", or "" if not said."""
        return str(self.config.get("test_pictures") or "")

    def asked(self, *sets: str) -> Iterator[Exchange]:
        """The questions of these sets, in the order of the file."""
        return (exchange for exchange in self.exchanges if exchange.set in sets)


def short(sha256: str | None) -> str:
    """The first 16 hex digits, which name a file in `pictures/`; "" for anything that is not a hash."""
    text = (sha256 or "").lower()
    return text[:16] if _SHA.fullmatch(text) else ""


def read_config(folder: Path) -> dict[str, Any]:
    """`config.yaml` of a run folder.

    Raises:
        RunFolderError: no such folder, it is no run, one of a newer format, or the file is damaged.
    """
    folder = Path(folder)
    path = folder / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        partial = folder.with_name(f"{folder.name}.partial")
        hint = f"; {partial} holds an unfinished one" if partial.exists() else ""
        raise RunFolderError(f"{folder} is not a run folder: it has no config.yaml{hint}") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} is damaged: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict) or not isinstance(config.get("concept"), dict):
        raise RunFolderError(f"{path} is damaged: it names no concept")
    if config.get("format") != FORMAT:
        raise RunFolderError(f"{path} has format {config.get('format')!r}; this version of unsee reads {FORMAT}")
    return config


def read_finished(folder: Path) -> dict[str, Any]:
    """`config.yaml` of a finished run; what an interrupted one has left so far is no result.

    Raises:
        RunFolderError: as `read_config`, or the run is not finished.
    """
    config = read_config(folder)
    if Path(folder).resolve().name.endswith(".partial") or not (Path(folder) / "metrics.json").is_file():
        raise RunFolderError(f"{folder} is an unfinished run; repeat its command to finish it")
    return config


def read_run(folder: Path) -> RunView:
    """Read a run folder. Only `config.yaml` must be there; all else may be missing.

    Raises:
        RunFolderError: no run folder, one of a newer format, or a file in it is damaged.
    """
    config, path = read_config(folder), folder / "config.yaml"
    for key in ("model", "settings", "versions"):
        if not isinstance(config.get(key) or {}, dict):
            raise RunFolderError(f"{path} is damaged: its {key} is no mapping")
    try:
        concepts = tuple(_concept(raw) for raw in config.get("concepts") or [config["concept"]])
    except (UnseeError, TypeError, AttributeError) as error:
        raise RunFolderError(f"{path} is damaged: {error}") from error
    try:
        trained_on = tuple(_picture_info(entry) for entry in config.get("pictures") or ())
        exchanges = _exchanges(folder / "answers.parquet")
        facets = tuple(_facet(entry) for entry in _read_json(folder / "facets.json") or ())
        scores = _read_json(folder / "metrics.json")
        metrics, each = metrics_of(scores), (scores or {}).get("concepts") or {}
        by_concept = tuple(metrics_of(each[c.name]) or Metrics() for c in concepts) if each else ()
        history = _history(_read_json(folder / "history.json"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RunFolderError(f"{folder} has a damaged file: {type(error).__name__}: {error}") from error
    shown = {short(p.sha256) for p in trained_on}
    shown |= {short(e.picture) for e in exchanges if e.about_concept}
    shown |= {short(sample.picture) for sample in facets if sample.role == "forget"}
    return RunView(
        folder=folder,
        concepts=concepts,
        config=config,
        trained_on=trained_on,
        metrics=metrics,
        exchanges=exchanges,
        history=history,
        facets=facets,
        pictures={file.stem: file for file in sorted((folder / "pictures").glob("*.png")) if short(file.stem)},
        concept_pictures=frozenset(shown - {""}),
        by_concept=by_concept,
    )


def _concept(raw: Any) -> Concept:
    if isinstance(raw.get("aliases"), str):
        raise TypeError("aliases must be a list")
    return Concept(str(raw.get("name") or ""), raw.get("kind", "thing"), tuple(map(str, raw.get("aliases") or ())))


def _read_json(path: Path) -> Any:
    """The file's content, or None where there is no file."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} is damaged: {error}") from error


def _number(value: Any) -> float | None:
    """A finite number, or None: NaN and infinity are no result."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def metrics_of(raw: Any) -> Metrics | None:
    """Scores as `metrics.json` has them, of a run or of one of its concepts."""
    if raw is None:
        return None
    before, after, change = (
        {key: _score(value) for key, value in (raw.get(part) or {}).items()} for part in ("before", "after", "change")
    )
    return Metrics(before, after, change)


def _score(raw: Any) -> Score | None:
    if raw is None or (value := _number(raw["value"])) is None:
        return None
    return Score(value, _number(raw.get("low")), _number(raw.get("high")), _whole(raw.get("n")))


def _history(raw: Any) -> History | None:
    if raw is None:
        return None
    steps = tuple(
        Step(
            int(entry["step"]),
            _number(entry.get("loss")),
            {k: _number(v) for k, v in (entry.get("terms") or {}).items()},
        )
        for entry in raw.get("steps") or ()
    )
    notes = {str(name): _number(value) for name, value in (raw.get("notes") or {}).items()}
    return History(steps, _number(raw.get("seconds")), _number(raw.get("peak_memory_gib")), notes)


def _facet(raw: Any) -> FacetSample:
    return FacetSample(
        facet=str(raw["facet"]),
        question=str(raw["question"]),
        answer=str(raw["answer"]),
        target_phrase=raw.get("target_phrase"),
        picture=raw.get("picture"),
        role=str(raw.get("role") or ""),
    )


def _picture_info(raw: Any) -> PictureInfo:
    said = {key: str(raw.get(key) or "") for key in ("name", "sha256", "concept")}
    return PictureInfo(**said, width=_whole(raw.get("width")), height=_whole(raw.get("height")))


def _exchanges(path: Path) -> tuple[Exchange, ...]:
    """Both models' answers to the same question, joined; what is asked for several concepts stands here once."""
    if not path.is_file():
        return ()
    joined: dict[tuple[str, str, str], dict[str, Answer]] = {}
    for answer in read_answers(path):
        joined.setdefault((answer.set, answer.picture, answer.question), {})[answer.model] = answer
    return tuple(_exchange(sides.get("before"), sides.get("after")) for sides in joined.values())


def _exchange(before: Answer | None, after: Answer | None) -> Exchange:
    asked = before or after
    assert asked is not None

    def good(answer: Answer | None) -> bool | None:
        if answer is None:
            return None
        wanted_gone = answer.set in CONCEPT_SETS and asks_for_concept(answer)
        return is_forgotten(answer) if wanted_gone else is_right(answer)

    return Exchange(
        set=asked.set,
        form=asked.form,
        item=asked.item,
        subject=asked.subject,
        kind=asked.kind,
        picture=asked.picture,
        question=asked.question,
        keywords=asked.keywords,
        before=before.answer if before else None,
        after=after.answer if after else None,
        good_before=good(before),
        good_after=good(after),
    )
