"""The losses of GA, KL, DPO, NPO, SimNPO and UNDIAL against plain numpy, finite differences, and what papers say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_losses import Array, example, mask, numpy_log_softmax

from unsee.losses import (
    answer_cross_entropy,
    dpo,
    dual_masked_kl,
    kl_divergence,
    label_log_probs,
    npo,
    simnpo,
    sums_by_sample,
    undial,
)

LABELS = torch.tensor([6, 0, 3, 3, 1, 5])
SAMPLE = torch.tensor([4, 4, 9, 9, 9, 2])
"""Three answers of 2, 3 and 1 tokens; the numbers are those of samples of a larger whole."""
PAIRED = torch.tensor([4, 4, 9, 9, 4, 9])
REJECTED = mask("011010")


def six() -> tuple[torch.Tensor, torch.Tensor]:
    return example(6, 7, seed=11)


def of_labels(reference: torch.Tensor) -> torch.Tensor:
    return reference.gather(1, LABELS[:, None])[:, 0]


# ---- the formulas, as the loops that they are


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > -30 else x


def numpy_kl(logits: Array, reference: Array) -> float:
    found, total = numpy_log_softmax(logits), 0.0
    for t in range(len(found)):
        for v in range(found.shape[1]):
            total += math.exp(reference[t, v]) * (reference[t, v] - found[t, v])
    return total


def numpy_dpo(logits: Array, reference: Array, sample: Array, rejected: Array, beta: float) -> float:
    found, total = numpy_log_softmax(logits), 0.0
    for number in set(sample.tolist()):
        margin = 0.0
        for t in np.flatnonzero(sample == number):
            ratio = found[t, LABELS[t]] - reference[t, LABELS[t]]
            margin += -ratio if rejected[t] else ratio
        total += -2 / beta * log_sigmoid(beta * margin)
    return total


def numpy_simnpo(logits: Array, sample: Array, beta: float, gamma: float) -> float:
    found, total = numpy_log_softmax(logits), 0.0
    for number in set(sample.tolist()):
        own = [found[t, LABELS[t]] for t in np.flatnonzero(sample == number)]
        total += -2 / beta * log_sigmoid(-beta * sum(own) / len(own) - gamma)
    return total


def numpy_undial(logits: Array, reference: Array, beta: float) -> float:
    found, total = numpy_log_softmax(logits), 0.0
    for t in range(len(found)):
        lowered = reference[t].copy()
        lowered[LABELS[t]] -= beta
        wanted = np.exp(lowered) / np.exp(lowered).sum()
        total -= float((wanted * found[t]).sum())
    return total


@dataclass(frozen=True)
class Case:
    """A loss on chosen tokens of the six, the same in numpy, and how the tokens form samples."""

    loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int | None], torch.Tensor]
    plain: Callable[[Array, Array], float]
    count: int
    sample: torch.Tensor = SAMPLE


def npo_case(beta: float) -> Case:
    return Case(
        lambda x, r, at, n: npo(x[at], LABELS[at], of_labels(r)[at], SAMPLE[at], beta, n),
        lambda x, r: numpy_dpo(x, r, SAMPLE.numpy(), np.ones(6), beta),
        3,
    )


def simnpo_case(beta: float, gamma: float) -> Case:
    return Case(
        lambda x, r, at, n: simnpo(x[at], LABELS[at], SAMPLE[at], beta, gamma, n),
        lambda x, r: numpy_simnpo(x, SAMPLE.numpy(), beta, gamma),
        3,
    )


def undial_case(beta: float) -> Case:
    return Case(lambda x, r, at, n: undial(x[at], LABELS[at], r[at], beta, n), lambda x, r: numpy_undial(x, r, beta), 6)


CASES = {
    "kl": Case(lambda x, r, at, n: kl_divergence(x[at], r[at], n), numpy_kl, 6),
    "npo": npo_case(0.1),
    "npo, beta 3": npo_case(3.0),
    "dpo": Case(
        lambda x, r, at, n: dpo(x[at], LABELS[at], of_labels(r)[at], PAIRED[at], REJECTED[at], 0.7, n),
        lambda x, r: numpy_dpo(x, r, PAIRED.numpy(), REJECTED.numpy(), 0.7),
        2,
        PAIRED,
    ),
    "simnpo": simnpo_case(4.5, 0.0),
    "simnpo, gamma 2": simnpo_case(2.5, 2.0),
    "undial": undial_case(10.0),
    "undial, beta 1": undial_case(1.0),
}
ALL = torch.arange(6)


@pytest.mark.parametrize("name", CASES)
def test_losses_equal_plain_numpy(name: str) -> None:
    case, (logits, reference) = CASES[name], six()
    wanted = case.plain(logits.numpy(), reference.numpy())
    for count, divisor in ((None, case.count), (1, 1), (17, 17)):
        assert case.loss(logits, reference, ALL, count).item() == pytest.approx(wanted / divisor, rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_finite_differences_of_the_numpy_formula(name: str) -> None:
    case, (logits, reference) = CASES[name], six()
    logits.requires_grad_(True)
    case.loss(logits, reference, ALL, 5).backward()
    assert logits.grad is not None
    step, at = 1e-6, logits.detach().numpy()
    for place in np.ndindex(*at.shape):
        up, down = at.copy(), at.copy()
        up[place] += step
        down[place] -= step
        slope = (case.plain(up, reference.numpy()) - case.plain(down, reference.numpy())) / (2 * step) / 5
        assert logits.grad[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_no_tokens_are_no_loss(name: str) -> None:
    """A micro-batch may hold no sample of a role; the step goes on."""
    logits, reference = six()
    logits.requires_grad_(True)
    for count in (None, 4):
        found = CASES[name].loss(logits, reference, ALL[:0], count)
        assert found.item() == 0
        found.backward()
    assert logits.grad is not None and logits.grad.abs().max() == 0


@pytest.mark.parametrize("name", CASES)
def test_parts_of_a_step_sum_to_the_whole(name: str) -> None:
    """Whatever the micro-batches are, as long as no sample is torn; the counts are those of the whole step."""
    case, (logits, reference) = CASES[name], six()
    whole = case.loss(logits, reference, ALL, None)
    parts = [(case.sample == n).nonzero()[:, 0] for n in case.sample.unique().flip(0)]
    assert len(parts) > 1
    total = sum(case.loss(logits, reference, part, case.count).item() for part in parts)
    assert total == pytest.approx(whole.item(), rel=1e-9)


def test_sums_by_sample() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    assert sums_by_sample(values, SAMPLE).tolist() == [32, 3, 28]  # of the samples 2, 4 and 9
    assert sums_by_sample(values, SAMPLE.flip(0)).tolist() == [1, 48, 14]


# ---- what the papers say of them


def test_kl_is_the_unmasked_dmk_and_zero_only_at_the_original() -> None:
    logits, reference = six()
    everything = torch.ones(6, dtype=torch.bool), torch.ones(7, dtype=torch.bool)
    assert kl_divergence(logits, reference).item() == pytest.approx(
        dual_masked_kl(logits, reference, *everything).item()
    )
    assert kl_divergence(reference - 2.5, reference).item() == pytest.approx(0, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 30), st.floats(0.01, 20))
def test_signs(seed: int, spread: float, beta: float) -> None:
    logits, reference = example(6, 7, seed, spread)
    assert kl_divergence(logits, reference).item() >= -1e-9
    assert npo(logits, LABELS, of_labels(reference), SAMPLE, beta).item() >= 0
    assert simnpo(logits, LABELS, SAMPLE, beta).item() >= 0
    lowered = (reference - beta * torch.nn.functional.one_hot(LABELS, 7)).softmax(-1)
    entropy = -(lowered * lowered.clamp(min=1e-300).log()).sum(-1).mean()
    assert undial(logits, LABELS, reference, beta).item() >= entropy.item() - 1e-9


def gradient(loss: Callable[[torch.Tensor], torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
    at = logits.clone().requires_grad_(True)
    return torch.autograd.grad(loss(at), at)[0]


def test_npo_becomes_gradient_ascent_as_beta_goes_to_zero() -> None:
    logits, reference = six()
    ascent = gradient(lambda x: label_log_probs(x, LABELS).sum() / 3, logits)
    found = gradient(lambda x: npo(x, LABELS, of_labels(reference), SAMPLE, 1e-6), logits)
    assert torch.allclose(found, ascent, atol=1e-5)


def test_npo_lets_go_of_what_is_forgotten_already() -> None:
    """Its weight on a sample is 2 P_hat^beta / (P_hat^beta + P^beta): 1 at the original, 0 once all is forgotten."""
    _, reference = six()
    labels = of_labels(reference)
    ascent = gradient(lambda x: label_log_probs(x, LABELS).sum() / 3, reference)
    assert torch.allclose(gradient(lambda x: npo(x, LABELS, labels, SAMPLE, 0.1), reference), ascent)
    assert torch.allclose(gradient(lambda x: npo(x, LABELS, labels + 200, SAMPLE, 0.1), reference), ascent * 0)


def test_dpo_begins_as_cross_entropy_of_the_preferred_less_that_of_the_rejected() -> None:
    _, reference = six()
    signs = torch.where(REJECTED, 1.0, -1.0)
    for beta in (0.01, 0.1, 5.0):
        found = gradient(lambda x, b=beta: dpo(x, LABELS, of_labels(reference), PAIRED, REJECTED, b), reference)  # type: ignore[misc]
        wanted = gradient(lambda x: (signs * label_log_probs(x, LABELS)).sum() / 2, reference)
        assert torch.allclose(found, wanted)


def test_npo_is_dpo_with_nothing_preferred() -> None:
    logits, reference = six()
    every = torch.ones(6, dtype=torch.bool)
    one, other = (
        npo(logits, LABELS, of_labels(reference), SAMPLE, 0.3),
        dpo(logits, LABELS, of_labels(reference), SAMPLE, every, 0.3),
    )
    assert torch.equal(one, other)


def test_simnpo_does_not_prefer_long_answers() -> None:
    """The same answer said twice over counts as much; NPO's sum counts it double."""
    logits, _ = example(2, 7, seed=4)
    once = simnpo(logits, LABELS[:2], torch.zeros(2, dtype=torch.long), 4.5)
    twice = simnpo(logits.repeat(2, 1), LABELS[:2].repeat(2), torch.zeros(4, dtype=torch.long), 4.5)
    assert once.item() == pytest.approx(twice.item())


def test_undial_of_strength_zero_is_plain_distillation() -> None:
    _, reference = six()
    assert gradient(lambda x: undial(x, LABELS, reference, 0.0), reference).abs().max() < 1e-12


def test_undial_lowers_the_truth_and_keeps_the_proportions_of_the_rest() -> None:
    _, reference = six()
    logits = reference.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = undial(logits, LABELS, reference, 3.0)
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    learned = logits.detach().log_softmax(-1) - reference
    for t, label in enumerate(LABELS.tolist()):
        others = [v for v in range(7) if v != label]
        assert float(learned[t, others].std()) < 1e-3  # all moved by the same
        assert float(learned[t, others].mean() - learned[t, label]) == pytest.approx(3.0, abs=1e-2)


# ---- what public code gets wrong


def test_prompt_and_padding_are_no_part_of_a_loss() -> None:
    """A padded batch with labels of -100, as public trainers have it. Their UNDIAL takes -100 as an index into the
    vocabulary, their KL and UNDIAL average over every position; both give another number."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 6, 200, generator=generator, dtype=torch.float64)
    teacher = torch.randn(2, 6, 200, generator=generator, dtype=torch.float64).log_softmax(-1)
    labels = torch.tensor([[-100, -100, 7, 8, 9, -100], [-100, 5, 6, -100, -100, -100]])
    answer = labels != -100
    found = undial(logits[answer], labels[answer], teacher[answer], 10.0)
    held = kl_divergence(logits[answer], teacher[answer])
    said, shifts = [], []
    for row, place in answer.nonzero().tolist():
        lowered = teacher[row, place].clone()
        lowered[labels[row, place]] -= 10.0
        said.append(-(lowered.softmax(-1) * logits[row, place].log_softmax(-1)).sum())
        own = teacher[row, place]
        shifts.append((own.exp() * (own - logits[row, place].log_softmax(-1))).sum())
    assert found.item() == pytest.approx(float(sum(said)) / 5) and held.item() == pytest.approx(float(sum(shifts)) / 5)

    wrong = teacher.clone()
    wrong.scatter_add_(-1, (labels % 200)[..., None], torch.full((2, 6, 1), -10.0, dtype=torch.float64))
    public = -(wrong.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()
    everywhere = (teacher.exp() * (teacher - logits.log_softmax(-1))).sum(-1).mean()
    assert abs(public.item() - found.item()) > 0.01 and abs(everywhere.item() - held.item()) > 0.01


def test_a_batch_mean_is_not_the_mean_of_means() -> None:
    """Long and short answers: tokens weigh alike in CE and KL, samples alike in NPO, whatever the micro-batches."""
    logits, _ = six()
    groups = [(n == SAMPLE).nonzero()[:, 0] for n in torch.tensor([4, 9, 2])]
    means = [answer_cross_entropy(logits[at], LABELS[at]) for at in groups]
    whole = answer_cross_entropy(logits, LABELS)
    assert abs(whole.item() - float(sum(means)) / 3) > 0.01
    assert whole.item() == pytest.approx(sum(m.item() * k for m, k in zip(means, (2, 3, 1), strict=True)) / 6)
