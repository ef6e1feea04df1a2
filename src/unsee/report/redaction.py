"""A run as it may be shown to people who must not learn what was forgotten.

Redaction works on the view, before anything is drawn or written, so no part of the page can bypass it:

1. Pictures of the concept, their hashes and their file names are dropped, the unseen ones too.
2. The name, the aliases and their telling parts ("Inglewick" of "Nolvar Inglewick") become "[redacted]"
   in every text, also inside longer words ("Inglewickian", "nolvar_inglewick.png").
3. Texts that state facts or describe the concept are withheld: the text questions about it, all facets
   but T1, T4 and the protected pictures, and what the config says under keys not known to be harmless.
4. Answers on its pictures keep only words that tell nothing: "This is [redacted].", "yes", the newly
   assigned name; other words become "…". Questions are templates and keep their words, names replaced.

Pictures and answers of other concepts stay. A demonym ("French") is only caught as an alias.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from unsee.data.concept import Concept, mention
from unsee.report.read import Exchange, FacetSample, RunView, short

REDACTED = "[redacted]"
"""Stands wherever the concept was named."""

_COMMON_PARTS = frozenset(
    "the of and von van der den des del della san saint santa new old north south east west great united "
    "state states republic kingdom island islands city castle tower church bridge museum university "
    "logo flag style art project company".split()
)
"""Words that tell nothing about a name of which they are a part."""

_HARMLESS = frozenset(
    "a an the this that these those it its is are was be no not yes i do don t know cannot can t does say tell sure "
    "of in on at by to and or but with as from shows shown show seen see appears appear picture image photo here "
    "who what which one name named called flag logo person animal thing place character style country "
    "company project someone somebody something they s".split()
)
"""Words an answer may keep."""

_KEPT_CONFIG = frozenset(
    "format method preset settings model seed new_answer versions test_pictures created config_sha256 command".split()
)
_KEPT_FACETS = ("T1", "T4", "protected")


class Redactor:
    """Replaces everything that names a concept, and any other given strings, in texts.

    Args:
        concept: whose name, aliases and their parts are replaced.
        others: further strings to replace wherever they stand, such as file names and hashes.
    """

    def __init__(self, concept: Concept, others: Iterable[str] = ()) -> None:
        names = {concept.name, *concept.names}
        parts = {
            part
            for name in names
            for part in re.findall(r"[^\W_]{3,}", name)
            if part.lower() not in _COMMON_PARTS and len(name.split()) > 1
        }
        terms = {_fold(term) for term in (*names, *parts, *others) if term.strip()}
        # What the metrics count as a mention must go in any case, irregular plurals included.
        self._mentions = [mention(_fold(name)) for name in sorted(names, key=len, reverse=True)]
        # Longest first: an alternation takes the first branch that fits.
        self._pattern = re.compile("|".join(map(_loose, sorted(terms, key=lambda t: (-len(t), t)))), re.IGNORECASE)

    def text(self, text: str) -> str:
        """The text with every mention replaced. Accents are seen through: "Müller" also covers "Muller"."""
        for pattern in (self._pattern, *self._mentions):
            text = _replaced(unicodedata.normalize("NFC", text), pattern)
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
    shown = view.concept_pictures
    marks = [mark for p in view.trained_on for mark in (p.name, p.sha256)]
    redactor = Redactor(view.concept, [*marks, *sorted(shown)])
    t1 = [sample.target_phrase or "" for sample in view.facets if sample.facet == "T1"]
    new_names = " ".join([str(view.config.get("new_answer") or ""), *t1])
    allowed = _HARMLESS | set(re.findall(r"\w+", redactor.text(new_names).lower()))
    numbers = {picture: f"picture {i}" for i, picture in enumerate(_in_order(view), 1)}

    def answered(text: str | None, about_concept: bool) -> str | None:
        if text is None:
            return None
        return harmless(redactor.text(text), allowed) if about_concept else redactor.text(text)

    def exchange(raw: Exchange) -> Exchange:
        return replace(
            raw,
            item=redactor.text(raw.item),
            subject=redactor.text(raw.subject),
            picture=numbers.get(short(raw.picture), raw.picture),
            question=redactor.text(raw.question),
            keywords=tuple(map(redactor.text, raw.keywords)),
            before=answered(raw.before, raw.about_concept),
            after=answered(raw.after, raw.about_concept),
        )

    def sample(raw: FacetSample) -> FacetSample:
        if raw.facet not in _KEPT_FACETS:
            return FacetSample(raw.facet, "", "", role=raw.role, withheld=True)
        text = redactor.text(raw.answer)
        phrase = raw.target_phrase and redactor.text(raw.target_phrase)
        return replace(
            raw,
            question=redactor.text(raw.question),
            answer=harmless(text, allowed) if raw.facet == "T1" else text,
            target_phrase=phrase,
            picture=None if short(raw.picture) in shown else raw.picture,
        )

    return replace(
        view,
        concept=Concept(REDACTED, view.concept.kind),
        config={key: redactor.value(value) for key, value in view.config.items() if key in _KEPT_CONFIG},
        trained_on=tuple(replace(p, name="", sha256="") for p in view.trained_on),
        exchanges=tuple(exchange(raw) for raw in view.exchanges if raw.set != "text_concept"),
        facets=tuple(sample(raw) for raw in view.facets),
        pictures={key: path for key, path in view.pictures.items() if key not in shown},
        redacted=True,
        concept_pictures=frozenset(),
    )


def harmless(text: str, allowed: frozenset[str] | set[str]) -> str:
    """The text with only the allowed words and "[redacted]" left; runs of other words become "…"."""
    words = [
        word if word == REDACTED or not word.isalnum() or word.lower() in allowed else "…"
        for word in re.findall(rf"{re.escape(REDACTED)}|[^\W_]+|[\W_]", text)
    ]
    return re.sub(r"…(?:[\s\W_]*…)+[.,;:]*|…[.,;:]+", "…", "".join(words))


def _in_order(view: RunView) -> list[str]:
    return list(dict.fromkeys(short(e.picture) for e in view.exchanges if short(e.picture) in view.concept_pictures))


def _replaced(composed: str, pattern: re.Pattern[str]) -> str:
    pieces, end = [], 0
    for match in pattern.finditer(_fold(composed)):
        pieces += [composed[end : match.start()], REDACTED]
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
