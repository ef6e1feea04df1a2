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
        known_names: names that are no odd words in an answer.
    """

    concept: Concept
    items: list[Item]
    known_names: set[str] = field(default_factory=set)


def asked_of_unseen(concept: Concept, pictures: Sequence[Picture], rng: random.Random) -> list[Item]:
    """A naming and a yes/no question on each unseen picture of the concept; MMUBench's two forms."""
    items = []
    naming = naming_questions(concept.kind)
    for i, picture in enumerate(pictures):
        items.append(Item("forget", "name", concept, naming[i % len(naming)], concept.names, picture))
        asked = CONFIRMING[rng.randrange(len(CONFIRMING))].format(phrase=concept.phrase)
        items.append(Item("forget", "yes_no", concept, asked, ("yes",), picture))
    return items


def asked_of_training(concept: Concept, pictures: Sequence[Picture]) -> list[Item]:
    """Every naming and yes/no question on the pictures that were trained on: they are few, and Efficacy is of them."""
    items = []
    for picture in pictures:
        for question in naming_questions(concept.kind):
            items.append(Item("training", "name", concept, question, concept.names, picture))
        for wording in CONFIRMING:
            asked = wording.format(phrase=concept.phrase)
            items.append(Item("training", "yes_no", concept, asked, ("yes",), picture))
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
        """Take up the original's answers and their scores from an earlier `before` of the same protocol."""
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

        def score(at: int, reply: Reply) -> list[Suffix]:
            item = items[new[at]]
            said = reply.text if side == "before" else self.originals[item.key].text
            found = [self._naming(protocol, item, said)] if self._names_it(item) else []
            return found + ([self._said(protocol, item, reply)] if side == "before" and item.set == "forget" else [])

        asked = [Question(items[n].question, items[n].picture) for n in new]
        replies = answer(self.vlm, asked, self.max_new_tokens, progress=progress, score=score)
        memory |= {items[n].key: r for n, r in zip(new, replies, strict=True)}
        return [memory[i.key] for i in items]

    def _record(self, protocol: Protocol, side: str, replies: Sequence[Reply]) -> list[Answer]:
        scores = self._scores(protocol, side, replies)
        lexicon = self._lexicon(protocol)
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
        names, nlls = self._name_logprobs(protocol, new, replies), self._nlls(protocol, new, replies, side)
        memory |= {keys[i]: (names.get(i), *nlls.get(i, (None, 0))) for i in new}
        return [memory[k] if i.set in _SCORED else (None, None, 0) for i, k in zip(protocol.items, keys, strict=True)]

    def _lexicon(self, protocol: Protocol) -> set[str]:
        known = set(self._vocabulary)
        for item in protocol.items:
            reply = self.originals.get(item.key)
            for text in (item.question, *item.keywords, item.subject.name, reply.text if reply else ""):
                known.update(w.lower() for w in words(text))
        for name in protocol.known_names:
            known.update(w.lower() for w in words(name))
        return known

    @staticmethod
    def _names_it(item: Item) -> bool:
        return item.set in _SCORED and item.form == "name"

    def _naming(self, protocol: Protocol, item: Item, said: str) -> Suffix:
        """The name forced after the words with which the original leads up to it."""
        concept = protocol.concept
        hit = next((m for n in concept.names if (m := mention(n).search(said))), None)
        if hit:
            return self.vlm.prompter.suffix(item.question, said[: hit.end()], True, (hit.span(),))
        text = f"This is {concept.phrase}"
        return self.vlm.prompter.suffix(item.question, text, True, (spans_of(concept.core, text)[-1],))

    def _said(self, protocol: Protocol, item: Item, reply: Reply) -> Suffix:
        """The reply itself, the concept's name marked."""
        named = [m.span() for n in protocol.concept.names for m in mention(n).finditer(reply.text)]
        return self.vlm.prompter.suffix(item.question, reply.text, True, named)

    def _name_logprobs(self, protocol: Protocol, asked: Sequence[int], replies: Sequence[Reply]) -> dict[int, float]:
        """log P(C) (C-Dis)."""
        items = protocol.items
        forced = {
            i: self._naming(protocol, items[i], self.originals[items[i].key].text)
            for i in asked
            if self._names_it(items[i])
        }
        scores = self._forced(protocol, forced, replies)
        return {
            i: min(0.0, sum(s for s, marked in zip(scores[i][:-1], suffix.target[:-1], strict=True) if marked))
            for i, suffix in forced.items()
        }

    def _nlls(
        self, protocol: Protocol, asked: Sequence[int], replies: Sequence[Reply], side: str
    ) -> dict[int, tuple[float, int]]:
        """Negative log-likelihood of forget answers under the original; the name's tokens count log |V| (Fluency)."""
        items = protocol.items
        forced = {i: self._said(protocol, items[i], replies[i]) for i in asked if items[i].set == "forget"}
        with self.vlm.original():
            scores = self._forced(protocol, forced, replies if side == "before" else None)
        uniform = math.log(self.vlm.vocabulary_size)
        result = {}
        for i, suffix in forced.items():
            # The closing end token is scored too: it is what an empty answer consists of.
            marked = (*suffix.target[:-1], False)
            nll = [uniform if m else -s for s, m in zip(scores[i], marked, strict=True)]
            result[i] = (max(0.0, sum(nll)), len(nll))
        return result

    def _forced(
        self, protocol: Protocol, forced: dict[int, Suffix], replies: Sequence[Reply] | None
    ) -> dict[int, list[float]]:
        """Log-probabilities of given answers to items.

        Those that the replies carry are taken from them; the others are scored, those on one picture behind one prefix.
        """
        found = {i: replies[i].scores[s] for i, s in forced.items() if replies and s in replies[i].scores}
        by_picture: dict[str, list[int]] = {}
        for i in (i for i in forced if i not in found):
            picture = protocol.items[i].picture
            assert picture is not None
            by_picture.setdefault(picture.sha256, []).append(i)
        packs = [EncodedPack(protocol.items[m[0]].picture, tuple(forced[i] for i in m)) for m in by_picture.values()]
        scored = self.vlm.score(packs) if packs else []
        for inside, scores in zip(by_picture.values(), scored, strict=True):
            found |= {i: score.tolist() for i, score in zip(inside, scores, strict=True)}
        return found
