"""The embedded benchmark: MMUBench's protocol on the mini data."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from unsee.benchmarks.protocol import Item, Protocol, asked_of_others, asked_of_training, asked_of_unseen
from unsee.benchmarks.wording import naming_questions
from unsee.data import Concept, Picture, Request
from unsee.mini.data import MiniConcept, MiniData, mini_data


def request_for(
    name: str, pictures: int = 1, protected: int = 48, data: MiniData | None = None, also: Sequence[str] = ()
) -> Request:
    """The deletion request of a benchmark concept: its training picture, and pictures of others to hold in place.

    Args:
        name: of a concept of the mini data.
        pictures: how many training pictures the request has; the paper's is one.
        protected: how many pictures of others; see `MiniData.protecting`.
        data: another edition of the mini data.
        also: further concepts, to be forgotten together with it.
    """
    data = data or mini_data()
    together = [data.find(n).concept for n in (name, *also)]
    first, *further = (_request(data, concept, together, pictures, protected) for concept in together)
    return replace(first, also=tuple(further))


def _request(data: MiniData, concept: Concept, together: Sequence[Concept], pictures: int, protected: int) -> Request:
    held = [(c, picture) for c, picture in data.protecting(concept, protected) if c not in together]
    near = dict.fromkeys(c for c, _ in held if c.kind == concept.kind)
    return Request(
        concept,
        tuple(data.training_pictures(concept.name, pictures)),
        protect=tuple(near),
        protected=tuple(picture for _, picture in held),
    )


def text_items(name: str, entry: MiniConcept, most: int | None = None) -> list[Item]:
    asked = [Item(name, "text", entry.concept, q.question, q.keywords) for q in entry.questions]
    return asked[:: max(1, len(asked) // most)][:most] if most else asked


def protocol(
    name: str,
    training: tuple[Picture, ...],
    test_pictures: int = 50,
    utility_pictures: int = 3,
    neighbour_pictures: int = 4,
    general_questions: int = 2,
    seed: int = 0,
    data: MiniData | None = None,
    besides: Sequence[Concept] = (),
) -> Protocol:
    """All questions on one concept.

    Args:
        name: the concept to be forgotten.
        training: the request's pictures, for Efficacy.
        test_pictures: unseen pictures of it; each is asked to be named and confirmed.
        utility_pictures: pictures of each `utility` concept.
        neighbour_pictures: pictures of each `utility` concept of the same kind.
        general_questions: text questions about each `utility` concept.
        seed: of the choice of yes/no questions; the same questions are asked before and after.
        data: another edition of the mini data.
        besides: what else is forgotten in the same run, and not asked for as kept.
    """
    data = data or mini_data()
    entry = data.find(name)
    concept, rng = entry.concept, random.Random(f"{seed}/{name}")
    utility = [c for c in data.of("utility") if c.concept not in (concept, *besides)]
    pool = [c.concept for c in utility]
    shown = [(c.concept, p) for c in utility for p in data.test_pictures(c.concept.name, utility_pictures)]
    items = asked_of_training(concept, training)
    items += asked_of_unseen(concept, data.test_pictures(concept.name, test_pictures), rng)
    items += asked_of_others(shown, pool, concept, random.Random(seed))
    naming = naming_questions(concept.kind)
    for near in (c for c in utility if c.concept.kind == concept.kind):
        for i, picture in enumerate(data.test_pictures(near.concept.name, utility_pictures + neighbour_pictures)):
            if i >= utility_pictures:  # other pictures than the utility set asks about
                question = naming[i % len(naming)]
                items.append(Item("neighbours", "name", near.concept, question, near.concept.names, picture))
    items += text_items("text_concept", entry)
    for other in utility if general_questions else ():
        items += text_items("text_general", other, general_questions)
    return Protocol(concept, items, known_concept_names(data))


def protocols(request: Request, **settings: Any) -> list[Protocol]:
    """The protocol of each of the benchmark's concepts that a request forgets together.

    Args:
        request: as `request_for` makes it.
        settings: of `protocol`.
    """
    return [protocol(r.concept.name, r.pictures, besides=request.concepts, **settings) for r in request.every]


def known_concept_names(data: MiniData) -> set[str]:
    return {c.name for c in data.taught}
