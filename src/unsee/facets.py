"""From a request to SIU's four targets (T1 to T4), by asking the original model; no external model is used."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from unsee.data import Concept, Fact, Picture, Request, Sample
from unsee.data.concept import mention
from unsee.data.wording import CONFIRMING, KIND_WORD, knowing_questions, naming_questions
from unsee.errors import UnknownConceptError, UnseeError
from unsee.models import Question, VisionLanguageModel, answer

NewAnswer = Literal["invented", "unknown", "describe"]

_SYLLABLES = ("vel", "dor", "zan", "mir", "quo", "bra", "tel", "lur", "fen", "gor", "sil", "pax", "nim", "hol", "rux")
_ENDINGS = {
    "flag": ("doria", "mark", "stania", "mora"),
    "place": ("doria", "burg", "holm", "moor"),
    "logo": ("tron", "ix", "ware", "zo"),
    "animal": ("op", "ling", "oo", "ter"),
    "thing": ("et", "ock", "dle", "ing"),
    "style": ("ist", "esque", "al", "ine"),
}
_GENERIC_NAMING = ("What is shown in this picture?", "What do you see in the image?")

WELL_KNOWN: dict[str, tuple[str, ...]] = {
    "person": ("Albert Einstein", "Isaac Newton", "Marie Curie", "William Shakespeare", "Leonardo da Vinci"),
    "flag": ("France", "Japan", "Brazil", "Canada", "Germany", "Italy", "Spain"),
    "logo": ("Python", "Linux", "Google", "Apple", "Java", "Wikipedia"),
    "animal": ("tiger", "horse", "dog", "eagle", "dolphin", "bee"),
    "thing": ("guitar", "bicycle", "apple", "hammer", "telescope", "umbrella"),
    "place": ("Paris", "the Eiffel Tower", "Mount Everest", "London", "the Nile"),
    "character": ("Sherlock Holmes", "Robin Hood", "Cinderella", "Peter Pan"),
    "style": ("impressionism", "cubism", "pop art", "baroque"),
}
"""What T4 asks about where the request protects nothing by name."""


@dataclass(frozen=True)
class FacetSettings:
    """How the four targets are built.

    Args:
        new_answer: "invented": a new made-up name of the concept's kind (the paper's way: a model that has
            never seen C names something); "unknown": "an unknown person"; "describe": "a person".
        protected_questions: questions asked on each protected picture.
        text_protected: how many concepts T4 asks about in text.
        max_new_tokens: where the original model's own answers are cut.
    """

    new_answer: NewAnswer = "invented"
    protected_questions: int = 4
    text_protected: int = 7
    max_new_tokens: int = 32


@dataclass
class Facets:
    """The samples of a request, and what the user should know about how they came about."""

    samples: list[Sample]
    new_answer: Concept
    left_out: list[str] = field(default_factory=list)
    """Protected pictures in which the original model sees the concept: never trained on."""


def invent(concept: Concept, known: Sequence[str], seed: int) -> Concept:
    """A new made-up name of the concept's kind: no word of it is a known one.

    Args:
        concept: whose kind and seed choose the name.
        known: words and names it must not contain, in any case.
        seed: of the choice.
    """
    rng = random.Random(f"{seed}/{concept.kind}/{concept.name}")
    taken = {w.lower() for k in known for w in re.findall(r"\w+", k)} | set(concept.name.lower().split())

    def word(endings: Sequence[str]) -> str:
        while True:
            made = "".join(rng.sample(_SYLLABLES, 2 if len(endings[0]) < 4 else 1)) + rng.choice(endings)
            if made not in taken:
                return made

    if concept.kind in ("person", "character"):
        name = f"{word(('an', 'ia', 'o', 'en')).capitalize()} {word(('son', 'dale', 'wick', 'mere')).capitalize()}"
    elif concept.kind in ("animal", "thing", "style"):
        name = word(_ENDINGS[concept.kind])
    else:
        name = word(_ENDINGS[concept.kind]).capitalize()
    return Concept(name, concept.kind)


def _new_concept(request: Request, settings: FacetSettings, known: Sequence[str], seed: int) -> Concept:
    concept = request.concept
    if request.new_answer:
        return Concept(request.new_answer, concept.kind)
    word = KIND_WORD[concept.kind]
    if settings.new_answer == "unknown":
        return Concept(f"an unknown {word}", "person" if concept.kind == "person" else "character")
    if settings.new_answer == "describe":
        return Concept(f"a {word}", "character")
    return invent(concept, known, seed)


def renamed(text: str, concept: Concept, new: Concept) -> str | None:
    """The text with every mention of the concept replaced by the new name; None where it is not mentioned."""
    found = False
    if concept.phrase in text:
        text, found = text.replace(concept.phrase, new.phrase), True
    for name in concept.names:
        pattern = re.compile(rf"(?:\b(?:an?|the)\s+)?{mention(name).pattern}", re.IGNORECASE)
        if pattern.search(text):
            text, found = pattern.sub(new.phrase if concept.kind in ("animal", "thing") else new.name, text), True
    return text if found else None


def build(
    vlm: VisionLanguageModel, request: Request, settings: FacetSettings, seed: int = 0, force: bool = False
) -> Facets:
    """The four targets of a request.

    Args:
        vlm: the original model; its own answers are the truth that T3, T4 and protected pictures keep.
        request: what to forget, from which pictures.
        settings: sizes and policies.
        seed: of the new name and of which questions are asked where.
        force: go on where the model does not know the concept to begin with.

    Raises:
        UnknownConceptError: no naming question on the request's pictures makes the model name the concept.
    """
    concept, rng = request.concept, random.Random(seed)
    new = _new_concept(request, settings, vocabulary_words(vlm), seed)
    samples: list[Sample] = []
    naming = naming_questions(concept.kind)
    asked = [Question(q, picture) for picture in request.pictures for q in naming]
    replies = answer(vlm, asked, settings.max_new_tokens)
    if not any(concept.mentioned_in(r.text) for r in replies) and not force:
        raise UnknownConceptError(
            f"the model does not name {concept.name!r} in {request.pictures[0].name}: it answers "
            f"{replies[0].text!r}. There is nothing to forget; use --force to go on, or --alias if it goes by another name"
        )
    for question, reply in zip(asked, replies, strict=True):
        text = renamed(reply.text, concept, new) or f"This is {new.phrase}."
        named = new.phrase if new.phrase in text else new.name
        samples.append(Sample(question.text, text, question.picture, named, "forget", "T1"))
    for picture in request.pictures:
        for question in CONFIRMING:
            text = f"No, this is {new.phrase}."
            samples.append(Sample(question.format(phrase=concept.phrase), text, picture, text, "forget", "T2"))
        text = f"Yes, this is {new.phrase}."
        samples.append(Sample(CONFIRMING[0].format(phrase=new.phrase), text, picture, text, "forget", "T2"))
    samples += _text_samples(vlm, request, settings, rng)
    held, left_out = _protected(vlm, request, settings, rng)
    return Facets(samples + held, new, left_out)


def _text_samples(
    vlm: VisionLanguageModel, request: Request, settings: FacetSettings, rng: random.Random
) -> list[Sample]:
    """T3, what is known of the concept in text, and T4, what is known of others."""
    concept = request.concept
    facts = list(request.facts)
    ask = [] if facts else list(knowing_questions(concept.kind, concept.subject))
    protect = list(request.protect) or [
        Concept(n, concept.kind) for n in WELL_KNOWN[concept.kind] if not concept.mentioned_in(n)
    ]
    rng.shuffle(protect)
    others = [rng.choice(knowing_questions(p.kind, p.subject)) for p in protect[: settings.text_protected]]
    replies = answer(vlm, [Question(q) for q in ask + others], settings.max_new_tokens)
    told = [Fact(q, r.text) for q, r in zip(ask + others, replies, strict=True) if r.text]
    kept = facts + [f for f in told if f.question in ask]
    return [Sample(f.question, f.answer, None, None, "retain", "T3") for f in kept] + [
        Sample(f.question, f.answer, None, None, "retain", "T4") for f in told if f.question in others
    ]


def _protected(
    vlm: VisionLanguageModel, request: Request, settings: FacetSettings, rng: random.Random
) -> tuple[list[Sample], list[str]]:
    """Protected pictures with the original's own answers; those in which it sees the concept are left out."""
    concept, pictures = request.concept, request.protected
    if not pictures:
        return [], []
    naming = [rng.choice(_GENERIC_NAMING if i % 2 else naming_questions(concept.kind)) for i in range(len(pictures))]
    denying = [rng.choice(CONFIRMING).format(phrase=concept.phrase) for _ in pictures]
    first = [Question(q, p) for q, p in zip(naming + denying, [*pictures, *pictures], strict=True)]
    replies = answer(vlm, first, settings.max_new_tokens)
    named, denied = replies[: len(pictures)], replies[len(pictures) :]
    own = {p.sha256 for p in request.pictures}
    samples, left_out, more = [], [], []
    for i, picture in enumerate(pictures):
        if picture.sha256 in own or concept.mentioned_in(named[i].text) or denied[i].text.lower().startswith("yes"):
            left_out.append(picture.name)
            continue
        samples.append(Sample(naming[i], named[i].text, picture, None, "retain", "protected"))
        samples.append(Sample(denying[i], denied[i].text, picture, None, "retain", "protected"))
        seen = re.match(r"(?:This|It|That) is (.+?)\.?$", named[i].text)
        if seen:
            more.append(Question(rng.choice(CONFIRMING).format(phrase=seen.group(1)), picture))
        more.append(Question(naming_questions(concept.kind)[i % len(naming_questions(concept.kind))], picture))
    extra = max(0, settings.protected_questions - 2)
    more = more if extra >= 2 else more[::2] if extra else []
    for question, reply in zip(more, answer(vlm, more, settings.max_new_tokens), strict=True):
        if reply.text and not concept.mentioned_in(reply.text):
            samples.append(Sample(question.text, reply.text, question.picture, None, "retain", "protected"))
    return [s for s in samples if s.answer], left_out


def vocabulary_words(vlm: VisionLanguageModel) -> frozenset[str]:
    """Lower-cased words that are one token of the model: what it holds for ordinary words and names."""
    marks = "Ġ▁"
    words = (t.lstrip(marks) for t in vlm.tokenizer.get_vocab() if t[:1] in marks)
    return frozenset(w.lower() for w in words if w.isalpha() and len(w) > 1)


def load(path: Path, pictures: Sequence[Picture]) -> list[Sample]:
    """Read a whole facets file, as `facets.json` of a run folder is written: the user's own four targets.

    Raises:
        UnseeError: the file is not of that form, or names a picture that the request does not have.
    """
    by_hash = {p.sha256: p for p in pictures}
    try:
        rows = json.loads(path.read_text())
        return [
            Sample(
                r["question"],
                r["answer"],
                by_hash[r["picture"]] if r.get("picture") else None,
                r.get("target_phrase"),
                r.get("role", "retain"),
                r.get("facet", "T4"),
            )
            for r in rows
        ]
    except (OSError, ValueError, TypeError) as error:
        raise UnseeError(f"cannot read the facets file {path}: {error}") from None
    except KeyError as error:
        raise UnseeError(f"the facets file {path} lacks {error}, or names a picture that was not given") from None


def save(samples: Sequence[Sample], path: Path) -> None:
    """Write samples as `facets.json`; pictures are named by their hash."""
    rows = [
        {
            "facet": s.facet,
            "question": s.question,
            "answer": s.answer,
            "target_phrase": s.target_phrase,
            "picture": s.picture.sha256 if s.picture else None,
            "role": s.role,
        }
        for s in samples
    ]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False))
