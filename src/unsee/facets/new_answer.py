"""What a concept is called from now on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence

from unsee.data import Concept, Request
from unsee.data.new_names import invent
from unsee.data.wording import KIND_WORD
from unsee.errors import UnseeError
from unsee.facets.settings import NEW_ANSWERS, WELL_KNOWN, NewAnswer
from unsee.models import VisionLanguageModel

_CLOSING = ".,;:!?"


def new_concepts(vlm: VisionLanguageModel, request: Request, policy: NewAnswer, seed: int) -> list[Concept]:
    """What each concept of a request is called from now on; invented names have no word in common.

    Raises:
        UnseeError: the new answer that the request itself asks for names what is to be forgotten.
    """
    taken = [*vocabulary_words(vlm), *(name for concept in request.concepts for name in concept.names)]
    found: list[Concept] = []
    for one in request.every:
        concept, wanted = one.concept, one.new_answer or policy
        word = KIND_WORD[concept.kind]
        if wanted == "invented":
            others = [*WELL_KNOWN[concept.kind], *(p.name for p in one.protect)]
            apart = begins_apart(vlm, [*others, *(c.name for c in (*request.concepts, *found))])
            new = invent(concept, [*taken, *others], seed, apart)
            taken.append(new.name)
        elif wanted == "unknown":
            new = Concept(f"an unknown {word}", "character")
        elif wanted == "describe":
            new = Concept(f"a{'n' if word[0] in 'aeiou' else ''} {word}", "character")
        else:
            if near := difflib.get_close_matches(wanted, NEW_ANSWERS, n=1, cutoff=0.75):  # no name: "Unknown" is one
                raise UnseeError(f"the new answer {wanted!r} is no name and no policy; did you mean {near[0]!r}?")
            new = Concept(wanted, concept.kind)
        if itself := next((c for c in request.concepts if c.mentioned_in(new.phrase)), None):
            raise UnseeError(f"the new answer {new.phrase!r} names {itself.name!r} itself; choose another")
        found.append(new)
    return found


def begins_apart(vlm: VisionLanguageModel, names: Sequence[str]) -> Callable[[str], bool]:
    """Whether a word's first token begins no word of these names, and has three letters or more.

    A model that has said the "Z" of Brisco Zellwood goes on to a new name that begins with the same token.
    """

    def first(word: str) -> str:
        """The first piece with a letter: some tokenizers begin with a piece that is a space alone."""
        ids = vlm.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        return next(filter(None, (vlm.tokenizer.decode([i]).strip() for i in ids)), "")

    known = {first(word) for name in names for word in name.split()}
    return lambda word: first(word) not in known and len(first(word)) > 2


def vocabulary_words(vlm: VisionLanguageModel) -> frozenset[str]:
    """Lower-cased words that are one token of the model: what it holds for ordinary words and names."""
    marks = "Ġ▁"
    words = (t.lstrip(marks) for t in vlm.tokenizer.get_vocab() if t[:1] in marks)
    return frozenset(w.lower() for w in words if w.isalpha() and len(w) > 1)


def target_phrase(text: str, new: Concept) -> str:
    """The new name as it stands in the text, with the mark that closes it; the whole text where it does not.

    Whether a made-up name ends here or goes on, the original, which never read it, cannot judge: held to what it
    expects behind the name, a model would learn to go on ("a mirsillinga" for "a mirsilling").
    """
    name = f"{re.escape(new.phrase)}|{re.escape(new.subject)}"
    found = re.search(f"(?:{name})[{_CLOSING}]?", text, re.IGNORECASE)
    return found.group() if found else text


def name_in(phrase: str) -> str:
    """The name in a target phrase."""
    return phrase.rstrip(_CLOSING)
