"""Asking the original model: its own answers are the truth that is kept."""

from __future__ import annotations

from collections.abc import Sequence

from unsee.data import Concept, Picture, Request
from unsee.data.wording import naming_questions
from unsee.errors import UnknownConceptError
from unsee.facets.settings import FacetSettings
from unsee.models import Question, Reply, VisionLanguageModel, answer


def replies(vlm: VisionLanguageModel, questions: Sequence[Question], settings: FacetSettings) -> list[Reply]:
    """What the model answers, cut at the settings' length."""
    return answer(vlm, questions, settings.max_new_tokens) if questions else []


def about_pictures(
    vlm: VisionLanguageModel, asked: Sequence[Sequence[str]], pictures: Sequence[Picture], settings: FacetSettings
) -> list[list[str]]:
    """Answers to each picture's questions."""
    said = iter(replies(vlm, [Question(q, p) for some, p in zip(asked, pictures, strict=True) for q in some], settings))
    return [[next(said).text for _ in some] for some in asked]


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
