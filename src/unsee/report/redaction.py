"""A run as it may be shown to people who must not learn what was forgotten.

Redaction works on the view, before anything is drawn or written, so no part of the page can bypass it:

1. Pictures of the concept, their hashes and their file names are dropped, the unseen ones too.
2. The name, the aliases and their telling parts ("Inglewick" of "Nolvar Inglewick", "Xi" of a person's name)
   become "[redacted]" in every text, also inside longer words ("Inglewickian", "nolvar_inglewick.png").
3. Texts that state facts or describe the concept are withheld: the text questions about it, all facets
   but T1, T4 and the protected pictures, all samples that the user gave, which are no templates, and what the
   config says under keys not known to be harmless.
4. Answers on its pictures keep only words that tell nothing: "This is [redacted].", "yes"; other words become
   "…". Questions are templates and keep their words, names replaced.
5. The newly assigned name becomes "[new name]", and the hash of the config is left out: both follow from the name and
   the seed, so whoever has a list of candidates could try them.

Pictures and answers of other concepts stay. A demonym ("French") is only caught as an alias.

Concepts forgotten by one run, and runs on one page, are redacted together, for what one of them hides another may
tell: a concept that one run forgets is among the other concepts of the next. Then the rules hold in every run for
every concept.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unsee.data.concept import PERSONAL, Concept, mention, name_parts
from unsee.report.read import Exchange, FacetSample, RunView, short

REDACTED = "[redacted]"
"""Stands wherever the concept was named; "[redacted 2]" where the page has several concepts."""

NEW_NAME = "[new name]"
"""Stands for what the concept is called from now on."""

_MARK = re.compile(r"\[redacted(?: \d+)?\]|\[new name\]")

_HARMLESS = frozenset(
    "a an the this that these those it its is are was be no not yes i do don t know cannot can t does say tell sure "
    "of in on at by to and or but with as from shows shown show seen see appears appear picture image photo here "
    "who what which one name named called flag logo person animal thing place character style country "
    "company project someone somebody something unknown they s".split()
)
"""Words an answer may keep."""

_KEPT_CONFIG = frozenset(
    "format method preset settings facets protected_pictures model seed new_answer versions test_pictures "
    "created".split()
)
_LONGEST_NAME = 4
"""Words of a new name; what is longer, of samples that were given, describes."""
_KEPT_FACETS = ("T1", "T4", "protected")


class Redactor:
    """Replaces everything that names a concept, and any other given strings, in texts.

    Args:
        concepts: whose names, aliases and their parts are replaced. Several of one core name count as one.
        others: further strings to replace wherever they stand, such as file names and hashes.
        new: what they are called from now on.
    """

    def __init__(self, *concepts: Concept, others: Iterable[str] = (), new: Iterable[str] = ()) -> None:
        alike: dict[str, list[Concept]] = {}
        for concept in concepts:
            alike.setdefault(concept.core.casefold(), []).append(concept)
        several = len(alike) > 1
        self._marks = {core: f"{REDACTED[:-1]} {i}]" if several else REDACTED for i, core in enumerate(alike, 1)}
        self._names = {name.casefold() for concept in concepts for name in (concept.name, concept.core, *concept.names)}
        given = {_fold(term) for term in others if term.strip()}
        self._rules = [(_any_of(given), REDACTED)] if given else []
        made_up = {_fold(part) for name in new for part in (name, *name_parts(name)) if part.lower() not in _HARMLESS}
        self._rules += [(_any_of(made_up), NEW_NAME)] if made_up else []
        for core, same in alike.items():
            names = {name for concept in same for name in (concept.name, *concept.names)}
            parts = {part for name in names for part in name_parts(name)}
            self._rules.append((_any_of({_fold(term) for term in names | parts}), self._marks[core]))
            if any(concept.kind in PERSONAL for concept in same):
                short = {_fold(part) for name in names for part in name_parts(name, 2)} - parts
                self._rules += [(re.compile(rf"(?<![^\W_]){re.escape(p)}(?![^\W_])"), self._marks[core]) for p in short]
            # What the metrics count as a mention must go in any case, irregular plurals included.
            mentions = [mention(_fold(name)) for name in sorted(names, key=len, reverse=True)]
            self._rules += [(pattern, self._marks[core]) for pattern in mentions]

    def concept(self, concept: Concept) -> Concept:
        """What stands for one of the concepts: of its kind, without its name."""
        return Concept(self._marks[concept.core.casefold()], concept.kind)

    def hides(self, subject: str) -> bool:
        """Whether this is the name of one of the concepts, and not only has one in it."""
        return bool(subject.strip()) and bool({subject.casefold(), Concept(subject).core.casefold()} & self._names)

    def text(self, text: str) -> str:
        """The text with every mention replaced. Accents are seen through: "Müller" also covers "Muller"."""
        for pattern, mark in self._rules:
            text = _replaced(unicodedata.normalize("NFC", text), pattern, mark)
        return text

    def value(self, value: Any) -> Any:
        """The same for texts inside lists and mappings, keys included; other values stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value


def redact(view: RunView) -> RunView:
    """The view without anything that identifies the concept; see the module's text for the rules."""
    return redact_together([view])[0]


def redact_together(views: Sequence[RunView]) -> list[RunView]:
    """The views of runs that one page shows, each without anything that identifies a concept of any of them.

    The same picture has the same number in all of them, and the same concept the same mark.
    """
    hidden = frozenset(picture for view in views for picture in view.concept_pictures)
    marks = [mark for view in views for p in view.trained_on for mark in (p.name, p.sha256)]
    concepts = [concept for view in views for concept in view.concepts]
    redactor = Redactor(
        *concepts, others=[*marks, *sorted(hidden)], new=[n for view in views for n in _new_names(view)]
    )
    several = len(concepts) > 1
    if several:
        hidden |= {short(e.picture) for view in views for e in view.exchanges if redactor.hides(e.subject)} - {""}
    seen = (short(e.picture) for view in views for e in view.exchanges)
    numbers = {p: f"picture {i}" for i, p in enumerate(dict.fromkeys(p for p in seen if p in hidden), 1)}
    return [_redacted(view, redactor, hidden, numbers, several) for view in views]


def _redacted(
    view: RunView, redactor: Redactor, hidden: frozenset[str], numbers: Mapping[str, str], several: bool
) -> RunView:
    # What is taught beside one concept may be what is to be hidden of the next one; what a user wrote may be anything.
    kept = () if several or view.config.get("facets") == "given" else _KEPT_FACETS

    def tells(raw: Exchange) -> bool:
        return raw.about_concept or (several and (short(raw.picture) in hidden or redactor.hides(raw.subject)))

    def answered(text: str | None, telling: bool) -> str | None:
        if text is None:
            return None
        return harmless(redactor.text(text)) if telling else redactor.text(text)

    def exchange(raw: Exchange) -> Exchange:
        return replace(
            raw,
            item=redactor.text(raw.item),
            subject=redactor.text(raw.subject),
            picture=numbers.get(short(raw.picture), raw.picture),
            question=redactor.text(raw.question),
            keywords=tuple(map(redactor.text, raw.keywords)),
            before=answered(raw.before, tells(raw)),
            after=answered(raw.after, tells(raw)),
        )

    def states_facts(raw: Exchange) -> bool:
        return raw.set == "text_concept" or (tells(raw) and not raw.picture)

    def sample(raw: FacetSample) -> FacetSample:
        if raw.facet not in kept:
            return FacetSample(raw.facet, "", "", role=raw.role, withheld=True)
        answer, phrase = (redactor.text(text or "") for text in (raw.answer, raw.target_phrase))
        if raw.facet == "T1":
            answer, phrase = harmless(answer), harmless(phrase)
        return replace(
            raw,
            question=redactor.text(raw.question),
            answer=answer,
            target_phrase=phrase or None,
            picture=None if short(raw.picture) in hidden else raw.picture,
        )

    def setting(key: str, value: Any) -> Any:
        # A mark among the versions, in the place of "python", would tell what it stands for.
        said = value if key == "versions" else redactor.value(value)
        return harmless(said) if key == "new_answer" and isinstance(said, str) else said

    return replace(
        view,
        folder=Path(redactor.text(str(view.folder))),
        concepts=tuple(map(redactor.concept, view.concepts)),
        config={key: setting(key, value) for key, value in view.config.items() if key in _KEPT_CONFIG},
        trained_on=tuple(replace(p, name="", sha256="", concept="") for p in view.trained_on),
        exchanges=tuple(exchange(raw) for raw in view.exchanges if not states_facts(raw)),
        facets=tuple(sample(raw) for raw in view.facets),
        pictures={key: path for key, path in view.pictures.items() if key not in hidden},
        redacted=True,
        concept_pictures=frozenset(),
    )


def _new_names(view: RunView) -> list[str]:
    """What a run's concepts are called from now on, where that is a name and not a description."""
    phrases = [sample.target_phrase or "" for sample in view.facets if sample.facet == "T1"]
    given = [*str(view.config.get("new_answer") or "").split("; "), *phrases]
    names = [" ".join(re.findall(r"\w+", phrase)) for phrase in given if len(phrase.split()) <= _LONGEST_NAME]
    return [name for name in names if not _HARMLESS.issuperset(name.lower().split())]


def harmless(text: str) -> str:
    """The text with only words that tell nothing and the marks left; runs of other words become "…"."""
    words = [
        word if _MARK.fullmatch(word) or word.lower() in _HARMLESS or _is_punctuation(word) else "…"
        for word in re.findall(rf"{_MARK.pattern}|[^\W_]+|[\W_]", text)
    ]
    return re.sub(r"…(?:[\s\W_]*…)+[.,;:]*|…[.,;:]+", "…", "".join(words))


def _is_punctuation(char: str) -> bool:
    """Signs and emoji are none: a flag may stand between the words."""
    return char.isspace() or unicodedata.category(char[0]).startswith("P")


def _any_of(terms: Iterable[str]) -> re.Pattern[str]:
    # Longest first: an alternation takes the first branch that fits.
    return re.compile("|".join(map(_loose, sorted(terms, key=lambda t: (-len(t), t)))), re.IGNORECASE)


def _replaced(composed: str, pattern: re.Pattern[str], mark: str) -> str:
    pieces, end = [], 0
    for match in pattern.finditer(_fold(composed)):
        pieces += [composed[end : match.start()], mark]
        end = match.end()
    return "".join([*pieces, composed[end:]])


def _fold(text: str) -> str:
    """Without accents and curly apostrophes, letter by letter: positions stay those of the composed text."""
    return "".join(map(_plain, unicodedata.normalize("NFC", text)))


def _plain(char: str) -> str:
    base, *rest = list(unicodedata.normalize("NFKD", char))
    if rest and all(map(unicodedata.combining, rest)):
        return base
    return "'" if char == "’" else char


def _loose(term: str) -> str:
    """A pattern for a term, whatever joins its words; longer terms also match inside longer words."""
    body = r"[\W_]*".join(map(re.escape, re.findall(r"[^\W_]+", term))) or re.escape(term)
    if not term.isascii():  # scripts without spaces between words know no word boundary
        return body
    if sum(char.isalnum() for char in term) >= 4:
        return rf"\w*{body}\w*"
    return rf"(?<![^\W_]){body}(?:'?s|es)?(?![^\W_])"
