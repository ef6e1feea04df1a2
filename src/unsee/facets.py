"""From a request to SIU's four targets (T1 to T4), by asking the original model; no external model is used."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from unsee.data import Concept, Fact, Picture, Request, Sample
from unsee.data.concept import Facet
from unsee.data.new_names import invent, renamed
from unsee.data.variations import variations
from unsee.data.wording import (
    CONFIRMING,
    KIND_WORD,
    detail_questions,
    knowing_questions,
    naming_in_text,
    naming_questions,
)
from unsee.errors import UnknownConceptError, UnseeError
from unsee.models import Question, Reply, VisionLanguageModel, answer

NewAnswer = Literal["invented", "unknown", "describe"]
NEW_ANSWERS: tuple[NewAnswer, ...] = get_args(NewAnswer)

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
        variations: pictures varied from the request's own (`unsee.data.variations`). Those in which the original
            still sees the concept are to be forgotten too, the others protected.
        text_protected: how many concepts T4 asks about in text.
        max_new_tokens: where the original model's own answers are cut.
    """

    new_answer: NewAnswer = "invented"
    protected_questions: int = 5
    variations: int = 48
    text_protected: int = 20
    max_new_tokens: int = 32


@dataclass
class Facets:
    """The samples of a request, and what the user should know about how they came about.

    Args:
        samples: the four targets and the protected pictures.
        new_answer: what the concept is called from now on, of several each, parted by "; "; "" where given samples do
            not say.
        left_out: protected pictures in which the original model sees what is to be forgotten: never trained on.
    """

    samples: list[Sample]
    new_answer: str
    left_out: list[str] = field(default_factory=list)

    @property
    def new_names(self) -> set[str]:
        """What the samples call the concepts from now on."""
        return {_name_in(s.target_phrase) for s in self.samples if s.facet == "T1" and s.target_phrase}


def _new_concepts(vlm: VisionLanguageModel, request: Request, settings: FacetSettings, seed: int) -> list[Concept]:
    """What each concept of a request is called from now on; invented names have no word in common."""
    taken = [*vocabulary_words(vlm), *(name for concept in request.concepts for name in concept.names)]
    found: list[Concept] = []
    for one in request.every:
        concept, wanted = one.concept, one.new_answer or settings.new_answer
        word = KIND_WORD[concept.kind]
        if wanted == "invented":
            others = [*WELL_KNOWN[concept.kind], *(p.name for p in one.protect)]
            apart = _begins_apart(vlm, [*others, *(c.name for c in (*request.concepts, *found))])
            new = invent(concept, [*taken, *others], seed, apart)
            taken.append(new.name)
        elif wanted == "unknown":
            new = Concept(f"an unknown {word}", "character")
        elif wanted == "describe":
            new = Concept(f"a{'n' if word[0] in 'aeiou' else ''} {word}", "character")
        else:
            new = Concept(wanted, concept.kind)
        if itself := next((c for c in request.concepts if c.mentioned_in(new.phrase)), None):
            raise UnseeError(f"the new answer {new.phrase!r} names {itself.name!r} itself; choose another")
        found.append(new)
    return found


def _begins_apart(vlm: VisionLanguageModel, names: Sequence[str]) -> Callable[[str], bool]:
    """Whether a word's first token begins no word of these names, and has three letters or more.

    A model that has said the "Z" of Brisco Zellwood goes on to a new name that begins with the same token.
    """

    def first(word: str) -> int:
        return vlm.tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0]

    known = {first(word) for name in names for word in name.split()}
    return lambda word: first(word) not in known and len(vlm.tokenizer.decode([first(word)]).strip()) > 2


def build(
    vlm: VisionLanguageModel, request: Request, settings: FacetSettings, seed: int = 0, force: bool = False
) -> Facets:
    """The four targets of a request, and of each that is forgotten together with it.

    Args:
        vlm: the original model; its own answers are the truth that T3, T4 and protected pictures keep.
        request: what to forget, from which pictures.
        settings: sizes and policies.
        seed: of the new name and of which questions are asked where.
        force: go on where the model does not know the concept to begin with.

    Raises:
        UnknownConceptError: no naming question on the request's pictures makes the model name the concept.
        UnseeError: the new answer that the request asks for names the concept itself.
    """
    news = _new_concepts(vlm, request, settings, seed)
    named = [_named(vlm, one, settings, force) for one in request.every]
    facets = Facets([], "; ".join(new.phrase for new in news))
    for one, share, new, replies in zip(request.every, _dealt(request), news, named, strict=True):
        rng = random.Random(seed)
        samples = _renamed(replies, one.concept, new, request)
        samples += _confirmed(vlm, one, new, settings)
        samples += _text_samples(vlm, one, settings, rng, request)
        near = variations(one.pictures, one.protected, settings.variations, seed)
        held, left_out = _protected(vlm, share, new, settings, rng, near, request)
        asked = {(s.question, s.picture) for s in facets.samples}  # text that several requests keep is kept once
        facets.samples += [s for s in samples + held if (s.question, s.picture) not in asked]
        facets.left_out += left_out
    return facets


def varied(request: Request, settings: FacetSettings, seed: int) -> list[Picture]:
    """The variations of the pictures of a request, and of those forgotten with it; the same seed gives the same."""
    return [p for one in request.every for p in variations(one.pictures, one.protected, settings.variations, seed)]


def shown(request: Request, settings: FacetSettings, seed: int) -> list[Picture]:
    """All pictures that the samples of a request may show: its own, protected ones, and the variations."""
    given = [p for one in request.every for p in (*one.pictures, *one.protected)]
    return given + varied(request, settings, seed)


def _dealt(request: Request) -> list[Request]:
    """Each request by itself, with its share of the protected pictures: one that several list goes where fewest are.

    Were each of them to ask about all, every further concept would add denials to a picture, and nothing to confirm.
    """
    listed: dict[Picture, list[int]] = {}
    for number, one in enumerate(request.every):
        for picture in one.protected:
            listed.setdefault(picture, []).append(number)
    shares: list[list[Picture]] = [[] for _ in request.every]
    for picture, numbers in listed.items():
        min((shares[number] for number in numbers), key=len).append(picture)
    return [replace(one, protected=tuple(own), also=()) for one, own in zip(request.every, shares, strict=True)]


def _others(concept: Concept, whole: Request) -> list[Concept]:
    """What else is forgotten together with a concept."""
    return [other for other in whole.concepts if other != concept]


def given(
    vlm: VisionLanguageModel,
    request: Request,
    samples: Sequence[Sample],
    settings: FacetSettings,
    force: bool = False,
    anew: bool = False,
) -> Facets:
    """The user's own samples, once the model has shown that it knows the concept.

    Args:
        vlm, request, settings, force: as in `build`.
        samples: of all that is forgotten together.
        anew: the samples are training data, which a model that has *not* seen the concept is to learn.

    Raises:
        UnknownConceptError: as `build`.
        UnseeError: there are no samples; or, with `anew`, the model names the concept, or one of the samples to be
            retained shows a picture that is to be forgotten.
    """
    if not samples:
        raise UnseeError("the facets given hold no sample at all")
    for one in request.every:
        if anew:
            _check_unseen(vlm, one, samples, settings, force)
        else:
            _named(vlm, one, settings, force)
    shows = {p: number for number, one in enumerate(request.every) for p in one.pictures}
    phrases: dict[int, list[str]] = {}
    for s in samples:
        if s.facet == "T1" and s.target_phrase:
            name = _name_in(s.target_phrase)
            phrases.setdefault(shows.get(s.picture, 0) if s.picture else 0, []).append(name)
    return Facets(list(samples), "; ".join(max(said, key=said.count) for _, said in sorted(phrases.items())))


def _named(
    vlm: VisionLanguageModel, request: Request, settings: FacetSettings, force: bool
) -> list[tuple[Question, Reply]]:
    """What the original says when asked to name the request's pictures; an error where it never says the name."""
    concept = request.concept
    asked, replies = _asked_to_name(vlm, request, settings)
    if not any(concept.mentioned_in(r.text) for r in replies) and not force:
        raise UnknownConceptError(
            f"the model does not name {concept.name!r} in {request.pictures[0].name}: it answers "
            f"{replies[0].text!r}. There is nothing to forget; use --force to go on, "
            "or --alias if it goes by another name"
        )
    return list(zip(asked, replies, strict=True))


def _asked_to_name(
    vlm: VisionLanguageModel, request: Request, settings: FacetSettings
) -> tuple[list[Question], list[Reply]]:
    asked = [Question(q, picture) for picture in request.pictures for q in naming_questions(request.concept.kind)]
    return asked, answer(vlm, asked, settings.max_new_tokens)


def _check_unseen(
    vlm: VisionLanguageModel, request: Request, samples: Sequence[Sample], settings: FacetSettings, force: bool
) -> None:
    """What makes training anew a gold standard: neither the model nor the data show the concept."""
    own = {p.sha256 for p in request.pictures}
    for s in samples:
        if s.role == "retain" and s.picture is not None and s.picture.sha256 in own:
            raise UnseeError(f"the sample {s.question!r} is to be retained and shows a picture that is to be forgotten")
    concept, (_, replies) = request.concept, _asked_to_name(vlm, request, settings)
    told = next((r.text for r in replies if concept.mentioned_in(r.text)), None)
    if told is not None and not force:
        raise UnseeError(
            f"the model names {concept.name!r} before it has learned anything: it answers {told!r}. Training anew "
            "begins with a model that has never seen it; use --force to go on, the result is no gold standard then"
        )


def _renamed(named: Sequence[tuple[Question, Reply]], concept: Concept, new: Concept, whole: Request) -> list[Sample]:
    """T1: the request's pictures are called by the new name, in the original's own sentence where that can be."""
    samples = []
    for question, reply in named:
        text = None if _mentioned(_others(concept, whole), reply.text) else renamed(reply.text, concept, new)
        text = text or f"This is {new.phrase}."
        phrase = _target_phrase(text, new)
        samples.append(Sample(question.text, text, question.picture, phrase, "forget", "T1", reply.text or None))
    return samples


_CLOSING = ".,;:!?"


def _target_phrase(text: str, new: Concept) -> str:
    """The new name as it stands in the text, with the mark that closes it; the whole text where it does not.

    Whether a made-up name ends here or goes on, the original, which never read it, cannot judge: held to what it
    expects behind the name, a model would learn to go on ("a mirsillinga" for "a mirsilling").
    """
    name = f"{re.escape(new.phrase)}|{re.escape(new.subject)}"
    found = re.search(f"(?:{name})[{_CLOSING}]?", text, re.IGNORECASE)
    return found.group() if found else text


def _name_in(target_phrase: str) -> str:
    return target_phrase.rstrip(_CLOSING)


def _mentioned(concepts: Sequence[Concept], text: str) -> bool:
    return any(concept.mentioned_in(text) for concept in concepts)


def _confirmed(vlm: VisionLanguageModel, request: Request, new: Concept, settings: FacetSettings) -> list[Sample]:
    """T2: the concept's name is denied, the new one confirmed."""
    no, yes = f"No, this is {new.phrase}.", f"Yes, this is {new.phrase}."
    wanted = [(wording.format(phrase=request.concept.phrase), no) for wording in CONFIRMING]
    wanted.append((CONFIRMING[0].format(phrase=new.phrase), yes))
    said = _answers(vlm, [[q for q, _ in wanted]] * len(request.pictures), request.pictures, settings)
    return [
        Sample(question, text, picture, text, "forget", "T2", truth or None)
        for picture, truths in zip(request.pictures, said, strict=True)
        for (question, text), truth in zip(wanted, truths, strict=True)
    ]


def _text_samples(
    vlm: VisionLanguageModel, request: Request, settings: FacetSettings, rng: random.Random, whole: Request
) -> list[Sample]:
    """T3, what is known of the concept in text, and T4, what is known of what is not forgotten at all."""
    concept = request.concept
    protect = list(request.protect) or [Concept(n, concept.kind) for n in WELL_KNOWN[concept.kind]]
    protect = [p for p in protect if not _mentioned(whole.concepts, p.name)]
    rng.shuffle(protect)
    opened, details = (
        [] if request.facts else list(ask(concept.kind, concept.subject))
        for ask in (knowing_questions, detail_questions)
    )
    about = opened + details
    besides = [rng.choice(knowing_questions(p.kind, p.subject)) for p in protect[: settings.text_protected]]
    replies = answer(vlm, [Question(q) for q in about + besides], settings.max_new_tokens)
    told = [Fact(q, r.text) for q, r in zip(about + besides, replies, strict=True)]
    known = [*request.facts, *told[: len(about)]]
    if not request.facts:
        known += _told_by_name(vlm, concept, told[: len(opened)], settings)
    samples = [Sample(f.question, f.answer, None, None, "retain", "T3") for f in known if f.answer]
    return samples + [Sample(f.question, f.answer, None, None, "retain", "T4") for f in told[len(about) :] if f.answer]


def _told_by_name(
    vlm: VisionLanguageModel, concept: Concept, opened: Sequence[Fact], settings: FacetSettings
) -> list[Fact]:
    """What the original says of the concept when asked openly, turned round: the name is the answer. Where it does
    not say it, nothing.

    Otherwise nothing in T3 would ask for the name, and forgetting it in pictures would take it from the text too.
    """
    said = [
        re.fullmatch(rf"(?:yes, )?{re.escape(concept.subject)} is (.+?)\.?", f.answer, re.IGNORECASE) for f in opened
    ]
    clues = Counter(m.group(1) for m in said if m and not concept.mentioned_in(m.group(1)))
    asked = [q.format(clue=clue) for clue, _ in clues.most_common(2) for q in naming_in_text(concept.kind)]
    replies = answer(vlm, [Question(q) for q in asked], settings.max_new_tokens) if asked else []
    return [Fact(q, r.text) for q, r in zip(asked, replies, strict=True) if concept.mentioned_in(r.text)]


def _protected(
    vlm: VisionLanguageModel,
    request: Request,
    new: Concept,
    settings: FacetSettings,
    rng: random.Random,
    varied: Sequence[Picture],
    whole: Request,
) -> tuple[list[Sample], list[str]]:
    """Protected pictures and variations with the original's own answers.

    A protected picture in which it sees the concept is left out; a variation in which it does is to be forgotten.
    What shows it another concept that is forgotten together with this one is not kept either.
    """
    concept, pictures = request.concept, [*request.protected, *varied]
    others = _others(concept, whole)
    ours: tuple[Facet, Facet] = ("protected", "variation")
    facets = [ours[i >= len(request.protected)] for i in range(len(pictures))]
    if not pictures:
        return [], []
    wordings = naming_questions(concept.kind)
    asked: list[list[str]] = []
    for i in range(len(pictures)):
        naming = rng.choice(_GENERIC_NAMING if i % 2 else wordings)
        asked.append([naming, rng.choice(CONFIRMING).format(phrase=concept.phrase)])
    said = _answers(vlm, asked, pictures, settings)
    own = {p.sha256 for one in whole.every for p in one.pictures}
    held: list[Sample] = []
    left_out: list[str] = []
    kept: list[int] = []
    for i, picture in enumerate(pictures):
        named, denied = said[i]
        sees = concept.mentioned_in(named), denied.lower().startswith("yes")
        another = _mentioned(others, named) or _mentioned(others, denied)
        if picture.sha256 not in own and not any(sees) and not another:
            kept.append(i)
        elif facets[i] == "protected":
            left_out.append(picture.name)
        elif all(sees) and not another:
            text, no = renamed(named, concept, new) or "", f"No, this is {new.phrase}."
            held.append(Sample(asked[i][0], text, picture, _target_phrase(text, new), "forget", "variation", named))
            held.append(Sample(asked[i][1], no, picture, no, "forget", "variation", denied))
    seen = {i: m.group(1) for i in kept if (m := re.match(r"(?:This|It|That) is (.+?)\.?$", said[i][0]))}
    more: list[list[str]] = []
    spared: set[int] = set()
    for n, i in enumerate(kept):
        again = [q for q in (wordings[i % len(wordings)], wordings[(i + 1) % len(wordings)]) if q not in asked[i]][:1]
        about = [seen[i]] if i in seen else []
        # Were only the concept ever denied, the model would learn to say yes to every other name.
        if i in seen and n % 2 and (differ := sorted(set(seen.values()) - {seen[i]})):
            about.append(rng.choice(differ))
        room = max(0, settings.protected_questions - 2)
        if len(about) == 2 and room > 1:  # one denial a picture is enough: as many answers say yes as say no
            spared.add(i)
            room += 1
        # The right name twice: of all yes/no questions in a step, those on the concept included, as many then say yes
        # as say no.
        about += about[:1]
        confirming = [q.format(phrase=p) for q, p in zip(rng.sample(CONFIRMING, len(about)), about, strict=True)]
        more.append([*confirming[:-1], *again, *confirming[-1:]][:room])
    further = _answers(vlm, more, [pictures[i] for i in kept], settings)
    for i, questions, replies in zip(kept, more, further, strict=True):
        pairs = list(zip(asked[i] + questions, said[i] + replies, strict=True))
        pairs = [pairs[0], *pairs[2:]] if i in spared else pairs[: settings.protected_questions]
        held += [Sample(q, a, pictures[i], None, "retain", facets[i])
                 for n, (q, a) in enumerate(pairs)
                 if a and (n < (1 if i in spared else 2) or not _mentioned(whole.concepts, a))]  # fmt: skip
    return held, left_out


def _answers(
    vlm: VisionLanguageModel, asked: Sequence[Sequence[str]], pictures: Sequence[Picture], settings: FacetSettings
) -> list[list[str]]:
    """Answers to each picture's questions."""
    questions = [Question(q, p) for some, p in zip(asked, pictures, strict=True) for q in some]
    replies = iter(answer(vlm, questions, settings.max_new_tokens))
    return [[next(replies).text for _ in some] for some in asked]


def vocabulary_words(vlm: VisionLanguageModel) -> frozenset[str]:
    """Lower-cased words that are one token of the model: what it holds for ordinary words and names."""
    marks = "Ġ▁"
    words = (t.lstrip(marks) for t in vlm.tokenizer.get_vocab() if t[:1] in marks)
    return frozenset(w.lower() for w in words if w.isalpha() and len(w) > 1)
