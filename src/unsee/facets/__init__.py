"""From a request to SIU's four targets (T1 to T4), by asking the original model; no external model is used."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from unsee.data import Picture, Request, Sample
from unsee.data.variations import variations
from unsee.errors import UnseeError
from unsee.facets import asking, protected, targets
from unsee.facets.new_answer import name_in, new_concepts, vocabulary_words
from unsee.facets.settings import NEW_ANSWERS, WELL_KNOWN, FacetSettings, NewAnswer
from unsee.models import VisionLanguageModel

__all__ = [
    "NEW_ANSWERS",
    "WELL_KNOWN",
    "FacetSettings",
    "Facets",
    "NewAnswer",
    "build",
    "given",
    "shown",
    "varied",
    "vocabulary_words",
]


@dataclass
class Facets:
    """The samples of a request, and what the user should know about how they came about.

    Args:
        samples: the four targets, the protected pictures and the variations.
        new_answer: what the concept is called from now on, of several each, parted by "; "; "" where given samples do
            not say.
        left_out: protected pictures in which the original model sees what is to be forgotten: never trained on.
    """

    samples: list[Sample]
    new_answer: str
    left_out: list[str] = field(default_factory=list)

    @property
    def new_names(self) -> set[str]:
        """What the samples call the concepts from now on."""
        return {name_in(s.target_phrase) for s in self.samples if s.facet == "T1" and s.target_phrase}


def build(
    vlm: VisionLanguageModel, request: Request, settings: FacetSettings, seed: int = 0, force: bool = False
) -> Facets:
    """The four targets of a request, and of each that is forgotten together with it.

    Args:
        vlm: the original model; its own answers are the truth that T3, T4 and protected pictures keep.
        request: what to forget, from which pictures.
        settings: sizes and policies.
        seed: of the new name and of which questions are asked where.
        force: go on where the model does not know the concept to begin with.

    Raises:
        UnknownConceptError: no naming question on the request's pictures makes the model name the concept.
        UnseeError: the new answer that the request asks for names the concept itself.
    """
    news = new_concepts(vlm, request, settings.new_answer, seed)
    named = [asking.named(vlm, one, settings, force) for one in request.every]
    facets = Facets([], "; ".join(new.phrase for new in news))
    for one, share, new, replies in zip(request.every, protected.dealt(request), news, named, strict=True):
        rng = random.Random(seed)
        samples = targets.named_anew(replies, one.concept, new, request)
        samples += targets.denied(vlm, one, new, settings)
        samples += targets.known_in_text(vlm, one, settings, rng, request)
        near = variations(one.pictures, one.protected, settings.variations, seed)
        held, left_out = protected.held_in_place(vlm, share, new, settings, rng, near, request)
        asked = {(s.question, s.picture) for s in facets.samples}  # text that several requests keep is kept once
        facets.samples += [s for s in samples + held if (s.question, s.picture) not in asked]
        facets.left_out += left_out
    return facets


def varied(request: Request, settings: FacetSettings, seed: int) -> list[Picture]:
    """The variations of the pictures of a request, and of those forgotten with it; the same seed gives the same."""
    return [p for one in request.every for p in variations(one.pictures, one.protected, settings.variations, seed)]


def shown(request: Request, settings: FacetSettings, seed: int) -> list[Picture]:
    """All pictures that the samples of a request may show: its own, protected ones, and the variations."""
    given = [p for one in request.every for p in (*one.pictures, *one.protected)]
    return given + varied(request, settings, seed)


def given(
    vlm: VisionLanguageModel,
    request: Request,
    samples: Sequence[Sample],
    settings: FacetSettings,
    force: bool = False,
    anew: bool = False,
) -> Facets:
    """The user's own samples, once the model has shown that it knows the concept.

    Args:
        vlm, request, settings, force: as in `build`.
        samples: of all that is forgotten together.
        anew: the samples are training data, which a model that has *not* seen the concept is to learn.

    Raises:
        UnknownConceptError: as `build`.
        UnseeError: there are no samples; or, with `anew`, the model names the concept, or one of the samples to be
            retained shows a picture that is to be forgotten.
    """
    if not samples:
        raise UnseeError("the facets given hold no sample at all")
    for one in request.every:
        if anew:
            _check_unseen(vlm, one, samples, settings, force)
        else:
            asking.named(vlm, one, settings, force)
    shows = {p: number for number, one in enumerate(request.every) for p in one.pictures}
    phrases: dict[int, list[str]] = {}
    for s in samples:
        if s.facet == "T1" and s.target_phrase:
            name = name_in(s.target_phrase)
            phrases.setdefault(shows.get(s.picture, 0) if s.picture else 0, []).append(name)
    return Facets(list(samples), "; ".join(max(said, key=said.count) for _, said in sorted(phrases.items())))


def _check_unseen(
    vlm: VisionLanguageModel, request: Request, samples: Sequence[Sample], settings: FacetSettings, force: bool
) -> None:
    """What makes training anew a gold standard: neither the model nor the data show the concept."""
    own = {p.sha256 for p in request.pictures}
    for s in samples:
        if s.role == "retain" and s.picture is not None and s.picture.sha256 in own:
            raise UnseeError(f"the sample {s.question!r} is to be retained and shows a picture that is to be forgotten")
    concept, said = request.concept, [reply.text for _, reply in asking.asked_to_name(vlm, request, settings)]
    told = next((text for text in said if concept.mentioned_in(text)), None)
    if told is not None and not force:
        raise UnseeError(
            f"the model names {concept.name!r} before it has learned anything: it answers {told!r}. Training anew "
            "begins with a model that has never seen it; use --force to go on, the result is no gold standard then"
        )
