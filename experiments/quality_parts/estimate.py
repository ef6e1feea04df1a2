"""How many runs, answers and hours lie ahead, without running anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from quality_parts.jobs import Job, Sizes, Source
from quality_parts.records import ORIGINAL, RUN, Results

ASSUMED_RUN = 120.0
"""Seconds: 60 of training and 60 of answers, until the file knows better."""
ASSUMED_ORIGINAL = 150.0
"""Seconds that a concept costs once: the original's answers, and its answers to what is trained on."""


def seconds_of(method: str, results: Results) -> float:
    """What a run of a method takes: as measured; else as measured of other methods; else as assumed."""
    runs = [r for r in results.lines if r["line"] == RUN and not r["error"]]
    own = [r["wall_seconds"] for r in runs if r["method"] == method] or [r["wall_seconds"] for r in runs]
    return fmean(own) if own else ASSUMED_RUN


def ahead(
    title: str,
    jobs: Sequence[Job],
    results: Results,
    source: Source,
    most: Callable[[str], float] | None = None,
) -> tuple[str, float]:
    """A line about some runs, and the seconds that those not done yet will take.

    Args:
        title: what they are for.
        jobs: the runs.
        results: what is done, and how long it took.
        source: of the questions, to be counted.
        most: for a method the seconds that its runs may take together, where there is such a limit.
    """
    left = [j for j in jobs if results.of(j) is None]
    counts: dict[tuple[str, Sizes], int] = {}
    for job in jobs:
        if (job.concept, job.sizes) not in counts:
            asked = source.questions(source.request(job.concepts, 0), job.sizes)
            counts[job.concept, job.sizes] = sum(len(p.items) for p in asked)
    answers = sum(counts[j.concept, j.sizes] for j in left)
    by_method: dict[str, float] = {}
    for job in left:
        by_method[job.method] = by_method.get(job.method, 0.0) + seconds_of(job.method, results)
    seconds = sum(max(0.0, min(s, most(m))) if most else s for m, s in by_method.items())
    new = {(c, j.sizes) for j in jobs for c in j.concepts if results.original(c, j.sizes) is None}
    took = [r["wall_seconds"] for r in results.lines if r["line"] == ORIGINAL]
    seconds += len(new) * max(ASSUMED_ORIGINAL, fmean(took) if took else 0.0) if left else 0.0
    each = sorted(set(counts.values()))
    span = f"{each[0]}" if len(each) == 1 else f"{each[0]} to {each[-1]}"
    line = f"{title}: {len(jobs)} runs, {len(jobs) - len(left)} done, {len(left)} to go with {answers} answers "
    line += f"({span} each), about {seconds / 3600:.1f} h"
    return line, seconds


def basis(results: Results) -> str:
    """What the hours are based on."""
    runs = [r for r in results.lines if r["line"] == RUN and not r["error"]]
    if not runs:
        return f"assumed: {ASSUMED_RUN:.0f} s a run, {ASSUMED_ORIGINAL:.0f} s once a concept"
    return f"measured: {fmean(r['wall_seconds'] for r in runs):.0f} s a run, mean of {len(runs)} in the file"
