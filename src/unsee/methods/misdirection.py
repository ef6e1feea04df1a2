"""What methods that pull hidden states elsewhere share: the original's states, and the distance to what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from unsee.losses import squared_distance
from unsee.methods.base import Method
from unsee.methods.batch import Answers
from unsee.methods.encoded import Encoded

States = Mapping[int, torch.Tensor]
"""By number of the sample: `[its answer tokens, hidden]`, at the positions that predict them."""


def original_states(method: Method[Any], encoded: Encoded) -> dict[int, torch.Tensor]:
    """What `method.read` gives of the original model for each sample."""
    vlm = encoded.vlm
    found: dict[int, torch.Tensor] = {}
    with torch.no_grad(), vlm.original():
        for batch, _ in encoded.micro_batches(range(len(encoded.samples))):
            states = method.read(vlm, batch, encoded.layer)
            found |= {int(i): states[(batch.sample == i).to(states.device)] for i in batch.sample.unique()}
    return found


def lengths(states: States, encoded: Encoded) -> torch.Tensor:
    """`[tokens]`: lengths of the states of all samples to be forgotten."""
    return torch.cat([states[i].norm(dim=-1) for i, s in enumerate(encoded.samples) if s.role == "forget"])


def distance(answers: Answers, wanted: States, count: int) -> torch.Tensor:
    """`1/count * sum_t |h_t - g_t|^2`, a scalar, 0 where there are no tokens.

    Args:
        answers: h in the place of the logits.
        wanted: g.
        count: tokens of the whole optimiser step.
    """
    if not len(answers.labels):
        return answers.logits.sum()
    # The tokens of a sample stand together, in their order.
    target = torch.cat([wanted[int(i)] for i in answers.sample.unique_consecutive()])
    return squared_distance(answers.logits, target, count)
