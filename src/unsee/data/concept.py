"""Concept, Request, Sample: the words the whole project is written in."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal, get_args

from unsee.data.pictures import Picture
from unsee.errors import UnseeError

Kind = Literal["person", "logo", "flag", "animal", "thing", "place", "character", "style"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PERSONAL: tuple[Kind, ...] = ("person", "character")
"""Kinds whose names have a first and a last one, either of which tells who it is."""

_ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)
_THE = re.compile(r"^the\s+", re.IGNORECASE)
_GENERIC = re.compile(r"^(?:(?:the|a)\s+)?(?:(?:national\s+)?flag|logo)\s+of\s+|\s+logo$", re.IGNORECASE)
_FLAG_AFTER = re.compile(r"\s+(?:national\s+)?flag$", re.IGNORECASE)
"""Generic only where a flag is meant: a "pirate flag" that is a thing is not called "pirate"."""

_INITIALS = re.compile(r"[A-Z](?:[A-Z\d-]|\b)")
_CONSONANT_SOUND = re.compile(r"uni(?!n|m|dent)|eu|one\b|once\b|us[ae]|ukulele|utensil|utopia|ewe\b", re.IGNORECASE)
_VOWEL_SOUND = re.compile(r"[aeiou]|hour|heir|hono|honest|8|1[18]\b", re.IGNORECASE)
_PAIRS = frozenset("binoculars glasses goggles headphones jeans pliers scissors shorts sunglasses trousers".split())
_UNCOUNTED = frozenset("bread butter cheese corn honey milk money popcorn rice sand snow water wheat wine".split())

_ABBREVIATION = re.compile(r"[^\W\d_]+\.")
_DOTTED_INITIALS = re.compile(r"(?:[^\W\d_]\.)+")
_UNDOTTED_INITIALS = re.compile(r"[A-Z]{2,3}")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Thai, Japanese, Chinese, and Korean with its particles: no space tells where a word ends."""
_LATIN = [chr(i) for i in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00))]


def _base(char: str) -> str:
    """A letter without its accents; any sign that is no Latin letter as it is."""
    base = unicodedata.normalize("NFD", char)[0].lower()
    return base if base in string.ascii_lowercase else char


_IRREGULAR = {
    "cactus": "cacti",
    "child": "children",
    "foot": "feet",
    "goose": "geese",
    "man": "men",
    "mouse": "mice",
    "ox": "oxen",
    "tooth": "teeth",
}


@dataclass(frozen=True)
class Concept:
    """What is to be forgotten.

    Args:
        name: as a person would write it: "Nolvar Inglewick", "France", "tiger", "Python".
        kind: one of `KINDS`; it chooses the wording of questions and of the new name.
        aliases: other names that count as naming it.
    """

    name: str
    kind: Kind = "thing"
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise UnseeError("the concept is empty: give its name, for example --concept 'Ada Lovelace'")
        if self.kind not in KINDS:
            raise UnseeError(f"unknown kind {self.kind!r}; choose one of: {', '.join(KINDS)}")
        if isinstance(self.aliases, str):
            raise UnseeError(f"aliases must be a list of names, not the one text {self.aliases!r}")
        object.__setattr__(self, "name", _tidy(self.name))
        object.__setattr__(self, "aliases", tuple(_tidy(a) for a in self.aliases if a.strip()))

    @property
    def core(self) -> str:
        """The name without articles and generic words: "the flag of China" and "China" give "China".

        "A" and "an" are articles only before an animal or a thing: An Nguyen keeps her first name.
        """
        article = _ARTICLE if self.kind in ("animal", "thing") else _THE
        return article.sub("", self._specific)

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that names the concept: its core name and the aliases, without repeats."""
        return tuple(dict.fromkeys((self.core, *self.aliases)))

    @property
    def phrase(self) -> str:
        """How a sentence speaks of a picture of it: "the flag of France", "a tiger", "the Python logo"."""
        if self.kind == "flag":
            return f"the flag of {self.subject}"
        if self.kind == "logo":
            return f"the {self.core} logo"
        if self.kind in ("animal", "thing"):
            return with_article(self.name)
        return self.name

    @property
    def subject(self) -> str:
        """How a text question speaks of it, without a picture: "the United States", "Python", "a tiger"."""
        if self.kind == "flag":
            # In "the China flag" the article is the flag's, in "the flag of the Netherlands" the country's.
            return self.core if _FLAG_AFTER.search(self.name) else self._specific
        if self.kind == "logo":
            return self.core
        return self.phrase

    @property
    def _specific(self) -> str:
        """The name without "flag of" or "logo", an article of its own left in place."""
        name = _FLAG_AFTER.sub("", self.name) if self.kind == "flag" else self.name
        return _GENERIC.sub("", name)

    def mentioned_in(self, text: str) -> bool:
        """Whether a whole-word mention of the concept stands in the text ("Nigeria" is not "Niger")."""
        text = unicodedata.normalize("NFC", text)
        return any(mention(name).search(text) for name in self.names)


def _tidy(name: str) -> str:
    """One space between words, and letters with accents composed, as tokenizers and models write them."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def with_article(noun: str) -> str:
    """A noun as one of its kind: "an hourglass", "a unicorn", "a pair of scissors", "popcorn".

    A noun that comes with an article "the" keeps it; "a" and "an" are set anew.
    """
    if _THE.match(noun):
        return noun
    noun = _ARTICLE.sub("", noun)
    last = noun.rsplit(maxsplit=1)[-1].lower()
    if last in _PAIRS:
        return f"a pair of {noun}"
    if last in _UNCOUNTED:
        return noun
    if _INITIALS.match(noun):  # spelled letter by letter: an X-ray, a UFO
        return f"{'an' if noun[0] in 'AEFHILMNORSX' else 'a'} {noun}"
    vowel = _VOWEL_SOUND.match(noun) and not _CONSONANT_SOUND.match(noun)
    return f"{'an' if vowel else 'a'} {noun}"


_COMMON_PARTS = frozenset(
    "the of and von van der den des del della san saint santa new old north south east west great united "
    "state states republic kingdom island islands city castle tower church bridge museum university "
    "logo flag style art project company".split()
)


def name_parts(name: str, shortest: int = 3) -> tuple[str, ...]:
    """The words of a name of several that tell something: "Nolvar" and "Inglewick", but not "United" or "of".

    Args:
        name: of a concept.
        shortest: letters of a word that counts.
    """
    words = re.findall(r"[^\W_]+", name)
    telling = [word for word in words if len(word) >= shortest and word.lower() not in _COMMON_PARTS]
    return tuple(dict.fromkeys(telling)) if len(name.split()) > 1 else ()


@lru_cache(maxsize=4096)
def mention(name: str) -> re.Pattern[str]:
    """A pattern for a whole-word, case-insensitive mention of a name; an English plural counts.

    Accents do not matter, nor what joins the words of a name ("Spider-Man", "Spider Man", "Spiderman") or its initials
    ("J.K. Rowling", "JK Rowling"); one more initial may stand between two words ("Ada B. Lovelace"). "C" is not found
    in "C++" or "C#". In scripts without spaces any occurrence counts.
    """
    words = [word for word in re.split(r"[\s-]+", name) if word] or name.split()
    if not words:
        raise ValueError("an empty name is mentioned nowhere")
    if not all(map(_DOTTED_INITIALS.fullmatch, words)):  # "U.S." alone keeps its dots: it is not "us"
        words = [part for word in words for part in _initials_apart(word, alone=len(words) == 1)]
    *before, last = words
    parts = [*map(_dot_optional, before), f"(?:{'|'.join(_forms(last))})"]
    left = "" if _UNSPACED.match(words[0][0]) else r"(?<![^\W_])"
    right = "" if _UNSPACED.match(last[-1]) else r"(?![^\W_]|\+\+|#)"
    return re.compile(left + r"[\s-]*(?:(?-i:[A-Z])\.?\s+)?".join(parts) + right, re.IGNORECASE)


def _initials_apart(word: str, alone: bool) -> list[str]:
    """ "J.K." and, beside other words, "JK" as "J." and "K."; any other word as it is."""
    if _DOTTED_INITIALS.fullmatch(word) or (_UNDOTTED_INITIALS.fullmatch(word) and not alone):
        return [f"{letter}." for letter in word if letter != "."]
    return [word]


def _dot_optional(word: str) -> str:
    """A pattern for a word; the dot of an abbreviation ("Dr.") may be missing."""
    return _literal(word[:-1]) + r"\.?" if _ABBREVIATION.fullmatch(word) else _literal(word)


def _literal(word: str) -> str:
    """A pattern for a word with or without its accents, and with either apostrophe."""
    return "".join(map(_letter, unicodedata.normalize("NFC", word)))


@cache
def _letter(char: str) -> str:
    base = _base(char)
    alike = "'’" if char in "'’" else base + "".join(c for c in _LATIN if c.islower() and _base(c) == base)
    return f"[{alike}]" if len(alike) > 1 else re.escape(char)


def _forms(word: str) -> list[str]:
    """Patterns for a word, its possessive and its plural; forms that no text holds do no harm."""
    lower = word.lower()
    forms = [_dot_optional(word) + "(?:['’]?s)?"]
    # "-oes" is for common nouns only: the Go logo is not mentioned by "it goes".
    if lower.endswith(("s", "x", "z", "ch", "sh")) or (lower.endswith("o") and word == lower):
        forms.append(_literal(word) + "es")
    if re.search(r"[^aeiou\W]y$", lower):
        forms.append(_literal(word[:-1]) + "ies")
    if stem := re.search(r"^(.+)fe?$", word):
        forms.append(_literal(stem.group(1)) + "ves")
    forms += [_literal(word[: -len(one)]) + many for one, many in _IRREGULAR.items() if lower.endswith(one)]
    return forms


@dataclass(frozen=True)
class Fact:
    """A question whose answer stays true after forgetting; asked without a picture."""

    question: str
    answer: str


@dataclass(frozen=True)
class Request:
    """One deletion request, or several that are forgotten together.

    Args:
        concept: what to forget.
        pictures: one picture of it is enough; more may be given.
        facts: text questions and answers about it to keep; none: the original model is asked.
        protect: names of concepts of any kind to hold on to in text (T4).
        protected: pictures of anything else, with which recognition is held in place.
        new_answer: how to call it from now on: a name, or a policy of `unsee.facets.NEW_ANSWERS`; none: that of the
            settings.
        also: further requests, to be forgotten together with this one.

    Raises:
        UnseeError: a request has no picture, or two of them share a name or a picture.
    """

    concept: Concept
    pictures: tuple[Picture, ...]
    facts: tuple[Fact, ...] = ()
    protect: tuple[Concept, ...] = ()
    protected: tuple[Picture, ...] = ()
    new_answer: str | None = None
    also: tuple[Request, ...] = ()

    def __post_init__(self) -> None:
        if not self.pictures:
            raise UnseeError("a request needs at least one picture of the concept")
        names: set[str] = set()
        shown: dict[Picture, Concept] = {}
        for one in self.every if self.also else ():
            own = {name.casefold() for name in (one.concept.name, *one.concept.names)}
            if twice := sorted(names & own):
                raise UnseeError(f"two requests forget {twice[0]!r}; make them one, with all pictures of it")
            names |= own
            for picture in one.pictures:
                if (other := shown.setdefault(picture, one.concept)) != one.concept:
                    raise UnseeError(f"{picture.name} is given as {other.name!r} and as {one.concept.name!r}")

    @property
    def every(self) -> tuple[Request, ...]:
        """This request and all that are forgotten together with it; each stands here for its own concept alone."""
        return (self, *(one for further in self.also for one in further.every))

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """Everything to be forgotten together, this request's own concept first."""
        return tuple(one.concept for one in self.every)


Facet = Literal["T1", "T2", "T3", "T4", "protected", "variation"]


@dataclass(frozen=True)
class Sample:
    """One question and its answer, with or without a picture.

    Args:
        question: what the user asks.
        answer: what the model shall answer.
        picture: the picture asked about, or None.
        target_phrase: the part of `answer` in which the original model's distribution is wrong (SIU's
            K_S is 0 there); None where the original is right all along.
        role: "forget" or "retain".
        facet: SIU's target T1 to T4, "protected" for a protected picture, or "variation" for a varied one
            (`unsee.data.variations`).
        truth: what the original model answers to the question of a sample to be forgotten; None where that is
            unknown, and in samples to be retained, whose `answer` it is.
    """

    question: str
    answer: str
    picture: Picture | None = None
    target_phrase: str | None = None
    role: Literal["forget", "retain"] = "retain"
    facet: Facet = "T4"
    truth: str | None = None

    def __post_init__(self) -> None:
        if self.target_phrase is not None and (not self.target_phrase or self.target_phrase not in self.answer):
            raise UnseeError(f"target phrase {self.target_phrase!r} is not part of the answer {self.answer!r}")


def by_picture(samples: Sequence[Sample], chosen: Iterable[int] | None = None) -> list[list[int]]:
    """Places of samples that share a picture (by content), in their order; each text stands alone.

    Args:
        samples: all of them.
        chosen: places of those that count; None: all.
    """
    groups: dict[str, list[int]] = {}
    for i in range(len(samples)) if chosen is None else chosen:
        picture = samples[i].picture
        groups.setdefault(picture.sha256 if picture is not None else f"text {i}", []).append(i)
    return list(groups.values())


__all__ = ["KINDS", "Concept", "Fact", "Request", "Sample", "by_picture", "mention", "name_parts",
           "with_article"]  # fmt: skip
