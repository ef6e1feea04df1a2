"""How the four targets are built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

NewAnswer = Literal["invented", "unknown", "describe"]
NEW_ANSWERS: tuple[NewAnswer, ...] = get_args(NewAnswer)

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
