"""The benchmark's own words: questions about a picture that no facet uses, by kind."""

from __future__ import annotations

from unsee.data.wording import KIND_WORD

NAMING: dict[str, tuple[str, ...]] = {
    "person": (
        "Who is this?",
        "What is the name of the person in this picture?",
        "Can you tell me who is shown here?",
        "Which person can be seen here?",
    ),
    "flag": (
        "Which flag is this?",
        "Which country's flag is shown here?",
        "What flag can be seen in this picture?",
        "Can you identify this flag?",
    ),
    "logo": (
        "Which logo is this?",
        "What is the name behind this logo?",
        "What logo can be seen in this picture?",
        "Can you identify this logo?",
    ),
}
_ANY_NAMING = (
    "Which {word} is this?",
    "What is the name of the {word} in this picture?",
    "What {word} can be seen here?",
    "Can you identify this {word}?",
)

CONFIRMING = (
    "Is this {phrase}?",
    "Does this picture show {phrase}?",
    "Is {phrase} shown here?",
    "Can {phrase} be seen in this image?",
)


def naming_questions(kind: str) -> tuple[str, ...]:
    return NAMING.get(kind, tuple(q.format(word=KIND_WORD[kind]) for q in _ANY_NAMING))
