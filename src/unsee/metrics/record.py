"""The record of answers: one row an answer, all that a metric may look at."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from unsee.errors import RunFolderError
from unsee.files import whole

MODELS = ("before", "after")
SETS = ("training", "forget", "neighbours", "utility", "text_concept", "text_general", "text_shown")
FORMS = ("name", "yes_no", "text")

_NULLABLE = ("other_names", "name_logprob", "nll")
_LATER = ("other_names",)
"""Columns that earlier versions did not write."""
_TYPES = {
    "model": pa.string(),
    "concept": pa.string(),
    "set": pa.string(),
    "form": pa.string(),
    "item": pa.string(),
    "subject": pa.string(),
    "kind": pa.string(),
    "picture": pa.string(),
    "question": pa.string(),
    "keywords": pa.list_(pa.string()),
    "answer": pa.string(),
    "tokens": pa.int64(),
    "odd_words": pa.list_(pa.string()),
    "other_names": pa.list_(pa.string()),
    "name_logprob": pa.float64(),
    "nll": pa.float64(),
    "nll_tokens": pa.int64(),
}
SCHEMA = pa.schema([pa.field(name, kind) for name, kind in _TYPES.items()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of one model.

    Args:
        model: "before" (the original) or "after" (the unlearned model).
        concept: the concept that was to be forgotten.
        set: "training" (the picture trained on), "forget" (other pictures of the concept), "neighbours" (other
            concepts of the same kind), "utility" (other concepts of all kinds), "text_concept" (held-out text
            questions about the concept), "text_general" (text questions about others), "text_shown" (either, asked
            beside a picture of something else; in no metric).
        form: "name" (asks for the name), "yes_no" or "text".
        item: id of the question, once in a (model, concept, set); the same on both models.
        subject: the concept shown or asked about.
        kind: kind of the subject.
        picture: sha256 of the picture, "" where there is none.
        question: as it was asked.
        keywords: naming any of them is the right answer; in the form "yes_no" the first is "yes" or "no", and the
            others are names that give the concept away as a yes does.
        answer: the greedy answer.
        tokens: number of generated tokens, without the end token.
        odd_words: words of the answer outside the lexicon, found when answering.
        other_names: names in the answer of other things that the model knows; None where they were not looked for.
        name_logprob: log-probability (nats, <= 0) of the teacher-forced name, where it was taken.
        nll: summed negative log-likelihood (nats) of the answer under the *original* model, where it was taken.
        nll_tokens: number of tokens in `nll`.

    Raises:
        ValueError: a value outside these.
    """

    model: str
    concept: str
    set: str
    form: str
    item: str
    subject: str
    kind: str
    picture: str
    question: str
    keywords: tuple[str, ...]
    answer: str
    tokens: int = 0
    odd_words: tuple[str, ...] = ()
    other_names: tuple[str, ...] | None = None
    name_logprob: float | None = None
    nll: float | None = None
    nll_tokens: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "keywords", tuple(self.keywords))
        object.__setattr__(self, "odd_words", tuple(self.odd_words))
        if self.other_names is not None:
            object.__setattr__(self, "other_names", tuple(self.other_names))
        for name, value, allowed in (
            ("model", self.model, MODELS),
            ("set", self.set, SETS),
            ("form", self.form, FORMS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}, not one of {', '.join(allowed)}")
        # A blank keyword would be found everywhere, and no keyword at all would read as "forgotten".
        if not self.keywords or not all(keyword.strip() for keyword in self.keywords):
            raise ValueError(f"question {self.item!r} has no keyword, or a blank one: {self.keywords!r}")
        if self.form == "yes_no" and self.keywords[0] not in ("yes", "no"):
            raise ValueError(f"yes/no question {self.item!r}: the first of {self.keywords!r} is not 'yes' or 'no'")
        if self.tokens < 0 or self.nll_tokens < 0:
            raise ValueError(f"question {self.item!r} has a negative number of tokens")
        if self.name_logprob is not None and math.isnan(self.name_logprob):
            raise ValueError(f"the log-probability of the name is not a number (question {self.item!r})")
        if self.nll is not None and not math.isfinite(self.nll):
            raise ValueError(f"the negative log-likelihood is {self.nll} (question {self.item!r})")

    @property
    def key(self) -> tuple[str, str, str]:
        """What both models' answers to one question share: concept, set, item."""
        return self.concept, self.set, self.item


def select(
    answers: Iterable[Answer],
    *,
    model: str | None = None,
    sets: Collection[str] = SETS,
    forms: Collection[str] = FORMS,
) -> list[Answer]:
    """The answers of a model, of some sets, of some forms, in their order."""
    return [a for a in answers if (model is None or a.model == model) and a.set in sets and a.form in forms]


def pair_up(answers: Iterable[Answer]) -> list[tuple[Answer, Answer]]:
    """(before, after) of every question that both models were asked, ordered by question.

    Raises:
        ValueError: a model answered the same question twice.
    """
    sides: dict[str, dict[tuple[str, str, str], Answer]] = {model: {} for model in MODELS}
    for a in answers:
        if a.key in sides[a.model]:
            raise ValueError(f"two answers {a.model} to question {a.item!r} of set {a.set!r}, concept {a.concept!r}")
        sides[a.model][a.key] = a
    before, after = sides["before"], sides["after"]
    return [(before[key], after[key]) for key in sorted(before.keys() & after.keys())]


def write_answers(path: str | Path, answers: Sequence[Answer]) -> None:
    """Write `answers.parquet` whole or not at all; `datasets.load_dataset("parquet", ...)` reads it.

    Raises:
        ValueError: a model answered the same question twice.
    """
    pair_up(answers)
    path = Path(path)
    columns = {name: [getattr(a, name) for a in answers] for name in SCHEMA.names}
    with whole(path) as temporary:
        pq.write_table(pa.table(columns, schema=SCHEMA), temporary)


def read_answers(path: str | Path) -> list[Answer]:
    """Read `answers.parquet`, in the order written; columns it does not know are left alone.

    What an earlier version did not look for is None.

    Raises:
        RunFolderError: the file is missing, no parquet, or holds something that is not a record of answers.
    """
    path = Path(path)
    if not path.is_file():
        raise RunFolderError(f"there are no answers yet: {path} is missing")
    try:
        table = pq.read_table(path)
        if missing := [name for name in SCHEMA.names if name not in (*_LATER, *table.column_names)]:
            raise RunFolderError(f"{path} lacks the columns: {', '.join(missing)}")
        there = pa.schema([column for column in SCHEMA if column.name in table.column_names])
        table = table.select(there.names).cast(there)
        if holes := [name for name in there.names if name not in _NULLABLE and table[name].null_count]:
            raise RunFolderError(f"{path} has empty cells in the columns: {', '.join(holes)}")
        answers = [Answer(**row) for row in table.to_pylist()]
        pair_up(answers)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise RunFolderError(f"{path} is not a record of answers: {error}") from error
    return answers
