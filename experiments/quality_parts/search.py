"""Search by a Latin hypercube: ranges, what a seed draws from them, and the same budget for every method."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from quality_parts.jobs import Block, Job, Settings, Sizes
from quality_parts.objective import scored
from quality_parts.records import Results


@dataclass(frozen=True)
class Log:
    """A number whose logarithm is spread evenly, to two digits, so that it can be told and typed."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """What lies at a share of the range, from 0 up to 1."""
        value = math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        return min(self.high, max(self.low, float(f"{value:.1e}")))


@dataclass(frozen=True)
class Among:
    """One of some values."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """What lies at a share of them, from 0 up to but not 1."""
        return self.values[int(share * len(self.values))]


Space = dict[str, Log | Among]


@dataclass(frozen=True)
class Budget:
    """What every method gets.

    Args:
        trials: settings tried, the first of them with nothing drawn.
        minutes: of wall clock for all its trials together; a trial that ends later is not counted.
    """

    trials: int
    minutes: float


class Search:
    """The trials of one method.

    Args:
        method: its name.
        fixed: settings that all its trials have; nothing else is changed in the first, which is the method's defaults.
        space: what is drawn in the others, as a Latin hypercube: each range is cut in as many equal parts as there
            are of them, and every part is drawn from once. Few trials would leave half of a range alone else.
        budget: the same for every method.
        blocks: concepts and seeds that each trial is run on.
        sizes: of the questions.
        seed: of the draws, together with the method's name.
    """

    def __init__(
        self,
        method: str,
        fixed: Settings,
        space: Space,
        budget: Budget,
        blocks: Sequence[Block],
        sizes: Sizes,
        seed: int = 0,
    ):
        self.method, self.budget, self.blocks, self.sizes = method, budget, blocks, sizes
        rng = random.Random(f"{seed}/{method}")
        drawn = max(0, budget.trials - 1)
        shares = {name: [(part + rng.random()) / drawn for part in rng.sample(range(drawn), drawn)] for name in space}
        self.trials: list[Settings] = [fixed]
        self.trials += [{**fixed, **{n: knob.at(shares[n][t]) for n, knob in space.items()}} for t in range(drawn)]

    def jobs(self, trial: int) -> list[Job]:
        changes = self.trials[trial]
        return [Job(b.concept, self.method, "default", changes, b.seed, self.sizes) for b in self.blocks]

    def all_jobs(self) -> list[Job]:
        return [j for t in range(len(self.trials)) for j in self.jobs(t)]

    def spent(self, results: Results) -> float:
        """Seconds of wall clock so far, those of earlier calls and of failed runs included."""
        return sum(r["wall_seconds"] for r in results.all_of(self.all_jobs()))

    def may_begin(self, results: Results) -> bool:
        """Whether there is time for another run."""
        return self.spent(results) < 60 * self.budget.minutes

    def counted(self, results: Results) -> dict[int, float]:
        """The objective of each trial that was finished in time, by its number."""
        found: dict[int, float] = {}
        seconds = 0.0
        for trial in range(len(self.trials)):
            jobs = self.jobs(trial)
            records = results.all_of(jobs)
            seconds += sum(r["wall_seconds"] for r in records)
            if len(records) < len(jobs) or seconds > 60 * self.budget.minutes:
                break
            values = []
            for record in records:
                original = results.original(record["concept"], self.sizes)
                assert original is not None  # it is written before the run
                values.append(scored(record, original)["objective"])
            found[trial] = mean(values)
        return found

    def best(self, results: Results) -> int | None:
        """The trial with the highest objective, the earliest of equals; None where none was finished in time."""
        found = self.counted(results)
        return max(found, key=lambda t: (found[t], -t)) if found else None

    def tuned(self, results: Results) -> Settings:
        """The settings chosen; the defaults where no trial was finished in time."""
        return self.trials[self.best(results) or 0]


def in_turn(searches: Sequence[Search], results: Results) -> Iterator[Job]:
    """The first trial of every method, then the second, ..., as long as a method has time left."""
    for trial in range(max((len(s.trials) for s in searches), default=0)):
        for search in searches:
            for job in search.jobs(trial):
                if results.of(job) is None and search.may_begin(results):
                    yield job
