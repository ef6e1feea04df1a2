"""A benchmark of drawn shapes for the experiments on quality, and records as their runs would write them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import FACTS, SHAPES, draw

import unsee
from quality_parts import bench as bench_module
from quality_parts.jobs import Job, Record, Sizes
from quality_parts.records import Results
from unsee.benchmarks.protocol import Item, Protocol, asked_of_others, asked_of_training, asked_of_unseen
from unsee.data import Concept, Request
from unsee.errors import TrainingError
from unsee.metrics import Answer

SMALL = Sizes(test_pictures=2, utility_pictures=1, neighbour_pictures=1, general_questions=0)
ASKED = (
    ("forget", "name"),
    ("utility", "name"),
    ("utility", "yes_no"),
    ("neighbours", "name"),
    ("text_concept", "text"),
)
QUICK: dict[str, Any] = {"steps": 2, "variations_per_step": 1}


class Shapes:
    """Requests and questions for the model that knows drawn shapes."""

    def request(self, concepts: Sequence[str], protected: int) -> Request:
        others = tuple(draw(s, v) for s in SHAPES if s not in concepts for v in (0, 1))
        first, *also = (Request(Concept(c, "thing"), (draw(c, 0),), protected=others[:protected]) for c in concepts)
        return replace(first, also=tuple(also))

    def questions(self, request: Request, sizes: Sizes) -> list[Protocol]:
        return [self._of(one, {c.name for c in request.concepts}, sizes) for one in request.every]

    def _of(self, request: Request, forgotten: Set[str], sizes: Sizes) -> Protocol:
        this, rng = request.concept, random.Random(0)
        others = [Concept(s, "thing") for s in SHAPES if s not in forgotten]
        items = asked_of_training(this, request.pictures)
        items += asked_of_unseen(this, [draw(this.name, 20 + v) for v in range(sizes.test_pictures)], rng)
        items += asked_of_others([(o, draw(o.name, 20)) for o in others], others, this, rng)
        near = [Item("neighbours", "name", o, "Which thing is this?", o.names, draw(o.name, 21)) for o in others]
        text = Item("text_concept", "text", this, f"What is a {this.name}?", (FACTS[this.name].split()[-1].strip("."),))
        return Protocol(this, [*items, *near, text])


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def answers(model: str, concept: str, forgotten: int = 0, kept: int = 10, odd: bool = False) -> list[Answer]:
    """Ten answers to each kind of question; of those on the concept `forgotten` do not name it, of others `kept` are
    right."""
    found = []
    for set_, form in ASKED:
        for i in range(10):
            right = i >= forgotten if set_ == "forget" else i < kept
            yes = form == "yes_no"
            said = ("Yes." if right else "No.") if yes else f"This is a {'circle' if right else 'square'}."
            found.append(
                Answer(
                    model=model,
                    concept=concept,
                    set=set_,
                    form=form,
                    item=f"{set_}-{form}-{i}",
                    subject="circle",
                    kind="thing",
                    picture="" if set_ == "text_concept" else f"{set_} {i}",
                    question="?",
                    keywords=("yes",) if yes else ("circle",),
                    answer=said,
                    odd_words=("blorf",) if odd else (),
                    other_names=(),
                )
            )
    return found


def original(concept: str, sizes: Sizes) -> Record:
    said = [dataclasses.asdict(a) for a in answers("before", concept)]
    return {"line": "original", "concept": concept, "sizes": dataclasses.asdict(sizes), "wall_seconds": 9.0,
            "versions": {"weights": "ab"}, "answers": said}  # fmt: skip


def run(job: Job, forgotten: int, kept: int, seconds: float = 60.0, error: str | None = None) -> Record:
    said = [dataclasses.asdict(a) for a in answers("after", job.concept, forgotten, kept)]
    record: Record = {"line": "run", "key": job.key, **dataclasses.asdict(job), "error": error, "wall_seconds": seconds,
                      "questions": {"forget": 10, "utility": 20, "neighbours": 10, "text_concept": 10}}  # fmt: skip
    after = {"em": 10.0 * forgotten, "specificity_naming": 10.0 * kept}
    found = {"training_seconds": 30.0, "threads": 2, "peak_memory_gib": 1.5, "after": after, "answers": said}
    return record | ({} if error else found)


def file_of(path: Path, runs: list[Record]) -> Results:
    results = Results(path / "results.jsonl.gz")
    for record in runs:
        sizes = Sizes(**record["sizes"])
        if results.original(record["concept"], sizes) is None:
            results.append(original(record["concept"], sizes))
        results.append(record)
    return results


def pretend(clock: Clock, seconds: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs that take the seconds told and fail where the learning rate is 1; returns what is run, as it is run."""
    ran: list[str] = []

    def forget(vlm: Any, request: Request, method: Any, protocol: Protocol, out: Path, **more: Any) -> Any:
        ran.append(method.name)
        clock.now += seconds[method.name]
        if method.settings.learning_rate == 1:
            raise TrainingError("training stopped at step 2: the loss is nan")
        history = SimpleNamespace(seconds=1.0, peak_memory_gib=1.0, steps=[{"loss": 1.0}])
        said = answers("before", request.concept.name) + answers("after", request.concept.name, 8, 9)
        return SimpleNamespace(history=history, metrics=unsee.summarise(said, resamples=10), answers=said)

    monkeypatch.setattr(unsee, "forget", forget, raising=False)
    monkeypatch.setattr(bench_module.facets, "build", lambda *_: SimpleNamespace(samples=[]))
    return ran
