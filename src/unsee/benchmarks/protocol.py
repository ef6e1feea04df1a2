"""The MMUBench protocol on any model: which questions are asked before and after, and their record."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from unsee.benchmarks.wording import CONFIRMING, naming_questions
from unsee.data import Concept, Picture
from unsee.data.concept import mention
from unsee.errors import UnseeError
from unsee.facets import vocabulary_words
from unsee.metrics import Answer
from unsee.metrics.text import words
from unsee.models import Question, Reply, VisionLanguageModel, answer
from unsee.models.packing import EncodedPack
from unsee.models.prompting import Suffix, spans_of


@dataclass(frozen=True)
class Item:
    """One question of the protocol; `set`, `form`, `subject` and `keywords` as in `unsee.metrics.Answer`."""

    set: str
    form: str
    subject: Concept
    question: str
    keywords: tuple[str, ...]
    picture: Picture | None = None

    @property
    def key(self) -> tuple[str, str]:
        return (self.picture.sha256 if self.picture else "", self.question)

    def answered(self, reply: Reply, **known: Any) -> Answer:
        """The record of an answer to it; `known` is what the question does not tell: model, concept, item, scores."""
        return Answer(
            set=self.set,
            form=self.form,
            subject=self.subject.name,
            kind=self.subject.kind,
            picture=self.picture.sha256 if self.picture else "",
            question=self.question,
            keywords=self.keywords,
            answer=reply.text,
            tokens=reply.tokens,
            **known,
        )


@dataclass
class Protocol:
    """Everything asked about one request.

    Args:
        concept: what is to be forgotten.
        items: all questions.
        known_names: names of things that the model knows: no odd words in an answer, but another's name where it is the
            concept that is shown.
        new_names: what else is no odd word: what is to be said in place of the concept, and the names of all that is
            forgotten.
    """

    concept: Concept
    items: list[Item]
    known_names: set[str] = field(default_factory=set)
    new_names: set[str] = field(default_factory=set)


def asked_of_unseen(concept: Concept, pictures: Sequence[Picture], rng: random.Random) -> list[Item]:
    """A naming and a yes/no question on each unseen picture of the concept; MMUBench's two forms."""
    items = []
    naming = naming_questions(concept.kind)
    for i, picture in enumerate(pictures):
        items.append(Item("forget", "name", concept, naming[i % len(naming)], concept.names, picture))
        asked = CONFIRMING[rng.randrange(len(CONFIRMING))].format(phrase=concept.phrase)
        items.append(Item("forget", "yes_no", concept, asked, ("yes", *concept.names), picture))
    return items


def asked_of_training(concept: Concept, pictures: Sequence[Picture]) -> list[Item]:
    """Every naming and yes/no question on the pictures that were trained on: they are few, and Efficacy is of them."""
    items = []
    for picture in pictures:
        for question in naming_questions(concept.kind):
            items.append(Item("training", "name", concept, question, concept.names, picture))
        for wording in CONFIRMING:
            asked = wording.format(phrase=concept.phrase)
            items.append(Item("training", "yes_no", concept, asked, ("yes", *concept.names), picture))
    return items


def asked_of_others(
    shown: Sequence[tuple[Concept, Picture]], pool: Sequence[Concept], forgotten: Concept, rng: random.Random
) -> list[Item]:
    """Utility: each picture is to be named, and confirmed or denied in turn. Never asks for the forgotten name."""
    items = []
    for i, (concept, picture) in enumerate(shown):
        naming = naming_questions(concept.kind)
        items.append(Item("utility", "name", concept, naming[i % len(naming)], concept.names, picture))
        others = [c for c in pool if c.kind == concept.kind and c.name not in (concept.name, forgotten.name)]
        denied = rng.choice(others) if others and i % 2 else concept
        right = "yes" if denied is concept else "no"
        asked = CONFIRMING[i // 2 % len(CONFIRMING)].format(phrase=denied.phrase)
        items.append(Item("utility", "yes_no", concept, asked, (right,), picture))
    return items


Scores = tuple[float | None, float | None, int]
"""What metrics need beside an answer's text: `name_logprob`, `nll` and `nll_tokens` of `unsee.metrics.Answer`."""


class Originals(dict[tuple[str, str], Reply]):
    """Answers of the original model by picture and question: asked once, whatever is forgotten later.

    Attributes:
        scores: of those answers, by concept, picture and question: they depend on whose name is looked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scores: dict[tuple[str, str, str], Scores] = {}


_SCORED = ("training", "forget")
"""Sets whose answers are scored beyond their text."""


def _is_ordinary(word: str, lexicon: set[str]) -> bool:
    """Whether a word is a number, stands in the lexicon, or is a contraction ("don't") of one that does.

    "I" and "a" are words; other single letters, and what follows an apostrophe, are no test of anything.
    """
    head = word.lower().partition("'")[0]
    return word.isdigit() or word.lower() in lexicon or head in lexicon or head in ("i", "a")


def _others(protocol: Protocol) -> list[str]:
    """Names of other things: none that is the concept's own, or a word of it."""
    own = protocol.concept.names
    return [
        name
        for name in sorted(protocol.known_names)
        if not protocol.concept.mentioned_in(name) and not any(mention(name).search(mine) for mine in own)
    ]


def _named(names: Sequence[str], text: str) -> tuple[str, ...]:
    return tuple(name for name in names if mention(name).search(text))


class Recorder:
    """Asks a protocol's questions before and after, and scores what the metrics need.

    Args:
        vlm: the model; its adapter decides which side is asked.
        originals: a memory of the original's answers that several requests may share.
        max_new_tokens: where an answer is cut.
    """

    def __init__(self, vlm: VisionLanguageModel, originals: Originals | None = None, max_new_tokens: int = 32):
        self.vlm = vlm
        self.originals = Originals() if originals is None else originals
        self.max_new_tokens = max_new_tokens
        self._vocabulary = vocabulary_words(vlm)

    def before(self, protocol: Protocol, progress: Callable[[int], None] | None = None) -> list[Answer]:
        """The original model's answers: the adapter is switched off."""
        with self.vlm.original():
            return self._record(protocol, "before", self._ask(protocol, "before", progress, self.originals))

    def after(
        self,
        protocol: Protocol,
        progress: Callable[[int], None] | None = None,
        said: dict[tuple[str, str], Reply] | None = None,
    ) -> list[Answer]:
        """The answers of the model as it stands; `said` is its memory, where several protocols ask this very model."""
        memory = {} if said is None else said
        return self._record(protocol, "after", self._ask(protocol, "after", progress, memory))

    def remember(self, protocol: Protocol, before: Sequence[Answer]) -> None:
        """Take up the original's answers and their scores from an earlier `before` of the same protocol.

        Raises:
            UnseeError: they are answers to other questions.
        """
        shown = [(a.question, a.picture) for a in before]
        if shown != [(i.question, i.picture.sha256 if i.picture else "") for i in protocol.items]:
            raise UnseeError(f"what the original said of {protocol.concept.name} was said to other questions")
        for item, said in zip(protocol.items, before, strict=True):
            self.originals[item.key] = Reply(said.answer, said.tokens, True)
            if item.set in _SCORED:
                scores = (said.name_logprob, said.nll, said.nll_tokens)
                self.originals.scores[(protocol.concept.name, *item.key)] = scores

    def _ask(
        self,
        protocol: Protocol,
        side: str,
        progress: Callable[[int], None] | None,
        memory: dict[tuple[str, str], Reply],
    ) -> list[Reply]:
        """Replies to all items, and what is to be scored behind their pictures by the model that is asked.

        Only those that the memory lacks are asked for, and remembered.
        """
        items = protocol.items
        new = [n for n, i in enumerate(items) if i.key not in memory]

        def to_score(at: int, reply: Reply) -> list[Suffix]:
            name, own = self._to_score(protocol, items[new[at]], reply, side)
            return [s for s in (name, own if side == "before" else None) if s]

        asked = [Question(items[n].question, items[n].picture) for n in new]
        replies = answer(self.vlm, asked, self.max_new_tokens, progress=progress, to_score=to_score)
        memory |= {items[n].key: r for n, r in zip(new, replies, strict=True)}
        return [memory[i.key] for i in items]

    def _record(self, protocol: Protocol, side: str, replies: Sequence[Reply]) -> list[Answer]:
        scores = self._scores(protocol, side, replies)
        lexicon, others = self._lexicon(protocol), _others(protocol)
        numbers: dict[str, int] = {}
        rows = []
        for i, (item, reply) in enumerate(zip(protocol.items, replies, strict=True)):
            number = numbers[item.set] = numbers.get(item.set, -1) + 1
            rows.append(
                item.answered(
                    reply,
                    model=side,
                    concept=protocol.concept.name,
                    item=f"{item.set}-{number:04d}",
                    odd_words=tuple(w for w in words(reply.text) if not _is_ordinary(w, lexicon)),
                    other_names=_named(others, reply.text) if item.set == "forget" else None,
                    name_logprob=scores[i][0],
                    nll=scores[i][1],
                    nll_tokens=scores[i][2],
                )
            )
        return rows

    def _scores(self, protocol: Protocol, side: str, replies: Sequence[Reply]) -> list[Scores]:
        """The scores of all answers; those of the original are worked out once and remembered."""
        memory = self.originals.scores if side == "before" else {}
        keys = [(protocol.concept.name, *item.key) for item in protocol.items]
        new = [i for i, item in enumerate(protocol.items) if item.set in _SCORED and keys[i] not in memory]
        wanted = {i: self._to_score(protocol, protocol.items[i], replies[i], side) for i in new}
        names = {i: name for i, (name, _) in wanted.items() if name}
        own = {i: said for i, (_, said) in wanted.items() if said}
        of_names = self._log_probs(protocol, names, replies)
        with self.vlm.original():  # the unlearned model's replies are judged by the original as well
            of_own = self._log_probs(protocol, own, replies if side == "before" else None)
        for i in new:
            name = self._name_log_prob(names[i], of_names[i]) if i in names else None
            memory[keys[i]] = (name, *(self._nll(own[i], of_own[i]) if i in own else (None, 0)))
        return [memory[k] if i.set in _SCORED else (None, None, 0) for i, k in zip(protocol.items, keys, strict=True)]

    def _lexicon(self, protocol: Protocol) -> set[str]:
        known = set(self._vocabulary)
        for item in protocol.items:
            reply = self.originals.get(item.key)
            for text in (item.question, *item.keywords, item.subject.name, reply.text if reply else ""):
                known.update(w.lower() for w in words(text))
        for name in protocol.known_names | protocol.new_names:
            known.update(w.lower() for w in words(name))
        return known

    def _to_score(self, protocol: Protocol, item: Item, reply: Reply, side: str) -> tuple[Suffix | None, Suffix | None]:
        """Two answers whose log-probabilities metrics need, where they do.

        The name, forced after the words with which the original leads up to it (C-Dis), and the reply itself (Fluency);
        in both the name is marked.
        """
        suffix, concept = self.vlm.prompter.suffix, protocol.concept
        name = own = None
        if item.set in _SCORED and item.form == "name":
            said = (reply if side == "before" else self.originals[item.key]).text
            hit = next((m for n in concept.names if (m := mention(n).search(said))), None)
            if hit:
                name = suffix(item.question, said[: hit.end()], True, (hit.span(),))
            else:
                text = f"This is {concept.phrase}"
                name = suffix(item.question, text, True, (spans_of(concept.core, text)[-1],))
        if item.set == "forget":
            marked = [m.span() for n in concept.names for m in mention(n).finditer(reply.text)]
            own = suffix(item.question, reply.text, True, marked)
        return name, own

    def _name_log_prob(self, name: Suffix, log_probs: Sequence[float]) -> float:
        """log P(C)."""
        return min(0.0, sum(p for p, marked in zip(log_probs[:-1], name.target[:-1], strict=True) if marked))

    def _nll(self, own: Suffix, log_probs: Sequence[float]) -> tuple[float, int]:
        """Negative log-likelihood under the original, and its tokens; the name's tokens count log |V|."""
        uniform = math.log(self.vlm.vocabulary_size)
        # The closing end token is scored too: it is what an empty answer consists of.
        marked = (*own.target[:-1], False)
        nll = [uniform if m else -p for p, m in zip(log_probs, marked, strict=True)]
        return max(0.0, sum(nll)), len(nll)

    def _log_probs(
        self, protocol: Protocol, forced: dict[int, Suffix], replies: Sequence[Reply] | None
    ) -> dict[int, list[float]]:
        """Log-probabilities of given answers to items.

        Those that the replies carry are taken from them; the others are scored, those on one picture behind one prefix.
        """
        found = {i: replies[i].log_probs[s] for i, s in forced.items() if replies and s in replies[i].log_probs}
        by_picture: dict[str, list[int]] = {}
        for i in (i for i in forced if i not in found):
            picture = protocol.items[i].picture
            assert picture is not None
            by_picture.setdefault(picture.sha256, []).append(i)
        packs = [EncodedPack(protocol.items[m[0]].picture, tuple(forced[i] for i in m)) for m in by_picture.values()]
        scored = self.vlm.score(packs) if packs else []
        for inside, values in zip(by_picture.values(), scored, strict=True):
            found |= {i: value.tolist() for i, value in zip(inside, values, strict=True)}
        return found
