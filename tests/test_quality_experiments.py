"""The experiments on quality: nothing is run twice, budgets are equal, designs and tables are what they say."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import tomllib
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import FACTS, SHAPES, draw

import methods_quality
import siu_joint
import siu_quality
import unsee
import vkd_ablation
import vkd_quality
from quality_parts import bench as bench_module
from quality_parts.bench import Bench
from quality_parts.command import parser_for, part_of, value_of
from quality_parts.factorial import effect, fraction, mixed, resolution
from quality_parts.jobs import Block, Job, Record, Sizes, blocks, jointly
from quality_parts.objective import objective, shares
from quality_parts.records import Results
from quality_parts.search import Among, Budget, Log, Search, Space, in_turn
from quality_parts.tables import beside, by_concept, over_concepts
from unsee.benchmarks.protocol import Item, Protocol, Recorder, asked_of_others, asked_of_training, asked_of_unseen
from unsee.data import Concept, Request
from unsee.errors import TrainingError
from unsee.methods import REGISTRY, get_method, make_method
from unsee.metrics import METRICS, Answer
from unsee.models import VisionLanguageModel

SMALL = Sizes(test_pictures=2, utility_pictures=1, neighbour_pictures=1, general_questions=0)
ASKED = (
    ("forget", "name"),
    ("utility", "name"),
    ("utility", "yes_no"),
    ("neighbours", "name"),
    ("text_concept", "text"),
)
QUICK: dict[str, Any] = {"steps": 2, "variations_per_step": 1}


class Shapes:
    """Requests and questions for the model that knows drawn shapes."""

    def request(self, concepts: Sequence[str], protected: int) -> Request:
        others = tuple(draw(s, v) for s in SHAPES if s not in concepts for v in (0, 1))
        first, *also = (Request(Concept(c, "thing"), (draw(c, 0),), protected=others[:protected]) for c in concepts)
        return replace(first, also=tuple(also))

    def questions(self, request: Request, sizes: Sizes) -> list[Protocol]:
        return [self._of(one, {c.name for c in request.concepts}, sizes) for one in request.every]

    def _of(self, request: Request, forgotten: Set[str], sizes: Sizes) -> Protocol:
        this, rng = request.concept, random.Random(0)
        others = [Concept(s, "thing") for s in SHAPES if s not in forgotten]
        items = asked_of_training(this, request.pictures)
        items += asked_of_unseen(this, [draw(this.name, 20 + v) for v in range(sizes.test_pictures)], rng)
        items += asked_of_others([(o, draw(o.name, 20)) for o in others], others, this, rng)
        near = [Item("neighbours", "name", o, "Which thing is this?", o.names, draw(o.name, 21)) for o in others]
        text = Item("text_concept", "text", this, f"What is a {this.name}?", (FACTS[this.name].split()[-1].strip("."),))
        return Protocol(this, [*items, *near, text])


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def answers(model: str, concept: str, forgotten: int = 0, kept: int = 10, odd: bool = False) -> list[Answer]:
    """Ten answers to each kind of question; of those on the concept `forgotten` do not name it, of others `kept` are
    right."""
    found = []
    for set_, form in ASKED:
        for i in range(10):
            right = i >= forgotten if set_ == "forget" else i < kept
            yes = form == "yes_no"
            said = ("Yes." if right else "No.") if yes else f"This is a {'circle' if right else 'square'}."
            found.append(
                Answer(
                    model=model,
                    concept=concept,
                    set=set_,
                    form=form,
                    item=f"{set_}-{form}-{i}",
                    subject="circle",
                    kind="thing",
                    picture="" if set_ == "text_concept" else f"{set_} {i}",
                    question="?",
                    keywords=("yes",) if yes else ("circle",),
                    answer=said,
                    odd_words=("blorf",) if odd else (),
                )
            )
    return found


def original(concept: str, sizes: Sizes) -> Record:
    said = [dataclasses.asdict(a) for a in answers("before", concept)]
    return {"line": "original", "concept": concept, "sizes": dataclasses.asdict(sizes), "wall_seconds": 9.0,
            "answers": said}  # fmt: skip


def run(job: Job, forgotten: int, kept: int, seconds: float = 60.0, error: str | None = None) -> Record:
    said = [dataclasses.asdict(a) for a in answers("after", job.concept, forgotten, kept)]
    record: Record = {"line": "run", "key": job.key, **dataclasses.asdict(job), "error": error, "wall_seconds": seconds,
                      "questions": {"forget": 10, "utility": 20, "neighbours": 10, "text_concept": 10}}  # fmt: skip
    after = {"em": 10.0 * forgotten, "specificity_naming": 10.0 * kept}
    return record | ({} if error else {"training_seconds": 30.0, "threads": 2, "after": after, "answers": said})


def file_of(path: Path, runs: list[Record]) -> Results:
    results = Results(path / "results.jsonl.gz")
    for record in runs:
        sizes = Sizes(**record["sizes"])
        if results.original(record["concept"], sizes) is None:
            results.append(original(record["concept"], sizes))
        results.append(record)
    return results


# ---- one run


def test_what_was_run_is_not_run_again(
    knowing: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [Job("circle", m, "default", QUICK, 0, SMALL) for m in ("gd", "vkd")]
    path, weights = tmp_path / "results" / "some.jsonl.gz", knowing.weights_sha256()
    asked: list[int] = []
    before = Recorder.before
    monkeypatch.setattr(Recorder, "_ask", _counted(Recorder._ask, asked))
    first = Bench(knowing, Results(path), Shapes())
    first.go(jobs[:1])
    # The original once, then the method; never the original again.
    assert [n for n in asked if n] == [len(before(Recorder(knowing, first._memory), _questions()))] * 2
    assert not knowing.adapted and knowing.weights_sha256() == weights
    told: list[Record] = []
    Bench(knowing, Results(path), Shapes()).go(jobs, told.append)
    assert [r["method"] for r in told] == ["vkd"]
    lines = Results(path).lines
    assert [r["line"] for r in lines] == ["original", "run", "run"]
    record = lines[1]
    assert record["error"] is None and record["wall_seconds"] >= record["training_seconds"] > 0
    assert record["settings"]["steps"] == len(record["loss"]) == 2
    assert {a["model"] for a in record["answers"]} == {"after"}
    assert sum(record["questions"].values()) == len(record["answers"]) == len(lines[0]["answers"])
    monkeypatch.setattr(unsee, "forget", _must_not_run, raising=False)
    Bench(knowing, Results(path), Shapes()).go(jobs)
    # What another default left behind is no result of this one.
    changed = Results(tmp_path / "changed.jsonl.gz")
    changed.append(record | {"settings": record["settings"] | {"max_grad_norm": 7.0}})
    assert changed.of(jobs[0]) is None
    knowing.model.to(torch.bfloat16)
    with pytest.raises(SystemExit, match="answers of other weights, or of these in another precision than bfloat16"):
        Bench(knowing, Results(path), Shapes())


def test_what_vkd_leaves_of_language_is_looked_at(knowing: VisionLanguageModel, tmp_path: Path) -> None:
    results = Results(tmp_path / "some.jsonl.gz")
    jobs = [Job("circle", m, "default", QUICK, 0, SMALL) for m in ("gd", "vkd")]
    Bench(knowing, results, Shapes(), looked=vkd_quality.text_logits).go(jobs)
    gd, vkd = (results.all_of([job])[0]["text_logits"] for job in jobs)
    assert vkd["equal"] == vkd["compared"] == gd["compared"] > gd["equal"]


def test_text_questions_are_asked_beside_a_picture_of_another_kind() -> None:
    source, sizes = vkd_quality.MiniBesidePictures(), Sizes(2, 1, 1, 1)
    items = source.questions(source.request(["France"], 0), sizes)[0].items
    kinds = {i.picture: i.subject.kind for i in items if i.set == "utility"}
    text, shown = [i for i in items if i.picture is None], [i for i in items if i.set == "text_shown"]
    assert [i.question for i in text] == [i.question for i in shown] and len(text) > 50
    assert all(kinds[i.picture] != i.subject.kind for i in shown) and len({i.picture for i in shown}) > 20


def test_the_share_of_text_kept_beside_pictures(tmp_path: Path) -> None:
    jobs = [Job(name, "vkd", sizes=SMALL) for name in ("circle", "square")]
    results = Results(tmp_path / "some.jsonl.gz")
    for job, right in zip(jobs, (6, 8), strict=True):
        before, after = original(job.concept, SMALL), run(job, 0, right)
        for side in (before, after):
            for a in side["answers"]:
                a["set"] = "text_shown" if a["set"] == "text_concept" else a["set"]
        results.append(before)
        results.append(after | {"text_logits": {"compared": 8, "equal": 7}})
    told = vkd_quality.language(results, jobs)
    assert "14 of 16 logits" in told and "10 text questions" in told and ": 70.0 (" in told and "least 60.0" in told
    assert vkd_quality.language(Results(tmp_path / "none.gz"), jobs) == "no run yet"


def test_several_concepts_are_forgotten_in_one_run(knowing: VisionLanguageModel, tmp_path: Path) -> None:
    results = Results(tmp_path / "some.jsonl.gz")
    jobs = [Job(names, "siu", "default", QUICK, 0, SMALL) for names in ("circle", jointly(["circle", "square"]))]
    Bench(knowing, results, Shapes()).go(jobs)
    assert [r["concept"] for r in results.lines] == ["circle", "circle", "square", "circle + square"]
    alone, both = results.all_of(jobs)
    assert {a["concept"] for a in both["answers"]} == {"circle", "square"} and both["kind"] == "thing + thing"
    assert sum(both["questions"].values()) == len(both["answers"]) > len(alone["answers"])
    told = siu_joint.table(results, jobs).splitlines()
    assert len(told) == 4 and told[2].startswith("| 1 ") and told[3].startswith("| 2 ")
    # The least of two is that of one of them, as measured for it alone.
    least = min(
        (em.value, name)
        for name in ("circle", "square")
        if (em := METRICS["em"].score([a for a in _answers(both) if a.concept == name], [])) is not None
    )
    assert f"{least[0]:.0f} ({least[1]})" in told[3]


def _answers(record: Record) -> list[Answer]:
    return [Answer(**a) for a in record["answers"]]


def _counted(ask: Any, counts: list[int]) -> Any:
    def counting(self: Recorder, protocol: Protocol, side: str, progress: Any, memory: Any) -> Any:
        counts.append(sum(i.key not in memory for i in protocol.items))
        return ask(self, protocol, side, progress, memory)

    return counting


def _questions() -> Protocol:
    return Shapes().questions(Shapes().request(["circle"], 0), SMALL)[0]


def _must_not_run(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("this is in the file already")


def _pretend(clock: Clock, seconds: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs that take the seconds told and fail where the learning rate is 1; returns what is run, as it is run."""
    ran: list[str] = []

    def forget(vlm: Any, request: Request, method: Any, protocol: Protocol, out: Path, **more: Any) -> Any:
        ran.append(method.name)
        clock.now += seconds[method.name]
        if method.settings.learning_rate == 1:
            raise TrainingError("training stopped at step 2: the loss is nan")
        history = SimpleNamespace(seconds=1.0, peak_memory_gib=1.0, steps=[{"loss": 1.0}])
        said = answers("before", request.concept.name) + answers("after", request.concept.name, 8, 9)
        return SimpleNamespace(history=history, metrics=unsee.summarise(said, resamples=10), answers=said)

    monkeypatch.setattr(unsee, "forget", forget, raising=False)
    monkeypatch.setattr(bench_module.facets, "build", lambda *_: SimpleNamespace(samples=[]))
    return ran


def test_a_run_that_fails_is_a_line_and_is_not_tried_again(
    knowing: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    ran = _pretend(clock, {"gd": 50.0}, monkeypatch)
    jobs = [Job("circle", "gd", "default", {"learning_rate": rate}, 0, SMALL) for rate in (1.0, 1e-4)]
    for _ in range(2):
        results = Results(tmp_path / "some.jsonl.gz")
        Bench(knowing, results, Shapes(), clock).go(jobs)
    assert ran == ["gd", "gd"]
    failed, fine = results.of(jobs[0]), results.of(jobs[1])
    assert failed and failed["error"] == "TrainingError: training stopped at step 2: the loss is nan"
    assert failed["wall_seconds"] == 50 and "answers" not in failed
    assert fine and fine["error"] is None


def test_a_bug_in_one_run_does_not_stop_the_others(
    knowing: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    ran = _pretend(clock, {"gd": 1.0}, monkeypatch)
    jobs = [Job("circle", "ga", seed=s, sizes=SMALL) for s in (0, 1)] + [Job("circle", "gd", sizes=SMALL)]
    results = Results(tmp_path / "some.jsonl.gz")
    with pytest.raises(SystemExit, match="2 runs ended in an unexpected error.*ga on circle, seed 1"):
        Bench(knowing, results, Shapes(), clock).go(jobs)
    assert "KeyError" in capsys.readouterr().err
    assert ran == ["ga", "ga", "gd"] and [results.of(job) is None for job in jobs] == [True, True, False]


def test_a_line_cut_short_is_taken_off_and_run_again(tmp_path: Path) -> None:
    jobs = [Job("circle", "gd", seed=s, sizes=SMALL) for s in (0, 1)]
    path = file_of(tmp_path, [run(j, 8, 9) for j in jobs]).path
    path.write_bytes(path.read_bytes()[:-7])
    results = Results(path)
    assert results.of(jobs[0]) and not results.of(jobs[1])
    results.append(run(jobs[1], 8, 9))
    assert len(Results(path).all_of(jobs)) == 2
    path.write_bytes(b"no results at all")
    with pytest.raises(ValueError, match="not a file of results"):
        Results(path)


# ---- tuning


def test_every_method_gets_the_same_trials_and_minutes(
    knowing: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    ran = _pretend(clock, {"ga": 10.0, "gd": 100.0}, monkeypatch)
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
    assert len(jobs) == 3 * 19  # 11 changed alone, 8 rows, one of which is the default
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
    assert "57 of 57 runs, 1 failed; 50 answers a run" in printed and "TrainingError: exploded" in printed
    assert "resolution 4" in printed and "not measured yet" not in printed


# ---- tables


def test_intervals_are_over_concepts() -> None:
    assert over_concepts([]) is None
    one = over_concepts([("a", 1.0), ("a", 3.0)])
    assert one and one.value == 2 and one.low is None and "one concept" in one.text()
    three = over_concepts([("a", 1.0), ("a", 3.0), ("b", 3.0), ("c", 4.0)])
    assert three and three.value == 3 and three.concepts == 3
    assert three.low == pytest.approx(3 - 4.3027 / 3**0.5, abs=1e-3)


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
    methods_quality.show_tuning(searches, results)
    methods_quality.show_report(searches, results, on)
    printed = capsys.readouterr().out
    rate = searches[0].trials[1]["learning_rate"]
    row = next(line for line in printed.splitlines() if line.startswith("| gd") and "3, 0 failed" in line)
    assert f"learning_rate {rate:g}" in row and "0.90 (0.90 to 0.90)" in row and "90.0 (" in row
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
    assert any(x.startswith("default: 4 of 4 runs, 2 concepts, seeds 0, 1; median training 30 s on 2 threads; "
                            "worst run: EM 90.0 (circle, seed 1)") for x in told)  # fmt: skip
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
