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
    found = F.log_softmax(logits[keep_token], -1)
    wanted = reference[keep_token].to(found.dtype)
    terms = wanted.exp() * (wanted - found)
    return (terms * keep_vocabulary).sum() / max(1, kept)
