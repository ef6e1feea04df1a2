"""The experiments on quality, run by run: nothing is run twice, and nothing lost that was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_results import QUICK, SMALL, Clock, Shapes, file_of, original, pretend, run

import siu_joint
import unsee
import vkd_quality
from quality_parts.bench import Bench
from quality_parts.jobs import Job, Record, Sizes, jointly
from quality_parts.records import Results
from unsee.benchmarks.protocol import Protocol, Recorder
from unsee.metrics import METRICS, Answer
from unsee.models import VisionLanguageModel


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
    for name in ("circle", "square"):  # as measured for it alone
        own = [a for a in _answers(both) if a.concept == name]
        naming, yes_no = (METRICS[key].score(own, []) for key in ("em_naming", "em_yes_no"))
        assert naming is not None and yes_no is not None
        assert f"{name} {naming.value:.0f} / {yes_no.value:.0f}" in told[3]


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


def test_a_run_that_fails_is_a_line_and_is_not_tried_again(
    knowing: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    ran = pretend(clock, {"gd": 50.0}, monkeypatch)
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
    ran = pretend(clock, {"gd": 1.0}, monkeypatch)
    jobs = [Job("circle", "ga", seed=s, sizes=SMALL) for s in (0, 1)] + [Job("circle", "gd", sizes=SMALL)]
    results = Results(tmp_path / "some.jsonl.gz")
    with pytest.raises(SystemExit, match="2 runs ended in an unexpected error.*ga on circle, seed 1"):
        Bench(knowing, results, Shapes(), clock).go(jobs)
    assert "KeyError" in capsys.readouterr().err
    assert ran == ["ga", "ga", "gd"] and [results.of(job) is None for job in jobs] == [True, True, False]


def test_a_line_cut_short_is_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [Job("circle", "gd", seed=s, sizes=SMALL) for s in (0, 1)]
    path = file_of(tmp_path, [run(j, 8, 9) for j in jobs]).path
    path.write_bytes(path.read_bytes()[:-7])
    there = path.read_bytes()
    results = Results(path)
    assert path.read_bytes() == there and "1 lines were cut short" in capsys.readouterr().err
    assert results.of(jobs[0]) and not results.of(jobs[1])
    results.append(run(jobs[1], 8, 9))
    # Behind the one that was cut short, as in files that were joined.
    assert len(Results(path).all_of(jobs)) == 2
    path.write_bytes(b"no results at all")
    with pytest.raises(ValueError, match="not a file of results"):
        Results(path)


def test_files_of_different_precisions_are_not_mixed(tmp_path: Path) -> None:
    """Joined by `cat`, they would stand in one table."""
    job = Job("circle", "gd", sizes=SMALL)
    results = file_of(tmp_path, [run(job, 8, 9)])
    original = results.original("circle", SMALL)
    assert original is not None
    results.append({**original, "concept": "square", "versions": {"weights": "cd"}})
    with pytest.raises(SystemExit, match="answers of different weights, or of the same in two precisions"):
        Results(results.path)
