"""From lines to shares with intervals, tables and the plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from quality_parts.tables import Mean
from relearning_parts.attacked import ORIGINAL, PARTS, Row
from unsee.metrics import Answer
from unsee.metrics.intervals import PERCENT, Clusters, Score, ratio_change, ratio_score
from unsee.metrics.judging import is_right


@dataclass(frozen=True)
class Measure:
    """A share of right answers.

    Args:
        name: for the tables.
        sets: of questions.
        form: of questions.
    """

    name: str
    sets: tuple[str, ...]
    form: str

    def of(self, row: Row) -> float | None:
        """In %, 0 to 100; None where a line has no such question."""
        asked = [a for a in row["answers"] if a["set"] in self.sets and a["form"] == self.form]
        said = [is_right(Answer(model="after", concept=row["concept"], **a)) for a in asked]
        return 100 * fmean(said) if said else None


MEASURES = {
    "naming": Measure("naming", ("forget",), "name"),
    "yes_no": Measure("yes/no", ("forget", "neighbours"), "yes_no"),
    "others_naming": Measure("others named", ("utility",), "name"),
    "others_yes_no": Measure("others yes/no", ("utility",), "yes_no"),
}
"""Test pictures of the concept that are named; confirmed, and denied on as many of others of its kind; utility pictures
that are named; confirmed or denied rightly on them."""


def picked(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [r for r in rows if all(r[key] == value for key, value in wanted.items())]


def score(rows: Sequence[Row], key: str) -> Mean | None:
    """A measure, in %, the mean over concepts; `unsee.metrics.intervals` has its interval."""
    found = [(r["concept"], value) for r in rows if (value := MEASURES[key].of(r)) is not None]
    values, ones, clusters = [v for _, v in found], [1.0] * len(found), _clusters([c for c, _ in found])
    return _mean(ratio_score(values, ones, clusters, bounds=PERCENT), clusters) if found else None


def difference(rows: Sequence[Row], others: Sequence[Row], key: str) -> Mean | None:
    """`rows` minus `others`, in percentage points, run by run: the same questions, concepts and seeds."""
    by_run = {(r["concept"], r["seed"]): r for r in others}
    pairs = [(r, other) for r in rows if (other := by_run.get((r["concept"], r["seed"]))) is not None]
    measure: Callable[[Row], float | None] = MEASURES[key].of
    found = [(r["concept"], measure(r), measure(other)) for r, other in pairs]
    both = [(c, (less, value)) for c, value, less in found if value is not None and less is not None]
    if not both:
        return None
    old, new = zip(*(pair for _, pair in both), strict=True)
    ones, clusters = [1.0] * len(both), _clusters([c for c, _ in both])
    return _mean(ratio_change((old, ones), (new, ones), clusters, bounds=PERCENT), clusters)


def _clusters(concepts: Sequence[str]) -> Clusters:
    return Clusters([(concept, str(run)) for run, concept in enumerate(concepts)])


def _mean(one: Score | None, clusters: Clusters) -> Mean | None:
    """Of one concept alone the runs say how seeds differ, which is no interval over concepts."""
    if one is None:
        return None
    concepts = len(clusters.sizes)
    low, high = (one.low, one.high) if concepts > 1 else (None, None)
    return Mean(one.value, low, high, concepts)


def points(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The curves: for each model, arm, share and measure {"value", "low", "high", "concepts", "runs"}.

    "difference" is an arm of its own: relearn minus control, paired.
    """
    found = []
    for model in dict.fromkeys(r["model"] for r in rows):
        own = picked(rows, model=model)
        for share in sorted({r["share"] for r in own if r["share"] is not None}):
            relearn, control = (picked(own, arm=arm, share=share) for arm in ("relearn", "control"))
            for key in MEASURES:
                scored = {
                    "relearn": score(relearn, key),
                    "control": score(control, key),
                    "difference": difference(relearn, control, key),
                }
                for arm, one in scored.items():
                    if one is not None:
                        place = {"model": model, "arm": arm, "share": share, "measure": key}
                        runs = len(control if arm == "control" else relearn)
                        found.append({**place, **dataclasses.asdict(one), "runs": runs})
    return found


def cell(one: Mean | None) -> str:
    return one.text(1) if one else "not measured yet"


def _ends(one: dict[str, Any]) -> tuple[float, float]:
    """Of the interval, inside the plot; of one concept alone its value."""
    low, high = (one["value"] if one[end] is None else one[end] for end in ("low", "high"))
    return max(0.0, low), min(100.0, high)


def tables(rows: Sequence[Row]) -> str:
    """Everything measured, as Markdown. Where nothing is, it says so."""
    lines: list[str] = []
    for model in dict.fromkeys(r["model"] for r in rows):
        own = picked(rows, model=model)
        concepts, seeds = len({r["concept"] for r in own}), len({r["seed"] for r in own})
        lines += ["", f"**{model}**: {concepts} concepts, {seeds} seeds, % (95 % interval)", ""]
        head = ["", "samples", "loss at first", *(m.name for m in MEASURES.values())]
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]

        def add(name: str, some: Sequence[Row], lines: list[str] = lines) -> None:
            failed = sum(bool(r.get("error")) for r in some)
            name += f" ({failed} of {len(some)} failed)" if failed else ""
            sizes = sorted({r["samples"] for r in some})
            size = "" if not sizes or sizes == [0] else "-".join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))
            losses = [r["loss"][0] for r in some if r["loss"]]
            loss = " to ".join(dict.fromkeys(f"{ends(losses):.2f}" for ends in (min, max))) if losses else ""
            cells = [name, size, loss, *(cell(score(some, key)) for key in MEASURES)]
            lines.append(f"| {' | '.join(cells)} |")

        add("as is", picked(own, arm="as is"))
        for share in sorted({r["share"] for r in own if r["share"] is not None}):
            relearn, control = (picked(own, arm=arm, share=share) for arm in ("relearn", "control"))
            add(f"relearn {share:g} %", relearn)
            add(f"control {share:g} %", control)
            cells = " | ".join(cell(difference(relearn, control, key)) for key in MEASURES)
            lines.append(f"| relearn - control, {share:g} % | | | {cells} |")
        if model != ORIGINAL:
            for part in PARTS:
                reload = picked(own, arm="reload", part=part)
                weights = sorted({r["moved"] for r in reload})
                add(f"reload {part} ({', '.join(map(str, weights)) or '?'} weights had moved)", reload)
    return "\n".join(lines).strip() or "Nothing is measured yet."


def draw(rows: Sequence[Row], path: Path) -> None:
    """Naming over the pool's shares, a column a model: the concept above, others below; SVG or PNG by its ending."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "unsee"  # the same lines give the same file
    from matplotlib import pyplot

    found, models = points(rows), list(dict.fromkeys(r["model"] for r in rows))
    shares = sorted({p["share"] for p in found})
    shown = (("naming", "the concept named, %"), ("others_naming", "others named, %"))
    figure, axes = pyplot.subplots(
        2, len(models), figsize=(1 + 3 * len(models), 5.4), sharex=True, sharey=True, squeeze=False
    )
    for column, model in zip(axes.T, models, strict=True):
        for axis, (key, label) in zip(column, shown, strict=True):
            for arm, style in (("relearn", "-o"), ("control", "--s")):
                some = [p for p in found if (p["model"], p["measure"], p["arm"]) == (model, key, arm)]
                at = [1 + shares.index(p["share"]) for p in some]
                (drawn,) = axis.plot(at, [p["value"] for p in some], style, label=arm, markersize=4)
                lows, highs = zip(*map(_ends, some), strict=True) if some else ((), ())
                axis.fill_between(at, lows, highs, color=drawn.get_color(), alpha=0.2, linewidth=0)
            own = picked(rows, model=model)
            marks = [("as is", picked(own, arm="as is"), 0, "k^")]
            marks += [(f"reload {p}", picked(own, arm="reload", part=p), len(shares) + 1 + i, "kx")
                      for i, p in enumerate(PARTS)]  # fmt: skip
            for _, some, x, style in marks:
                if one := score(some, key):
                    low, high = _ends(dataclasses.asdict(one))
                    axis.errorbar([x], [one.value], [[one.value - low], [high - one.value]], fmt=style, capsize=2)
            axis.set_ylim(-3, 103)
            axis.grid(alpha=0.3)
            axis.set_ylabel(label if column[0] is axes[0][0] else "")
        column[0].set_title(model)
        names = ["as is", *(f"{s:g} %" for s in shares), "P back", "V back", "both"]
        column[1].set_xticks(range(len(names)), names, rotation=60, fontsize=8)
        column[1].set_xlabel("share of the pool; reload")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a date: the same lines give the same file.
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
    pyplot.close(figure)
