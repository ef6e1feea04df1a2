"""Which weights matter more for what is to be forgotten than for what is to be kept: Fisher ratios."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

import torch
from torch import nn

from unsee.errors import UnseeError
from unsee.losses import answer_cross_entropy
from unsee.methods.encoded import Encoded

Weights = dict[nn.Parameter, torch.Tensor]
Of = TypeVar("Of")


def fisher(encoded: Encoded, role: Literal["forget", "retain"], most: int = 24) -> Weights:
    """Diagonal Fisher information of the trainable weights: the mean squared gradient of the answers' cross-entropy.

    Args:
        encoded: the samples.
        role: of those looked at.
        most: how many gradients are squared and averaged. One is taken for each picture (with all its questions)
            and each text; where there are more, they are taken at even distances.

    Returns:
        A tensor of the weight's shape for each trainable weight; all are at least 0.
    """
    groups = encoded.by_input(role)
    chosen = groups[:: max(1, -(-len(groups) // most))]
    weights = [p for p in encoded.vlm.model.parameters() if p.requires_grad]
    sums = [torch.zeros_like(p) for p in weights]
    for members in chosen:
        totals, loss = encoded.totals(members), torch.zeros((), device=encoded.vlm.device)
        for batch, _ in encoded.micro_batches(members):
            logits = encoded.vlm.logits(batch.tensors, batch.entering, encoded.layer)
            loss = loss + answer_cross_entropy(logits, batch.tensors.labels.to(logits.device), totals.tokens)
        scaled = torch.autograd.grad(encoded.loss_scale * loss, weights, allow_unused=True)
        for total, gradient in zip(sums, scaled, strict=True):
            if gradient is not None:
                total += (gradient.float() / encoded.loss_scale).square().to(total.dtype) / len(chosen)
    return dict(zip(weights, sums, strict=True))


def forget_mask(
    forget: Mapping[Of, torch.Tensor],
    retain: Mapping[Of, torch.Tensor],
    threshold: float,
    setting: str = "mask_threshold",
) -> dict[Of, torch.Tensor]:
    """`m = 1[F_f / (F_r + eps) >= threshold]`, each side divided by its mean over everything first.

    Args:
        forget, retain: what matters for D_f and for D_r, at least 0: Fisher information of weights, or activations.
        threshold: of the ratio; 1: what matters more, relatively, for D_f.
        setting: by whose name an error tells the threshold.

    Returns:
        Bool masks, of the same shapes.

    Raises:
        UnseeError: the mask selects nothing, or everything.
    """
    means = []
    for side in (forget, retain):
        total, count = sum(float(v.sum()) for v in side.values()), sum(v.numel() for v in side.values())
        means.append(max(total / max(1, count), 1e-30))
    masks = {of: f / means[0] >= threshold * (retain[of] / means[1] + 1e-8) for of, f in forget.items()}
    kept, count = sum(int(m.sum()) for m in masks.values()), sum(m.numel() for m in masks.values())
    if kept in (0, count):
        which = "nothing at all" if kept == 0 else "everything"
        raise UnseeError(f"the mask selects {which} at {setting} = {threshold:g}; choose another threshold")
    return masks
