"""The protocol on a user's own pictures: no labels are needed, the original model's own answers are the truth."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from unsee.benchmarks.protocol import Item, Protocol, asked_of_pictures
from unsee.benchmarks.wording import CONFIRMING
from unsee.data import Concept, Picture, Request
from unsee.data.wording import knowing_questions
from unsee.facets import WELL_KNOWN
from unsee.models import Question, VisionLanguageModel, answer

_NAMING = "What is shown in this picture?"


def held_out_half(pictures: Sequence[Picture], seed: int) -> tuple[list[Picture], list[Picture]]:
    """Split pictures of other things in two: those that training may protect, and those it is measured on."""
    shuffled = random.Random(seed).sample(list(pictures), len(pictures))
    middle = (len(shuffled) + 1) // 2
    return shuffled[:middle], shuffled[middle:]


def protocol(
    vlm: VisionLanguageModel, request: Request, test_pictures: Sequence[Picture], utility: Sequence[Picture], seed: int
) -> Protocol:
    """All questions on a request whose data are the user's.

    Args:
        vlm: the original model: what it says of `utility` is what it shall say afterwards.
        request: whose concept is forgotten.
        test_pictures: other pictures of the concept, or augmentations of the one.
        utility: pictures of other things, disjoint from the request's protected ones.
        seed: of the choice of yes/no questions.
    """
    concept, rng = request.concept, random.Random(seed)
    items = asked_of_pictures("training", concept, request.pictures, rng)
    items += asked_of_pictures("forget", concept, test_pictures, rng)
    for i, (seen, picture) in enumerate(_own_truth(vlm, utility, concept)):
        items.append(Item("utility", "name", seen, _NAMING, seen.names, picture))
        asked = CONFIRMING[i % len(CONFIRMING)].format(phrase=seen.phrase)
        items.append(Item("utility", "yes_no", seen, asked, ("yes",), picture))
    items += [Item("text_concept", "text", concept, f.question, (f.answer,)) for f in request.facts]
    others = [Concept(n, concept.kind) for n in WELL_KNOWN[concept.kind] if not concept.mentioned_in(n)]
    items += [
        Item("text_general", "text", o, knowing_questions(o.kind, o.subject)[1], o.names) for o in others
    ]  # an answer that speaks of its subject at all
    return Protocol(concept, items, {seen.name for seen in others})


def _own_truth(
    vlm: VisionLanguageModel, pictures: Sequence[Picture], forgotten: Concept
) -> list[tuple[Concept, Picture]]:
    """What the model itself says it sees, where it names something that is not the forgotten concept."""
    with vlm.original():
        replies = answer(vlm, [Question(_NAMING, p) for p in pictures], 32)
    found = []
    for picture, reply in zip(pictures, replies, strict=True):
        seen = re.match(r"(?:This|It|That|The (?:picture|image)) (?:is|shows) (.+?)(?:\.|$)", reply.text)
        if seen and not forgotten.mentioned_in(reply.text):
            found.append((Concept(seen.group(1), "character"), picture))
    return found
