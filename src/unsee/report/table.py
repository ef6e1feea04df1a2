"""Scores as cells and rows of a table, with what a change means."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from unsee.metrics import METRICS
from unsee.report.charts import strip
from unsee.report.figures import PERCENT, interval, number, signed
from unsee.report.read import Metrics, Score

_GROUPS = (
    ("On pictures of the concept", ("training", "forget")),
    ("On pictures of other concepts", ("neighbours", "utility")),
    ("In text, without a picture", ("text_concept", "text_general")),
)


@dataclass(frozen=True)
class Cell:
    """A score as the table shows it; `text` is "–" where there is none."""

    text: str = "–"
    range: str = ""


@dataclass(frozen=True)
class Row:
    """One metric: its numbers before and after, the change and what it means."""

    key: str
    name: str
    unit: str
    definition: str
    source: str
    direction: str
    before: Cell
    after: Cell
    change: Cell
    meaning: str
    strip: Markup


@dataclass(frozen=True)
class Group:
    """Rows that look at the same kind of question."""

    title: str
    rows: tuple[Row, ...]


def metric_groups(metrics: Metrics | None) -> list[Group]:
    """The table, in the order of the registry; metrics that nothing was measured for are left out."""
    if metrics is None:
        return []
    rows = {key: _row(key, metrics) for key in (*METRICS, *metrics.keys) if _measured(metrics, key)}
    groups = []
    for title, sets in _GROUPS:
        groups.append(
            Group(title, tuple(rows.pop(k) for k in METRICS if k in rows and set(METRICS[k].sets) <= set(sets)))
        )
    groups.append(Group("Further scores", tuple(rows.values())))
    return [group for group in groups if group.rows]


def unmeasured(metrics: Metrics | None) -> list[str]:
    """Names of the metrics for which the run has no number at all."""
    return [METRICS[key].name for key in METRICS if metrics is not None and not _measured(metrics, key)]


def _measured(metrics: Metrics, key: str) -> bool:
    return any(part.get(key) is not None for part in (metrics.before, metrics.after, metrics.change))


def _row(key: str, metrics: Metrics) -> Row:
    metric = METRICS.get(key)
    unit = metric.unit if metric else ""
    higher = metric.higher_is_better if metric else None
    before, after, change = metrics.before.get(key), metrics.after.get(key), metrics.change.get(key)
    return Row(
        key=key,
        name=metric.name if metric else key,
        unit=unit,
        definition=metric.definition if metric else "",
        source=metric.source if metric else "",
        direction={True: "higher is better", False: "lower is better", None: ""}[higher],
        before=cell(before, unit),
        after=cell(after, unit),
        change=cell(change, unit, sign=True),
        meaning=meaning(change, higher),
        strip=strip(before, after) if unit == PERCENT else Markup(""),
    )


def cell(score: Score | None, unit: str, sign: bool = False) -> Cell:
    """A score's text and its interval; `sign` for changes."""
    if score is None:
        return Cell()
    return Cell(signed(score.value, unit) if sign else number(score.value, unit), interval(score, unit, sign))


def meaning(change: Score | None, higher_is_better: bool | None) -> str:
    """ "better" or "worse" beyond chance, "within chance", "no change"; "" without an interval or a direction."""
    if change is None or higher_is_better is None or change.low is None or change.high is None:
        return ""
    if abs(change.value) < 1e-9:
        return "no change"
    if change.low <= 0 <= change.high:
        return "within chance"
    return "better" if (change.value > 0) == higher_is_better else "worse"
