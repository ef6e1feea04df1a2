"""From records to tables; every interval is over concepts, whose runs hang together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

from scipy.special import stdtrit

from quality_parts.jobs import Job, Record
from quality_parts.objective import scored
from quality_parts.records import Results
from unsee.metrics import METRICS, Answer, summarise

KEYS = ("em", "em_substring", "degenerate_rate", "c_dis", "efficacy", "specificity_naming", "specificity_yes_no",
        "neighbours", "text_kept", "text_general", "fluency", "diversity", "mean_length")  # fmt: skip


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


def over_concepts(values: Iterable[tuple[str, float]]) -> Mean | None:
    """The mean of (concept, value) pairs; None where there are none.

    Values of one concept are averaged first. Bootstraps of three or five units are far too narrow; Student's t is not.
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
    return Mean(centre, centre - half, centre + half, n)


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


def shares_of(results: Results, jobs: Iterable[Job]) -> list[tuple[str, dict[str, float]]]:
    """(concept, shares and objective) of every run that is there; failed ones count as 0."""
    found = []
    for job in jobs:
        record, original = results.of(job), results.original(job.concept, job.sizes)
        if record is not None and original is not None:
            found.append((job.concept, scored(record, original)))
    return found


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


def show(title: str, results: Results, jobs: Sequence[Job]) -> None:
    """Every score of some runs, before, after and changed."""
    done = [r for r in results.all_of(jobs) if not r["error"]]
    if not done:
        return
    metrics = pooled(results, jobs)
    seconds, concepts = median(r["training_seconds"] for r in done), len({r["concept"] for r in done})
    threads = " or ".join(sorted({str(r["threads"]) for r in done}))
    print(
        f"\n{title}: {len(done)} runs, {concepts} concepts, median training {seconds:.0f} s on {threads} threads; "
        f"{asked(jobs, results)}"
    )
    print(f"  {'':20} {'before':>8} {'after':>8}  {'95 % interval':>18}  {'change':>8}  {'95 % interval':>18}")
    for key in KEYS:
        before, after, change = (metrics[side].get(key) for side in ("before", "after", "change"))
        if after is None:
            continue
        line = f"  {METRICS[key].name:20} {before['value'] if before else float('nan'):8.2f} {after['value']:8.2f}  "
        line += f"{after['low']:8.2f} to {after['high']:6.2f}"
        if change:
            line += f"  {change['value']:8.2f}  {change['low']:8.2f} to {change['high']:6.2f}"
        print(line)
    worst = min(done, key=lambda r: r["after"]["em"])
    print(f"  worst single run: EM {worst['after']['em']:.1f} ({worst['concept']}, seed {worst['seed']})")
    print("\n".join(failures(results.all_of(jobs))))


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
