"""The protocol on a user's own pictures: no labels are needed, the original model's own answers are the truth."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from unsee.benchmarks.protocol import Item, Protocol, asked_of_training, asked_of_unseen
from unsee.benchmarks.wording import CONFIRMING
from unsee.data import Concept, Picture, Request, load_folder
from unsee.data.pictures import augment
from unsee.data.requests_file import Written
from unsee.data.wording import named
from unsee.errors import PictureError
from unsee.facets import WELL_KNOWN
from unsee.models import Question, VisionLanguageModel, answer

_NAMING = "What does the image show?"
ASKED_IN_TEXT = ("What do you know about {subject}?", "Can you describe {subject}?")
"""Asked without a picture; T3 and T4 ask in other words."""


def held_out_half(pictures: Sequence[Picture], seed: int) -> tuple[list[Picture], list[Picture]]:
    """Split pictures of other things in two: those that training may protect, and those it is measured on."""
    shuffled = random.Random(seed).sample(list(pictures), len(pictures))
    middle = (len(shuffled) + 1) // 2
    return shuffled[:middle], shuffled[middle:]


def gather(
    written: Sequence[Written], others: Sequence[Picture], seed: int, problems: list[str]
) -> tuple[Request, list[list[Picture]], list[Picture]]:
    """Read the files of requests that are forgotten together, before any model is opened.

    Args:
        written: the requests.
        others: pictures of anything else: half of them are protected, the other half measured on.
        seed: of the halves, and of the altered copies that stand in for missing test pictures.
        problems: told here are the files of test folders that are no pictures.

    Returns:
        The requests as one, test pictures for each of `request.every`, and those of others to measure on.

    Raises:
        PictureError: a file is no picture, or there are no test pictures but those that are trained on.
        UnseeError: as `Request`, and where a file of facts is none.
    """
    alone = [one.load() for one in written]
    own = {p.sha256 for request in alone for p in request.pictures}
    held, measured = held_out_half([p for p in others if p.sha256 not in own], seed)
    tested = []
    for one, request in zip(written, alone, strict=True):
        folder = one.test_images
        found = load_folder(folder, problems) if folder else augment(request.pictures[0], 12, seed)
        tested.append([p for p in found if p.sha256 not in own])
        if not tested[-1]:
            raise PictureError(f"{folder}: no picture in it but the one that is trained on; nothing to measure with")
    first, *further = (replace(request, protected=tuple(held)) for request in alone)
    return replace(first, also=tuple(further)), tested, measured


def protocol(
    vlm: VisionLanguageModel, request: Request, test_pictures: Sequence[Picture], utility: Sequence[Picture], seed: int
) -> Protocol:
    """All questions on a request whose data are the user's, and that is alone.

    Args:
        vlm: the original model: what it says of `utility` is what it shall say afterwards.
        request: whose concept is forgotten.
        test_pictures: other pictures of the concept, or augmentations of the one.
        utility: pictures of other things, disjoint from the request's protected ones.
        seed: of the choice of yes/no questions.
    """
    (only,) = protocols(vlm, request, [test_pictures], utility, seed)
    return only


def protocols(
    vlm: VisionLanguageModel,
    request: Request,
    test_pictures: Sequence[Sequence[Picture]],
    utility: Sequence[Picture],
    seed: int,
) -> list[Protocol]:
    """The protocol of each of the requests that are forgotten together; none asks for another's concept as kept.

    Args:
        vlm, utility, seed: as in `protocol`.
        request: with all of `request.also`.
        test_pictures: of the concept of each of `request.every`.
    """
    shown = _own_truth(vlm, utility, request.concepts)
    pairs = zip(request.every, test_pictures, strict=True)
    return [_protocol(one, tests, shown, request.concepts, seed) for one, tests in pairs]


def _protocol(
    request: Request,
    test_pictures: Sequence[Picture],
    shown: Sequence[tuple[Concept, Picture]],
    forgotten: Sequence[Concept],
    seed: int,
) -> Protocol:
    concept, rng = request.concept, random.Random(seed)
    items = asked_of_training(concept, request.pictures)
    items += asked_of_unseen(concept, test_pictures, rng)
    for i, (seen, picture) in enumerate(shown):
        items.append(Item("utility", "name", seen, _NAMING, seen.names, picture))
        others = [c for c, _ in shown if not set(c.names) & set(seen.names)]
        named = rng.choice(others) if others and i % 2 else seen
        asked = CONFIRMING[i // 2 % len(CONFIRMING)].format(phrase=named.phrase)
        items.append(Item("utility", "yes_no", seen, asked, ("yes" if named is seen else "no",), picture))
    # Right is an answer that speaks of its subject at all, or tells one of the facts given.
    told = tuple(f.answer for f in request.facts)
    items += [Item("text_concept", "text", concept, q, (*concept.names, *told)) for q in _about(concept)]
    known = [
        Concept(n, concept.kind) for n in WELL_KNOWN[concept.kind] if not any(c.mentioned_in(n) for c in forgotten)
    ]
    items += [Item("text_general", "text", k, _about(k)[i % 2], k.names) for i, k in enumerate(known)]
    # "A woman with a dog" is no false name of a person, "Ada" is; of a thing it is the other way round.
    alike = "thing" if concept.kind in ("animal", "thing") else "character"
    names = {name for seen, _ in shown if seen.kind == alike for name in seen.names}
    return Protocol(concept, items, names | {name for k in known for name in k.names})


def _about(concept: Concept) -> list[str]:
    return [q.format(subject=concept.subject) for q in ASKED_IN_TEXT]


def _own_truth(
    vlm: VisionLanguageModel, pictures: Sequence[Picture], forgotten: Sequence[Concept]
) -> list[tuple[Concept, Picture]]:
    """What the model itself says it sees, where it names something that is not to be forgotten."""
    with vlm.original():
        replies = answer(vlm, [Question(_NAMING, p) for p in pictures], 32)
    found = []
    for picture, reply in zip(pictures, replies, strict=True):
        seen = named(reply.text)
        if seen and not any(concept.mentioned_in(reply.text) for concept in forgotten):
            article, *described = seen.split()
            if described and article.lower() in ("a", "an"):
                # Who called it "a large dog" and now says "a dog" still knows it.
                found.append((Concept(seen, "thing", tuple(described[-1:])), picture))
            else:
                found.append((Concept(seen, "character"), picture))
    return found
