"""From the view of a run to the page: what stands in each section, and the template that lays it out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from unsee.data.concept import mention
from unsee.metrics import METRICS
from unsee.report.charts import loss_curves, strip
from unsee.report.examples import Choice, before_and_after, choose
from unsee.report.figures import PERCENT, duration, forgotten, marked, readable
from unsee.report.images import Album
from unsee.report.read import FacetSample, Metrics, RunView, short
from unsee.report.settings import flat
from unsee.report.table import Cell, cell, metric_groups, unmeasured
from unsee.report.templates import fill
from unsee.report.verdict import LIMIT, RULE, judge

FACETS = {
    "T1": ("T1 · A new name", "questions on the training picture, answered with the new name"),
    "T2": ("T2 · A new description", "the old name denied on the training picture"),
    "T3": ("T3 · Facts kept", "what is known of the concept, asked without a picture"),
    "T4": ("T4 · Other knowledge kept", "other concepts, answered as the original model does"),
    "protected": ("Protected pictures", "pictures of anything else, answered as the original model does"),
    "variation": (
        "Variations",
        "the picture recoloured or mixed: renamed where it is still recognised, else kept",
    ),
}
"""Title and one line on each facet, in the order of the page."""

_KEY_FIGURES = (
    ("em", "Concept gone from answers"),
    ("specificity", "Other concepts right"),
    ("neighbours", "Others of its kind right"),
    ("text_kept", "Facts about it, in text"),
)
_VERSION_LABELS = {"python": "Interpreter"}
_MOST_SAMPLES = 40


_OF_A_CONCEPT = ("em_naming", "em_yes_no", "text_kept")
"""What the table of several concepts tells of each."""


@dataclass(frozen=True)
class FacetPack:
    """Training samples that share one picture, or text samples that share none."""

    picture: str | None
    samples: tuple[FacetSample, ...]


@dataclass(frozen=True)
class FacetGroup:
    """One facet: its samples in packs; `hidden` more are left out for length, `withheld` by redaction."""

    facet: str
    title: str
    line: str
    total: int
    packs: tuple[FacetPack, ...]
    hidden: int
    withheld: int


def render(view: RunView) -> str:
    """The page as one self-contained HTML text."""
    album = Album(view.pictures)
    names = [mention(name) for name in view.names]
    several = len(view.concepts) > 1
    return fill(
        "page.html.j2",
        view=view,
        what=forgotten(view.concepts),
        several=several,
        concepts=list(concept_rows(view)),
        concept_columns=[METRICS[key].name for key in _OF_A_CONCEPT],
        verdict=judge(view),
        limit=LIMIT if view.metrics else "",
        rule=RULE,
        album=album,
        short=short,
        sides=before_and_after,
        name_marked=lambda text: marked(text, names, "name"),
        target_marked=_target_marked,
        figures=list(key_figures(view.metrics)),
        training=[(p, album.uri(short(p.sha256), 480)) for p in view.trained_on if not several],
        forgotten=choose(view.asked("forget"), view.pictures, cards=max(6, len(view.concepts)), questions=2),
        on_training=choose(view.asked("training"), view.pictures, cards=min(6, len(view.concepts)), questions=3),
        kept_pictures=[
            ("Others of its kind", choose(view.asked("neighbours"), view.pictures, cards=4, questions=1)),
            ("Other concepts", choose(view.asked("utility"), view.pictures, cards=6, questions=1)),
        ],
        kept_texts=[
            ("Facts about it, asked without a picture", _texts(view, "text_concept")),
            ("Questions about other things", _texts(view, "text_general")),
        ],
        groups=metric_groups(view.metrics),
        unmeasured=unmeasured(view.metrics),
        curves=loss_curves(view.history),
        facets=facet_groups(view.facets),
        record=list(record(view)),
        settings=list(flat(view.config.get("settings") or {})),
        command=str(view.config.get("command") or ""),
    )


def _texts(view: RunView, name: str) -> Choice:
    # Text questions have no picture; each is a card of its own, spread over subjects.
    return choose(view.asked(name), (), cards=4, questions=2)


def _target_marked(sample: FacetSample) -> Markup:
    patterns = [re.compile(re.escape(sample.target_phrase))] if sample.target_phrase else []
    return marked(sample.answer, patterns, "target")


def key_figures(metrics: Metrics | None) -> Iterator[tuple[str, Cell, Cell, Markup]]:
    """(label, before, after, strip) of the few numbers under the headline that were measured."""
    for key, label in _KEY_FIGURES:
        after = metrics.after.get(key) if metrics else None
        if metrics and after:
            before = metrics.before.get(key)
            yield label, cell(before, PERCENT), cell(after, PERCENT), strip(before, after)


def concept_rows(view: RunView) -> Iterator[tuple[str, str, list[tuple[Cell, Cell]]]]:
    """(phrase, hash of its picture, scores before and after) of each concept, where there are several."""
    for concept, metrics in zip(view.concepts, view.by_concept, strict=False):
        picture = next((p.sha256 for p in view.trained_on if p.concept == concept.name), "")
        scores = [(metrics.before.get(key), metrics.after.get(key)) for key in _OF_A_CONCEPT]
        yield concept.phrase, picture, [(cell(before, PERCENT), cell(after, PERCENT)) for before, after in scores]


def facet_groups(samples: Sequence[FacetSample]) -> list[FacetGroup]:
    """The samples by facet, T1 to T4 first, each facet packed by picture."""
    names = [*FACETS, *dict.fromkeys(s.facet for s in samples if s.facet not in FACETS)]
    groups = []
    for name in names:
        own = [sample for sample in samples if sample.facet == name]
        if not own:
            continue
        told = [sample for sample in own if not sample.withheld]
        title, line = FACETS.get(name, (name, ""))
        groups.append(
            FacetGroup(
                facet=name,
                title=title,
                line=line,
                total=len(own),
                packs=_packs(told[:_MOST_SAMPLES]),
                hidden=max(0, len(told) - _MOST_SAMPLES),
                withheld=len(own) - len(told),
            )
        )
    return groups


def _packs(samples: Sequence[FacetSample]) -> tuple[FacetPack, ...]:
    packs: dict[str | None, list[FacetSample]] = {}
    for sample in samples:
        packs.setdefault(sample.picture, []).append(sample)
    return tuple(FacetPack(picture, tuple(own)) for picture, own in packs.items())


def record(view: RunView) -> Iterator[tuple[str, str]]:
    """(label, value) of all that is needed to file the run or to do it again; empty values are left out."""
    config, history = view.config, view.history
    model = config.get("model") or {}
    pairs: list[tuple[str, Any]] = [
        *(
            pair
            for concept in view.concepts
            for pair in (("Concept", concept.name), ("Kind", concept.kind), ("Other names", ", ".join(concept.aliases)))
        ),
        ("New answer", config.get("new_answer")),
        ("Method", config.get("method")),
        ("Preset", config.get("preset")),
        ("Model", model.get("name")),
        ("Model path", model.get("path")),
        ("Model SHA-256", model.get("sha256")),
    ]
    for picture in view.trained_on:
        size = f"{picture.width} × {picture.height}" if picture.width and picture.height else ""
        pairs.append(("Training picture", ", ".join(filter(None, (picture.concept, picture.name, size)))))
        pairs.append(("Picture SHA-256", picture.sha256))
    sources = {
        "benchmark": "unseen pictures of a benchmark",
        "folder": "unseen pictures from a folder",
        "augmented": "altered copies of the training picture",
    }
    pairs += [
        ("Test pictures", sources.get(view.test_pictures, view.test_pictures)),
        ("Seed", config.get("seed")),
        ("Created", config.get("created")),
    ]
    if history is not None:
        pairs += [
            ("Training steps", len(history.steps) or None),
            ("Training time", None if history.seconds is None else duration(history.seconds)),
            ("Peak memory", None if history.peak_memory_gib is None else f"{history.peak_memory_gib:.2f} GiB"),
        ]
    versions = config.get("versions") or {}
    pairs += [(_VERSION_LABELS.get(str(name), str(name)), version) for name, version in versions.items()]
    pairs.append(("Config SHA-256", config.get("config_sha256")))
    return ((label, readable(str(value))) for label, value in pairs if value not in (None, ""))
