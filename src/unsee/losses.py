"""Losses as pure functions on tensors, each with its equation and its paper."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def answer_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, count: int | None = None) -> torch.Tensor:
    """Cross-entropy over answer tokens only: `-1/count * sum_t log P(y_t)`.

    Args:
        logits: `[tokens, vocabulary]` at the positions that predict answer tokens.
        labels: `[tokens]`, the answer tokens.
        count: tokens of the whole optimiser step, so that packed, batched and accumulated steps agree;
            None: of this call.

    Returns:
        A scalar, at least 0; 0 where there are no tokens.
    """
    return F.cross_entropy(logits, labels, reduction="sum") / max(1, len(labels) if count is None else count)


def dual_masked_kl(
    logits: torch.Tensor,
    reference: torch.Tensor,
    keep_token: torch.Tensor,
    keep_vocabulary: torch.Tensor,
    count: int | None = None,
) -> torch.Tensor:
    """Dual Masked KL of SIU (arXiv 2405.12523):

    `L_DMK = sum_t K_S[t] sum_v K_V[v] P(v) log(P(v) / P_hat(v)) / count`

    with P the original model and P_hat the trained one. The unmasked entries are *not* renormalised: the
    missing mass is what lets the concept's name go down. So a masked term may be negative, by at most 1/e a
    position; with nothing masked it is a KL divergence, at least 0.

    Args:
        logits: `[tokens, vocabulary]` of the trained model, at prediction positions.
        reference: `[tokens, vocabulary]` log-probabilities of the original model at the same positions.
        keep_token: `[tokens]` bool, K_S: False where the token lies in the target phrase.
        keep_vocabulary: `[vocabulary]` bool, K_V: False for tokens of the concept's name.
        count: unmasked positions of the whole optimiser step; None: of this call.

    Returns:
        A scalar; 0 where every token is masked.
    """
    kept = int(keep_token.sum()) if count is None else count
    if not keep_token.any():
        return logits.sum() * 0.0
    wanted = reference.to(logits.dtype)
    weight = wanted.exp() * keep_vocabulary
    # log P_hat = logits - logsumexp(logits), but no second `[tokens, vocabulary]` is made of them.
    terms = (weight * (wanted - logits)).sum(-1) + weight.sum(-1) * logits.logsumexp(-1)
    return terms[keep_token].sum() / max(1, kept)


def kl_divergence(logits: torch.Tensor, reference: torch.Tensor, count: int | None = None) -> torch.Tensor:
    """How far the trained model has moved from the original, over answer tokens only:

    `L = 1/count * sum_t sum_v P(v) log(P(v) / P_hat(v))`

    with P the original and P_hat the trained model; the retain term of KL minimisation in TOFU
    (arXiv 2401.06121).

    Args:
        logits: `[tokens, vocabulary]` of the trained model, at prediction positions.
        reference: `[tokens, vocabulary]` log-probabilities of the original at the same positions.
        count: tokens of the whole optimiser step; None: of this call.

    Returns:
        A scalar, at least 0; 0 where there are no tokens.
    """
    found = F.log_softmax(logits, -1)
    total = F.kl_div(found, reference.to(found.dtype), reduction="sum", log_target=True)
    return total / max(1, len(logits) if count is None else count)


def label_log_probs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`log P(y_t)` of each answer token, `[tokens]`, from logits `[tokens, vocabulary]` and labels `[tokens]`."""
    return -F.cross_entropy(logits, labels, reduction="none")


def sums_by_sample(values: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """Sums of a value per token, `[tokens]`, over the tokens of each sample.

    Args:
        values: `[tokens]`.
        sample: `[tokens]`, the number of the sample each token belongs to; numbers may be missing.

    Returns:
        `[samples]`, in the order of the samples' numbers, those without tokens left out.
    """
    present, place = sample.unique(return_inverse=True)
    return values.new_zeros(len(present)).index_add(0, place, values)


def dpo(
    logits: torch.Tensor,
    labels: torch.Tensor,
    reference: torch.Tensor,
    sample: torch.Tensor,
    rejected: torch.Tensor,
    beta: float,
    count: int | None = None,
) -> torch.Tensor:
    """Direct Preference Optimization (arXiv 2305.18290, equation 7), scaled by 2/beta as in NPO (arXiv 2404.05868):

    `L = -2/(beta * count) * sum_s log sigma(beta * (r(y_preferred) - r(y_rejected)))`, `r(y) = log(P_hat(y) / P(y))`

    with log-probabilities summed over an answer. The factor, which the DPO paper does not have, makes the
    gradient where training begins that of `log P_hat(y_rejected) - log P_hat(y_preferred)`, whatever beta is.

    Args:
        logits: `[tokens, vocabulary]` of the trained model, at the prediction positions of both answers.
        labels: `[tokens]`, the answer tokens.
        reference: `[tokens]`, the original's log-probabilities of the labels.
        sample: `[tokens]`, the number of the sample; the two answers of a pair share it.
        rejected: `[tokens]` bool, True in the rejected answer.
        beta: inverse temperature, above 0.
        count: samples of the whole optimiser step; None: of this call.

    Returns:
        A scalar, at least 0; 0 where there are no tokens.
    """
    ratio = label_log_probs(logits, labels) - reference
    margins = sums_by_sample(torch.where(rejected, -ratio, ratio), sample)
    return -2 / beta * F.logsigmoid(beta * margins).sum() / max(1, len(margins) if count is None else count)


def npo(
    logits: torch.Tensor,
    labels: torch.Tensor,
    reference: torch.Tensor,
    sample: torch.Tensor,
    beta: float,
    count: int | None = None,
) -> torch.Tensor:
    """Negative Preference Optimization (arXiv 2404.05868): DPO with a rejected answer alone.

    `L = -2/(beta * count) * sum_s log sigma(-beta * log(P_hat(y_s) / P(y_s)))`

    with log-probabilities summed over an answer. As beta goes to 0 its gradient becomes that of gradient ascent.

    Args:
        logits: `[tokens, vocabulary]` of the trained model, at prediction positions.
        labels: `[tokens]`, the answer tokens, to become less likely.
        reference: `[tokens]`, the original's log-probabilities of the labels.
        sample: `[tokens]`, the number of the sample each token belongs to.
        beta: inverse temperature, above 0.
        count: samples of the whole optimiser step; None: of this call.

    Returns:
        A scalar, at least 0; 0 where there are no tokens.
    """
    return dpo(logits, labels, reference, sample, torch.ones_like(sample, dtype=torch.bool), beta, count)


def simnpo(
    logits: torch.Tensor,
    labels: torch.Tensor,
    sample: torch.Tensor,
    beta: float,
    gamma: float = 0.0,
    count: int | None = None,
) -> torch.Tensor:
    """Simple NPO (arXiv 2410.07163): no reference, the answer's length divided out.

    `L = -2/(beta * count) * sum_s log sigma(-beta/|y_s| * log P_hat(y_s) - gamma)`

    Args:
        logits: `[tokens, vocabulary]` of the trained model, at prediction positions.
        labels: `[tokens]`, the answer tokens, to become less likely.
        sample: `[tokens]`, the number of the sample each token belongs to; all its tokens must be here.
        beta: inverse temperature, above 0.
        gamma: margin, at least 0; beta times what open-unlearning calls `delta`.
        count: samples of the whole optimiser step; None: of this call.

    Returns:
        A scalar, at least 0; 0 where there are no tokens.
    """
    found = label_log_probs(logits, labels)
    means = sums_by_sample(found, sample) / sums_by_sample(torch.ones_like(found), sample)
    return -2 / beta * F.logsigmoid(-beta * means - gamma).sum() / max(1, len(means) if count is None else count)


def undial(
    logits: torch.Tensor, labels: torch.Tensor, reference: torch.Tensor, beta: float, count: int | None = None
) -> torch.Tensor:
    """Self-distillation on adjusted logits, UNDIAL (arXiv 2402.10052), over answer tokens only:

    `L = -1/count * sum_t sum_v Q_t(v) log P_hat(v)`, `Q_t = softmax(log P(v) - beta * [v = y_t])`

    with P the original and P_hat the trained model: the answer's token is lowered, the rest keep their proportions.

    Args:
        logits: `[tokens, vocabulary]` of the trained model, at prediction positions.
        labels: `[tokens]`, the answer tokens, to become less likely.
        reference: `[tokens, vocabulary]` log-probabilities of the original (they differ from its logits by a
            constant a position, which the softmax does not see).
        beta: by how much the answer's token is lowered, at least 0; 0: the original is distilled as it is.
        count: tokens of the whole optimiser step; None: of this call.

    Returns:
        A scalar, at least the entropy of Q; 0 where there are no tokens.
    """
    lowered = reference.to(logits.dtype).scatter_add(-1, labels[:, None], logits.new_full((len(labels), 1), -beta))
    total = F.cross_entropy(logits, lowered.softmax(-1), reduction="sum")
    return total / max(1, len(labels) if count is None else count)


def squared_distance(states: torch.Tensor, wanted: torch.Tensor, count: int | None = None) -> torch.Tensor:
    """`L = 1/count * sum_t |h_t - g_t|^2`, the terms of RMU (arXiv 2403.03218, section 4) but for the width of h.

    Args:
        states: `[tokens, hidden]`, h.
        wanted: `[tokens, hidden]`, g: what they are pulled to.
        count: tokens of the whole optimiser step; None: of this call.

    Returns:
        A scalar, at least 0; 0 where there are no tokens.
    """
    return (states - wanted).square().sum() / max(1, len(states) if count is None else count)
