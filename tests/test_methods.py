"""What every method must keep to, on a tiny model: what moves, what its loss is, what it trains on."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import draw
from plain_losses import told
from small_runs import BUILT, FORGET, LORA, OTHER, PICTURE, REQUEST, RETAIN, prepared, weights

from unsee.benchmarks.protocol import Originals, Protocol, asked_of_unseen
from unsee.data import Sample
from unsee.errors import UnseeError
from unsee.methods import REGISTRY, describe, get_method, make_method, read_changes
from unsee.methods.answers import REFUSALS
from unsee.methods.forget_retain import ForgetRetain
from unsee.models import VisionLanguageModel, load
from unsee.models.lora import remove_adapter
from unsee.runs import forget
from unsee.training import EXPLODED, History, train

TRAINING = [n for n in REGISTRY if get_method(n).trains]
TWO_TERMS = [n for n in REGISTRY if issubclass(get_method(n), ForgetRetain)]
SUPPRESSING = [n for n in REGISTRY if "truth" in get_method(n).data]


# ---- what moves


MAY_MOVE: dict[str, Callable[[str], bool]] = {
    "LoRA on the language model": lambda name: "lora_" in name and ".language_model." in name,
    "LoRA on the language model, its B alone": lambda name: "lora_B." in name and ".language_model." in name,
    "the vision tower's upper layers, the projector where asked": lambda name: (
        ".vision_tower." in name and ".layers.1.modules_to_save." in name
    ),
    "columns of the linear layers that end the MLPs of V and W": lambda name: ".modules_to_save.default.weight" in name,
    "some columns of the linear layers that end the MLPs of V and W": lambda name: (
        ".mlp." in name and "lora_B." in name
    ),
}
"""By what a method says of itself: which parameters it may move; all others stay as they are, bit for bit."""


def plain_name(name: str) -> str:
    """What a parameter of the adapted model is called in the original."""
    for wrapping in ("base_model.model.", ".base_layer", ".original_module", ".modules_to_save.default"):
        name = name.replace(wrapping, "")
    return name


def run(vlm: VisionLanguageModel, name: str, scratch: Path, seed: int = 0, **changes: Any) -> History:
    """A few steps; every one of them sees all samples as they are, so that their losses can be compared."""
    quick: dict[str, Any] = {"steps": 4, "learning_rate": 1e-2} if name in TRAINING else {}
    if name == "vkd":
        quick |= {"moved": False, "forget_from": 0.0}
    if name in LORA:
        quick |= {"rank": 4, "lora_alpha": 8}
    method, samples = prepared(vlm, name, seed, **{**quick, **changes})
    method.attach(vlm, seed)
    return train(vlm, method, samples, REQUEST, seed, scratch)


def log_prob_of_truth(vlm: VisionLanguageModel) -> float:
    with torch.no_grad():
        return sum(float(told(vlm, s, s.truth or "").log_prob) for s in FORGET)


@pytest.mark.parametrize("name", REGISTRY)
def test_it_moves_what_it_may_and_the_loss_falls(knowing: VisionLanguageModel, tmp_path: Path, name: str) -> None:
    original, likely = weights(knowing), log_prob_of_truth(knowing)
    begin = make_method(name)
    begin.attach(knowing, 0)
    may = MAY_MOVE[begin.moves]
    assert {n for n, p in knowing.model.named_parameters() if p.requires_grad} == {
        n for n in weights(knowing) if may(n)
    }
    begun = weights(knowing)
    remove_adapter(knowing)
    steps = run(knowing, name, tmp_path).steps
    after = weights(knowing)
    assert steps[-1]["loss"] < steps[0]["loss"] if name in TRAINING else not steps
    moved = {n for n in after if may(n)}
    if name in LORA:
        assert moved and all(float(after[n].abs().sum()) > 0 for n in moved)
    else:  # copies; what lies behind the layer that P reads from takes no gradient
        start = {**begun, **{n: original[plain_name(n)] for n in moved if plain_name(n) in original}}
        assert sum(not torch.equal(after[n], start[n]) for n in moved) > len(moved) / 2
    for n in after.keys() - moved:
        if "lora_" in n and name in LORA:
            continue  # of SMFA, whose own test looks at it
        if "lora_A." in n:  # it says which columns B moves, and moves nothing itself
            assert after[n].sum(1).tolist() == [1] * len(after[n]) and after[n].count_nonzero() == len(after[n])
        else:
            assert torch.equal(after[n], original[plain_name(n)]), n
    if name in TWO_TERMS:
        assert steps[-1]["terms"]["forget"] < steps[0]["terms"]["forget"]
    if name in SUPPRESSING:
        assert log_prob_of_truth(knowing) < likely
    remove_adapter(knowing)
    assert {n for n, p in weights(knowing).items() if not torch.equal(p, original[n])} == set()


@pytest.mark.parametrize("name", REGISTRY)
def test_the_seed_decides(tiny_folder: Path, tmp_path: Path, name: str) -> None:
    ends = []
    for i, seed in enumerate((0, 0, 2)):  # an aimed LoRA starts alike with every seed, and so would the plan with 1
        vlm = load(str(tiny_folder), dtype=torch.float32)
        few = {"steps": 2, "texts_per_step": 1} if name in TRAINING else {}
        history = run(vlm, name, tmp_path / str(i), seed, **few)
        ends.append(([e["loss"] for e in history.steps], weights(vlm)))
    (losses, one), (again, two), (others, three) = ends
    assert losses == again and all(torch.equal(one[n], two[n]) for n in one)
    if name in LORA:  # VKD and MANU start from the original, and here VKD has one picture to hold
        assert losses != others and any(not torch.equal(one[n], three[n]) for n in one)


@pytest.mark.parametrize("name", ["dpo", "kl"])
def test_steps_may_lack_a_role(tiny: VisionLanguageModel, tmp_path: Path, name: str) -> None:
    """Dealt out one by one, a step has a sample to forget or one to retain; a pair is dealt as one."""
    history = run(tiny, name, tmp_path, samples_per_step=1, steps=6)
    assert (
        sorted(e["terms"]["retain"] == 0 and e["terms"]["forget"] != 0 for e in history.steps)
        == [False] * 3 + [True] * 3
    )
    assert sum(e["terms"]["forget"] != 0 for e in history.steps) == 3


def test_a_loss_that_begins_large_has_not_exploded(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    """NPO and DPO begin at 2 log(2) / beta, whatever the model says."""
    assert run(tiny, "npo", tmp_path, beta=0.01, steps=2).steps[0]["terms"]["forget"] == pytest.approx(138.63, abs=0.01)


def test_a_term_that_begins_late_has_not_exploded(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    history = run(tiny, "vkd", tmp_path, npo_beta=0.01, steps=4, forget_from=0.5, warmup=0)
    assert ["forget" in e["terms"] for e in history.steps] == [False, False, True, True]
    assert history.steps[2]["terms"]["forget"] > EXPLODED + history.steps[1]["loss"]


# ---- from end to end


@pytest.fixture(scope="module")
def originals() -> Originals:
    """What the knowing model says, asked once for all methods."""
    return Originals()


@pytest.mark.parametrize("name", [n for n in REGISTRY if n != "retrain"])  # it begins with another model
def test_every_method_ends_with_the_same_run_folder(
    knowing: VisionLanguageModel, tmp_path: Path, originals: Originals, name: str
) -> None:
    request = dataclasses.replace(REQUEST, protected=(OTHER, draw("cross")))
    unseen = asked_of_unseen(request.concept, [draw("circle", 20), draw("circle", 21)], random.Random(0))
    quick: dict[str, Any] = {"pruned_share": 0.9}  # with fewer gone, this model goes on saying what it sees
    if name in TRAINING:
        quick = {"steps": 12, "learning_rate": 3e-3, "decay": 0.0}
    if name == "mip-editor":  # five neurons of a layer move too little in so few steps
        quick |= {"neurons": 16}
    if name == "vkd":  # nor is there time to rise
        quick |= {"warmup": 0}
    method = make_method(name, "default", quick)
    done = forget(knowing, request, method, Protocol(request.concept, unseen), tmp_path / "run", originals=originals)
    assert {p.name for p in done.path.iterdir()} == {
        "adapter", "answers.parquet", "config.yaml", "facets.json", "history.json", "metrics.json", "pictures",
        "report.html",
    }  # fmt: skip
    assert len(done.history.steps) == (12 if name in TRAINING else 0) and done.history.seconds > 0
    assert done.metrics["before"]["em"]["value"] == 0
    assert done.metrics["after"]["em"]["value"] > 0


def test_a_method_that_lacks_its_data_leaves_nothing_behind(knowing: VisionLanguageModel, tmp_path: Path) -> None:
    """Told before anything is asked or trained."""
    asked = Protocol(REQUEST.concept, asked_of_unseen(REQUEST.concept, [PICTURE], random.Random(0)))
    told: list[str] = []
    with pytest.raises(UnseeError, match="gd needs samples to retain"):
        forget(knowing, REQUEST, make_method("gd"), asked, tmp_path / "run", samples=FORGET,
               progress=lambda stage, *_: told.append(stage))  # fmt: skip
    assert list(tmp_path.iterdir()) == [] and set(told) == {"building facets"} and not knowing.adapted


# ---- what they train on


@pytest.mark.parametrize("name", [n for n in SUPPRESSING if n not in ("dpo", "vkd")])
def test_methods_that_suppress_train_on_what_the_original_says(name: str) -> None:
    method = make_method(name)
    samples = method.samples(BUILT)
    forget = [s for s in samples if s.role == "forget"]
    assert [(s.question, s.answer, s.picture) for s in forget] == [(s.question, s.truth, s.picture) for s in FORGET]
    assert all(s.target_phrase is None for s in forget)
    kept = [s for s in samples if s.role == "retain"]
    assert kept == (RETAIN if "retain" in method.data else [])


@pytest.mark.parametrize("name", ["po", "dpo", "smfa"])
def test_methods_that_refuse_train_on_refusals(name: str) -> None:
    method = make_method(name)
    samples = method.samples(BUILT, seed=3)
    forget = [s for s in samples if s.role == "forget"]
    assert [(s.question, s.picture) for s in forget] == [(s.question, s.picture) for s in FORGET]
    assert all(s.answer in REFUSALS and s.target_phrase is None for s in forget)
    assert samples[len(forget) :] == RETAIN
    if method.pairs:
        assert [s.truth for s in forget] == [s.truth for s in FORGET]
    assert samples == method.samples(BUILT, seed=3)
    assert any(samples != method.samples(BUILT, seed=n) for n in range(5))


def test_refusals_are_dealt_evenly_and_name_nothing() -> None:
    many = [Sample(f"q{i}", "a", None, None, "forget") for i in range(2 * len(REFUSALS) + 1)]
    given = [s.answer for s in make_method("po", "default", {"retain_weight": 0}).samples(many)]
    counts = [given.count(r) for r in REFUSALS]
    assert sorted(set(counts)) == [2, 3] and sum(counts) == len(many)
    assert len(set(REFUSALS)) == len(REFUSALS) >= 12
    assert all(w[0].islower() or w in ("I", "I'm", "That") for r in REFUSALS for w in r.rstrip(".").split())


@pytest.mark.parametrize("name", SUPPRESSING)
def test_samples_without_a_truth(name: str) -> None:
    unknown = [dataclasses.replace(s, truth=None) for s in FORGET]
    with pytest.raises(UnseeError, match=f"{name} suppresses what the original model says.*need a 'truth'"):
        make_method(name).samples([*unknown, *RETAIN])
    some = make_method(name).samples([FORGET[0], *unknown[1:], *RETAIN])
    assert [s.question for s in some if s.role == "forget"] == [FORGET[0].question]


@pytest.mark.parametrize("name", TWO_TERMS)
def test_nothing_to_retain(name: str) -> None:
    with pytest.raises(UnseeError, match=rf"{name} needs samples to retain.*--protected-images.*--protect.*--facts"):
        make_method(name, "default", {"retain_weight": 1.0}).samples(FORGET)
    if get_method(name).settings_class.ranges["retain_weight"][0] > 0:
        return
    alone = make_method(name, "default", {"retain_weight": 0.0}).samples(BUILT)
    assert len(alone) == len(FORGET) and all(s.role == "forget" for s in alone)


@pytest.mark.parametrize("name", [n for n in REGISTRY if n != "retrain"])
def test_nothing_to_forget(name: str) -> None:
    with pytest.raises(UnseeError, match=f"{name} has nothing to forget"):
        make_method(name).samples(RETAIN)


# ---- what they say of themselves


@pytest.mark.parametrize("name", REGISTRY)
def test_settings_out_of_range_are_told(name: str) -> None:
    settings = make_method(name).settings
    assert settings.ranges.keys() <= {f.name for f in dataclasses.fields(settings)}
    for setting, (low, high) in settings.ranges.items():
        whole = isinstance(getattr(settings, setting), int)
        for value in (low - 1, high + 1):
            with pytest.raises(UnseeError, match=f"{setting} = .* is out of range: between"):
                make_method(name, "default", {setting: int(value) if whole else float(value)})
        with pytest.raises(UnseeError, match=f"{setting} = 'much'"):
            make_method(name, "default", {setting: "much"})


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_method_knows_its_preset(preset: str) -> None:
    assert make_method("siu", preset, {"steps": 3}).preset == preset


@pytest.mark.parametrize("name", REGISTRY)
def test_several_concepts_take_the_steps_of_each(name: str) -> None:
    alone, three = (make_method(name, concepts=n).settings for n in (1, 3))
    if name in ("manu", "retrain"):  # no steps; and steps that go through what is kept
        assert three == alone
    else:
        assert three == dataclasses.replace(alone, steps=3 * alone.steps)
        assert make_method(name, overrides={"steps": 7}, concepts=3).settings.steps == 7


def test_changes_are_read_as_they_are_typed() -> None:
    said = ["steps=30", "learning-rate=1e-3", "projector=true", "distance=cosine"]
    wanted = {"steps": 30, "learning_rate": 1e-3, "projector": True, "distance": "cosine"}
    assert read_changes(said) == wanted
    assert make_method("vkd", "default", wanted).settings.distance == "cosine"
    with pytest.raises(UnseeError, match="distance = 'far': it must be one of mse, cosine"):
        make_method("vkd", "default", read_changes(["distance=far"]))


@pytest.mark.parametrize("name", REGISTRY)
def test_every_setting_is_explained(name: str) -> None:
    found = describe(get_method(name).settings_class)
    assert {s.name for s in found} == {f.name for f in dataclasses.fields(get_method(name).settings_class)}
    for setting in found:
        assert len(setting.meaning) > 8, setting
        assert setting.default == getattr(make_method(name).settings, setting.name)
    assert found[-1].name == "max_grad_norm" or name not in TRAINING  # its own come first, what all have comes last


@pytest.mark.parametrize("name", REGISTRY)
def test_papers_are_named_and_the_index_has_all(name: str) -> None:
    method = get_method(name)
    assert "arXiv" in method.paper and method.data and method.moves and method.__doc__
    index = (Path(__file__).parents[1] / "docs" / "methods.md").read_text()
    module = REGISTRY[name].partition(":")[0].rpartition(".")[2]
    row = next(line for line in index.splitlines() if f"methods/{module}.py" in line)
    assert f"`{name}`" in row and method.moves.split()[0] in row
    number = method.paper.partition("arXiv ")[2][:10]
    assert number in row
