"""Answers about a tiger, of which a test says only what matters to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unsee.metrics import METRICS, Answer


def row(answer: str = "", **changes: Any) -> Answer:
    defaults: dict[str, Any] = {
        "model": "after",
        "concept": "tiger",
        "set": "forget",
        "form": "name",
        "item": "q1",
        "subject": "tiger",
        "kind": "animal",
        "picture": "p1",
        "question": "What is this?",
        "keywords": ("tiger",),
    }
    if changes.get("form") == "yes_no":
        defaults["keywords"] = ("yes",)
    return Answer(answer=answer, **(defaults | changes))


def rows(texts: Sequence[str], per_picture: int = 1, **changes: Any) -> list[Answer]:
    return [
        row(text, **({"item": f"q{i:04}", "picture": f"p{i // per_picture:04}"} | changes))
        for i, text in enumerate(texts)
    ]


def value(key: str, answers: Sequence[Answer], originals: Sequence[Answer] = ()) -> float:
    score = METRICS[key].score(answers, originals)
    assert score is not None
    return score.value
