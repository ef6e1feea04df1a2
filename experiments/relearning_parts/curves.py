"""From lines to scores with intervals, tables and the plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relearning_parts.attacked import ORIGINAL, PARTS, Row
from unsee.metrics import Answer
from unsee.metrics.intervals import Score
from unsee.metrics.mmubench import Metric, is_right

OURS = "unsee, relearning"


def _measure(key: str, name: str, definition: str, sets: tuple[str, ...], form: str) -> Metric:
    def right(answer: Answer, _: Answer | None) -> tuple[float, float]:
        return 100.0 * is_right(answer), 1.0

    return Metric(key, name, definition, OURS, right, sets=sets, forms=(form,))


MEASURES = {
    m.key: m
    for m in (
        _measure("naming", "naming", "test pictures of the concept that are named", ("forget",), "name"),
        _measure(
            "yes_no",
            "yes/no",
            "confirmed on its test pictures, denied on as many of others of its kind",
            ("forget", "neighbours"),
            "yes_no",
        ),
        _measure("others_naming", "others named", "utility pictures that are named", ("utility",), "name"),
        _measure("others_yes_no", "others yes/no", "confirmed or denied rightly on them", ("utility",), "yes_no"),
    )
}


def answers_of(row: Row) -> list[Answer]:
    """A line's answers; seeds repeat inside a concept, whose pictures are drawn together with it."""
    concept, seed = row["concept"], row["seed"]
    return [
        dataclasses.replace(Answer(model="after", concept=concept, **a), item=f"{seed}/{a['item']}")
        for a in row["answers"]
    ]


def picked(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [r for r in rows if all(r[key] == value for key, value in wanted.items())]


def score(rows: Sequence[Row], key: str) -> Score | None:
    """A measure pooled over lines, in %, 0 to 100, with its 95 % interval: concepts are the clusters."""
    return MEASURES[key].score([a for r in rows for a in answers_of(r)])


def difference(rows: Sequence[Row], others: Sequence[Row], key: str) -> Score | None:
    """`rows` minus `others`, in percentage points, over the same questions of the same concepts and seeds."""
    by_run = {(r["concept"], r["seed"]): r for r in others}
    pairs = [
        pair
        for r in rows
        if (other := by_run.get((r["concept"], r["seed"]))) is not None
        for pair in zip(answers_of(other), answers_of(r), strict=True)
    ]
    return MEASURES[key].change(pairs)


def points(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The curves: for each model, arm, share and measure {"value", "low", "high", "n", "clusters", "runs"}.

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
                        found.append({**place, **one.as_dict(), "runs": len(control if arm == "control" else relearn)})
    return found


def cell(one: Score | None) -> str:
    return f"{one.value:5.1f} ({one.low:.1f} to {one.high:.1f})" if one else "not measured yet"


def tables(rows: Sequence[Row]) -> str:
    """Everything measured, as Markdown. Where nothing is, it says so."""
    lines: list[str] = []
    for model in dict.fromkeys(r["model"] for r in rows):
        own = picked(rows, model=model)
        concepts, seeds = len({r["concept"] for r in own}), len({r["seed"] for r in own})
        lines += ["", f"**{model}**: {concepts} concepts, {seeds} seeds, % (95 % interval)", ""]
        lines += [f"| | samples | {' | '.join(m.name for m in MEASURES.values())} |", "|---" * 6 + "|"]

        def add(name: str, some: Sequence[Row], lines: list[str] = lines) -> None:
            sizes = sorted({r["samples"] for r in some})
            size = "" if not sizes or sizes == [0] else "-".join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))
            lines.append(f"| {name} | {size} | {' | '.join(cell(score(some, key)) for key in MEASURES)} |")

        add("as is", picked(own, arm="as is"))
        for share in sorted({r["share"] for r in own if r["share"] is not None}):
            relearn, control = (picked(own, arm=arm, share=share) for arm in ("relearn", "control"))
            add(f"relearn {share:g} %", relearn)
            add(f"control {share:g} %", control)
            cells = " | ".join(cell(difference(relearn, control, key)) for key in MEASURES)
            lines.append(f"| relearn - control, {share:g} % | | {cells} |")
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
                low, high = ([p[end] for p in some] for end in ("low", "high"))
                axis.fill_between(at, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)
            own = picked(rows, model=model)
            marks = [("as is", picked(own, arm="as is"), 0, "k^")]
            marks += [(f"reload {p}", picked(own, arm="reload", part=p), len(shares) + 1 + i, "kx")
                      for i, p in enumerate(PARTS)]  # fmt: skip
            for _, some, x, style in marks:
                if one := score(some, key):
                    axis.errorbar(
                        [x], [one.value], [[one.value - one.low], [one.high - one.value]], fmt=style, capsize=2
                    )
            axis.set_ylim(-3, 103)
            axis.grid(alpha=0.3)
            axis.set_ylabel(label if column is axes.T[0] else "")
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
