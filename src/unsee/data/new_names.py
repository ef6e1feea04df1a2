"""New names for what is to be forgotten: made up, and put in the place of the old ones."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Sequence

from unsee.data.concept import Concept, mention

_SYLLABLES = ("vel", "dor", "zan", "mir", "quo", "bra", "tel", "lur", "fen", "gor", "sil", "pax", "nim", "hol", "rux")
_ENDINGS = {
    "flag": ("doria", "mark", "stania", "mora"),
    "place": ("doria", "burg", "holm", "moor"),
    "logo": ("tron", "ix", "ware", "zo"),
    "animal": ("op", "ling", "oo", "ter"),
    "thing": ("et", "ock", "dle", "ing"),
    "style": ("ist", "esque", "al", "ine"),
}


TRIES = 200
"""Words made up before one that does not fit is taken."""


def invent(
    concept: Concept, known: Sequence[str], seed: int, fits: Callable[[str], bool] = lambda word: True
) -> Concept:
    """A new made-up name of the concept's kind: no word of it is a known one.

    Args:
        concept: whose kind and seed choose the name.
        known: words and names it must not contain, in any case.
        seed: of the choice.
        fits: whether a word, written as in the name, is wanted; where none of `TRIES` is, any will do.
    """
    rng = random.Random(f"{seed}/{concept.kind}/{concept.name}")
    taken = {w.lower() for k in known for w in re.findall(r"\w+", k)} | set(concept.name.lower().split())

    written: Callable[[str], str] = str if concept.kind in ("animal", "thing", "style") else str.capitalize

    def made(endings: Sequence[str]) -> str:
        return "".join(rng.sample(_SYLLABLES, 2 if len(endings[0]) < 4 else 1)) + rng.choice(endings)

    def word(endings: Sequence[str]) -> str:
        fresh = (written(w) for w in iter(lambda: made(endings), None) if w not in taken)
        some = list(itertools.islice(fresh, TRIES))
        return next(filter(fits, some), some[0])

    if concept.kind in ("person", "character"):
        name = f"{word(('an', 'ia', 'o', 'en'))} {word(('son', 'dale', 'wick', 'mere'))}"
    else:
        name = word(_ENDINGS[concept.kind])
    return Concept(name, concept.kind)


def renamed(text: str, concept: Concept, new: Concept) -> str | None:
    """The text with every mention of the concept replaced by the new name; None where it is not mentioned."""
    if not concept.mentioned_in(text):
        return None

    def called(name: str) -> Callable[[re.Match[str]], str]:
        return lambda found: name[0].upper() + name[1:] if found.group()[0].isupper() else name

    text = re.sub(re.escape(concept.phrase), called(new.phrase), text, flags=re.IGNORECASE)
    article = r"(?:\b(?:an?|the)\s+)?" if concept.kind in ("animal", "thing") else ""
    for name in concept.names:
        text = re.sub(article + mention(name).pattern, called(new.subject), text, flags=re.IGNORECASE)
    return text
