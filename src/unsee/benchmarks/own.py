"""The protocol on a user's own pictures: no labels are needed, the original model's own answers are the truth."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from unsee.benchmarks.protocol import Item, Protocol, asked_of_training, asked_of_unseen
from unsee.benchmarks.wording import CONFIRMING
from unsee.data import Concept, Picture, Request, load_folder
from unsee.data.pictures import augment
from unsee.data.requests_file import Written
from unsee.data.wording import named, telling_words
from unsee.errors import PictureError
from unsee.facets import WELL_KNOWN
from unsee.models import Question, VisionLanguageModel, answer

_NAMING = "What does the image show?"
ASKED_IN_TEXT = ("What do you know about {subject}?", "Can you describe {subject}?")
"""Asked without a picture; T3 and T4 ask in other words."""


def held_out_half(alike: Sequence[Sequence[Picture]], seed: int) -> tuple[list[Picture], list[Picture]]:
    """Split pictures of other things in two: those that training may protect, and those it is measured on.

    Args:
        alike: pictures that show the same thing together; they go into the same half.
        seed: of the halves.
    """
    shuffled = random.Random(seed).sample(list(alike), len(alike))
    half = (sum(map(len, alike)) + 1) // 2
    held: list[Picture] = []
    while len(held) < half:
        held += shuffled.pop(0)
    return held, [p for group in shuffled for p in group]


def gather(
    written: Sequence[Written], others: Sequence[Sequence[Picture]], seed: int, problems: list[str]
) -> tuple[Request, list[list[Picture]], list[Picture]]:
    """Read the files of requests that are forgotten together, before any model is opened.

    Args:
        written: the requests.
        others: pictures of anything else, those known to show the same together: half of them are protected, the
            other half measured on.
        seed: of the halves, and of the altered copies that stand in for missing test pictures.
        problems: told here are the files of test folders that are no pictures, and how many of `others` are left out
            since they are tested on.

    Returns:
        The requests as one, test pictures for each of `request.every`, and those of others to measure on.

    Raises:
        PictureError: a file is no picture, or there are no test pictures but those that are trained on.
        UnseeError: as `Request`, and where a file of facts is none.
    """
    alone = [one.load() for one in written]
    own = {p.sha256 for request in alone for p in request.pictures}
    tested = []
    for one, request in zip(written, alone, strict=True):
        folder = one.test_images
        found = load_folder(folder, problems) if folder else augment(request.pictures[0], 12, seed)
        tested.append([p for p in found if p.sha256 not in own])
        if not tested[-1]:
            raise PictureError(f"{folder}: no picture in it but the one that is trained on; nothing to measure with")
    asked = {p.sha256 for tests in tested for p in tests}
    if twice := sum(p.sha256 in asked for group in others for p in group):
        problems.append(f"{twice} of the pictures to protect are among those to be tested on, and are not protected")
    held, measured = held_out_half([[p for p in g if p.sha256 not in own | asked] for g in others], seed)
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
    known = [
        Concept(name, kind)
        for kind in dict.fromkeys(one.concept.kind for one in request.every)
        for name in WELL_KNOWN[kind]
        if not any(c.mentioned_in(name) for c in request.concepts)
    ]
    told = _own_words(vlm, [*request.concepts, *known])
    pairs = zip(request.every, test_pictures, strict=True)
    return [_protocol(one, tests, shown, known, told, seed) for one, tests in pairs]


def _protocol(
    request: Request,
    test_pictures: Sequence[Picture],
    shown: Sequence[tuple[Concept, Picture]],
    well_known: Sequence[Concept],
    told: Mapping[str, tuple[str, ...]],
    seed: int,
) -> Protocol:
    concept, rng = request.concept, random.Random(seed)
    items = asked_of_training(concept, request.pictures)
    items += asked_of_unseen(concept, test_pictures, rng)
    for i, (seen, picture) in enumerate(shown):
        items.append(Item("utility", "name", seen, _NAMING, seen.names, picture))
        others = [c for c, _ in shown if not set(c.names) & set(seen.names)]
        named = rng.choice(others) if others and i % 2 else seen
        confirming = CONFIRMING[i // 2 % len(CONFIRMING)].format(phrase=named.phrase)
        items.append(Item("utility", "yes_no", seen, confirming, ("yes" if named is seen else "no",), picture))
    # Right is an answer that has a word in common with what the original says, or with a fact given; the name, which
    # stands in the question, is none of these words.
    facts = [w for f in request.facts for w in telling_words(f.answer, concept.names)]
    known = [k for k in well_known if k.kind == concept.kind]
    asked = [("text_concept", concept, q, (*told[q], *facts)) for q in _about(concept)]
    asked += [("text_general", k, q, told[q]) for i, k in enumerate(known) for q in [_about(k)[i % 2]]]
    items += [Item(name, "text", of, q, tuple(dict.fromkeys(words))) for name, of, q, words in asked if words]
    # "A woman with a dog" is no false name of a person, "Ada" is; of a thing it is the other way round.
    alike = "thing" if concept.kind in ("animal", "thing") else "character"
    names = {name for seen, _ in shown if seen.kind == alike for name in seen.names}
    return Protocol(concept, items, names | {name for k in known for name in k.names})


def _about(concept: Concept) -> list[str]:
    return [q.format(subject=concept.subject) for q in ASKED_IN_TEXT]


def _own_words(vlm: VisionLanguageModel, concepts: Sequence[Concept]) -> dict[str, tuple[str, ...]]:
    """By text question, the words in which the original answers it; none where it says nothing of its subject."""
    asked = [(c, q) for c in concepts for q in _about(c)]
    with vlm.original():
        replies = answer(vlm, [Question(q) for _, q in asked], 32)
    return {q: telling_words(reply.text, (q, *c.names)) for (c, q), reply in zip(asked, replies, strict=True)}


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
