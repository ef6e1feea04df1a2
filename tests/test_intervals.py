"""Intervals: known values, coverage, what is resampled, and what must hold for any numbers."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_answers import row, rows

from unsee.metrics import METRICS, summarise
from unsee.metrics.intervals import PERCENT, Clusters, draws, ratio_change, ratio_score, tail, wilson


def test_wilson_where_all_are_equal() -> None:
    score = METRICS["em"].score(rows(["cat"] * 40, per_picture=5))
    assert score is not None
    z2 = 1.959963984540054**2
    assert (score.value, score.high, score.n, score.clusters) == (100, 100, 40, 8)
    assert score.low == pytest.approx(100 * 8 / (8 + z2))
    nothing = METRICS["em"].score(rows(["tiger"] * 8))
    assert nothing is not None
    assert nothing.low == 0
    assert nothing.high == pytest.approx(100 * z2 / (8 + z2))


def test_wilson_is_scipys() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    for successes, n in ((0, 1), (3, 7), (19, 20), (20, 20)):
        expected = scipy_stats.binomtest(successes, n).proportion_ci(method="wilson")
        assert wilson(successes / n, n) == pytest.approx((expected.low, expected.high))


def test_one_picture_does_not_make_an_interval_narrow() -> None:
    score = METRICS["em"].score(rows(["cat"] * 100, picture="p"))
    assert score is not None
    assert score.clusters == 1
    assert score.low < 25


def test_questions_on_one_picture_are_not_independent() -> None:
    flags = ["cat"] * 50 + ["tiger"] * 50
    together = METRICS["em"].score(rows(flags, per_picture=10))
    apart = METRICS["em"].score(rows(flags))
    assert together is not None
    assert apart is not None
    assert together.value == apart.value == 50
    assert (together.high - together.low) > 2.5 * (apart.high - apart.low)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * 5, abs=2.5)  # binomial: sqrt(.5 * .5 / 100) = 5 points


def test_subjects_are_resampled_before_their_pictures() -> None:
    texts = ["lion" if subject < 5 else "cat" for subject in range(10) for _ in range(10)]
    answers = [replace(a, set="utility", keywords=("lion",), subject=f"s{i // 10}") for i, a in enumerate(rows(texts))]
    score = METRICS["specificity"].score(answers)
    assert score is not None
    assert score.clusters == 10
    assert score.high - score.low > 50  # ten subjects that agree within: as wide as ten coins, not as a hundred


def test_concepts_are_resampled_where_several_were_forgotten() -> None:
    answers = [
        replace(a, concept=concept, set="utility", subject=f"s{i}", keywords=("lion",))
        for concept in ("tiger", "bear", "wolf")
        for i, a in enumerate(rows(["lion", "cat"] * 4))
    ]
    score = METRICS["specificity"].score(answers)
    assert score is not None
    assert (score.n, score.clusters) == (24, 3)  # one run each, however many subjects it shows


def test_text_questions_are_units_of_their_own() -> None:
    said = rows(["Asia", "Europe"] * 10, set="text_concept", form="text", picture="", keywords=("Asia",))
    answers = [replace(a, question=f"Question {i}?") for i, a in enumerate(said)]
    score = METRICS["text_kept"].score(answers)
    assert score is not None
    assert (score.value, score.clusters) == (50, 20)
    assert 20 < score.low < 50 < score.high < 80


def test_draws_are_a_two_level_bootstrap() -> None:
    weights = draws((3, 1, 6), 2000, seed=1)
    assert weights.shape == (2000, 10)
    groups = np.stack([weights[:, :3].sum(1) / 3, weights[:, 3], weights[:, 4:].sum(1) / 6], axis=1)
    assert (groups == groups.round()).all()  # a group drawn c times gives c times its size
    assert (groups.sum(1) == 3).all()
    assert groups.var(0) == pytest.approx([2 / 3] * 3, rel=0.15)  # binomial(3, 1/3)
    assert (draws((3, 1, 6), 2000, seed=1) == weights).all()
    assert (draws((3, 1, 6), 2000, seed=2) != weights).any()


def test_few_units_get_wider_percentiles() -> None:
    assert tail((10_000,)) == pytest.approx(0.025, rel=1e-3)
    assert tail((8,)) == pytest.approx(0.0057, abs=1e-4)  # Phi(-sqrt(8 / 7) * 2.365)
    assert tail((2,)) < 1e-9
    assert tail((2, 2)) == 0.025


def test_an_interval_covers_the_truth_most_of_the_time() -> None:
    rng = np.random.default_rng(0)
    clusters = Clusters([(str(subject), f"{subject} {picture}") for subject in range(20) for picture in (0, 1)])
    hits = 0
    for _ in range(200):
        shares = rng.beta(3.2, 0.8, 20).repeat(2)  # mean 0.8, pictures of one subject alike
        score = ratio_score(100.0 * (rng.random(40) < shares), np.ones(40), clusters, bounds=PERCENT)
        assert score is not None
        hits += score.low <= 80 <= score.high
    assert hits >= 182  # 95 in 100 less three standard errors, rounded down


@pytest.mark.parametrize("truth", [0.9, 0.97])
@pytest.mark.parametrize("pictures", [12, 34])
def test_a_share_near_all_is_not_surer_than_it_may_be(pictures: int, truth: float) -> None:
    rng = np.random.default_rng(0)
    clusters = Clusters([("", str(i)) for i in range(pictures) for _ in range(3)])
    above = 0
    for _ in range(200):
        shares = rng.beta(2 * truth, 2 - 2 * truth, pictures).repeat(3)
        score = ratio_score(
            100.0 * (rng.random(3 * pictures) < shares), np.ones(3 * pictures), clusters, bounds=PERCENT
        )
        assert score is not None
        above += score.low > 100 * truth
    assert above <= 10  # 2.5 in 100 and some; the bootstrap alone: 14 to 22 with 34 pictures


@pytest.mark.parametrize("pictures", [5, 12, 34, 50])
def test_one_failure_more_never_makes_a_model_look_surer(pictures: int) -> None:
    clusters = Clusters([("", str(i)) for i in range(pictures)])
    flags = 100.0 * np.tri(pictures + 1, pictures, -1)  # row k: k right answers
    scores = [ratio_score(row, np.ones(pictures), clusters, bounds=PERCENT) for row in flags]
    for few in (scores[:5], scores[-5:]):
        lows, highs = ([getattr(s, end) for s in few] for end in ("low", "high"))
        assert lows == sorted(lows)
        assert highs == sorted(highs)
    subjects = Clusters([(str(i // 2), str(i)) for i in range(pictures)])  # two levels
    one = ratio_score(flags[-2], np.ones(pictures), subjects, bounds=PERCENT)
    assert one is not None
    assert one.low <= 100 * wilson(1 - 1 / pictures, pictures)[0] + 1e-9


@pytest.mark.parametrize("pictures", [1, 6])
@pytest.mark.parametrize("groups", [2, 3, 5])
def test_few_groups_get_students_interval(groups: int, pictures: int) -> None:
    """A bootstrap never leaves the range of what it draws: of two groups it covers the truth in half of all cases."""
    rng = np.random.default_rng(0)
    clusters = Clusters(
        [(f"{group}" if pictures > 1 else "", f"{group} {p}") for group in range(groups) for p in range(pictures)]
    )
    hits = 0
    for _ in range(400):
        values = rng.normal(5, 3, groups).repeat(pictures) + rng.normal(0, 1, groups * pictures)
        score = ratio_score(values, np.ones(len(values)), clusters)
        assert score is not None
        hits += score.low <= 5 <= score.high
    assert 367 <= hits <= 393  # 95 in 100, give or take three standard errors


def test_one_group_of_few_that_differs_is_not_certain() -> None:
    """Two runs that gain 1 and 2 points do not show a gain of 1 to 2."""
    ones = [1.0, 1.0]
    change = ratio_change(([80.0, 80.0], ones), ([81.0, 82.0], ones), Clusters([("", "a"), ("", "b")]), bounds=PERCENT)
    assert change is not None
    assert (change.value, change.low, change.high) == (
        1.5,
        pytest.approx(-4.85, abs=0.01),
        pytest.approx(7.85, abs=0.01),
    )


def test_a_paired_change_is_narrower_than_an_unpaired_one() -> None:
    rng = random.Random(0)
    before = [rng.random() < 0.5 for _ in range(120)]
    after = [b and rng.random() < 0.95 for b in before]
    sides = [
        replace(a, model=model, set="utility", keywords=("lion",))
        for model, flags in (("before", before), ("after", after))
        for a in rows(["lion" if f else "cat" for f in flags])
    ]
    summary = summarise(sides)
    old, new, change = (summary[part]["specificity"] for part in ("before", "after", "change"))
    unpaired = math.hypot(old["high"] - old["low"], new["high"] - new["low"])
    assert change["value"] == pytest.approx(new["value"] - old["value"])
    assert change["high"] - change["low"] < 0.6 * unpaired
    assert change["low"] <= change["value"] <= change["high"] <= 0


@pytest.mark.parametrize("pictures", [2, 3, 8])
def test_a_change_all_clusters_share_still_has_an_interval(pictures: int) -> None:
    sides = [replace(a, model="before") for a in rows(["tiger"] * pictures)] + rows(["cat"] * pictures)
    change = summarise(sides)["change"]["em"]
    assert (change["value"], change["high"]) == (100, 100)
    unseen = 100 * wilson(0, pictures)[1]
    assert change["low"] == pytest.approx(100 - math.sqrt(2) * unseen)
    assert change["low"] > 0  # all of few forgotten is more than chance
    same = [replace(a, model="before") for a in rows(["cat"] * pictures)] + rows(["cat"] * pictures)
    none = summarise(same)["change"]["em"]
    assert (none["value"], none["low"], none["high"]) == (0, pytest.approx(-unseen), pytest.approx(unseen))


def test_a_change_is_taken_over_questions_both_were_asked() -> None:
    sides = [replace(a, model="before") for a in rows(["tiger", "tiger", "tiger", "cat"])] + rows(["cat", "cat"])
    summary = summarise(sides)
    assert summary["before"]["em"]["value"] == 25
    assert (summary["change"]["em"]["value"], summary["change"]["em"]["n"]) == (100, 2)


def test_a_change_of_perplexity_is_that_of_the_two_perplexities() -> None:
    nlls = [(1.0, 2.0), (4.0, 2.5), (0.5, 6.0)]
    sides = [
        row(model=model, item=str(i), picture=str(i), nll=pair[side], nll_tokens=2 + side)
        for i, pair in enumerate(nlls)
        for side, model in enumerate(("before", "after"))
    ]
    change = summarise(sides)["change"]["fluency"]
    assert change["value"] == pytest.approx(math.exp(10.5 / 9) - math.exp(5.5 / 6))
    assert change["low"] < change["value"] < change["high"]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40),
    st.sampled_from([PERCENT, (0.0, 101.0)]),
    st.sampled_from([1, 200]),
)
def test_an_interval_contains_its_value(
    cells: list[tuple[float, int, int]], bounds: tuple[float, float], resamples: int
) -> None:
    values = [v for v, _, _ in cells]
    clusters = Clusters([(str(group), str(unit)) for _, group, unit in cells])
    score = ratio_score(values, np.ones(len(cells)), clusters, bounds=bounds, resamples=resamples)
    assert score is not None
    assert score.value == pytest.approx(sum(values) / len(values))
    assert score.low <= score.value <= score.high
    assert score.low >= 0
    assert score.high <= bounds[1]
    assert 1 <= score.clusters <= score.n == len(cells)
    ones = np.ones(len(cells))
    change = ratio_change((values[::-1], ones), (values, ones), clusters, bounds=bounds, resamples=resamples)
    assert change is not None
    assert -bounds[1] <= change.low <= change.value <= change.high <= bounds[1]
