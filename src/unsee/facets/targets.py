"""The four targets of a single picture: T1 and T2 with it, T3 and T4 without."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence

from unsee.data import Concept, Fact, Request, Sample
from unsee.data.new_names import renamed
from unsee.data.wording import CONFIRMING, detail_questions, knowing_questions, naming_in_text
from unsee.facets.asking import about_pictures, mentioned, others, replies, to_learn, truth
from unsee.facets.new_answer import target_phrase
from unsee.facets.settings import WELL_KNOWN, FacetSettings
from unsee.models import Question, Reply, VisionLanguageModel


def named_anew(named: Sequence[tuple[Question, Reply]], concept: Concept, new: Concept, whole: Request) -> list[Sample]:
    """T1: the request's pictures are called by the new name, in the original's own sentence where that can be."""
    samples = []
    for question, reply in named:
        said = to_learn(reply)
        text = None if mentioned(others(concept, whole), said) else renamed(said, concept, new)
        text = text or f"This is {new.phrase}."
        phrase = target_phrase(text, new)
        true = truth(reply, question.text, concept)
        samples.append(Sample(question.text, text, question.picture, phrase, "forget", "T1", true))
    return samples


def denied(vlm: VisionLanguageModel, request: Request, new: Concept, settings: FacetSettings) -> list[Sample]:
    """T2: the concept's name is denied, the new one confirmed."""
    no, yes = f"No, this is {new.phrase}.", f"Yes, this is {new.phrase}."
    wanted = [(wording.format(phrase=request.concept.phrase), no) for wording in CONFIRMING]
    wanted.append((CONFIRMING[0].format(phrase=new.phrase), yes))
    said = about_pictures(vlm, [[q for q, _ in wanted]] * len(request.pictures), request.pictures, settings)
    return [
        Sample(question, text, picture, text, "forget", "T2", truth(reply, question, request.concept))
        for picture, given in zip(request.pictures, said, strict=True)
        for (question, text), reply in zip(wanted, given, strict=True)
    ]


def known_in_text(
    vlm: VisionLanguageModel, request: Request, settings: FacetSettings, rng: random.Random, whole: Request
) -> list[Sample]:
    """T3, what is known of the concept in text, and T4, what is known of what is not forgotten at all."""
    concept = request.concept
    protect = list(request.protect) or [Concept(n, concept.kind) for n in WELL_KNOWN[concept.kind]]
    protect = [p for p in protect if not mentioned(whole.concepts, p.name)]
    rng.shuffle(protect)
    opened, details = (
        [] if request.facts else list(ask(concept.kind, concept.subject))
        for ask in (knowing_questions, detail_questions)
    )
    about = opened + details
    besides = [rng.choice(knowing_questions(p.kind, p.subject)) for p in protect[: settings.text_protected]]
    said = replies(vlm, [Question(q) for q in about + besides], settings)
    told = [Fact(q, to_learn(r)) for q, r in zip(about + besides, said, strict=True)]
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
    answered = replies(vlm, [Question(q) for q in asked], settings)
    told = [Fact(q, to_learn(r)) for q, r in zip(asked, answered, strict=True)]
    return [fact for fact in told if concept.mentioned_in(fact.answer)]
