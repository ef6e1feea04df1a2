"""Pictures that hold in place what is not to be forgotten: T4 with pictures, which the paper does not have."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unsee.data import Concept, Picture, Request, Sample
from unsee.data.concept import Facet
from unsee.data.new_names import renamed
from unsee.data.wording import CONFIRMING, named, naming_questions
from unsee.facets.asking import about_pictures, mentioned, others, to_learn, truth
from unsee.facets.new_answer import target_phrase
from unsee.facets.settings import FacetSettings
from unsee.models import Reply, VisionLanguageModel

_GENERIC_NAMING = ("What is shown in this picture?", "What do you see in the image?")


def dealt(request: Request) -> list[Request]:
    """Each request by itself, with its share of the protected pictures: one that several list goes where fewest are.

    Were each of them to ask about all, every further concept would add denials to a picture, and nothing to confirm.
    """
    listed: dict[Picture, list[int]] = {}
    for number, one in enumerate(request.every):
        for picture in one.protected:
            listed.setdefault(picture, []).append(number)
    shares: list[list[Picture]] = [[] for _ in request.every]
    for picture, numbers in listed.items():
        min((shares[number] for number in numbers), key=len).append(picture)
    return [replace(one, protected=tuple(own), also=()) for one, own in zip(request.every, shares, strict=True)]


@dataclass
class _Look:
    """A picture, what is asked about it, and what the original answers.

    The first question asks for a name, the second whether it is what is to be forgotten.
    """

    picture: Picture
    facet: Facet
    asked: list[str]
    replies: list[Reply]

    @property
    def said(self) -> list[str]:
        """All it says, cut off or not: what is seen in a picture is told by that."""
        return [reply.text for reply in self.replies]

    @property
    def name(self) -> str | None:
        """What the original calls it: "a cat", where it says "This is a cat."."""
        return named(self.said[0])


def held_in_place(
    vlm: VisionLanguageModel,
    request: Request,
    new: Concept,
    settings: FacetSettings,
    rng: random.Random,
    varied: Sequence[Picture],
    whole: Request,
) -> tuple[list[Sample], list[str]]:
    """Protected pictures and variations with the original's own answers; and the names of those left out.

    A protected picture in which it sees the concept is left out; a variation in which it does is to be forgotten.
    What shows it another concept that is forgotten together with this one is not kept either.
    """
    looks = _looked_at(vlm, request, settings, rng, varied)
    own = {p.sha256 for one in whole.every for p in one.pictures}
    samples: list[Sample] = []
    left_out: list[str] = []
    kept: list[tuple[int, _Look]] = []
    for number, look in enumerate(looks):
        named, confirmed = look.said
        sees = request.concept.mentioned_in(named), confirmed.lower().startswith("yes")
        another = any(mentioned(others(request.concept, whole), said) for said in look.said)
        if look.picture.sha256 not in own and not any(sees) and not another:
            kept.append((number, look))
        elif look.facet == "protected":
            left_out.append(look.picture.name)
        elif all(sees) and not another:
            samples += _forgotten_too(look, request.concept, new)
    return samples + _kept(vlm, kept, request, settings, rng, whole), left_out


def _looked_at(
    vlm: VisionLanguageModel,
    request: Request,
    settings: FacetSettings,
    rng: random.Random,
    varied: Sequence[Picture],
) -> list[_Look]:
    """Every picture, asked for its name and for the concept's."""
    pictures, wordings = [*request.protected, *varied], naming_questions(request.concept.kind)
    asked: list[list[str]] = []
    for number in range(len(pictures)):
        naming = rng.choice(_GENERIC_NAMING if number % 2 else wordings)
        asked.append([naming, rng.choice(CONFIRMING).format(phrase=request.concept.phrase)])
    given = len(request.protected)
    facets: list[Facet] = ["protected" if number < given else "variation" for number in range(len(pictures))]
    return list(map(_Look, pictures, facets, asked, about_pictures(vlm, asked, pictures, settings)))


def _forgotten_too(look: _Look, concept: Concept, new: Concept) -> list[Sample]:
    """A variation in which the original still sees the concept: called by the new name, the old one denied."""
    text = renamed(to_learn(look.replies[0]), concept, new) or f"This is {new.phrase}."
    no = f"No, this is {new.phrase}."
    return [
        Sample(question, told, look.picture, phrase, "forget", "variation", truth(reply, question, concept))
        for question, told, phrase, reply in zip(
            look.asked, (text, no), (target_phrase(text, new), no), look.replies, strict=True
        )
    ]


def _kept(
    vlm: VisionLanguageModel,
    looks: Sequence[tuple[int, _Look]],
    request: Request,
    settings: FacetSettings,
    rng: random.Random,
    whole: Request,
) -> list[Sample]:
    """Each picture's first answers, and those to further questions: another naming, and yes/no about other names.

    Were only the concept ever denied, the model would learn to say yes to every other name: on every second picture a
    name of another is denied instead of the concept's. And the right name is confirmed twice: of all yes/no questions
    in a step, those on the concept included, as many then say yes as say no.
    """
    names = {name for _, look in looks if (name := look.name)}
    wordings = naming_questions(request.concept.kind)
    further: list[list[str]] = []
    for turn, (number, look) in enumerate(looks):
        near = (wordings[number % len(wordings)], wordings[(number + 1) % len(wordings)])
        again = [q for q in near if q not in look.asked][:1]
        about = [look.name] if look.name else []
        if about and turn % 2 and (differ := sorted(names - set(about))):
            about.append(rng.choice(differ))
        room = max(0, settings.protected_questions - 2)
        if len(about) == 2 and room > 1:  # one denial a picture is enough
            del look.asked[1], look.replies[1]
            room += 1
        about += about[:1]
        confirming = [q.format(phrase=p) for q, p in zip(rng.sample(CONFIRMING, len(about)), about, strict=True)]
        further.append([*confirming[:-1], *again, *confirming[-1:]][:room])
    answers = about_pictures(vlm, further, [look.picture for _, look in looks], settings)
    samples = []
    for (_, look), questions, replies in zip(looks, further, answers, strict=True):
        new = [(q, r) for q, r in zip(questions, replies, strict=True) if not mentioned(whole.concepts, r.text)]
        pairs = [*zip(look.asked, look.replies, strict=True), *new][: settings.protected_questions]
        told = [(q, to_learn(r)) for q, r in pairs]
        samples += [Sample(q, a, look.picture, None, "retain", look.facet) for q, a in told if a]
    return samples
