"""The experiments on quality: designs and tables are what they say, and so are the command lines."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path

import pytest
from made_results import SMALL, file_of, original, run

import methods_quality
import siu_quality
import vkd_ablation
from quality_parts.command import parser_for, part_of, value_of
from quality_parts.factorial import effect, fraction, mixed, resolution
from quality_parts.jobs import Block, Job, Sizes, blocks
from quality_parts.records import Results
from quality_parts.search import Budget
from quality_parts.tables import beside, by_concept, over_concepts

# ---- the factorial


def test_the_factorial_is_balanced_and_of_resolution_four() -> None:
    rows = vkd_ablation.DESIGN
    assert len(rows) == len(set(rows)) == 8 and all(len(r) == len(vkd_ablation.FACTORS) for r in rows)
    assert (-1,) * 4 in rows  # VKD's default
    for i in range(4):
        assert sum(r[i] for r in rows) == 0
    for i, j in itertools.combinations(range(4), 2):
        assert sum(r[i] * r[j] for r in rows) == 0
    for some in itertools.combinations(range(4), 3):  # no main effect is mixed up with an interaction of two
        assert len({r[some[0]] * r[some[1]] * r[some[2]] for r in rows}) == 2
    assert resolution(rows) == 4
    groups = mixed(rows)
    assert sorted(pair for g in groups for pair in g) == list(itertools.combinations(range(4), 2))
    assert sorted(map(len, groups)) == [2, 2, 2]


def test_resolution_is_told_rightly() -> None:
    assert resolution(fraction(3, [])) == 4  # all combinations of three factors: nothing is mixed up
    assert resolution(fraction(2, [(0, 1)])) == 3
    assert resolution(fraction(4, [(0, 1, 2, 3)])) == 5
    assert resolution(fraction(4, [(0, 1, 2), (1, 2, 3)])) == 4


def test_effects_are_differences_of_means() -> None:
    values = {row: 2 + 3 * row[0] - 0.5 * row[1] * row[3] for row in vkd_ablation.DESIGN}
    assert effect(values, [0]) == pytest.approx(6) and effect(values, [1, 3]) == pytest.approx(-1)
    assert effect(values, [2]) == pytest.approx(0) and effect(values, [0, 2]) == pytest.approx(-1)  # mixed with it


def test_the_ablation_finds_what_was_put_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on = blocks(["circle", "square", "cross"], 3)
    assert [b.seed for b in on] == [0, 1, 2]
    ablation = vkd_ablation.Ablation({}, on, SMALL, Results(tmp_path / "none"))
    jobs = ablation.jobs()
    assert len(jobs) == 3 * 20  # 11 changed alone, 8 rows, one of which is the default
    runs = []
    for job in jobs:
        forgotten = 4 + 2 * (job.changes.get("depth") == 5) + (on[1].concept == job.concept)
        runs.append(run(job, forgotten, 10))
    runs[-1] = run(jobs[-1], 0, 0, error="TrainingError: exploded")
    ablation = vkd_ablation.Ablation({}, on, SMALL, file_of(tmp_path, runs[:-1]))
    depth = over_concepts(ablation.effects([1], "forgotten"))
    assert depth and depth.value == pytest.approx(0.2) and depth.concepts == 2  # the last block is not whole
    ablation.results.append(runs[-1])
    assert len(ablation.effects([1], "forgotten")) == 3
    change = ablation.values({"depth": 5}, "forgotten", against={})
    assert [c for c, _ in change] == [b.concept for b in on] and all(v == pytest.approx(0.2) for _, v in change)
    vkd_ablation.show(ablation)
    printed = capsys.readouterr().out
    assert "60 of 60 runs, 1 failed; 50 answers a run" in printed and "TrainingError: exploded" in printed
    assert "resolution 4" in printed and "not measured yet" not in printed


# ---- tables


def test_intervals_are_over_concepts() -> None:
    assert over_concepts([]) is None
    one = over_concepts([("a", 1.0), ("a", 3.0)])
    assert one and one.value == 2 and one.low is None and "one concept" in one.text()
    three = over_concepts([("a", 1.0), ("a", 3.0), ("b", 3.0), ("c", 4.0)])
    assert three and three.value == 3 and three.concepts == 3
    assert three.low == pytest.approx(3 - 4.3027 / 3**0.5, abs=1e-3)
    cut = over_concepts([("a", 90.0), ("b", 100.0)], (0, 100))
    assert cut and cut.high == 100 and cut.low and cut.low == pytest.approx(95 - 12.706 * 5, abs=0.01)


def test_the_table_of_methods_tells_settings_answers_and_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget, tuned_on = Budget(2, 10), [Block("square", 0)]
    searches = [methods_quality.search_of(m, budget, tuned_on, SMALL, 0) for m in ("gd", "vkd")]
    results = file_of(tmp_path, [run(j, 5 + 4 * (i % 2), 9) for s in searches for i, j in enumerate(s.all_jobs())])
    on = blocks(["circle", "cross", "stripe"], 3)
    for search in searches:
        for i, job in enumerate(methods_quality.reporting(search, results, on)):
            assert job.changes == search.trials[1]
            results.append(original(job.concept, SMALL))
            error = "TrainingError: exploded" if (search.method, i) == ("vkd", 2) else None
            results.append(run(job, 9, 9, error=error))
    (as_shipped, *_) = methods_quality.shipped(searches[1], on)
    assert as_shipped.changes == {} and as_shipped.key not in {j.key for s in searches for j in s.all_jobs()}
    results.append(run(as_shipped, 6, 9))
    methods_quality.show_tuning(searches, results)
    methods_quality.show_report(searches, results, on)
    printed = capsys.readouterr().out
    rate = searches[0].trials[1]["learning_rate"]
    row = next(line for line in printed.splitlines() if line.startswith("| gd") and "3, 0 failed" in line)
    assert "forget_per_step" not in row  # the same for all, and no result of the search
    assert f"learning_rate {rate:g}" in row and "0.90 (0.90 to 0.90)" in row and "90.0 (" in row
    beside = next(line for line in printed.splitlines() if line.startswith("| vkd, as shipped"))
    assert "1, 0 failed" in beside and "its defaults" in beside
    assert "3, 1 failed" in printed and "failed: vkd on stripe, seed 2" in printed
    assert "50 answers a run (circle: forget 10, utility 20, neighbours 10, text_concept 10)" in printed
    told = tomllib.loads(methods_quality.toml(searches, results))
    assert told == {s.method: s.trials[1] for s in searches}


def test_presets_stand_beside_one_another_and_concepts_below(tmp_path: Path) -> None:
    rows = {p: [Job(c, "siu", p, seed=s, sizes=SMALL) for s in (0, 1) for c in ("circle", "cross")]
            for p in ("default", "paper")}  # fmt: skip
    runs = [run(j, 10 - j.seed, 9) for j in rows["default"]] + [run(j, 10, 4) for j in rows["paper"][:1]]
    for r in runs:
        r["kind"] = "thing"
    results = file_of(tmp_path, runs)
    for concept in ("circle", "cross"):
        results.append(original(concept, SMALL))
    told = beside(results, rows).splitlines()
    assert [c.strip() for c in told[0].split("|")[3:-1]] == ["default, after", "change", "paper, after", "change"]
    em = next(line for line in told if "Generality" in line)
    assert "95.0 (" in em and "100.0 (" in em
    line = next(x for x in told if x.startswith("default: 4 of 4 runs, 2 concepts, seeds 0, 1; "))
    assert "; median training 30 s on 2 threads, in 1.5 GiB (at most 1.5, " in line
    assert "; worst run: EM 90.0 (circle, seed 1)" in line
    assert any(x.startswith("paper: 1 of 4 runs, 1 concepts, seeds 0;") for x in told)
    each = by_concept(results, rows["default"]).splitlines()
    assert [c.strip() for c in each[2].split("|")[1:5]] == ["circle", "thing", "2", "95.0"]
    points = siu_quality.curve(results, {9: rows["default"][:2], 18: [Job("circle", "siu", changes={"steps": 18})]})
    assert len(points.splitlines()) == 3 and points.splitlines()[2].startswith("| 9 ")
    assert beside(file_of(tmp_path / "empty", []), rows) == "no run yet"


# ---- the command lines


def test_at_defaults_both_take_eight_hours_at_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 60 s of training and 60 s of answers a run; each script says so without a model."""
    hours = []
    for script in (methods_quality, vkd_ablation, siu_quality):
        script.main(["--plan", "--json", str(tmp_path / "none.jsonl.gz")])
        printed = capsys.readouterr().out
        assert "assumed: 120 s a run" in printed and " answers (" in printed
        hours.append(float(printed.rpartition("about ")[2].split()[0]))
    assert 4 < hours[0] + hours[1] <= 8


def test_values_are_read_as_typed() -> None:
    assert [value_of(v) for v in ("3", "1e-4", "0.5", "true", "mean")] == [3, 1e-4, 0.5, True, "mean"]


def test_parts_are_all_of_it_and_share_nothing() -> None:
    items = list(range(7))
    assert sorted(i for k in (1, 2, 3) for i in part_of(items, (k, 3))) == items
    assert part_of(items, (1, 1)) == items
    parser = parser_for("", "x.gz", Sizes())
    assert parser.parse_args(["--part", "2/3"]).part == (2, 3)
    for wrong in ("3/2", "0/1", "2", "a/b"):
        with pytest.raises(SystemExit):
            parser.parse_args(["--part", wrong])
