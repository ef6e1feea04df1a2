"""95 % intervals for scores whose answers come in clusters: questions on a picture, pictures of a concept.

Every score here is a ratio of two sums over answers (a mean is a sum over a count; perplexity is the exponential of
such a ratio), so that one way of weighing clusters serves all: a bootstrap draws them with replacement. No resample of
few clusters leaves their own range, so that for fewer than eight Student's t on the jackknife stands in. A share near
0 or 100 % hides the clusters that were not drawn, so that it is at least as uncertain as Wilson's interval says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

Array = NDArray[np.float64]

RESAMPLES = 1000
FEW = 8
"""Fewer independent units than these get Student's interval: with 2, 3 and 4 the bootstrap's covers 50, 74 and 85 %."""
RARE = 5
"""With fewer clusters' worth than this of a share's rarer outcome, percentiles are too narrow at that end: with 34
pictures, three questions on each, and shares of 90 to 97 %, the lower end stayed below the truth in 90 to 93 of 100
cases, where 97.5 are wanted."""
UNBOUNDED = (-math.inf, math.inf)
PERCENT = (0.0, 100.0)
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Score:
    """A score with its 95 % interval.

    Args:
        value, low, high: in the unit of the metric, low <= value <= high.
        n: answers (pairs of answers for a difference) that went in.
        clusters: independent units among them, those resampled first: concepts where there are several, else pictures
            (questions where there is no picture, or where the picture is given).
    """

    value: float
    low: float
    high: float
    n: int
    clusters: int

    def as_dict(self) -> dict[str, Any]:
        """As it stands in `metrics.json`."""
        return asdict(self)


class Clusters:
    """Which unit of which group every answer belongs to.

    Args:
        labels: (group, unit) of every answer, for example (concept, picture).
    """

    def __init__(self, labels: Sequence[tuple[str, str]]) -> None:
        units = {label: i for i, label in enumerate(sorted(set(labels)))}
        sizes: dict[str, int] = {}
        for group, _ in units:
            sizes[group] = sizes.get(group, 0) + 1
        self.unit_of: NDArray[np.intp] = np.array([units[label] for label in labels], dtype=np.intp)
        self.sizes: tuple[int, ...] = tuple(sizes.values())

    def __len__(self) -> int:
        """Independent units: groups where there are several, else the units of the one group."""
        return len(self.sizes) if len(self.sizes) > 1 else self.sizes[0]

    def sums(self, values: Array) -> Array:
        """Sums over the answers of each unit, shape (units,)."""
        return np.bincount(self.unit_of, weights=values, minlength=sum(self.sizes)).astype(np.float64)


@lru_cache(maxsize=8)
def draws(sizes: tuple[int, ...], resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """How often each unit is drawn in each resample, shape (resamples, units). Deterministic in its arguments.

    Two levels: as many groups as there are, with replacement, and in every group drawn as many units as it has, with
    replacement. With one group only its units are drawn: its own share of chance cannot be seen from inside.
    """
    rng = np.random.default_rng(seed)
    groups = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=resamples)
    # A group drawn c times gives c independent draws of its units, which is one draw of c times as many.
    drawn = [rng.multinomial(groups[:, g] * size, np.full(size, 1 / size)) for g, size in enumerate(sizes)]
    weights = np.concatenate(drawn, axis=1).astype(np.float64)
    weights.setflags(write=False)
    return weights


def left_out(sizes: tuple[int, ...]) -> Array:
    """Every unit once, but for one independent unit that each row lacks, shape (independent units, units)."""
    alone = len(sizes) == 1
    group_of = np.arange(sizes[0]) if alone else np.repeat(np.arange(len(sizes)), sizes)
    return (np.arange(group_of.max() + 1)[:, None] != group_of).astype(np.float64)


def tail(sizes: tuple[int, ...]) -> float:
    """The share of resamples to leave out at either end, at most 0.025.

    Percentiles of few units are too narrow. Hesterberg's expanded percentile (The American Statistician 69, 2015)
    allows for it as Student's t does: tail = Phi(-sqrt(n / (n - 1)) t). Measured coverage of shares near 80 %: 89
    instead of 87 in 100 with 8 pictures, 93 instead of 91 with 20. Two levels need none of it (95 to 97 in 100):
    drawing units on top of groups widens the interval already.
    """
    n = sizes[0]
    if len(sizes) > 1:
        return 0.025
    return float(ndtr(-np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975)))


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval (1927) for a share (0 to 1) of n independent trials, or a mean of n values in 0..1.

    For such a mean it is on the safe side: of all variables in 0..1 with one mean, the yes/no one varies most.
    """
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * float(np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def ratio_score(
    numerators: ArrayLike,
    denominators: ArrayLike,
    clusters: Clusters,
    *,
    finish: Callable[[Array], Array] | None = None,
    bounds: tuple[float, float] = UNBOUNDED,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Score | None:
    """`finish(sum of numerators / sum of denominators)` with its interval, see above.

    Args:
        numerators, denominators: one value an answer, shape (n,); a denominator is >= 0.
        clusters: of the same n answers.
        finish: monotone function of the ratio, such as `np.exp` for perplexity.
        bounds: lowest and highest value there can be. `PERCENT`: the score is a mean of values in 0..100. Where all
            clusters agree the interval has no width and says nothing; Wilson's on the number of *clusters* (not
            answers) stands in. Where every answer is 0 or 100 and one of them is `RARE`, the interval is at least as
            wide as Wilson's on the number of units, so that a failure never makes a model look surer than none.
        resamples, seed: of the bootstrap.

    Returns:
        None where the denominators sum to 0. A score that is no percentage and has a single cluster is resampled
        over its answers instead, which leaves out how clusters differ; `clusters` = 1 tells.
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    if not bottom.sum() > 0:
        return None
    finish = finish or _unchanged
    ratio = top.sum() / bottom.sum()
    inner = _inside(clusters, len(top)) if len(clusters) == 1 and bounds != PERCENT else clusters
    ends = _interval(_ratios(top, bottom, inner), inner, float(ratio), resamples, seed)
    value, low, high = (float(x) for x in finish(np.array([ratio, *ends])))
    if bounds == PERCENT and _no_width(low, high):
        low, high = (100 * end for end in wilson(value / 100, len(clusters)))
    elif bounds == PERCENT and np.isin(top, (0, 100)).all() and _is_rare(value, clusters):
        ends = wilson(value / 100, sum(clusters.sizes))
        low, high = min(low, 100 * ends[0]), max(high, 100 * ends[1])
    low, high = max(bounds[0], low), min(bounds[1], high)
    return Score(value, min(low, value), max(high, value), int((bottom > 0).sum()), len(clusters))


def ratio_change(
    before: tuple[ArrayLike, ArrayLike],
    after: tuple[ArrayLike, ArrayLike],
    clusters: Clusters,
    *,
    finish: Callable[[Array], Array] | None = None,
    bounds: tuple[float, float] = UNBOUNDED,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Score | None:
    """The score after minus the score before, on pairs of answers; both sides see the same resamples.

    Args:
        before, after: (numerators, denominators), each of shape (n,), row i of both sides answering one question.
        clusters: of the n pairs.
        finish, bounds, resamples, seed: as in `ratio_score`.

    Returns:
        None where a side has denominators that sum to 0. Where no cluster changed otherwise than the others, the
        interval of a percentage is made of Wilson's of the two sides, on the number of clusters (Newcombe's hybrid
        score, Statistics in Medicine 17, 1998, for two proportions).
    """
    (top0, bottom0), (top1, bottom1) = (tuple(np.asarray(x, float) for x in side) for side in (before, after))
    if not (bottom0.sum() > 0 and bottom1.sum() > 0):
        return None
    finish = finish or _unchanged
    old, new = (float(finish(top.sum() / bottom.sum())) for top, bottom in ((top0, bottom0), (top1, bottom1)))
    inner = _inside(clusters, len(top0)) if len(clusters) == 1 and bounds != PERCENT else clusters
    ratios0, ratios1 = _ratios(top0, bottom0, inner), _ratios(top1, bottom1, inner)
    value = new - old

    def change(weights: Array) -> Array:
        return finish(ratios1(weights)) - finish(ratios0(weights))

    low, high = _interval(change, inner, value, resamples, seed)
    if bounds == PERCENT and _no_width(low, high):
        (low0, high0), (low1, high1) = ([100 * e for e in wilson(x / 100, len(clusters))] for x in (old, new))
        low, high = value - float(np.hypot(new - low1, high0 - old)), value + float(np.hypot(high1 - new, old - low0))
    most = bounds[1] - bounds[0]
    low, high = max(-most, low), min(most, high)
    return Score(value, min(low, value), max(high, value), int(((bottom0 > 0) & (bottom1 > 0)).sum()), len(clusters))


def widest(scores: Iterable[Score | None]) -> Score | None:
    """One score by several clusterings of the same answers: with the lower and the higher end of all its intervals.

    Where answers are clustered in two ways that cross, each way alone leaves out how the other one's groups differ.
    """
    found = [score for score in scores if score is not None]
    if not found:
        return None
    return replace(found[0], low=min(s.low for s in found), high=max(s.high for s in found))


def _ratios(top: Array, bottom: Array, clusters: Clusters) -> Callable[[Array], Array]:
    """The ratio under each row of weights, shape (rows, units); not a number where nothing is left to divide by."""
    tops, bottoms = clusters.sums(top), clusters.sums(bottom)

    def under(weights: Array) -> Array:
        below = weights @ bottoms
        return np.divide(weights @ tops, below, out=np.full(len(weights), np.nan), where=below > 0)

    return under


def _interval(
    of: Callable[[Array], Array], clusters: Clusters, value: float, resamples: int, seed: int
) -> tuple[float, float]:
    """The interval of what is `value` where every unit has the weight 1, and `of(weights)` with other weights."""
    few = len(clusters) < FEW
    found = of(left_out(clusters.sizes) if few else draws(clusters.sizes, resamples, seed))
    found = found[np.isfinite(found)]
    n = len(found)
    if n < 2:
        return value, value
    if few:
        half = float(stdtrit(n - 1, 0.975) * np.sqrt((n - 1) * found.var()))
        return value - half, value + half
    share = tail(clusters.sizes)
    low, high = np.quantile(found, (share, 1 - share))
    return float(low), float(high)


def _is_rare(percent: float, clusters: Clusters) -> bool:
    return sum(clusters.sizes) * min(percent, 100 - percent) < 100 * RARE


def _no_width(low: float, high: float) -> bool:
    return high - low <= 1e-9


def _inside(clusters: Clusters, n: int) -> Clusters:
    """The n answers of a single cluster, each a unit."""
    return Clusters([("", str(i)) for i in range(n)])


def _unchanged(ratio: Array) -> Array:
    return ratio
