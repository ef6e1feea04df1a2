"""Losses against plain numpy, finite differences, and masks made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_losses import example, mask, numpy_dmk, numpy_log_softmax

from unsee.losses import answer_cross_entropy, dual_masked_kl

MASKS = [
    ("1111", "1111111"),  # nothing masked: a KL divergence
    ("1011", "1111111"),  # a target phrase
    ("1111", "1101011"),  # a name
    ("0110", "0011110"),
    ("0001", "1000000"),
    ("0000", "1111111"),  # all of the answer is target phrase
    ("1111", "0000000"),
]


@pytest.mark.parametrize(("tokens", "vocabulary"), MASKS)
@pytest.mark.parametrize("count", [None, 1, 9])
def test_dmk_equals_plain_numpy(tokens: str, vocabulary: str, count: int | None) -> None:
    logits, reference = example(4, 7, seed=len(tokens) + tokens.count("1"))
    keep_token, keep_vocabulary = mask(tokens), mask(vocabulary)
    found = dual_masked_kl(logits, reference, keep_token, keep_vocabulary, count)
    wanted = numpy_dmk(logits.numpy(), reference.numpy(), keep_token.numpy(), keep_vocabulary.numpy(), count)
    assert found.item() == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_dmk_of_an_example_worked_by_hand() -> None:
    # P = (1/2, 1/4, 1/4), P_hat = (1/4, 1/4, 1/2): the entries are (log 2)/2, 0 and -(log 2)/4.
    reference = torch.tensor([[0.5, 0.25, 0.25]]).log()
    logits = torch.tensor([[0.25, 0.25, 0.5]]).log() + 3.0
    one = torch.ones(1, dtype=torch.bool)
    half = math.log(2) / 2
    for pattern, wanted in (("111", half / 2), ("110", half), ("011", -half / 2), ("010", 0.0)):
        assert dual_masked_kl(logits, reference, one, mask(pattern)).item() == pytest.approx(wanted, abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 9), st.floats(0.1, 30))
def test_dmk_is_at_least_zero_where_nothing_is_masked(seed: int, tokens: int, vocabulary: int, spread: float) -> None:
    logits, reference = example(tokens, vocabulary, seed, spread)
    everything = torch.ones(tokens, dtype=torch.bool), torch.ones(vocabulary, dtype=torch.bool)
    assert dual_masked_kl(logits, reference, *everything).item() >= -1e-9
    assert dual_masked_kl(reference + 1.5, reference, *everything).item() == pytest.approx(0, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_dmk_is_bounded_below_by_one_over_e_a_position(seed: int, data: st.DataObject) -> None:
    logits, reference = example(5, 8, seed, data.draw(st.floats(0.1, 30)))
    keep_token = torch.tensor(data.draw(st.lists(st.booleans(), min_size=5, max_size=5)))
    keep_vocabulary = torch.tensor(data.draw(st.lists(st.booleans(), min_size=8, max_size=8)))
    assert dual_masked_kl(logits, reference, keep_token, keep_vocabulary).item() >= -1 / math.e - 1e-9


def test_dmk_comes_close_to_its_bound() -> None:
    """The bound is reached where the unmasked mass of 1/e becomes everything; so it is not vacuous."""
    reference = torch.tensor([[1 / math.e, 1 - 1 / math.e]], dtype=torch.float64).log()
    logits = torch.tensor([[40.0, 0.0]], dtype=torch.float64)
    found = dual_masked_kl(logits, reference, mask("1"), mask("10")).item()
    assert found == pytest.approx(-1 / math.e, abs=1e-9)


@pytest.mark.parametrize(("tokens", "vocabulary"), MASKS)
def test_dmk_gradient_equals_finite_differences(tokens: str, vocabulary: str) -> None:
    logits, reference = example(4, 7, seed=3)
    logits.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda x: dual_masked_kl(x, reference, mask(tokens), mask(vocabulary), 5), (logits,), atol=1e-6
    )


def test_masked_positions_get_no_gradient_and_masked_entries_no_pull() -> None:
    logits, reference = example(3, 5, seed=1)
    logits.requires_grad_(True)
    dual_masked_kl(logits, reference, mask("101"), mask("11011")).backward()
    assert logits.grad is not None
    assert logits.grad[1].abs().max() == 0
    # d/dz_v = kept mass * P_hat(v) - K_V(v) P(v): a masked entry is only ever pushed down.
    assert bool((logits.grad[[0, 2], 2] > 0).all())


def test_the_reference_takes_no_gradient_and_any_precision() -> None:
    logits, reference = example(4, 7, seed=5)
    wanted = dual_masked_kl(logits.float(), reference.float(), mask("1101"), mask("1110111"))
    half = dual_masked_kl(logits.float(), reference.bfloat16(), mask("1101"), mask("1110111"))
    assert half.dtype == torch.float32 and half.item() == pytest.approx(wanted.item(), rel=0.05)


@pytest.mark.parametrize("cuts", [(3,), (1, 4), (1, 2, 3, 4, 5)])
def test_parts_of_a_step_sum_to_the_whole(cuts: tuple[int, ...]) -> None:
    """Packed, batched and accumulated agree: the counts are those of the whole step."""
    logits, reference = example(6, 7, seed=9)
    keep_token, keep_vocabulary, labels = mask("110101"), mask("1101111"), torch.tensor([0, 3, 6, 2, 2, 1])
    kept = int(keep_token.sum())
    parts = torch.tensor_split(torch.arange(6), cuts)
    dmk = sum(dual_masked_kl(logits[p], reference[p], keep_token[p], keep_vocabulary, kept) for p in parts)
    ce = sum(answer_cross_entropy(logits[p], labels[p], 6) for p in parts)
    assert float(dmk) == pytest.approx(dual_masked_kl(logits, reference, keep_token, keep_vocabulary).item(), rel=1e-9)
    assert float(ce) == pytest.approx(answer_cross_entropy(logits, labels).item(), rel=1e-9)


def test_cross_entropy_equals_plain_numpy() -> None:
    logits, _ = example(4, 7, seed=2)
    labels = torch.tensor([6, 0, 3, 3])
    wanted = -np.mean([numpy_log_softmax(logits.numpy())[t, v] for t, v in enumerate(labels.tolist())])
    assert answer_cross_entropy(logits, labels).item() == pytest.approx(wanted, rel=1e-9)
    assert answer_cross_entropy(logits, labels, 8).item() == pytest.approx(wanted / 2, rel=1e-9)
    assert answer_cross_entropy(logits[:0], labels[:0]).item() == 0
