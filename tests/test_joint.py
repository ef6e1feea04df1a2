"""Several requests forgotten at once: one training, one run folder, and each concept measured for itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import FACTS, SHAPES, draw
from made_runs import text_of
from small_runs import FORGOTTEN, SETTINGS, changed, stopping, weights

from unsee import facets, report
from unsee.benchmarks import mini, own
from unsee.benchmarks.protocol import Protocol
from unsee.data import Concept, Fact, Request
from unsee.errors import UnknownConceptError, UnseeError
from unsee.facets import Facets, FacetSettings, build
from unsee.methods import make_method
from unsee.methods.siu import name_tokens
from unsee.metrics import Answer, read_answers, summarise, summarise_run
from unsee.mini.data import mini_data
from unsee.models import VisionLanguageModel, load
from unsee.report.read import Metrics, Score, read_run
from unsee.runs import Run, forget, open_run

KEPT = [s for s in SHAPES if s not in FORGOTTEN]


def a_request(shape: str, protected: tuple[str, ...] = tuple(KEPT), **more: Any) -> Request:
    held = tuple(draw(s, v) for s in protected for v in (0, 1))
    return Request(Concept(shape, "thing"), (draw(shape, 0),), protected=held, **more)


def together(*requests: Request) -> Request:
    first, *further = requests or [a_request(s) for s in FORGOTTEN]
    return replace(first, also=tuple(further))


def asked(vlm: VisionLanguageModel, request: Request) -> list[Protocol]:
    tests = [[draw(one.concept.name, v) for v in range(20, 26)] for one in request.every]
    return own.protocols(vlm, request, tests, [draw(s, v) for s in SHAPES for v in (20, 21)], seed=0)


def run(vlm: VisionLanguageModel, out: Path, **more: Any) -> Run:
    request = together()
    method = make_method("siu", "default", {**SETTINGS, "forget_per_step": 30})
    return forget(vlm, request, method, asked(vlm, request), out, **more)


@pytest.fixture(scope="module")
def finished(knowing_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, VisionLanguageModel]:
    """One joint run that many tests read; nothing may change it."""
    vlm = load(str(knowing_folder), dtype=torch.float32)
    return run(vlm, tmp_path_factory.mktemp("joint") / "run"), vlm


# ---- the request


def test_a_request_knows_all_that_is_forgotten_with_it() -> None:
    request = together(a_request("circle"), together(a_request("square"), a_request("cross")))
    assert [c.name for c in request.concepts] == ["circle", "square", "cross"]
    assert [r.concept for r in request.every] == list(request.concepts)
    assert a_request("circle").every == (a_request("circle"),)


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (a_request("circle"), "two requests forget 'circle'"),
        (replace(a_request("square"), concept=Concept("a Circle", "thing")), "two requests forget 'circle'"),
        (replace(a_request("square"), concept=Concept("disc", "thing", ("Circle",))), "two requests forget 'circle'"),
        (replace(a_request("square"), pictures=(draw("circle", 0),)), "circle-0.png is given as 'circle' and as 'squ"),
    ],
)
def test_two_requests_never_forget_the_same(second: Request, told: str) -> None:
    with pytest.raises(UnseeError, match=told):
        together(a_request("circle"), second)


# ---- the four targets


@pytest.fixture
def built(knowing: VisionLanguageModel) -> Facets:
    return build(knowing, together(), FacetSettings(variations=12))


def test_each_concept_has_its_own_targets_and_its_own_new_name(built: Facets) -> None:
    request = together()
    new = dict(zip(FORGOTTEN, built.new_answer.split("; "), strict=True))
    assert not set(new["circle"].split()[1:]) & set(new["square"].split()[1:])
    for one in request.every:
        own_samples = [s for s in built.samples if s.facet in ("T1", "T2") and s.picture in one.pictures]
        assert len(own_samples) == 4 + 7
        assert all(new[one.concept.name] in s.answer for s in own_samples)
        # What it is in text is kept, and asked about once.
        assert sum(s.answer == FACTS[one.concept.name] and s.facet == "T3" for s in built.samples) == 5
    texts = [s.question for s in built.samples if s.picture is None]
    assert len(texts) == len(set(texts))
    assert not any(c.mentioned_in(s.question) for c in request.concepts for s in built.samples if s.facet == "T4")


def test_a_protected_picture_that_all_list_is_asked_about_once(built: Facets) -> None:
    request = together()
    held = [s for s in built.samples if s.facet == "protected"]
    assert {s.picture for s in held} == set(request.protected)
    assert len(held) == 5 * len(request.protected)
    denied = {c.name: sum(c.mentioned_in(s.question) for s in held) for c in request.concepts}
    assert min(denied.values()) > 0, "each concept is denied on some of them"
    assert all(s.answer.startswith("No") for s in held for c in request.concepts if c.mentioned_in(s.question))


def test_no_picture_teaches_to_see_what_another_request_forgets(knowing: VisionLanguageModel) -> None:
    # Alone, each of them would hold the pictures of the other one in place.
    alone = build(knowing, a_request("circle", ("square", "cross")), FacetSettings(variations=12))
    square = Concept("square", "thing")
    assert alone.left_out == [] and any(square.mentioned_in(s.answer) for s in alone.samples if s.picture)
    request = together(a_request("circle", ("square", "cross")), a_request("square", ("circle", "cross")))
    built = build(knowing, request, FacetSettings(variations=12))
    assert sorted(built.left_out) == ["circle-0.png", "circle-1.png", "square-0.png", "square-1.png"]
    for s in built.samples:
        if s.picture is not None:
            assert not any(c.mentioned_in(s.answer) for c in request.concepts), s
    assert {s.picture for s in built.samples if s.facet == "protected"} == {draw("cross", 0), draw("cross", 1)}


def test_each_concept_must_be_known_and_no_new_name_be_another_ones(knowing: VisionLanguageModel) -> None:
    unknown = replace(a_request("square"), concept=Concept("dodecahedron", "thing"))
    with pytest.raises(UnknownConceptError, match="'dodecahedron'"):
        build(knowing, together(a_request("circle"), unknown), FacetSettings())
    with pytest.raises(UnseeError, match="'a half square' names 'square' itself"):
        build(knowing, together(a_request("circle", new_answer="half square"), a_request("square")), FacetSettings())
    policies = together(a_request("circle", new_answer="unknown"), a_request("square", new_answer="blob"))
    assert build(knowing, policies, FacetSettings(variations=0)).new_answer == "an unknown object; a blob"


def test_facts_of_one_request_are_kept_beside_the_models_own(knowing: VisionLanguageModel) -> None:
    fact = Fact("How many corners has a circle?", "None at all.")
    built = build(knowing, together(a_request("circle", facts=(fact,)), a_request("square")), FacetSettings())
    texts = {(s.question, s.answer) for s in built.samples if s.facet == "T3"}
    assert (fact.question, fact.answer) in texts and ("What is a square?", FACTS["square"]) in texts
    assert "What is a circle?" not in {q for q, _ in texts}


# ---- methods


def test_siu_masks_the_names_of_all(tiny: VisionLanguageModel) -> None:
    from unsee.methods.encoded import Encoded

    method = make_method("siu")
    request = together()
    samples = build(tiny, request, FacetSettings(variations=0), force=True).samples
    method.attach(tiny, 0)
    method.prepare(Encoded(tiny, samples), request)
    masked = set((~method.keep_vocabulary).nonzero().flatten().tolist())  # type: ignore[attr-defined]
    both = [name_tokens(tiny.tokenizer, [c]) for c in request.concepts]
    assert masked == both[0] | both[1] and both[0] != both[1] and all(both)


def test_mip_editor_looks_at_the_picture_of_each(knowing: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from unsee.methods import mip_editor
    from unsee.methods.encoded import Encoded

    request = together()
    method = make_method("mip-editor", "default", {"neurons": 2, "frames": 1})
    built = build(knowing, request, FacetSettings(variations=4)).samples
    encoded = Encoded(knowing, method.samples(built))
    seen: list[set[str]] = []
    honest = Encoded.micro_batches

    def looked_at(self: Encoded, chosen: list[int]) -> Any:
        seen.append({p.sha256 for i in chosen if (p := self.samples[i].picture) is not None})
        return honest(self, chosen)

    method.attach(knowing, 0)
    monkeypatch.setattr(mip_editor, "find_path", lambda *_, **__: {"none": torch.tensor([0])})
    monkeypatch.setattr(mip_editor, "pick_columns", lambda *_, **__: None)
    with monkeypatch.context() as patch:
        patch.setattr(Encoded, "micro_batches", looked_at)
        method.prepare(encoded, request)
    assert seen[-1] == {one.pictures[0].sha256 for one in request.every}


# ---- what is asked


def test_what_one_forgets_no_other_is_asked_to_keep(knowing: VisionLanguageModel) -> None:
    request = together()
    protocols = asked(knowing, request)
    assert [p.concept for p in protocols] == list(request.concepts)
    for protocol in protocols:
        beside = [i for i in protocol.items if i.subject != protocol.concept]
        assert beside and not any(c.mentioned_in(i.subject.name) for c in request.concepts for i in beside)
        assert not any(c.mentioned_in(i.question) for c in request.concepts for i in beside)
    # The same is asked of both, so that the model is asked once.
    utility = [{i.key for i in p.items if i.set == "utility"} for p in protocols]
    assert utility[0] == utility[1] and utility[0]
    alone = own.protocol(knowing, a_request("circle"), [draw("circle", 20)], [draw(s, 20) for s in SHAPES], 0)
    assert "square" in {n for i in alone.items if i.set == "utility" for n in i.subject.names}


def test_the_embedded_benchmark_asks_so_too() -> None:
    data = mini_data()
    first, second = data.of("protected", "animal")[0].concept, data.of("utility", "animal")[0].concept
    request = mini.request_for(second.name, protected=400, also=[first.name])
    assert request.concepts == (second, first)
    held = set(data.training_pictures(first.name, 9))
    assert held & set(mini.request_for(second.name, protected=400).protected)
    assert not held & {p for one in request.every for p in one.protected} and first not in request.protect
    sizes: dict[str, Any] = {"test_pictures": 2, "utility_pictures": 1, "neighbour_pictures": 1}
    protocols = mini.protocols(request, **sizes)
    assert [p.concept for p in protocols] == list(request.concepts)
    for protocol in protocols:
        assert {i.subject for i in protocol.items} & set(request.concepts) == {protocol.concept}
    alone = mini.protocol(first.name, request.also[0].pictures, **sizes)
    assert second in {i.subject for i in alone.items}


def test_protocols_and_requests_must_match(knowing: VisionLanguageModel, tmp_path: Path) -> None:
    request = together()
    protocols = asked(knowing, request)
    for wrong in (protocols[:1], protocols[::-1], protocols[0]):
        with pytest.raises(UnseeError, match="a protocol for the concept of each"):
            forget(knowing, request, make_method("siu"), wrong, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# ---- the scores


def scored(concept: str, name: str, right: list[bool], model: str = "after") -> list[Answer]:
    """A utility question a picture, the same pictures whatever the concept; and one on the concept itself."""
    shared: dict[str, Any] = {"model": model, "concept": concept, "form": "name", "kind": "thing"}
    shared["question"] = "Which object is this?"
    rows = [
        Answer(set="utility", item=f"utility-{i:04d}", subject=f"s{i // 2}", picture=f"p{i}", keywords=(f"s{i // 2}",),
               answer=f"a s{i // 2}" if ok else "a blob", **shared)
        for i, ok in enumerate(right)
    ]  # fmt: skip
    return [
        *rows,
        Answer(set="forget", item="forget-0000", subject=concept, picture=f"{concept}!", keywords=(concept,),
               answer=f"a {name}", **shared),
    ]  # fmt: skip


def test_what_is_asked_for_several_concepts_counts_once() -> None:
    right = [True, True, False, True, True, False, True, True]
    one, other = scored("circle", "wug", right), scored("square", "square", right)
    found = summarise_run([*one, *other])
    assert set(found) == {"before", "after", "change", "concepts"}
    # Were the eight answers counted twice, the interval would be as that of sixteen.
    assert found["after"]["specificity"] == summarise_run(one)["after"]["specificity"]
    assert found["after"]["specificity"]["n"] == 8
    assert found["after"]["em_naming"]["value"] == 50 and found["after"]["em_naming"]["clusters"] == 2
    assert {n: m["after"]["em_naming"]["value"] for n, m in found["concepts"].items()} == {"circle": 100, "square": 0}
    assert found["concepts"]["circle"] == summarise(one) == summarise_run(one)
    assert found["concepts"]["square"]["after"]["specificity"]["n"] == 8


def test_both_are_forgotten_and_the_rest_is_kept(finished: tuple[Run, VisionLanguageModel]) -> None:
    metrics = finished[0].metrics
    assert set(metrics["concepts"]) == set(FORGOTTEN)
    for own_scores in (metrics, *metrics["concepts"].values()):
        before, after = own_scores["before"], own_scores["after"]
        assert before["em"]["value"] == 0 and after["em"]["value"] >= 80 and after["efficacy"]["value"] >= 90
        assert after["specificity"]["value"] >= 60 and after["text_kept"]["value"] >= 50
    assert metrics["after"]["em"]["n"] == sum(m["after"]["em"]["n"] for m in metrics["concepts"].values())
    assert metrics["after"]["specificity"]["n"] == metrics["concepts"]["circle"]["after"]["specificity"]["n"]


# ---- the run folder


def test_the_folder_tells_of_both(finished: tuple[Run, VisionLanguageModel]) -> None:
    path = finished[0].path
    config = yaml.safe_load((path / "config.yaml").read_text())
    assert [c["name"] for c in config["concepts"]] == list(FORGOTTEN) and config["concept"] == config["concepts"][0]
    assert [p["concept"] for p in config["pictures"]] == list(FORGOTTEN)
    answers = read_answers(path / "answers.parquet")
    assert answers == finished[0].answers and {a.concept for a in answers} == set(FORGOTTEN)
    assert json.loads((path / "metrics.json").read_text()) == finished[0].metrics == summarise_run(answers)
    kept = {p.stem for p in (path / "pictures").iterdir()}
    for shape in FORGOTTEN:
        assert draw(shape, 0).sha256[:16] in kept
        assert kept & {draw(shape, v).sha256[:16] for v in range(20, 26)}


def test_shared_questions_are_asked_once(knowing: VisionLanguageModel, tmp_path: Path) -> None:
    counts: dict[str, int] = {}

    def count(stage: str, done: int, total: int) -> None:
        if done < total:
            counts[stage] = done

    done = run(knowing, tmp_path / "run", progress=count)
    distinct = {(a.picture, a.question) for a in done.answers}
    assert len(distinct) < len(done.answers) // 2
    # The last count before the end is what was really asked.
    assert counts["asking before"] <= len(distinct) and counts["asking after"] <= len(distinct)


@pytest.mark.parametrize(("stage", "after"), [("asking before", 1), ("training", 13), ("asking after", 1)])
def test_an_interrupted_joint_run_goes_on_and_ends_the_same(
    finished: tuple[Run, VisionLanguageModel], knowing: VisionLanguageModel, tmp_path: Path, stage: str, after: int
) -> None:
    original = weights(knowing)
    with pytest.raises(KeyboardInterrupt):
        run(knowing, tmp_path / "run", progress=stopping(stage, after))
    assert changed(original, weights(knowing)) == set() and not knowing.adapted
    done = run(knowing, tmp_path / "run")
    assert done.metrics == finished[0].metrics and done.answers == finished[0].answers
    assert changed(weights(finished[1]), weights(knowing)) == set()


def test_the_runs_model_has_forgotten_both(finished: tuple[Run, VisionLanguageModel]) -> None:
    from unsee.models import Question, answer

    vlm = open_run(finished[0].path)
    questions = [Question("Which object is this?", draw(s, 31)) for s in (*FORGOTTEN, "cross")]
    with vlm.original():
        assert [r.text for r in answer(vlm, questions)] == [f"This is a {s}." for s in (*FORGOTTEN, "cross")]
    said = [r.text for r in answer(vlm, questions)]
    assert "circle" not in said[0] and "square" not in said[1]


# ---- the report


def test_the_report_tells_of_each(finished: tuple[Run, VisionLanguageModel]) -> None:
    text = text_of((finished[0].path / "report.html").read_text())
    assert "Forgetting a circle and a square" in text and "Each concept" in text
    view = read_run(finished[0].path)
    assert [c.name for c in view.concepts] == list(FORGOTTEN) and len(view.by_concept) == 2
    utility = [(e.picture, e.question) for e in view.asked("utility", "text_general")]
    assert utility and len(utility) == len(set(utility)), "what both were asked is shown once"


def test_the_weakest_concept_words_the_headline(finished: tuple[Run, VisionLanguageModel]) -> None:
    view = read_run(finished[0].path)

    def of(value: float) -> Metrics:
        scores = {key: Score(value, value - 2, value, 50) for key in ("em_naming", "em_yes_no")}
        return Metrics({key: Score(0.0) for key in scores}, scores, {})

    both = replace(view, metrics=of(99), by_concept=(of(99), of(99)))
    assert report.judge(both).claim == "The model no longer recognises a circle and a square."
    one = replace(view, metrics=of(80), by_concept=(of(99), of(60)))
    assert report.judge(one).claim == "Of 2 concepts forgotten together, the model still often recognises a square."
    assert report.judge(one).tone == "bad"
    many = replace(both, concepts=tuple(Concept(f"s{i}", "thing") for i in range(6)), by_concept=(of(99),) * 6)
    assert report.judge(many).claim == "The model no longer recognises 6 concepts."


def test_redaction_hides_both_names(finished: tuple[Run, VisionLanguageModel], tmp_path: Path) -> None:
    path = finished[0].path
    page = report.write(path, redact=True, output=tmp_path / "redacted.html").read_text()
    text = text_of(page)
    for shape in FORGOTTEN:
        assert f"a {shape}" in text_of((path / "report.html").read_text())
        assert not re.search(rf"\b{shape}\b", text) and draw(shape, 0).sha256[:16] not in page
    assert "a [redacted 1] and a [redacted 2]" in text and "cross" in text
    view = report.redact_view(read_run(path))
    own_pictures = {draw(s, v).sha256[:16] for s in FORGOTTEN for v in (0, *range(20, 26))}
    assert view.pictures and not own_pictures & set(view.pictures)
    assert not any(fact in str(view) for fact in (FACTS["circle"], FACTS["square"]))


def test_a_joint_run_can_stand_beside_another(finished: tuple[Run, VisionLanguageModel], tmp_path: Path) -> None:
    from shutil import copytree

    other = copytree(finished[0].path, tmp_path / "other")
    text = text_of(report.compare([finished[0].path, other], tmp_path / "both.html").read_text())
    assert "Forgetting a circle and a square: 2 runs" in text and "different concepts" not in text


def test_variations_of_all_are_found_again() -> None:
    """A run that goes on reads its samples from a file, in which pictures are hashes."""
    settings = FacetSettings(variations=3)
    assert len(facets.varied(together(), settings, 0)) == 6
    alone = [p for s in FORGOTTEN for p in facets.varied(a_request(s), settings, 0)]
    assert facets.varied(together(), settings, 0) == alone
