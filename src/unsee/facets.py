"""From a request to SIU's four targets (T1 to T4), by asking the original model; no external model is used."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from unsee.data import Concept, Fact, Picture, Request, Sample
from unsee.data.concept import Facet, mention
from unsee.data.variations import variations
from unsee.data.wording import CONFIRMING, KIND_WORD, knowing_questions, naming_in_text, naming_questions
from unsee.errors import UnknownConceptError, UnseeError
from unsee.models import Question, Reply, VisionLanguageModel, answer

NewAnswer = Literal["invented", "unknown", "describe"]
NEW_ANSWERS: tuple[NewAnswer, ...] = get_args(NewAnswer)

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
        variations: pictures varied from the request's own (`unsee.data.variations`). Those in which the original
            still sees the concept are to be forgotten too, the others protected.
        text_protected: how many concepts T4 asks about in text.
        max_new_tokens: where the original model's own answers are cut.
    """

    new_answer: NewAnswer = "invented"
    protected_questions: int = 4
    variations: int = 48
    text_protected: int = 7
    max_new_tokens: int = 32


@dataclass
class Facets:
    """The samples of a request, and what the user should know about how they came about.

    Args:
        samples: the four targets and the protected pictures.
        new_answer: what the concept is called from now on; "" where given samples do not say.
        left_out: protected pictures in which the original model sees the concept: never trained on.
    """

    samples: list[Sample]
    new_answer: str
    left_out: list[str] = field(default_factory=list)

    @property
    def new_names(self) -> set[str]:
        """What the samples call the concept from now on."""
        return {s.target_phrase for s in self.samples if s.facet == "T1" and s.target_phrase}


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


def _new_concept(vlm: VisionLanguageModel, request: Request, settings: FacetSettings, seed: int) -> Concept:
    concept = request.concept
    word = KIND_WORD[concept.kind]
    if request.new_answer:
        new = Concept(request.new_answer, concept.kind)
    elif settings.new_answer == "unknown":
        new = Concept(f"an unknown {word}", "character")
    elif settings.new_answer == "describe":
        new = Concept(f"a{'n' if word[0] in 'aeiou' else ''} {word}", "character")
    else:
        known = [*vocabulary_words(vlm), *WELL_KNOWN[concept.kind], *concept.names, *(p.name for p in request.protect)]
        new = invent(concept, known, seed)
    if concept.mentioned_in(new.phrase):
        raise UnseeError(f"the new answer {new.phrase!r} names {concept.name!r} itself; choose another")
    return new


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
        UnseeError: the new answer that the request asks for names the concept itself.
    """
    concept, rng = request.concept, random.Random(seed)
    new = _new_concept(vlm, request, settings, seed)
    samples: list[Sample] = []
    for question, reply in _named(vlm, request, settings, force):
        text = renamed(reply.text, concept, new) or f"This is {new.phrase}."
        found = re.search(f"{re.escape(new.phrase)}|{re.escape(new.subject)}", text, re.IGNORECASE)
        phrase = found.group() if found else text
        samples.append(Sample(question.text, text, question.picture, phrase, "forget", "T1", reply.text or None))
    samples += _confirmed(vlm, request, new, settings)
    samples += _text_samples(vlm, request, settings, rng)
    held, left_out = _protected(vlm, request, new, settings, rng, varied(request, settings, seed))
    return Facets(samples + held, new.phrase, left_out)


def varied(request: Request, settings: FacetSettings, seed: int) -> list[Picture]:
    """The variations of a request's pictures; the same seed gives the same."""
    return variations(request.pictures, request.protected, settings.variations, seed)


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
        vlm, request, samples, settings, force: as in `build`.
        anew: the samples are training data, which a model that has *not* seen the concept is to learn.

    Raises:
        UnknownConceptError: as `build`.
        UnseeError: there are no samples; or, with `anew`, the model names the concept, or one of the samples to be
            retained shows a picture that is to be forgotten.
    """
    if not samples:
        raise UnseeError("the facets given hold no sample at all")
    if anew:
        _check_unseen(vlm, request, samples, settings, force)
    else:
        _named(vlm, request, settings, force)
    facets = Facets(list(samples), "")
    phrases = [s.target_phrase for s in samples if s.facet == "T1" and s.target_phrase]
    facets.new_answer = max(phrases, key=phrases.count, default="")
    return facets


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
    vlm: VisionLanguageModel, request: Request, settings: FacetSettings, rng: random.Random
) -> list[Sample]:
    """T3, what is known of the concept in text, and T4, what is known of others."""
    concept = request.concept
    protect = list(request.protect) or [Concept(n, concept.kind) for n in WELL_KNOWN[concept.kind]]
    protect = [p for p in protect if not concept.mentioned_in(p.name)]
    rng.shuffle(protect)
    about = [] if request.facts else list(knowing_questions(concept.kind, concept.subject))
    others = [rng.choice(knowing_questions(p.kind, p.subject)) for p in protect[: settings.text_protected]]
    replies = answer(vlm, [Question(q) for q in about + others], settings.max_new_tokens)
    told = [Fact(q, r.text) for q, r in zip(about + others, replies, strict=True)]
    known = [*request.facts, *told[: len(about)]]
    if not request.facts:
        known += _told_by_name(vlm, concept, known, settings)
    samples = [Sample(f.question, f.answer, None, None, "retain", "T3") for f in known if f.answer]
    return samples + [Sample(f.question, f.answer, None, None, "retain", "T4") for f in told[len(about) :] if f.answer]


def _told_by_name(
    vlm: VisionLanguageModel, concept: Concept, known: Sequence[Fact], settings: FacetSettings
) -> list[Fact]:
    """What the original says of the concept, turned round: the name is the answer. Where it does not say it, nothing.

    Otherwise nothing in T3 would ask for the name, and forgetting it in pictures would take it from the text too.
    """
    said = [
        re.fullmatch(rf"(?:yes, )?{re.escape(concept.subject)} is (.+?)\.?", f.answer, re.IGNORECASE) for f in known
    ]
    clues = dict.fromkeys(m.group(1) for m in said if m and not concept.mentioned_in(m.group(1)))
    asked = [q.format(clue=clue) for clue in list(clues)[:1] for q in naming_in_text(concept.kind)]
    replies = answer(vlm, [Question(q) for q in asked], settings.max_new_tokens) if asked else []
    return [Fact(q, r.text) for q, r in zip(asked, replies, strict=True) if concept.mentioned_in(r.text)]


def _protected(
    vlm: VisionLanguageModel,
    request: Request,
    new: Concept,
    settings: FacetSettings,
    rng: random.Random,
    varied: Sequence[Picture],
) -> tuple[list[Sample], list[str]]:
    """Protected pictures and variations with the original's own answers.

    A protected picture in which it sees the concept is left out; a variation in which it does is to be forgotten.
    """
    concept, pictures = request.concept, [*request.protected, *varied]
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
    own = {p.sha256 for p in request.pictures}
    held: list[Sample] = []
    left_out: list[str] = []
    kept: list[int] = []
    for i, picture in enumerate(pictures):
        named, denied = said[i]
        sees = concept.mentioned_in(named), denied.lower().startswith("yes")
        if picture.sha256 not in own and not any(sees):
            kept.append(i)
        elif facets[i] == "protected":
            left_out.append(picture.name)
        elif all(sees):
            text, no = renamed(named, concept, new) or "", f"No, this is {new.phrase}."
            phrase = new.phrase if new.phrase in text else text
            held.append(Sample(asked[i][0], text, picture, phrase, "forget", "variation", named))
            held.append(Sample(asked[i][1], no, picture, no, "forget", "variation", denied))
    seen = {i: m.group(1) for i in kept if (m := re.match(r"(?:This|It|That) is (.+?)\.?$", said[i][0]))}
    more: list[list[str]] = []
    spared: set[int] = set()
    for n, i in enumerate(kept):
        again = [q for q in (wordings[i % len(wordings)], wordings[(i + 1) % len(wordings)]) if q not in asked[i]][:1]
        about = [seen[i]] if i in seen else []
        # Were only the concept ever denied, the model would learn to say yes to every other name.
        if i in seen and n % 2 and (others := sorted(set(seen.values()) - {seen[i]})):
            about.append(rng.choice(others))
        room = max(0, settings.protected_questions - 2)
        if len(about) == 2 and room > 1:  # one denial a picture is enough: as many answers say yes as say no
            spared.add(i)
            room += 1
        confirming = [q.format(phrase=p) for q, p in zip(rng.sample(CONFIRMING, len(about)), about, strict=True)]
        more.append([*confirming, *again][:room])
    further = _answers(vlm, more, [pictures[i] for i in kept], settings)
    for i, questions, replies in zip(kept, more, further, strict=True):
        pairs = list(zip(asked[i] + questions, said[i] + replies, strict=True))
        pairs = [pairs[0], *pairs[2:]] if i in spared else pairs[: settings.protected_questions]
        held += [Sample(q, a, pictures[i], None, "retain", facets[i])
                 for n, (q, a) in enumerate(pairs)
                 if a and (n < (1 if i in spared else 2) or not concept.mentioned_in(a))]  # fmt: skip
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
