"""The mini data: concepts, pictures and text questions of the embedded benchmark, as shipped."""

from __future__ import annotations

import functools
import io
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
from PIL import Image

from unsee.data import Concept, Picture
from unsee.errors import UnseeError

FILES = Path(__file__).parent / "files"
Split = Literal["dev", "test", "protected", "utility"]
SPLITS: tuple[Split, ...] = ("dev", "test", "protected", "utility")
"""dev: all tuning. test: all reported forgetting. protected: training may hold these. utility: Specificity."""
GENERIC = "generic"
"""Concepts that the model does not know well enough for the benchmark; training may hold what it says of them too."""


@dataclass(frozen=True)
class TextQuestion:
    """A question asked without a picture; any keyword in the answer makes it right.

    Args:
        question: as asked.
        keywords: what a right answer mentions.
        names: whether the answer is the concept's name itself.
    """

    question: str
    keywords: tuple[str, ...]
    names: bool


@dataclass(frozen=True)
class MiniConcept:
    """A concept of the benchmark and what is asked about it.

    Args:
        concept: name and kind.
        split: one of `SPLITS`.
        questions: text questions that the original model answers rightly.
        tested: how many test pictures were drawn.
        named: on how many of them the original model named it; the others were dropped.
    """

    concept: Concept
    split: Split
    questions: tuple[TextQuestion, ...]
    tested: int
    named: int


class MiniData:
    """Everything of the embedded benchmark. `mini_data()` gives the shipped one.

    `concepts` are those of the benchmark; `generic` are further ones, of which there are pictures to hold alone.
    """

    def __init__(self, folder: Path = FILES):
        raw = json.loads((folder / "concepts.json").read_text())
        self.generic = [Concept(r["name"], r["kind"]) for r in raw if r["split"] == GENERIC]
        self.concepts = {
            r["name"]: MiniConcept(
                Concept(r["name"], r["kind"]),
                r["split"],
                tuple(TextQuestion(q["question"], tuple(q["keywords"]), q["names"]) for q in r["questions"]),
                r["tested"],
                r["named"],
            )
            for r in raw
            if r["split"] != GENERIC
        }
        self._table = pq.read_table(folder / "pictures.parquet").to_pylist()
        self._by: dict[tuple[str, str], list[int]] = {}
        for i, row in enumerate(self._table):
            self._by.setdefault((row["concept"], row["role"]), []).append(i)

    @property
    def taught(self) -> list[Concept]:
        """Everything that the embedded model was taught to name, what the benchmark does not ask about included."""
        return [*(c.concept for c in self.concepts.values()), *self.generic]

    def of(self, split: Split, kind: str | None = None) -> list[MiniConcept]:
        """Concepts of a split, and of a kind where one is given, in a fixed order."""
        return [c for c in self.concepts.values() if c.split == split and kind in (None, c.concept.kind)]

    def find(self, name: str) -> MiniConcept:
        """A concept by name in any case, with or without "the".

        Raises:
            UnseeError: the benchmark has no such concept; the message lists the nearest.
        """
        import difflib

        def plain(called: str) -> str:
            return called.lower().removeprefix("the ")

        known = {plain(n): c for n, c in self.concepts.items()}
        if plain(name) in known:
            return known[plain(name)]
        near = difflib.get_close_matches(plain(name), known, n=3, cutoff=0.5)
        hint = f"; near it: {', '.join(known[n].concept.name for n in near)}" if near else ""
        raise UnseeError(f"unsee-mini has no concept {name!r}{hint}")

    def _picture(self, i: int) -> Picture:
        row = self._table[i]
        image = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        return Picture.from_image(image, row["image"]["path"])

    def training_pictures(self, name: str, count: int = 1) -> list[Picture]:
        """Pictures of a concept that training may see; the first is *the* picture of a request."""
        return [self._picture(i) for i in self._by[(name, "train")][:count]]

    def protecting(self, forgotten: Concept, count: int) -> list[tuple[Concept, Picture]]:
        """Pictures that training may hold in place, with what they show; none of the concept to be forgotten.

        Half of them, or as many as there are, show other concepts of its kind, which suffer first. Every concept gives
        one picture before any gives a second.
        """
        pool = [c.concept for c in self.of("protected")] + self.generic
        by_kind: dict[str, list[Concept]] = {}
        for c in pool:
            if c.name.lower() != forgotten.name.lower():
                by_kind.setdefault(c.kind, []).append(c)

        def in_turn(kinds: list[list[Concept]], most: int) -> list[tuple[Concept, int]]:
            """The kinds in turn, each concept's first picture before any second."""
            rows = [c for turn in itertools.zip_longest(*kinds) for c in turn if c is not None]
            own = {c.name: self._by[(c.name, "train")] for c in rows}
            rounds = range(max(map(len, own.values()), default=0))
            return [(c, own[c.name][i]) for i in rounds for c in rows if i < len(own[c.name])][:most]

        found = in_turn([by_kind.pop(forgotten.kind, [])], count // 2)
        found += in_turn(list(by_kind.values()), count - len(found))
        return [(concept, self._picture(i)) for concept, i in found]

    def test_pictures(self, name: str, count: int | None = None) -> list[Picture]:
        """Pictures of a concept that no training ever sees, the original model names each of them."""
        return [self._picture(i) for i in self._by[(name, "test")][:count]]


@functools.lru_cache(maxsize=1)
def mini_data() -> MiniData:
    """The data shipped with the package."""
    return MiniData()
