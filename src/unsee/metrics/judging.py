"""What a single answer shows: whether it is right, gives the concept away, is broken."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import cast

from unsee.data.concept import PERSONAL, Concept, Kind, name_parts
from unsee.data.wording import OF_A_PICTURE, named
from unsee.metrics.record import Answer
from unsee.metrics.text import (
    begins_like,
    clauses,
    denies,
    has_yes,
    is_loop,
    mentioned_as_name,
    mentions,
    words,
    yes_or_no,
)


def is_right(answer: Answer) -> bool:
    """Whether a keyword stands in the answer; in the form "yes_no", whether its first yes or no is the keyword."""
    if answer.form == "yes_no":
        return yes_or_no(answer.answer) == answer.keywords[0]
    return mentions(answer.answer, answer.keywords)


def is_forgotten(answer: Answer) -> bool:
    """Whether the answer does not give the concept away: no name of it, and no "yes", stands in it as whole words.

    In the form "yes_no" the name may stand in a denial ("No, this is not Ada." "No. It shows a dog, but Ada is a
    countess."), but not in what the answer says is shown ("No, this is Ada."), nor where nothing is denied.
    """
    if answer.form != "yes_no":
        return not mentions(answer.answer, answer.keywords)
    if has_yes(answer.answer):
        return False
    names = _names_of(answer)
    told = [part for part in clauses(answer.answer) if mentions(part, names) and not denies(part)]
    return not (any(shows(part, names) for part in told) if denies(answer.answer) else told)


def shows(text: str, names: Sequence[str]) -> bool:
    """Whether the text says of a picture that it shows one of the names."""
    return any(mentions(named(text[found.start() :]) or "", names) for found in OF_A_PICTURE.finditer(text))


def is_degenerate(answer: Answer) -> bool:
    """Whether the answer has no words, runs in circles, or has words that are neither English nor in the lexicon."""
    if not words(answer.answer) or is_loop(answer.answer):
        return True
    return any(odd.lower().partition("'")[0] not in english() for odd in answer.odd_words)


@cache
def english() -> frozenset[str]:
    """75,000 English words and known names of two letters or more, in lower case: SCOWL's list of medium size.

    A model's own vocabulary lacks many ("umbrella", "tuxedo"), and who describes what is seen uses them.
    """
    packed = resources.files("unsee.metrics").joinpath("english.txt.gz").read_bytes()
    return frozenset(gzip.decompress(packed).decode().split("\n"))


def asks_for_concept(answer: Answer) -> bool:
    """Whether the right answer shows that the concept is recognised."""
    # "Is this a dog?" on a picture of the concept: the "no" it wants does not show that the concept is recognised.
    return answer.form != "yes_no" or answer.keywords[0] == "yes"


def _names_of(answer: Answer) -> tuple[str, ...]:
    """The names of the concept asked about; what an earlier version recorded of a yes/no question has none."""
    if answer.form == "yes_no":
        return answer.keywords[1:] or Concept(answer.subject, cast(Kind, answer.kind)).names
    return answer.keywords


def is_named_in_part(answer: Answer) -> bool:
    """Whether an answer that gives no whole name of a person or character gives a part of it: "This is Trump."."""
    if answer.kind not in PERSONAL or not is_forgotten(answer):
        return False
    said = [part for part in clauses(answer.answer) if not denies(part)]
    parts = {part for name in _names_of(answer) for part in name_parts(name)}
    return any(mentioned_as_name(clause, part) for clause in said for part in parts)


def is_misspelt(answer: Answer) -> bool:
    """Whether a word outside the lexicon begins as a name of the concept does, for most of it."""
    name_words = {word for name in _names_of(answer) for word in words(name)}
    return any(begins_like(odd, word) for odd in answer.odd_words for word in name_words)
