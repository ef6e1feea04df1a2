"""The search for settings: budgets are equal, every part of a range is drawn from, the objective is as written."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from made_results import SMALL, Clock, Shapes, answers, file_of, pretend, run

import methods_quality
from quality_parts.bench import Bench
from quality_parts.jobs import Block
from quality_parts.objective import objective, shares
from quality_parts.records import Results
from quality_parts.search import Among, Budget, Log, Search, Space, in_turn
from unsee.methods import REGISTRY, get_method, make_method
from unsee.models import VisionLanguageModel


def test_every_method_gets_the_same_trials_and_minutes(
    knowing: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    ran = pretend(clock, {"ga": 10.0, "gd": 100.0}, monkeypatch)
    budget = Budget(trials=4, minutes=3)
    searches = [methods_quality.search_of(m, budget, [Block("circle", 0)], SMALL, 0) for m in ("ga", "gd")]
    for stop in (3, None):  # interrupted after three runs, and taken up again
        results = Results(tmp_path / "some.jsonl.gz")
        Bench(knowing, results, Shapes(), clock).go(itertools.islice(in_turn(searches, results), stop))
    quick, slow = searches
    # In turn; the slow one gets no third run, and its second ended too late to count.
    assert ran == ["ga", "gd", "ga", "gd", "ga", "ga"]
    assert (quick.spent(results), slow.spent(results)) == (40, 200)
    assert list(quick.counted(results)) == [0, 1, 2, 3] and list(slow.counted(results)) == [0]
    Bench(knowing, Results(results.path), Shapes(), clock).go(in_turn(searches, results))
    assert len(ran) == 6


def test_the_best_trial_in_time_is_chosen(tmp_path: Path) -> None:
    on = [Block("circle", 0), Block("square", 0)]
    search = Search("gd", {"steps": 4}, {"learning_rate": Log(1e-5, 1e-3)}, Budget(4, 10), on, SMALL)
    runs = [run(j, 5, 9, 60) for j in search.jobs(0)] + [run(j, 9, 9, 60) for j in search.jobs(1)]
    runs += [run(search.jobs(2)[0], 10, 10, 60), run(search.jobs(2)[1], 0, 0, 60, "TrainingError: exploded")]
    results = file_of(tmp_path, runs)
    counted = search.counted(results)
    # 9 of 10 in every part; half of a perfect one, for the other failed.
    assert counted[1] == pytest.approx(0.9) and counted[2] == pytest.approx(0.5)
    assert search.best(results) == 1 and search.tuned(results) == search.trials[1]
    for job in search.jobs(3):
        results.append(run(job, 10, 10, 300))
    assert search.best(results) == 1  # the last is better and was too late
    nothing = file_of(tmp_path / "empty", [])
    assert search.best(nothing) is None and search.tuned(nothing) == {"steps": 4}


@pytest.mark.parametrize("method", methods_quality.SPACE)
def test_what_is_drawn_can_be_told_to_the_method(method: str) -> None:
    budget, on = Budget(40, 1), [Block("circle", 0)]
    search = methods_quality.search_of(method, budget, on, SMALL, 0)
    assert search.trials[0] == methods_quality.fixed(method) and len(search.trials) == 40
    for changes in search.trials:
        make_method(method, "default", changes)
    for name, knob in methods_quality.SPACE[method].items():
        drawn = {t[name] for t in search.trials[1:]}
        assert (
            drawn <= set(knob.values) if isinstance(knob, Among) else knob.low <= min(drawn) <= max(drawn) <= knob.high
        )
        assert len(drawn) > 1 and name in get_method(method).settings_class.__dataclass_fields__
    again = methods_quality.search_of(method, budget, on, SMALL, 0)
    assert again.trials == search.trials
    assert methods_quality.search_of(method, budget, on, SMALL, 1).trials != search.trials


def test_all_have_the_same_lora_and_what_is_none_is_left_alone() -> None:
    """VKD's upper layers are V's."""
    shared = {m: methods_quality.fixed(m) for m in methods_quality.SPACE}
    assert {m for m, s in shared.items() if "upper_layers" not in s} == {"vkd", "manu", "mip-editor"}
    assert all(s["upper_layers"] == 1.0 and s["lora_start"] == "random" for s in shared.values() if "upper_layers" in s)
    assert shared["vkd"] == {}


def test_every_part_of_a_range_is_drawn_from_once() -> None:
    space: Space = {"learning_rate": Log(1e-4, 1e-1), "steps": Among((1, 2, 3)), "retain_weight": Among((1.0, 2.0))}
    for seed in range(20):
        drawn = Search("gd", {}, space, Budget(4, 1), [], SMALL, seed).trials[1:]
        decades = sorted(int(math.log10(t["learning_rate"] * 1.0001)) for t in drawn)
        assert decades == [-3, -2, -1], drawn
        assert sorted(t["steps"] for t in drawn) == [1, 2, 3]
        assert {t["retain_weight"] for t in drawn} == {1.0, 2.0}
    seeds = [Search("gd", {}, space, Budget(4, 1), [], SMALL, seed).trials for seed in range(20)]
    assert len({tuple(t["steps"] for t in trials[1:]) for trials in seeds}) > 1
    assert Search("gd", {"steps": 4}, space, Budget(1, 1), [], SMALL).trials == [{"steps": 4}]


def test_every_method_is_tuned_from_a_seed_of_its_own() -> None:
    assert methods_quality.SPACE.keys() == REGISTRY.keys() - {"retrain"}
    rates = {
        m: methods_quality.search_of(m, Budget(2, 1), [], SMALL, 0).trials[1]["learning_rate"]
        for m in ("ga", "gd", "kl")
    }
    assert len(set(rates.values())) == 3


# ---- the objective


def test_the_objective_is_the_harmonic_mean_of_what_was_forgotten_and_kept() -> None:
    def of(forgotten: int, kept: int, **more: Any) -> float:
        return objective(shares(answers("before", "circle") + answers("after", "circle", forgotten, kept, **more)))

    assert of(10, 10) == pytest.approx(1)
    assert of(0, 10) == pytest.approx(5 / 104) and of(10, 0) == pytest.approx(5 / 401)
    assert of(5, 10) == pytest.approx(5 / 6)
    # Words that nobody taught are allowed where the name is gone, and keep nothing elsewhere.
    assert of(10, 10, odd=True) == pytest.approx(5 / 401)
    empty = [dataclasses.replace(a, answer="") for a in answers("after", "circle", 10, 10)]
    assert objective(shares(answers("before", "circle") + empty)) == pytest.approx(0.01)


def test_what_the_original_does_not_know_is_not_asked_for() -> None:
    before = [dataclasses.replace(a, answer="This is a square.") if a.set == "neighbours" else a
              for a in answers("before", "circle")]  # fmt: skip
    assert "same kind" not in shares(before + answers("after", "circle", 5, 10))
