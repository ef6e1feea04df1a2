"""From the views of several runs to one page: a table with a row a run, a chart, and answers side by side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from unsee.data.concept import mention
from unsee.metrics import METRICS
from unsee.report.charts import Mark, scatter, symbol
from unsee.report.comparability import Comparability, Numbered, named
from unsee.report.comparison_table import ComparisonTable
from unsee.report.examples import Choice, choose
from unsee.report.figures import forgotten, listed, marked, readable, share
from unsee.report.images import Album
from unsee.report.read import RunView, short
from unsee.report.settings import method, preset
from unsee.report.shared import SharedQuestions
from unsee.report.templates import fill
from unsee.report.verdict import Verdict, judge

FORGOTTEN, KEPT = "em", "specificity"
"""What the chart sets against each other."""


@dataclass(frozen=True)
class Examples:
    """What all runs of one concept answered: (title, choice, whether cards name what they show) of each part."""

    phrase: str
    runs: str
    album: Album
    questions: SharedQuestions
    names: tuple[re.Pattern[str], ...]
    parts: tuple[tuple[str, Choice, bool], ...]

    def name_marked(self, text: str) -> Markup:
        """The text with the concept's name marked."""
        return marked(text, self.names, "name")


@dataclass(frozen=True)
class Told:
    """A run in the list of runs: what its own report says of it, and where that is."""

    number: int
    series: int
    title: str
    phrase: str
    details: tuple[str, ...]
    verdict: Verdict
    path: str
    link: str


@dataclass(frozen=True)
class Chart:
    """Forgetting against specificity, and what the colours mean."""

    svg: Markup
    legend: tuple[tuple[Markup, str], ...]
    left_out: str


def render_comparison(runs: Numbered, together: Comparability, links: Mapping[int, str]) -> str:
    """The page as one self-contained HTML text.

    Args:
        runs: as they may be shown, by number.
        together: how they belong together.
        links: the address of a run's own report, where it has one.
    """
    methods = dict.fromkeys(method(view) for view in runs.values())
    series = {name: place for place, name in enumerate(methods)}
    table = ComparisonTable(runs, together, series)
    phrases = [forgotten(runs[group[0]].concepts) for group in together.concepts]
    what = phrases[0] if len(phrases) == 1 else f"{len(phrases)} concepts"
    return fill(
        "comparison.html.j2",
        title=f"Forgetting {what}: {len(runs)} runs",
        redacted=any(view.redacted for view in runs.values()),
        several_concepts=len(phrases) > 1,
        facts=list(_facts(runs, phrases)),
        cautions=together.cautions,
        columns=[METRICS[key] for key in table.columns],
        blocks=table.blocks(),
        means=table.means,
        chart=_chart(runs, series),
        examples=[found for group in together.concepts if (found := _examples(group, runs)).parts],
        told=[_told(n, view, series[method(view)], table.details(n), links.get(n, "")) for n, view in runs.items()],
        short=short,
    )


def _told(number: int, view: RunView, series: int, details: tuple[str, ...], link: str) -> Told:
    return Told(number, series, method(view), forgotten(view.concepts), details, judge(view), str(view.folder), link)


def _facts(runs: Numbered, phrases: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(label, value) of what is compared; a label is in the plural where there is more than one value."""
    views = runs.values()
    seeds = {str(seed) for view in views if (seed := view.config.get("seed")) is not None}
    facts: list[tuple[str, Iterable[str]]] = [
        ("Concept", phrases),
        ("Method", map(method, views)),
        ("Preset", map(preset, views)),
        ("Seed", sorted(seeds, key=lambda seed: (len(seed), seed))),
        ("Model", map(_model, views)),
    ]
    for label, found in facts:
        values = [readable(text) for text in dict.fromkeys(found) if text]
        if values:
            yield label + ("s" if len(values) > 1 else ""), listed(values)


def _model(view: RunView) -> str:
    model = view.config.get("model") or {}
    sha256 = str(model.get("sha256") or "")
    return " ".join(filter(None, (str(model.get("name") or ""), f"({sha256[:8]})" if sha256 else "")))


def _chart(runs: Numbered, series: Mapping[str, int]) -> Chart | None:
    """None where no run has both scores."""
    marks, told = [], []
    for number, view in runs.items():
        after = view.metrics.after if view.metrics else {}
        forgotten, kept = after.get(FORGOTTEN), after.get(KEPT)
        if forgotten and kept:
            marks.append(Mark(str(number), series[method(view)], forgotten, kept))
            told.append(f"run {number}, {method(view)}: {share(forgotten.value)} and {share(kept.value)}")
    if not marks:
        return None
    charted = {int(mark.label) for mark in marks}
    return Chart(
        scatter(
            marks,
            f"{METRICS[FORGOTTEN].name}, %",
            f"{METRICS[KEPT].name}, %",
            f"{METRICS[FORGOTTEN].name} and {METRICS[KEPT].name} of each run; {'; '.join(told)}",
        ),
        tuple((symbol(place), name) for name, place in series.items()),
        named([number for number in runs if number not in charted]) if len(charted) < len(runs) else "",
    )


def _examples(numbers: Sequence[int], runs: Numbered) -> Examples:
    """Questions that all these runs of one concept were asked; of a single run, none."""
    own = {number: runs[number] for number in numbers}
    questions = SharedQuestions(own)
    pictures = {key: path for view in own.values() for key, path in view.pictures.items()}
    parts = (
        ("Pictures of the concept", choose(questions.asked("forget"), pictures, cards=4, questions=2), False),
        ("The training picture", choose(questions.asked("training"), pictures, cards=1, questions=2), False),
        ("Other concepts", choose(questions.asked("neighbours", "utility"), pictures, cards=4, questions=1), True),
        ("In text", choose(questions.asked("text_concept", "text_general"), (), cards=3, questions=1), True),
    )
    return Examples(
        forgotten(runs[numbers[0]].concepts),
        named(numbers),
        Album(pictures),
        questions,
        tuple(mention(name) for name in dict.fromkeys(n for view in own.values() for n in view.names)),
        tuple(part for part in parts if part[1].cards) if len(numbers) > 1 else (),
    )
