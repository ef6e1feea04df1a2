"""What is run: a method with its settings, on a concept, with a seed; and how much is asked before and after."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import unsee
from unsee.benchmarks.protocol import Protocol as Questions
from unsee.data import Request
from unsee.methods import Method
from unsee.mini.data import mini_data

Settings = dict[str, Any]
Record = dict[str, Any]
"""A line of a file of results."""

KINDS = ("person", "flag", "logo", "animal", "thing")
TUNED_BEFORE = ("Kessa Kestrelli", "Jenkins", "Caldra Boltrane", "the United Kingdom", "LinkedIn", "cat")
"""Concepts of `dev` on which defaults were found, SIU's on the first two, VKD's on all."""


@dataclass(frozen=True)
class Sizes:
    """How much is asked about a concept; see `unsee.benchmarks.mini.protocol`.

    Args:
        test_pictures: unseen pictures of the concept, two questions each.
        utility_pictures: pictures of each of the 50 concepts of Specificity, two questions each.
        neighbour_pictures: further pictures of those of the same kind, one question each.
        general_questions: text questions about each of the 50.
    """

    test_pictures: int = 50
    utility_pictures: int = 3
    neighbour_pictures: int = 4
    general_questions: int = 2


REDUCED = Sizes(test_pictures=12, utility_pictures=1, neighbour_pictures=2, general_questions=1)
"""What is asked where many runs are compared: about 200 questions, a minute on two cores."""

SHORT_PLAN: Settings = {"steps": 12, "forget_per_step": 6, "protected_per_step": 4, "variations_per_step": 4,
                        "questions_per_picture": 2, "texts_per_step": 3}  # fmt: skip
"""How many steps there are where many runs are compared, and what each of them sees: 25 samples; SIU by itself 39."""


_AND = " + "


def jointly(concepts: Sequence[str]) -> str:
    """Several concepts that are forgotten in one run, as a job names them."""
    return _AND.join(concepts)


@dataclass(frozen=True)
class Job:
    """One run.

    Args:
        concept: what is to be forgotten; see `jointly`.
        method, preset: as `unsee.make_method` takes them.
        changes: settings other than the preset's.
        seed: of everything random.
        sizes: how much is asked.
    """

    concept: str
    method: str
    preset: str = "default"
    changes: Settings = field(default_factory=dict, hash=False)
    seed: int = 0
    sizes: Sizes = Sizes()

    @property
    def concepts(self) -> list[str]:
        """What is forgotten together: one concept, mostly."""
        return self.concept.split(_AND)

    @property
    def key(self) -> str:
        """The same for the same run, whatever the order of its settings."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    def made(self) -> Method[Any]:
        """The method; its settings are those of today.

        Raises:
            UnseeError: the method, the preset or a setting is not there.
        """
        return unsee.make_method(self.method, self.preset, self.changes, len(self.concepts))

    @property
    def settings(self) -> Settings:
        """All that the method is told, the preset's own settings as they are today.

        Raises:
            UnseeError: the method, the preset or a setting is not there.
        """
        return dataclasses.asdict(self.made().settings)

    @property
    def defaults(self) -> Settings:
        """What each setting of the method is if nothing is said, whatever the preset."""
        return {f.name: f.default for f in dataclasses.fields(self.made().settings)}


@dataclass(frozen=True)
class Block:
    """What is forgotten and with which seed: conditions are compared inside a block, chance is seen between blocks."""

    concept: str
    seed: int


def blocks(concepts: Sequence[str], seeds: int, crossed: bool = False) -> list[Block]:
    """Concepts with seeds in turn: each concept once, or, crossed, with every seed.

    For a given number of runs, more concepts say more than more seeds of one: it is between concepts that runs differ.
    """
    if crossed:
        return [Block(c, s) for s in range(seeds) for c in concepts]
    return [Block(c, i % seeds) for i, c in enumerate(concepts)]


def chosen_concepts(split: str, count: int) -> list[str]:
    """The kinds in turn, so that any count is balanced."""
    data = mini_data()
    by_kind = {k: [c.concept.name for c in data.of(split, k)] for k in KINDS}  # type: ignore[arg-type]
    turns = [by_kind[k][i] for i in range(max(map(len, by_kind.values()))) for k in KINDS if i < len(by_kind[k])]
    return turns[:count]


class Source(Protocol):
    """Where requests and questions come from."""

    def request(self, concepts: Sequence[str], protected: int) -> Request:
        """The deletion request of what is forgotten together, with so many pictures of others."""

    def questions(self, request: Request, sizes: Sizes) -> list[Questions]:
        """What is asked before and after, concept by concept."""


class Mini:
    """The embedded benchmark."""

    def request(self, concepts: Sequence[str], protected: int) -> Request:
        return unsee.request_for(concepts[0], protected=protected, also=concepts[1:])

    def questions(self, request: Request, sizes: Sizes) -> list[Questions]:
        return unsee.protocols(request, **dataclasses.asdict(sizes))
