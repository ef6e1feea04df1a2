"""One score for runs that were made alike: the mean over them, with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unsee.metrics import METRICS
from unsee.metrics.intervals import Clusters, ratio_change, ratio_score
from unsee.metrics.intervals import Score as Measured
from unsee.report.comparability import Groups, Numbered
from unsee.report.read import Metrics, RunView, Score

NOT_NEGATIVE = (0.0, math.inf)


@dataclass(frozen=True)
class Mean:
    """The mean over some runs.

    Args:
        runs: their numbers.
        concepts: how many concepts they forget.
        metrics: means of the runs' scores; `n` of each is the number of runs that have it.
        seconds, memory: of training, in seconds and GiB.
    """

    runs: tuple[int, ...]
    concepts: int
    metrics: Metrics
    seconds: Score | None
    memory: Score | None


def mean_over(numbers: Sequence[int], runs: Numbered, concepts: Groups) -> Mean:
    """The mean over runs, each counting the same.

    The interval is over concepts, a concept's runs together. With one concept it is over runs, and says how seeds
    differ, nothing about other concepts.

    Args:
        numbers: which runs to take.
        runs: all runs of the page.
        concepts: all runs in groups of one concept.
    """
    concept_of = {number: group[0] for group in concepts for number in group}
    count = len({concept_of[number] for number in numbers})
    unit_of = {number: concept_of[number] if count > 1 else number for number in numbers}
    measured = {n: runs[n].metrics or Metrics() for n in numbers}
    sides: dict[str, dict[str, Score | None]] = {"before": {}, "after": {}, "change": {}}
    for key in METRICS:
        before = _values({n: own.before.get(key) for n, own in measured.items()})
        after = _values({n: own.after.get(key) for n, own in measured.items()})
        bounds = METRICS[key].range
        sides["before"][key] = _mean(before, unit_of, bounds)
        sides["after"][key] = _mean(after, unit_of, bounds)
        sides["change"][key] = _mean_change(before, after, unit_of, bounds)
    return Mean(
        tuple(numbers),
        count,
        Metrics(**sides),
        _mean(_values({n: seconds(runs[n]) for n in numbers}), unit_of, NOT_NEGATIVE),
        _mean(_values({n: memory(runs[n]) for n in numbers}), unit_of, NOT_NEGATIVE),
    )


def seconds(view: RunView) -> Score | None:
    """How long the run trained, where that is recorded."""
    return Score(view.history.seconds) if view.history and view.history.seconds is not None else None


def memory(view: RunView) -> Score | None:
    """Its peak memory in GiB, where that is recorded."""
    found = view.history.peak_memory_gib if view.history else None
    return None if found is None else Score(found)


def _values(scores: Mapping[int, Score | None]) -> dict[int, float]:
    return {number: score.value for number, score in scores.items() if score is not None}


def _mean(values: Mapping[int, float], unit_of: Mapping[int, int], bounds: tuple[float, float]) -> Score | None:
    if not values:
        return None
    return _score(ratio_score(list(values.values()), [1.0] * len(values), _clusters(values, unit_of), bounds=bounds))


def _mean_change(
    before: Mapping[int, float], after: Mapping[int, float], unit_of: Mapping[int, int], bounds: tuple[float, float]
) -> Score | None:
    both = {n: (before[n], after[n]) for n in before if n in after}
    if not both:
        return None
    old, new = zip(*both.values(), strict=True)
    ones = [1.0] * len(both)
    return _score(ratio_change((old, ones), (new, ones), _clusters(both, unit_of), bounds=bounds))


def _clusters(numbers: Mapping[int, object], unit_of: Mapping[int, int]) -> Clusters:
    return Clusters([("", str(unit_of[number])) for number in numbers])


def _score(measured: Measured | None) -> Score | None:
    if measured is None:
        return None
    if measured.clusters == 1:  # nothing to draw from: a mean without an interval
        return Score(measured.value, n=measured.n)
    return Score(measured.value, measured.low, measured.high, measured.n)
