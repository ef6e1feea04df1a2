"""Relearning and reload: the pool is apart, controls are there, runs go on, what is put back is the original."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SHAPES, draw

import relearning
from relearning_parts import attacked, cases, curves
from unsee.attacks.relearn import (
    RelearnSettings,
    drawn,
    refuse_overlap,
    relearned,
    share_size,
    true_answers,
)
from unsee.attacks.reload import moved, reloaded, weights_of
from unsee.data import Concept, Request, Sample
from unsee.data.wording import CONFIRMING, naming_questions
from unsee.errors import TrainingError, UnseeError
from unsee.methods import make_method
from unsee.mini.data import mini_data
from unsee.models import VisionLanguageModel, load
from unsee.models.lora import add_copies, add_lora, merged
from unsee.training import train

CIRCLE = Concept("circle", "thing")
OTHERS = [Concept(s, "thing") for s in SHAPES if s != "circle"]
FEW = RelearnSettings(steps=2, learning_rate=3e-3, samples_per_step=4, rank=4, lora_alpha=8)


def shown(shapes: tuple[str, ...], variants: range) -> list[tuple[Concept, Any]]:
    return [(Concept(s, "thing"), draw(s, v)) for v in variants for s in shapes]


@pytest.fixture
def case(circle: Request) -> Any:
    """The circle as the script has concepts of the mini data."""
    others = tuple(c.name for c in OTHERS)
    own = [draw("circle", v) for v in range(90, 93)]
    items = cases.questions(CIRCLE, own, shown(others, range(90, 91))[:3], shown(others, range(91, 92)))
    return cases.Case(circle, shown(("circle",), range(1, 4)), shown(others, range(2, 4)), items)


@pytest.fixture
def fresh(knowing_folder: Path) -> Callable[[], VisionLanguageModel]:
    return lambda: load(str(knowing_folder), dtype=torch.float32)


def weights(vlm: VisionLanguageModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in vlm.base.state_dict().items()}


def same(vlm: VisionLanguageModel, before: dict[str, torch.Tensor]) -> bool:
    now = vlm.base.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[name], value) for name, value in before.items())


# ---- the pool


def test_the_pool_is_the_originals_right_answers(knowing: VisionLanguageModel) -> None:
    pool = true_answers(knowing, shown(("circle", "square"), range(1, 3)))
    assert len(pool) > 20
    asked = {q.format(phrase=f"a {s}") for s in ("circle", "square") for q in (*CONFIRMING, *naming_questions("thing"))}
    assert {s.question for s in pool} <= asked
    for sample in pool:
        assert sample.picture is not None
        assert sample.picture.name.split("-")[0] in sample.answer
        assert sample.answer.startswith("Yes") or sample.question in naming_questions("thing")


def test_what_the_original_answers_wrongly_is_no_pool(knowing: VisionLanguageModel) -> None:
    assert true_answers(knowing, [(Concept("hexagon", "thing"), draw("circle", 1))]) == []
    add_lora(knowing, 2, 4, 0)
    with pytest.raises(UnseeError, match="take the adapter off"):
        true_answers(knowing, shown(("circle",), range(1)))


def test_shares_hold_each_other_and_one_sample_is_the_least() -> None:
    pool = [Sample(str(i), "x") for i in range(110)]
    assert [share_size(110, p) for p in (0.1, 1, 2, 5, 10, 20, 50, 100)] == [1, 1, 2, 6, 11, 22, 55, 110]
    few, many = drawn(pool, 6, 3), drawn(pool, 55, 3)
    assert many[:6] == few and len({s.question for s in many}) == 55 and drawn(pool, 6, 4) != few
    for percent, message in ((0, "above 0"), (101, "at most 100")):
        with pytest.raises(UnseeError, match=message):
            share_size(110, percent)
    with pytest.raises(UnseeError, match="the pool is empty"):
        share_size(0, 50)
    with pytest.raises(UnseeError, match="111 samples are wanted of a pool of 110"):
        drawn(pool, 111, 0)


def test_a_picture_tested_on_is_no_pool() -> None:
    samples = [Sample("Is it?", "Yes.", draw("circle", 1)), Sample("Is it?", "Yes.", None)]
    refuse_overlap(samples, [draw("circle", 2)])
    with pytest.raises(UnseeError, match="circle-1.png is tested on"):
        refuse_overlap(samples, [draw("circle", 2), draw("circle", 1)])


@pytest.mark.parametrize("name", ["cat", "Galdo Kallowen"])
def test_pools_of_the_mini_data_are_disjoint(name: str) -> None:
    data = mini_data()
    case = cases.mini_case(name, 25, 25, ["siu", "vkd"])
    pool, control = ({p.sha256 for _, p in some} for some in (case.pool, case.control))
    siu, vkd = case.request_of("siu"), case.request_of("vkd")
    assert (len(siu.protected), len(vkd.protected)) == (48, 144) and siu.pictures == vkd.pictures
    given = {p.sha256 for r in (siu, vkd) for p in (*r.pictures, *r.protected)}
    tested = {i.picture.sha256 for i in case.items if i.picture}
    assert len(pool) == 11 and len(control) == 17
    assert not pool & control and not (pool | control) & (tested | given) and not tested & given
    assert {c.name for c, _ in case.pool} == {name}
    assert name not in {c.name for c, _ in case.control}
    assert {c.name for c, _ in case.control} <= {c.concept.name for c in data.of("protected")}
    sizes = Counter((i.set, i.form) for i in case.items)
    assert sizes == {(s, f): 25 for s, f in [("forget", "name"), ("forget", "yes_no"), ("neighbours", "yes_no"),
                                             ("utility", "name"), ("utility", "yes_no")]}  # fmt: skip
    assert len({i.subject.kind for i in case.items if i.set == "utility"}) == 5
    # The words of the pool are not those of the test.
    words = (*CONFIRMING, *naming_questions(case.request.concept.kind))
    assert not {q.format(phrase=case.request.concept.phrase) for q in words} & {i.question for i in case.items}


# ---- the attacks


def test_relearning_changes_the_model_and_leaves_it_as_it_was(knowing: VisionLanguageModel, circle: Request) -> None:
    before, pool = weights(knowing), [Sample("What is it?", "This is a blob.", draw("circle", 1))]
    with relearned(knowing, pool, circle, FEW, 0) as history:
        assert knowing.adapted and len(history.steps) == 2 and history.steps[1]["loss"] < history.steps[0]["loss"]
        trained = {n for n, p in knowing.model.named_parameters() if p.requires_grad}
        for layer in range(knowing.depth):
            assert any(f"layers.{layer}." in n and "lora_A" in n for n in trained)
        assert any("multi_modal_projector.modules_to_save" in n for n in trained)
        assert not any("vision_tower" in n for n in trained)
        with pytest.raises(UnseeError, match="on top of a merged model"), relearned(knowing, pool, circle, FEW, 0):
            pass
    assert not knowing.adapted and same(knowing, before)
    assert not any(p.requires_grad for p in knowing.model.parameters())


def test_the_visual_side_alone_can_be_trained(knowing: VisionLanguageModel, circle: Request) -> None:
    before, pool = weights(knowing), [Sample("What is it?", "This is a blob.", draw("circle", 1))]
    with relearned(knowing, pool, circle, replace(FEW, side="vision"), 0) as history:
        assert history.steps[1]["loss"] < history.steps[0]["loss"]
        trained = {n.partition(".modules_to_save")[0] for n, p in knowing.model.named_parameters() if p.requires_grad}
        assert {n.rpartition(".")[2] for n in trained} == {"vision_tower", "multi_modal_projector"}
    assert not knowing.adapted and same(knowing, before)
    with pytest.raises(UnseeError, match="side = 'both'"):
        RelearnSettings(side="both")


def test_the_same_seed_learns_the_same(fresh: Callable[[], VisionLanguageModel], circle: Request) -> None:
    def losses(seed: int) -> list[float]:
        vlm = fresh()
        pool = drawn([Sample("What is it?", f"This is a {s}.", draw(s, 1)) for s in SHAPES], 5, 0)
        with relearned(vlm, pool, circle, FEW, seed) as history:
            return [step["loss"] for step in history.steps]

    assert losses(0) == losses(0) != losses(1)


def test_reload_restores_the_original_bit_for_bit(knowing: VisionLanguageModel) -> None:
    anatomy, original, name = knowing.anatomy, weights(knowing), knowing.weights_sha256()
    eyes = {part: weights_of(knowing, [part]) for part in (anatomy.projector, anatomy.vision)}
    both = eyes[anatomy.projector] | eyes[anatomy.vision]
    assert both.keys() == {n for n in original if n.startswith((f"{anatomy.projector}.", f"{anatomy.vision}."))}
    add_copies(knowing, [anatomy.vision, anatomy.projector])
    with pytest.raises(UnseeError, match="merge the adapter first"):
        moved(knowing, both)
    with torch.no_grad():
        for value in knowing.model.parameters():
            if value.requires_grad:
                value.add_(0.1)
    merged(knowing)
    unlearned = weights(knowing)
    picture = draw("circle", 1)
    features = knowing.image_features([picture])
    for part in (anatomy.projector, anatomy.vision):
        with reloaded(knowing, eyes[part]) as names:
            assert {n.rpartition(".")[0] for n in names} and all(n.startswith(f"{part}.") for n in names)
            assert same(knowing, unlearned | eyes[part])
            assert not torch.equal(knowing.image_features([picture]), features)
        assert same(knowing, unlearned)
    with reloaded(knowing, both):
        assert same(knowing, original) and knowing.weights_sha256() == name and moved(knowing, both) == []
    assert same(knowing, unlearned) and torch.equal(knowing.image_features([picture]), features)


def test_a_reload_after_a_method_that_moves_the_language_model_changes_nothing(
    knowing: VisionLanguageModel, circle: Request, tmp_path: Path
) -> None:
    eyes = weights_of(knowing, [knowing.anatomy.projector, knowing.anatomy.vision])
    method = make_method("siu", "default", {"steps": 1})
    method.attach(knowing, 0)
    samples = [Sample("What is it?", "This is a blob.", draw("circle"), "a blob", "forget", "T1")]
    train(knowing, method, samples, circle, 0, tmp_path)
    unlearned = weights(merged(knowing))
    with reloaded(knowing, eyes) as names:
        assert names == [] and same(knowing, unlearned)


# ---- the script


def test_every_arm_is_measured_and_a_second_call_goes_on(
    case: Any, fresh: Callable[[], VisionLanguageModel], tmp_path: Path
) -> None:
    file, opened = tmp_path / "results" / "relearning.jsonl.gz", [0]

    def counting() -> VisionLanguageModel:
        opened[0] += 1
        return fresh()

    unlearning: dict[str, dict[str, Any]] = {"siu": {"steps": 2}, "vkd": {"steps": 2, "learning_rate": 1e-3}}
    plan = relearning.Plan(seeds=1, shares=(5.0, 50.0), attack=FEW, unlearning=unlearning)
    told: list[str] = []
    short = relearning.Plan(("original",), 1, (5.0,), FEW, unlearning)
    first = relearning.run(short, [case], counting, file, told.append)
    assert [(r["arm"], r["share"]) for r in first] == [("as is", None), ("relearn", 5.0), ("control", 5.0)]
    assert opened == [1] and any("minutes for the 2 pieces" in line for line in told)
    rows = relearning.run(plan, [case], counting, file, told.append)
    assert opened == [4] and rows[:3] == first
    assert relearning.run(plan, [case], counting, file, told.append) == rows and opened == [4]
    assert len(relearning.read(file)) == len(rows) == 5 + 8 + 8

    def of(**wanted: Any) -> list[dict[str, Any]]:
        return curves.picked(rows, **wanted)

    # Each attack beside its control, of the same budget, on every model; the original too.
    for model in ("original", "siu", "vkd"):
        for share in (5.0, 50.0):
            relearn, control = (of(model=model, arm=arm, share=share)[0] for arm in ("relearn", "control"))
            assert relearn["samples"] == control["samples"] == share_size(relearn["pool"], share)
            assert len(relearn["loss"]) == len(control["loss"]) == FEW.steps
            assert relearn["settings"] == control["settings"] and relearn["weights"] == control["weights"]
        assert len(of(model=model, arm="as is")) == 1
    for row in rows:
        assert row.keys() == first[0].keys() and len(row["answers"]) == len(case.items)
        assert row["pool_pictures"] == 3 and row["seconds"] > 0

    # What moved is put back: VKD's whole model is then the original, SIU's was never touched by it.
    original = of(model="original", arm="as is")[0]
    for model, counts in (("siu", (0, 0, 0)), ("vkd", (0, None, None))):
        as_is, parts = of(model=model, arm="as is")[0], of(model=model, arm="reload")
        assert [r["part"] for r in parts] == ["projector", "vision tower", "both"] and as_is["moved"] is None
        for row, count in zip(parts, counts, strict=True):
            assert row["moved"] == count if count == 0 else row["moved"] > 10
            assert row["weights"] == (as_is if count == 0 else original)["weights"]
            assert row["answers"] == (as_is if count == 0 else original)["answers"]
        assert as_is["weights"] != original["weights"]

    # A line that was written when there was no such setting yet is the same measurement.
    line = of(model="vkd", arm="as is")[0]
    fewer = {k: v for k, v in line["settings"]["unlearning"].items() if k != "neuron_threshold"}
    earlier = {**line, "settings": {**line["settings"], "unlearning": fewer}}
    assert len(fewer) < len(line["settings"]["unlearning"]) and relearning.key(earlier) == relearning.key(line)

    # Other settings are other lines.
    other = relearning.Plan(("original",), 1, (5.0,), RelearnSettings(**{**vars(FEW), "steps": 1}))
    again = relearning.run(other, [case], counting, file)
    assert len(again) == 3 and again[0]["settings"] != first[0]["settings"] and opened == [5]

    found = curves.points(rows)
    assert {p["measure"] for p in found} == {"naming", "yes_no", "others_naming", "others_yes_no"}
    assert {p["arm"] for p in found} == {"relearn", "control", "difference"}
    assert len(found) == 3 * 2 * 4 * 3
    for p in found:
        assert p.keys() == {"model", "arm", "share", "measure", "value", "low", "high", "concepts", "runs"}
        assert p["low"] is None and p["concepts"] == p["runs"] == 1  # one concept tells no spread
    text = curves.tables(rows)
    assert "relearn - control, 50 %" in text and "reload projector (0 weights had moved)" in text
    for name in ("curves.svg", "curves.png"):
        curves.draw(rows, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000


def test_an_arm_that_explodes_costs_the_others_nothing(
    case: Any, fresh: Callable[[], VisionLanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, file, told = relearned, tmp_path / "some.gz", list[str]()

    def explodes(vlm: VisionLanguageModel, samples: list[Sample], *rest: Any) -> Any:
        if samples[0].picture and samples[0].picture.name.startswith("circle"):
            raise TrainingError("the loss exploded")
        return honest(vlm, samples, *rest)

    monkeypatch.setattr(attacked, "relearned", explodes)
    plan = relearning.Plan(("original",), 1, (5.0,), FEW)
    rows = relearning.run(plan, [case], fresh, file, told.append)
    assert [(r["arm"], r["error"], len(r["answers"]) > 0) for r in rows] == [
        ("as is", None, True), ("relearn", "the loss exploded", False), ("control", None, True),
    ]  # fmt: skip
    assert any("relearn 5 % failed: the loss exploded" in " ".join(line.split()) for line in told)
    assert relearning.run(plan, [case], fresh, file) == rows
    text = curves.tables(rows)
    assert "relearn 5 % (1 of 1 failed)" in text and "| relearn - control, 5 % | | | not measured yet" in text


def test_a_pool_that_is_tested_on_is_refused(
    case: Any, fresh: Callable[[], VisionLanguageModel], tmp_path: Path
) -> None:
    leaking = cases.Case(case.request, [*case.pool, (CIRCLE, draw("circle", 90))], case.control, case.items)
    with pytest.raises(UnseeError, match="circle-90.png is tested on"):
        relearning.run(relearning.Plan(("original",), 1, (5.0,), FEW), [leaking], fresh, tmp_path / "x.gz")


def rows_of(named: dict[tuple[str, str, int], list[bool]]) -> list[dict[str, Any]]:
    """Lines of the original by (arm, concept, seed): whether each of some pictures is named."""
    return [
        {
            "concept": concept, "model": "original", "seed": seed, "arm": arm, "share": 5.0, "part": None, "samples": 6,
            "loss": [],
            "answers": [
                {"set": "forget", "form": "name", "item": f"{i:04d}", "subject": concept, "kind": "thing",
                 "picture": f"{concept}-{i}", "question": "What is it?", "keywords": [concept],
                 "answer": f"This is a {concept if right else 'blob'}.", "tokens": 5}
                for i, right in enumerate(rights)
            ],
        }
        for (arm, concept, seed), rights in named.items()
    ]  # fmt: skip


def test_intervals_are_over_concepts_and_differences_are_paired() -> None:
    relearn = rows_of({("relearn", c, s): [c == "cat"] * 10 for c in ("cat", "dog") for s in (0, 1)})
    control = rows_of({("control", c, s): [False] * 10 for c in ("cat", "dog") for s in (0, 1)})
    one = curves.score(relearn, "naming")
    assert one is not None
    # 40 answers, of which half are right: two concepts say little, however many pictures and seeds there are.
    assert (one.value, one.concepts) == (50, 2) and (one.low, one.high) == (0, 100)
    gained = curves.difference(relearn, control, "naming")
    assert gained is not None and (gained.value, gained.concepts) == (50, 2)
    alone = curves.difference(relearn, control[:1], "naming")
    assert alone is not None and (alone.value, alone.concepts, alone.low) == (100, 1, None)
    assert curves.score(relearn, "yes_no") is None and "not measured yet" in curves.tables(relearn)
    assert curves.tables([]) == "Nothing is measured yet."
