"""Asking the original model: its own answers are the truth that is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence

from unsee.data import Concept, Picture, Request
from unsee.data.wording import naming_questions
from unsee.errors import UnknownConceptError
from unsee.facets.settings import FacetSettings
from unsee.models import Question, Reply, VisionLanguageModel, answer


def replies(vlm: VisionLanguageModel, questions: Sequence[Question], settings: FacetSettings) -> list[Reply]:
    """What the model answers, cut at the settings' length."""
    return answer(vlm, questions, settings.max_new_tokens) if questions else []


def to_learn(reply: Reply) -> str:
    """What of an answer may be learned: of one that was cut off the whole sentences, "" where there is none.

    An answer is learned with its end: a model would learn to stop where the limit happened to fall.
    """
    if reply.ended:
        return reply.text
    found = re.match(r".*[.!?](?=\s|$)", reply.text, re.DOTALL)
    return found.group() if found else ""


def truth(reply: Reply, question: str, concept: Concept) -> str | None:
    """What of an answer is to be suppressed: one that names the concept, or says yes to it; else None."""
    said = to_learn(reply)
    agrees = concept.mentioned_in(question) and said.lower().startswith("yes")
    return said if said and (agrees or concept.mentioned_in(said)) else None


def about_pictures(
    vlm: VisionLanguageModel, asked: Sequence[Sequence[str]], pictures: Sequence[Picture], settings: FacetSettings
) -> list[list[Reply]]:
    """Answers to each picture's questions."""
    said = iter(replies(vlm, [Question(q, p) for some, p in zip(asked, pictures, strict=True) for q in some], settings))
    return [[next(said) for _ in some] for some in asked]


def asked_to_name(vlm: VisionLanguageModel, request: Request, settings: FacetSettings) -> list[tuple[Question, Reply]]:
    """All naming questions on the request's pictures, answered."""
    asked = [Question(q, picture) for picture in request.pictures for q in naming_questions(request.concept.kind)]
    return list(zip(asked, replies(vlm, asked, settings), strict=True))


def named(
    vlm: VisionLanguageModel, request: Request, settings: FacetSettings, force: bool
) -> list[tuple[Question, Reply]]:
    """What the original says when asked to name the request's pictures.

    Raises:
        UnknownConceptError: it never says the name, and `force` is not given.
    """
    concept, said = request.concept, asked_to_name(vlm, request, settings)
    if not force and not any(concept.mentioned_in(reply.text) for _, reply in said):
        raise UnknownConceptError(
            f"the model does not name {concept.name!r} in {request.pictures[0].name}: it answers "
            f"{said[0][1].text!r}. There is nothing to forget; use --force to go on, "
            "or --alias if it goes by another name"
        )
    return said


def others(concept: Concept, whole: Request) -> list[Concept]:
    """What else is forgotten together with a concept."""
    return [other for other in whole.concepts if other != concept]


def mentioned(concepts: Sequence[Concept], text: str) -> bool:
    """Whether a text names any of them."""
    return any(concept.mentioned_in(text) for concept in concepts)
