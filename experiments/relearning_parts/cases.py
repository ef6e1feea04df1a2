"""What is attacked with what, and what is asked: one concept of the mini data, its pools and its questions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from unsee.benchmarks.mini import request_for
from unsee.benchmarks.protocol import Item, asked_of_others, asked_of_unseen
from unsee.benchmarks.wording import CONFIRMING
from unsee.data import Concept, Picture, Request
from unsee.methods import get_method
from unsee.metrics import Answer
from unsee.mini.data import MiniData, mini_data
from unsee.models import Question, VisionLanguageModel, answer

Shown = list[tuple[Concept, Picture]]


@dataclass(frozen=True)
class Case:
    """One concept under attack.

    Args:
        request: by which it was unlearned.
        pool: training-side pictures of the concept that neither the request nor the test has.
        control: as good as that for other concepts; none of the requests' pictures is among them.
        items: what is asked after each fine-tune.
        requests: by method, where it takes another number of pictures of others.
    """

    request: Request
    pool: Shown
    control: Shown
    items: list[Item]
    requests: dict[str, Request] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.request.concept.name

    def request_of(self, method: str) -> Request:
        return self.requests.get(method, self.request)


def questions(concept: Concept, own: Sequence[Picture], same_kind: Shown, others: Shown) -> list[Item]:
    """What is asked, always the same.

    Args:
        concept: the one attacked.
        own: test pictures of it: each is to be named and confirmed.
        same_kind: pictures of others of its kind, on which it is to be denied: a model that says yes to everything
            is then right on half of the yes/no questions only.
        others: utility pictures of all kinds, each to be named, and confirmed or denied.
    """
    items = asked_of_unseen(concept, own, random.Random(concept.name))
    for i, (shown, picture) in enumerate(same_kind):
        asked = CONFIRMING[i % len(CONFIRMING)].format(phrase=concept.phrase)
        items.append(Item("neighbours", "yes_no", shown, asked, ("no",), picture))
    return items + asked_of_others(others, [c for c, _ in others], concept, random.Random(0))


def mini_case(
    name: str, test_pictures: int, utility_pictures: int, methods: Sequence[str] = (), data: MiniData | None = None
) -> Case:
    """A concept of the mini data, for these methods.

    The pool has its training pictures but the first, which is the request's; the control as many of `protected`
    concepts of all kinds, each picture of another concept as far as they go, and half as many to spare: the original
    may answer some of them wrongly.
    """
    data = data or mini_data()
    request = request_for(name, data=data)
    requests = {m: request_for(name, protected=get_method(m).protected_pictures, data=data) for m in methods}
    concept = request.concept
    given = {p.sha256 for r in (request, *requests.values()) for p in (*r.pictures, *r.protected)}
    pool = [(concept, p) for p in data.training_pictures(concept.name, 10_000) if p.sha256 not in given]
    held = [c.concept for c in data.of("protected") if c.concept.name != concept.name]
    order = random.Random(concept.name).sample(held, len(held))
    # The last pictures come first: unlearning holds the first ones.
    rounds = zip(*[data.training_pictures(c.name, 10_000)[::-1] for c in order], strict=False)
    spare = [pair for row in rounds for pair in zip(order, row, strict=True) if pair[1].sha256 not in given]
    utility = [c.concept for c in data.of("utility") if c.concept.name != concept.name]
    near = in_turn([c for c in utility if c.kind == concept.kind], test_pictures, data)
    spread = min(utility_pictures, len(utility))  # over all kinds: the concepts stand in order of kind
    others = in_turn([utility[i * len(utility) // spread] for i in range(spread)], utility_pictures, data)
    own = data.test_pictures(concept.name, test_pictures)
    items = questions(concept, own, near, others)
    return Case(request, pool, spare[: -(-3 * len(pool) // 2)], items, requests)


def in_turn(concepts: Sequence[Concept], count: int, data: MiniData) -> Shown:
    """Test pictures of concepts, each one's first before any second."""
    each = -(-count // max(1, len(concepts)))
    rounds = zip(*[data.test_pictures(c.name, each) for c in concepts], strict=False)
    return [pair for row in rounds for pair in zip(concepts, row, strict=True)][:count]


def measured(vlm: VisionLanguageModel, case: Case) -> list[Answer]:
    """The model's answers to all questions, in batches, in the order of the items."""
    replies = answer(vlm, [Question(i.question, i.picture) for i in case.items], 32)
    return [
        item.answered(reply, model="after", concept=case.name, item=f"{number:04d}")
        for number, (item, reply) in enumerate(zip(case.items, replies, strict=True))
    ]
