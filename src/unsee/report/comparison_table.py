"""The table of a comparison: a row a run under its original model, and means over runs that were made alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from unsee.metrics import METRICS
from unsee.report.comparability import Comparability, Numbered, named
from unsee.report.figures import duration, forgotten
from unsee.report.means import Mean, mean_over, memory, seconds
from unsee.report.read import Metrics, RunView, Score
from unsee.report.settings import made_alike, method, preset, told_apart
from unsee.report.table import Cell, cell, meaning

COLUMNS = (
    "em",
    "efficacy",
    "c_dis",
    "degenerate_rate",
    "misnamed",
    "named_in_part",
    "misspelt",
    "specificity_naming",
    "specificity_yes_no",
    "neighbours",
    "text_kept",
    "text_general",
)
"""The metrics of the table, in its order; one that no run has is left out."""

_MOST_SETTINGS = 3


@dataclass(frozen=True)
class Entry:
    """A score in the table, its change from the original model, and whether it is beyond doubt the best."""

    value: Cell = field(default_factory=Cell)
    change: Cell = field(default_factory=Cell)
    meaning: str = ""
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A row of the table: an original model, a run, or a mean over runs.

    Args:
        title: whose scores these are.
        details: what tells it from others.
        entries: a score a column.
        seconds, memory: what the training took.
        number: of the run; None in other rows.
        series: of its method, for the colour; None for an original model.
    """

    title: str
    details: tuple[str, ...]
    entries: tuple[Entry, ...]
    seconds: Cell = field(default_factory=Cell)
    memory: Cell = field(default_factory=Cell)
    number: int | None = None
    series: int | None = None


@dataclass(frozen=True)
class Block:
    """Rows that belong together, under a title."""

    title: str
    lines: tuple[Line, ...]


class ComparisonTable:
    """The rows of all runs, in blocks of one concept, then the means.

    Args:
        runs: as they may be shown, by number.
        together: how they belong together.
        series: the number of each method, for its colour.
    """

    def __init__(self, runs: Numbered, together: Comparability, series: Mapping[str, int]) -> None:
        self.columns = tuple(key for key in COLUMNS if any(_scores(view).after.get(key) for view in runs.values()))
        self._runs, self._together, self._series = runs, together, series
        self._apart = told_apart(runs)
        self.means = [mean_over(group, runs, together.concepts) for group in made_alike(runs) if len(group) > 1]

    def details(self, number: int) -> tuple[str, ...]:
        """What tells a run from others of its method: preset, seed, and all settings that differ."""
        view = self._runs[number]
        seed = view.config.get("seed")
        seeded = () if seed is None else (f"seed {seed}",)
        return tuple(filter(None, (preset(view), *seeded, *self._apart[number])))

    def _in_short(self, details: tuple[str, ...], number: int) -> tuple[str, ...]:
        """The details of a run, without its settings where they are too many for a cell."""
        apart = self._apart[number]
        if len(apart) <= _MOST_SETTINGS:
            return details
        return (*(text for text in details if text not in apart), f"{len(apart)} differences, listed below")

    def blocks(self) -> list[Block]:
        """A block a concept, each with its originals and runs, and one of means where there are any."""
        blocks = []
        for concept in self._together.concepts:
            groups = [group for group in self._together.alike if group[0] in concept]
            lines = tuple(line for group in groups for line in self._alike(group, len(groups) > 1))
            blocks.append(Block(forgotten(self._runs[concept[0]].concepts), lines))
        if self.means:
            blocks.append(Block("Means over runs made alike", tuple(self._mean_lines())))
        return blocks

    def _alike(self, group: Sequence[int], several: bool) -> list[Line]:
        """The original model of some runs of one concept, asked the same questions, and the runs."""
        first = _scores(self._runs[group[0]]).before
        original = Line(
            "Original model",
            (named(group),) if several else (),
            tuple(Entry(_value(first.get(key), key)) for key in self.columns),
        )
        best = best_of([_scores(self._runs[number]) for number in group], self.columns)
        lines = [original] if any(first.get(key) for key in self.columns) else []
        for place, number in enumerate(group):
            view = self._runs[number]
            lines.append(
                Line(
                    method(view),
                    self._in_short(self.details(number), number),
                    self._entries(_scores(view), {key for key in self.columns if best.get(key) == place}),
                    _took(seconds(view)),
                    _used(memory(view)),
                    number,
                    self._series[method(view)],
                )
            )
        return lines

    def _mean_lines(self) -> list[Line]:
        best = best_of([mean.metrics for mean in self.means], self.columns) if self._means_are_of_the_same() else {}
        lines = []
        for place, mean in enumerate(self.means):
            view = self._runs[mean.runs[0]]
            concepts = "1 concept" if mean.concepts == 1 else f"{mean.concepts} concepts"
            first = mean.runs[0]
            details = tuple(filter(None, (preset(view), *self._apart[first])))
            lines.append(
                Line(
                    method(view),
                    (*self._in_short(details, first), f"n = {len(mean.runs)} ({named(mean.runs)}), {concepts}"),
                    self._entries(mean.metrics, {key for key in self.columns if best.get(key) == place}, mean),
                    _took(mean.seconds),
                    _used(mean.memory),
                    series=self._series[method(view)],
                )
            )
        return lines

    def _means_are_of_the_same(self) -> bool:
        """Whether all means are over the same concepts, models and questions, each as often."""
        alike_of = {number: group for group in self._together.alike for number in group}
        return len({tuple(sorted(alike_of[number] for number in mean.runs)) for mean in self.means}) == 1

    def _entries(self, metrics: Metrics, best: set[str], mean: Mean | None = None) -> tuple[Entry, ...]:
        entries = []
        for key in self.columns:
            after, change = metrics.after.get(key), metrics.change.get(key)
            unit, higher = METRICS[key].unit, METRICS[key].higher_is_better
            value = _value(after, key)
            if mean and after and after.n != len(mean.runs):
                value = Cell(value.text, f"{value.range} (n = {after.n})".strip())
            entries.append(Entry(value, cell(change, unit, sign=True), meaning(change, higher), key in best))
        return tuple(entries)


def best_of(metrics: Sequence[Metrics], keys: Sequence[str]) -> dict[str, int]:
    """Who is best in each score, where that is beyond doubt: all have intervals, and its own touches no other."""
    best = {}
    for key in keys:
        higher = METRICS[key].higher_is_better
        scores = [own.after.get(key) for own in metrics]
        if higher is None or len(scores) < 2:
            continue
        ends = [(s.low, s.high) for s in scores if s is not None and s.low is not None and s.high is not None]
        if len(ends) < len(scores):
            continue
        for place, (low, high) in enumerate(ends):
            others = [end for i, end in enumerate(ends) if i != place]
            if all(low > other[1] if higher else high < other[0] for other in others):
                best[key] = place
    return best


def _scores(view: RunView) -> Metrics:
    return view.metrics or Metrics()


def _value(score: Score | None, key: str) -> Cell:
    return cell(score, METRICS[key].unit)


def _took(time: Score | None) -> Cell:
    return _cell_of(time, duration)


def _used(memory: Score | None) -> Cell:
    return _cell_of(memory, lambda gib: f"{gib:.2f} GiB")


def _cell_of(score: Score | None, show: Callable[[float], str]) -> Cell:
    if score is None:
        return Cell()
    ends = "" if score.low is None or score.high is None else f"{show(score.low)} to {show(score.high)}"
    return Cell(show(score.value), ends)
