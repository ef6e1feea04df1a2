"""From records to tables; every interval is over concepts, whose runs hang together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

from scipy.special import stdtrit

from quality_parts.jobs import Job, Record, Sizes
from quality_parts.objective import scored
from quality_parts.records import Results
from unsee.metrics import METRICS, Answer, summarise
from unsee.mini.data import mini_data
from unsee.report.read import metrics_of
from unsee.report.verdict import Grade, grade

KEYS = ("em", "em_substring", "named_in_part", "degenerate_rate", "c_dis", "efficacy", "specificity_naming",
        "specificity_yes_no", "neighbours", "text_kept", "text_general", "fluency", "diversity",
        "mean_length")  # fmt: skip


@dataclass(frozen=True)
class Mean:
    """A mean over concepts.

    Args:
        value: the mean of the concepts' own means.
        low, high: Student's 95 % interval; None where there is one concept alone, which tells no spread.
        concepts: how many there are.
    """

    value: float
    low: float | None
    high: float | None
    concepts: int

    def text(self, digits: int = 2) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.{digits}f} (one concept)"
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def over_concepts(
    values: Iterable[tuple[str, float]], bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Mean | None:
    """The mean of (concept, value) pairs; None where there are none.

    Values of one concept are averaged first. Bootstraps of three or five units are far too narrow; Student's t is not.
    Its interval is cut at the bounds, beyond which there is no value.
    """
    by_concept: dict[str, list[float]] = {}
    for concept, value in values:
        by_concept.setdefault(concept, []).append(value)
    means = [fmean(v) for v in by_concept.values()]
    if not means:
        return None
    centre, n = fmean(means), len(means)
    if n == 1:
        return Mean(centre, None, None, 1)
    half = float(stdtrit(n - 1, 0.975)) * stdev(means) / math.sqrt(n)
    return Mean(centre, max(bounds[0], centre - half), min(bounds[1], centre + half), n)


def pooled(results: Results, jobs: Sequence[Job]) -> dict[str, Any]:
    """All scores over the runs that are there and did not fail: concepts are the clusters, seeds repeat inside."""
    answers: list[Answer] = []
    for job in jobs:
        record, original = results.of(job), results.original(job.concept, job.sizes)
        if record is None or record["error"] or original is None:
            continue
        for a in original["answers"] + record["answers"]:
            answers.append(dataclasses.replace(Answer(**a), item=f"{job.seed}/{a['item']}"))
    return summarise(answers)


def after(results: Results, record: Record) -> dict[str, float]:
    """What a run left, by score, worked out from its answers: a metric may have changed since they were recorded."""
    original = results.original(record["concept"], Sizes(**record["sizes"]))
    said = [Answer(**a) for a in (original["answers"] if original else []) + record["answers"]]
    return {key: score["value"] for key, score in summarise(said, resamples=2)["after"].items() if score}


def shares_of(results: Results, jobs: Iterable[Job], strictly: bool = False) -> list[tuple[str, dict[str, float]]]:
    """(concept, shares and objective) of every run that is there; failed ones count as 0."""
    found = []
    for job in jobs:
        record, original = results.of(job), results.original(job.concept, job.sizes)
        if record is not None and original is not None:
            found.append((job.concept, scored(record, original, strictly)))
    return found


WORDS = {
    Grade.GONE: "no longer",
    Grade.SEEMINGLY: "appears no longer",
    Grade.SELDOM: "seldom",
    Grade.SOMETIMES: "at times",
    Grade.OFTEN: "often",
    Grade.UNCLEAR: "not shown",
    Grade.KEPT: "still",
}
"""With which word the report of a run would say that the model recognises the concept."""


def graded(results: Results, jobs: Sequence[Job]) -> str:
    """Of how many runs the report would say which word."""
    said: list[Grade] = []
    for job in jobs:
        record, original = results.of(job), results.original(job.concept, job.sizes)
        if record is not None and original is not None and not record["error"]:
            answers = [Answer(**a) for a in original["answers"] + record["answers"]]
            metrics = metrics_of(summarise(answers, seed=job.seed))
            assert metrics is not None
            said.append(min(grade(metrics, key) for key in ("em_naming", "em_yes_no")))
    return ", ".join(f"{said.count(g)} {word!r}" for g, word in WORDS.items() if g in said)


def asked(jobs: Sequence[Job], results: Results) -> str:
    """How many answers a run takes, as a line under a table."""
    counts = sorted({sum(r["questions"].values()) for r in results.all_of(jobs)})
    if not counts:
        return "no run yet"
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    example = results.all_of(jobs)[0]
    return (
        f"{span} answers a run ({example['concept']}: {', '.join(f'{k} {v}' for k, v in example['questions'].items())})"
    )


def failures(records: Iterable[Record]) -> list[str]:
    """One line for each run that failed, with what it said."""
    return [f"failed: {r['method']} on {r['concept']}, seed {r['seed']}, {plain(r['changes'])}: {r['error']}"
            for r in records if r["error"]]  # fmt: skip


def plain(settings: Mapping[str, Any]) -> str:
    """Settings as one would type them."""
    said = ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in settings.items())
    return said or "as they come"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that can be read as it is and pasted into the docs."""
    widths = [max(len(r[i]) for r in (head, *rows)) for i in range(len(head))]
    lines = [head, ["-" * w for w in widths], *rows]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in lines)


def beside(results: Results, rows: Mapping[str, Sequence[Job]]) -> str:
    """Every score of some sets of runs beside one another, before, after and changed, and what the runs were.

    Args:
        results: the file.
        rows: runs by name; those that are not there yet, or failed, are left out of the scores.
    """
    scores = {name: pooled(results, jobs) for name, jobs in rows.items() if results.all_of(jobs)}
    if not scores:
        return "no run yet"
    head, first = ["", "before"], next(iter(scores.values()))
    for name in scores:
        head += [f"{name}, after", "change"]
    table = [
        [METRICS[key].name, cell(first["before"][key]),
         *(cell(s[side][key]) for s in scores.values() for side in ("after", "change"))]
        for key in KEYS
    ]  # fmt: skip
    lines = [markdown(head, table), ""]
    for name in scores:
        found, jobs = results.all_of(rows[name]), rows[name]
        good = [r for r in found if not r["error"]]
        seeds = ", ".join(map(str, sorted({r["seed"] for r in found})))
        said = f"{name}: {len(found)} of {len(jobs)} runs, {len({r['concept'] for r in found})} concepts, seeds {seeds}"
        if good:
            least, worst = min(((after(results, r)["em"], r) for r in good), key=lambda pair: pair[0])
            threads = " or ".join(sorted({str(r["threads"]) for r in good}))
            said += f"; median training {median(r['training_seconds'] for r in good):.0f} s on {threads} threads"
            peaks = [r["peak_memory_gib"] for r in good]
            said += f", in {median(peaks):.1f} GiB (at most {max(peaks):.1f}, loading and asking included)"
            said += f"; worst run: EM {least:.1f} ({worst['concept']}, seed {worst['seed']})"
        lines += [f"{said}; {asked(jobs, results)}", *failures(found)]
    return "\n".join(lines)


def cell(score: Mapping[str, Any] | None) -> str:
    """A score with its interval."""
    return f"{score['value']:.1f} ({score['low']:.1f} to {score['high']:.1f})" if score else ""


BY_CONCEPT = {"em": "EM", "em_yes_no": "EM, yes/no", "degenerate_rate": "degenerate", "specificity_naming": "naming",
              "specificity_yes_no": "yes/no", "neighbours": "same kind", "text_kept": "text kept",
              "text_general": "text, others"}  # fmt: skip


def misnamed(record: Record) -> float:
    """Of a run's answers on unseen pictures, how many per cent name another thing that the model was taught to name.

    Whom a model takes for somebody else it has forgotten; the other may not like it.
    """
    others = [c for c in mini_data().taught if c.name != record["concept"]]
    said = [a["answer"] for a in record["answers"] if a["set"] == "forget"]
    return 100 * fmean(any(c.mentioned_in(text) for c in others) for text in said)


def by_concept(results: Results, jobs: Sequence[Job]) -> str:
    """What was measured after, concept by concept: means over its runs."""
    rows = []
    for name in dict.fromkeys(j.concept for j in jobs):
        good = [r for r in results.all_of([j for j in jobs if j.concept == name]) if not r["error"]]
        if good:
            scores = [after(results, r) for r in good]
            values = [[s[k] for s in scores if k in s] for k in BY_CONCEPT]
            values.append([misnamed(r) for r in good])
            rows.append([name, good[0]["kind"], str(len(good)), *(f"{fmean(v):.1f}" if v else "" for v in values)])
    return markdown(["after (%)", "kind", "runs", *BY_CONCEPT.values(), "another's name"], rows)


def told(record: Record) -> None:
    """One line as a run ends."""
    what = f"{record['method']:12} {record['concept']:18} seed {record['seed']} {record['wall_seconds']:5.0f} s"
    if record["error"]:
        print(f"{what}  FAILED {record['error']}", flush=True)
        return
    names = {"em": "EM", "specificity_naming": "naming", "specificity_yes_no": "yes/no", "neighbours": "same kind",
             "text_kept": "text"}  # fmt: skip
    shown = ", ".join(f"{n} {record['after'][k]:.0f}" for k, n in names.items() if record["after"].get(k) is not None)
    print(f"{what}  {shown}  {plain(record['changes'])}", flush=True)
