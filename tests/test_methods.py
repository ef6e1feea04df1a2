"""What every method must keep to, on a tiny model: what moves, what its loss is, what it trains on."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FACTS, draw
from test_packing import close, loosen, plain_logits, plain_states

from unsee.benchmarks.protocol import Originals, Protocol, asked_of_unseen
from unsee.data import Concept, Request, Sample
from unsee.errors import UnseeError
from unsee.methods import REGISTRY, Method, describe, get_method, make_method, read_changes
from unsee.methods import gradients as library
from unsee.methods.answers import REFUSALS
from unsee.methods.base import LoraMethod
from unsee.methods.encoded import Encoded
from unsee.methods.forget_retain import ForgetRetain
from unsee.models import VisionLanguageModel, load
from unsee.models.lora import remove_lora
from unsee.runs import forget
from unsee.training import EXPLODED, History, train

PICTURE, OTHER = draw("circle"), draw("square")
BUILT = [
    Sample("What object is in the image?", "This is a blob.", PICTURE, "a blob", "forget", "T1", "This is a circle."),
    Sample(
        "Is the picture of a circle?", "No, a blob.", PICTURE, "No, a blob.", "forget", "T2", "Yes, this is a circle."
    ),
    Sample("What is a stripe?", "A stripe is a blob.", None, "a blob", "forget", "T1", FACTS["stripe"]),
    Sample("What is a circle?", FACTS["circle"], None, None, "retain", "T3"),
    Sample("What is a cross?", FACTS["cross"], None, None, "retain", "T4"),
    Sample("What object is in the image?", "This is a square.", OTHER, None, "retain", "protected"),
]
"""The truths are what the knowing model has learned to say."""
REQUEST = Request(Concept("circle", "thing"), (PICTURE,))
FORGET, RETAIN = BUILT[:3], BUILT[3:]
TRAINING = [n for n in REGISTRY if get_method(n).trains]
LORA = [n for n in REGISTRY if issubclass(get_method(n), LoraMethod)]
TWO_TERMS = [n for n in REGISTRY if issubclass(get_method(n), ForgetRetain)]
SUPPRESSING = [n for n in REGISTRY if "truth" in get_method(n).data]


def prepared(vlm: VisionLanguageModel, name: str, seed: int = 0, **changes: Any) -> tuple[Method[Any], list[Sample]]:
    method = make_method(name, "default", changes)
    samples = method.samples(BUILT, seed)
    method.attach(vlm, seed)
    method.prepare(Encoded(vlm, samples, method.reference, method.pairs), REQUEST)
    remove_lora(vlm)
    return method, samples


# ---- the loss


@dataclasses.dataclass
class Told:
    """One answer, asked for in a forward of its own."""

    ids: list[int]
    found: torch.Tensor
    original: torch.Tensor

    @property
    def log_prob(self) -> torch.Tensor:
        return self.found[range(len(self.ids)), self.ids].sum()

    @property
    def original_log_prob(self) -> torch.Tensor:
        return self.original[range(len(self.ids)), self.ids].sum()

    @property
    def ratio(self) -> torch.Tensor:
        return self.log_prob - self.original_log_prob


def told(vlm: VisionLanguageModel, sample: Sample, text: str) -> Told:
    ids = [*vlm.tokenizer(text, add_special_tokens=False)["input_ids"], vlm.prompter.end_id]
    found = plain_logits(vlm, sample.picture, sample.question, text).log_softmax(-1)
    with torch.no_grad(), vlm.original():
        original = plain_logits(vlm, sample.picture, sample.question, text).log_softmax(-1)
    return Told(ids, found, original)


def tokens(answers: Sequence[Told]) -> int:
    return sum(len(a.ids) for a in answers)


def ce(answers: Sequence[Told]) -> torch.Tensor:
    return -sum((a.log_prob for a in answers), torch.zeros(())) / tokens(answers)


def kl(answers: Sequence[Told]) -> torch.Tensor:
    total = sum(((a.original.exp() * (a.original - a.found)).sum() for a in answers), torch.zeros(()))
    return total / tokens(answers)


def preferring(margins: Sequence[torch.Tensor], beta: float) -> torch.Tensor:
    return sum((2 / beta * torch.log1p(torch.exp(-beta * m)) for m in margins), torch.zeros(())) / len(margins)


def lowered(answers: Sequence[Told], beta: float) -> torch.Tensor:
    total = torch.zeros(())
    for a in answers:
        for t, token in enumerate(a.ids):
            wanted = a.original[t].clone()
            wanted[token] -= beta
            total = total - (wanted.exp() / wanted.exp().sum() * a.found[t]).sum()
    return total / tokens(answers)


def plain_rmu(
    vlm: VisionLanguageModel, settings: Any, forget: Sequence[Sample], retain: Sequence[Sample]
) -> dict[str, torch.Tensor]:
    """Every position of every layer through the whole model; u is seeded with 0."""
    layer = max(1, round(settings.depth * vlm.depth))

    def states(sample: Sample) -> torch.Tensor:
        return plain_states(vlm, sample, layer)

    with torch.no_grad(), vlm.original():
        held = torch.cat([states(x) for x in retain])
        length = torch.cat([states(x) for x in forget]).square().sum(-1).sqrt().mean()
    u = torch.rand(held.shape[1], generator=torch.Generator().manual_seed(0))
    u = u / u.square().sum().sqrt()
    c = settings.steering * length
    far = (torch.cat([states(x) for x in forget]) - c * u).square().sum(-1).mean()
    moved = (torch.cat([states(x) for x in retain]) - held).square().sum(-1).mean()
    return {"forget": far / c**2, "retain": settings.retain_weight * moved / length**2}


def plain_terms(vlm: VisionLanguageModel, method: Method[Any], samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    """The papers' formulas over separate forwards: no packing, no padding, no masks."""
    s = method.settings
    forget = [x for x in samples if x.role == "forget"]
    said = [told(vlm, x, x.answer) for x in forget]
    held = [told(vlm, x, x.answer) for x in samples if x.role == "retain"]
    if method.name == "rmu":
        return plain_rmu(vlm, s, forget, [x for x in samples if x.role == "retain"])
    if method.name in ("task-vector", "retrain"):
        return {"learn": ce(said or held)}
    if method.name in ("ga", "gd", "kl", "mmunlearner"):
        terms = {"forget": -ce(said)}
    elif method.name == "po":
        terms = {"forget": ce(said)}
    elif method.name == "dpo":
        rejected = [told(vlm, x, x.truth or "") for x in forget]
        margins = [a.ratio - b.ratio for a, b in zip(said, rejected, strict=True)]
        terms = {"forget": preferring(margins, s.beta)}
    elif method.name == "npo":
        terms = {"forget": preferring([-a.ratio for a in said], s.beta)}
    elif method.name == "simnpo":
        terms = {"forget": preferring([-a.log_prob / len(a.ids) - s.gamma / s.beta for a in said], s.beta)}
    else:
        assert method.name == "undial"
        terms = {"forget": lowered(said, s.beta)}
    if held:
        terms["retain"] = s.retain_weight * (kl(held) if method.name == "kl" else ce(held))
    return terms


def packed_terms(
    vlm: VisionLanguageModel, method: Method[Any], encoded: Encoded, parts: Sequence[Sequence[int]]
) -> dict[str, torch.Tensor]:
    """The trainer's way, the step's samples cut into the given micro-steps."""
    totals = encoded.totals([i for part in parts for i in part])
    terms: dict[str, torch.Tensor] = {}
    for part in parts:
        for batch, _ in encoded.micro_batches(part):
            states = method.read(vlm, batch, encoded.layer)
            for name, value in method.loss(method.output(vlm, states), batch, totals).items():
                terms[name] = terms.get(name, torch.zeros(())) + value
    return terms


def gradients(vlm: VisionLanguageModel, terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    vlm.model.zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    return {n: p.grad.clone() for n, p in vlm.model.named_parameters() if p.grad is not None}


def both(vlm: VisionLanguageModel, terms: dict[str, torch.Tensor]) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """The terms and the gradients of their sum."""
    return {n: v.item() for n, v in terms.items()}, gradients(vlm, terms)


def same(
    found: tuple[dict[str, float], dict[str, torch.Tensor]], wanted: tuple[dict[str, float], dict[str, torch.Tensor]]
) -> None:
    (terms, got), (expected_terms, expected) = found, wanted
    assert terms == pytest.approx(expected_terms, rel=1e-4)
    assert got.keys() == expected.keys() and any("lora_A" in n for n in got)
    scale = max(float(v.abs().max()) for v in expected.values())
    for name, value in expected.items():
        assert close(got[name], value) or float((got[name] - value).abs().max()) < 1e-5 * scale, name


CHANGES: dict[str, dict[str, Any]] = {
    "simnpo": {"gamma": 0.5, "beta": 0.3},
    "undial": {"retain_weight": 0.5},
    "gd": {"retain_weight": 3.0},
    "rmu": {"steering": 0.7, "retain_weight": 2.0},
}
"""Settings with which every part of a loss takes part."""


@pytest.mark.parametrize(
    ("name", "first_layer"), [*((n, 0) for n in LORA if n not in ("siu", "smfa")), ("dpo", 1), ("npo", 1)]
)  # SIU has a test of its own, and so has SMFA with its two adapters
def test_the_loss_and_its_gradients_equal_the_plain_computation(
    tiny: VisionLanguageModel, name: str, first_layer: int
) -> None:
    """Answers of several lengths, in padded rows, behind prompts: only answer tokens count, each by its own label."""
    method, samples = prepared(tiny, name, **CHANGES.get(name, {}))
    loosen(tiny, first_layer)
    encoded = Encoded(tiny, samples, method.reference, method.pairs)
    assert encoded.layer == first_layer
    found = both(tiny, packed_terms(tiny, method, encoded, [range(len(samples))]))
    same(found, both(tiny, plain_terms(tiny, method, samples)))
    assert all(abs(v) > 1e-3 for v in found[0].values())


@pytest.mark.parametrize("name", [n for n in LORA if n != "smfa"])
def test_packed_batched_and_accumulated_agree(tiny: VisionLanguageModel, name: str) -> None:
    method, samples = prepared(tiny, name, **CHANGES.get(name, {}))
    loosen(tiny)
    encoded = Encoded(tiny, samples, method.reference, method.pairs)
    every = list(range(len(samples)))
    whole = both(tiny, packed_terms(tiny, method, encoded, [every]))
    one_by_one = [[i] for i in reversed(every)]
    mixed = [every[::2], every[1::2]]
    for parts in (one_by_one, mixed):
        same(both(tiny, packed_terms(tiny, method, encoded, parts)), whole)


@pytest.mark.parametrize("name", [n for n in LORA if n != "smfa"])
def test_a_part_of_the_answers_at_a_time_gives_the_same_gradients(
    tiny: VisionLanguageModel, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With parts of one sample, the smallest there are."""
    monkeypatch.setattr("unsee.methods.batch.PART", 1)
    method, samples = prepared(tiny, name, **CHANGES.get(name, {}))
    loosen(tiny)
    encoded = Encoded(tiny, samples, method.reference, method.pairs)
    every = range(len(samples))
    counts = [(len(list(b.parts(7))), len(set(owners))) for b, owners in encoded.micro_batches(every)]
    assert all(parts == asked for parts, asked in counts) and max(counts) > (1, 1)
    whole = both(tiny, packed_terms(tiny, method, encoded, [every]))
    tiny.model.zero_grad()
    terms = library.gradients(method, encoded, every)
    same((terms, {n: p.grad.clone() for n, p in tiny.model.named_parameters() if p.grad is not None}), whole)


def test_parts_are_as_large_as_they_may_be(tiny: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    _, samples = prepared(tiny, "dpo")
    encoded = Encoded(tiny, samples, "labels", pairs=True)
    for batch, _ in encoded.micro_batches(range(len(samples))):
        assert batch.reference is not None
        sizes = batch.sample.unique_consecutive(return_counts=True)[1].tolist()
        for most in (1, max(sizes), sum(sizes) - 1, sum(sizes)):
            monkeypatch.setattr("unsee.methods.batch.PART", most * 100)
            parts = list(batch.parts(100))
            assert torch.equal(torch.cat([p.tensors.labels for _, p in parts]), batch.tensors.labels)
            assert torch.equal(torch.cat([batch.reference[rows] for rows, _ in parts]), batch.reference)
            for rows, part in parts:
                assert len(part.sample) <= most or len(part.sample.unique()) == 1
                assert torch.equal(part.sample, batch.sample[rows])
            assert most < sum(sizes) or len(parts) == 1


@pytest.mark.parametrize("name", LORA)
def test_the_reference_is_the_original_whatever_is_on_the_model(tiny: VisionLanguageModel, name: str) -> None:
    method, samples = prepared(tiny, name)
    before = Encoded(tiny, samples, method.reference, method.pairs)
    loosen(tiny)
    after = Encoded(tiny, samples, method.reference, method.pairs)
    assert before.reference.keys() == after.reference.keys()
    assert all(torch.equal(before.reference[n], after.reference[n]) for n in before.reference)
    width = {"none": None, "labels": (), "vocabulary": (tiny.vocabulary_size,)}[method.reference]
    if width is None:
        assert not before.reference
    else:  # a method that needs the labels' log-probabilities alone keeps no more
        wanted = {n: (len(s.answer_ids), *width) for n, s in enumerate(before.suffixes)}
        assert {n: tuple(v.shape) for n, v in before.reference.items()} == wanted


def test_the_reference_of_the_labels_is_theirs_in_the_vocabularys(tiny: VisionLanguageModel) -> None:
    whole, labels = (Encoded(tiny, RETAIN, kind).reference for kind in ("vocabulary", "labels"))
    for i, sample in enumerate(RETAIN):
        ids = torch.tensor([*tiny.tokenizer(sample.answer)["input_ids"], tiny.prompter.end_id])
        assert torch.allclose(labels[i], whole[i].gather(1, ids[:, None])[:, 0], atol=1e-5)


# ---- pairs


def test_the_two_answers_of_a_pair_stay_together(tiny: VisionLanguageModel) -> None:
    """Also where they hang on no picture, and however long they are."""
    lengths = (1, 30, 2, 60, 9, 3)
    texts = [
        Sample("What is it?", "No. " * n, None, None, "forget", "T1", "A circle is round. " * (7 - i))
        for i, n in enumerate(lengths)
    ]
    samples = [*texts, *make_method("dpo").samples(BUILT)]
    encoded = Encoded(tiny, samples, "labels", pairs=True)
    batches = list(encoded.micro_batches(range(len(samples))))
    assert len(batches) > 1
    seen: list[int] = []
    for batch, owners in batches:
        for i in set(owners):
            own = batch.sample == i
            sides = {side: batch.tensors.labels[own & (batch.rejected == side)].tolist() for side in (False, True)}
            suffixes = [list(encoded.suffixes[n].answer_ids) for n in encoded.of_sample[i]]
            assert [sides[False], *([sides[True]] if sides[True] else [])] == suffixes
            assert bool(sides[True]) == (samples[i].role == "forget")
            seen.append(i)
    assert sorted(seen) == list(range(len(samples)))
    totals = encoded.totals(range(len(samples)))
    assert totals.forget_samples == len(texts) + len(FORGET)
    assert (
        totals.forget_tokens + totals.retain_tokens == totals.tokens == sum(len(s.answer_ids) for s in encoded.suffixes)
    )
    assert totals.retain_tokens == sum(len(encoded.suffixes[n].answer_ids) for i, s in enumerate(samples)
                                       if s.role == "retain" for n in encoded.of_sample[i])  # fmt: skip


def test_a_pair_needs_its_truth(tiny: VisionLanguageModel) -> None:
    with pytest.raises(UnseeError, match=r"'What is it\?' has no truth"):
        Encoded(tiny, [Sample("What is it?", "No.", None, None, "forget")], "labels", pairs=True)


def test_parts_of_a_batch_are_told_by_their_role(tiny: VisionLanguageModel) -> None:
    encoded = Encoded(tiny, BUILT)
    for batch, _ in encoded.micro_batches(range(len(BUILT))):
        logits = torch.randn(len(batch.tensors.labels), 5)
        forget, retain = batch.of("forget", logits), batch.of("retain", logits)
        assert len(forget.labels) + len(retain.labels) == len(logits)
        assert all(BUILT[i].role == "forget" for i in forget.sample) and not forget.rejected.any()
        assert all(BUILT[i].role == "retain" for i in retain.sample)
        assert torch.equal(logits[batch.roles], forget.logits) and retain.reference is None


# ---- what moves


Weights = dict[str, torch.Tensor]
MAY_MOVE: dict[str, Callable[[str], bool]] = {
    "LoRA on the language model": lambda name: "lora_" in name and ".language_model." in name,
    "the vision tower's upper layers, the projector where asked": lambda name: (
        ".vision_tower." in name and ".layers.1.modules_to_save." in name
    ),
    "columns of the linear layers that end the MLPs of V and W": lambda name: ".modules_to_save.default.weight" in name,
    "some columns of the linear layers that end the MLPs of V and W": lambda name: (
        ".mlp." in name and "lora_B." in name
    ),
}
"""By what a method says of itself: which parameters it may move; all others stay as they are, bit for bit."""


def weights(vlm: VisionLanguageModel) -> Weights:
    return {n: p.detach().clone() for n, p in vlm.model.named_parameters()}


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
    remove_lora(knowing)
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
        if "lora_A." in n:  # it says which columns B moves, and moves nothing itself
            assert after[n].sum(1).tolist() == [1] * len(after[n]) and after[n].count_nonzero() == len(after[n])
        else:
            assert torch.equal(after[n], original[plain_name(n)]), n
    if name in TWO_TERMS:
        assert steps[-1]["terms"]["forget"] < steps[0]["terms"]["forget"]
    if name in SUPPRESSING:
        assert log_prob_of_truth(knowing) < likely
    remove_lora(knowing)
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
    quick: dict[str, Any] = {"pruned_share": 0.3}
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


@pytest.mark.parametrize("name", [n for n in REGISTRY if n not in ("siu", "retrain")])
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
