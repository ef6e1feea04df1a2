"""What a metric reads out of an answer's text. All rules are on whole words and ignore case."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from unsee.data.concept import mention

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_DENIAL = re.compile(r"(?<!\w)(?:no|nor|not|none|never|neither|cannot)(?!\w)|n't(?!\w)", re.IGNORECASE)
_ABBREVIATED = re.compile(r"\b([A-Z]|Dr|Jr|Mr|Mrs|Ms|Prof|Sr|St)\.(?=\s)")
_CLAUSE_END = re.compile(r"[,.;:!?]+(?=\s|$)\s*|\s(?=but\s)|(?<=^no)\s", re.IGNORECASE)
_YES_OR_NO = re.compile(r"(?<!\w)(yes|no)(?!\w)", re.IGNORECASE)
_STUTTER = re.compile(r"([^\W\d_]{1,8}?)\1{4,}", re.IGNORECASE)

LONGEST_PHRASE = 16  # words: a longer phrase said over and over is caught by its low share of unique words
REPEATS = 3
LONG_ANSWER = 20  # words: from here on a low share of unique words is a loop
LOW_SHARE = 1 / 3  # plain English has over 0.6 at 100 words and over 0.45 at 500


@lru_cache(maxsize=8192)
def plain(text: str) -> str:
    """The text with every accent in one form, plain apostrophes and single spaces.

    An underscore is a letter to `re`: without this, the emphasis in "_Harry Potter_" would hide the name.
    """
    text = unicodedata.normalize("NFC", text).replace("\u2019", "'").replace("_", " ")
    return " ".join(text.split())


def words(text: str) -> list[str]:
    """The words in lower case, without punctuation; hyphens part words, apostrophes do not."""
    return _WORD.findall(plain(text).lower())


def mentions(text: str, names: Iterable[str]) -> bool:
    """Whether any of the names stands in the text as whole words, or in its English plural or genitive.

    "Nigeria" does not mention "Niger", "eyes" does not mention "yes"; "tigers" and "tiger's" mention "tiger".
    """
    text = plain(text)
    return any(mention(plain(name)).search(text) for name in names)


def mentioned_as_name(text: str, part: str) -> bool:
    """Whether a part of a name stands in the text as a whole word with a capital: "Trump" and no "trump card"."""
    return any(found.group()[0].isupper() for found in mention(plain(part)).finditer(plain(text)))


def contains(text: str, names: Iterable[str]) -> bool:
    """MMUBench's own rule: whether any of the names is a lower-cased substring; "eyes" contains "yes"."""
    text = text.lower()
    return any(name.lower() in text for name in names)


def has_yes(text: str) -> bool:
    """Whether "yes" stands anywhere in the text as a word of its own."""
    return mentions(text, ("yes",))


def clauses(text: str) -> list[str]:
    """The text in parts that are denied or said by themselves: at punctuation, before a "but", behind a first "no".

    The dot of "Dr. Ada B. Lovelace" parts nothing, and is left out.
    """
    return [part for part in _CLAUSE_END.split(_ABBREVIATED.sub(r"\1", plain(text))) if part and part.strip()]


def denies(text: str) -> bool:
    """Whether a word of denial ("no", "not", "isn't", "never") stands in the text."""
    return _DENIAL.search(plain(text)) is not None


def begins_like(word: str, name: str) -> bool:
    """Whether a word begins as a name does, for at least 4 letters and three fifths of the name, in lower case."""
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(word.lower(), name.lower(), strict=False))
    same = sum(1 for _ in alike)
    return same >= 4 and same >= 0.6 * len(name)


def yes_or_no(text: str) -> str | None:
    """The first of the words "yes" and "no", in lower case; None where there is neither."""
    found = _YES_OR_NO.search(plain(text))
    return found.group(1).lower() if found else None


def unique_share(text: str) -> float:
    """Unique words over words, 0 to 1; 0 for a text without words, so that silence is not diverse."""
    said = words(text)
    return len(set(said)) / len(said) if said else 0.0


def is_loop(text: str) -> bool:
    """Whether the text runs in circles.

    Any of: a phrase of 1 to 16 words said 3 times in a row; a third or fewer of 20 or more words are unique;
    a piece of a word stuttered 5 times in a row ("hahahahaha").
    """
    said = words(text)
    if any(_repeats(said, length) for length in range(1, min(LONGEST_PHRASE, len(said) // REPEATS) + 1)):
        return True
    if len(said) >= LONG_ANSWER and len(set(said)) / len(said) <= LOW_SHARE:
        return True
    return _STUTTER.search(text) is not None


def _repeats(said: list[str], length: int) -> bool:
    """Whether some phrase of `length` words stands `REPEATS` times in a row."""
    run = 0
    for word, later in zip(said, said[length:], strict=False):
        run = run + 1 if word == later else 0
        if run == length * (REPEATS - 1):
            return True
    return False
