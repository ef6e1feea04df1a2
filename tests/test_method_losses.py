"""The loss of every method, packed, cut into parts and paired, equals the plain computation; gradients too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain import loosen
from plain_losses import both, packed_terms, plain_terms, same
from small_runs import BUILT, FORGET, LORA, RETAIN, prepared

from unsee.data import Sample
from unsee.errors import UnseeError
from unsee.methods import gradients as library
from unsee.methods import make_method
from unsee.methods.encoded import Encoded
from unsee.models import VisionLanguageModel

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
    hidden = tiny.base.config.get_text_config().hidden_size
    width = {"none": None, "labels": (), "vocabulary": (hidden,)}[method.reference]
    if width is None:
        assert not before.reference
    else:  # a method that needs the labels' log-probabilities alone keeps no more, one that needs all keeps states
        wanted = {n: (len(s.answer_ids), *width) for n, s in enumerate(before.suffixes)}
        assert {n: tuple(v.shape) for n, v in before.reference.items()} == wanted


def test_the_reference_of_the_labels_is_theirs_in_the_vocabularys(tiny: VisionLanguageModel) -> None:
    """Also where an adapter is on the model by the time they are asked for."""
    states, labels = (Encoded(tiny, RETAIN, kind) for kind in ("vocabulary", "labels"))
    loosen(tiny)
    for i, sample in enumerate(RETAIN):
        ids = torch.tensor([*tiny.tokenizer(sample.answer)["input_ids"], tiny.prompter.end_id])
        whole = states.over_vocabulary(states.reference[i])
        assert whole.shape == (len(ids), tiny.vocabulary_size) and not whole.requires_grad
        assert torch.allclose(labels.reference[i], whole.gather(1, ids[:, None])[:, 0], atol=1e-5)


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
