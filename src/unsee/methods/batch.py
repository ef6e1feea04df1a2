"""What a loss is computed from: a micro-batch, its answer tokens, and counts over the step."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from unsee.models.packing import PackBatch

PART = 2**21
"""Logits computed at once. More would be memory for nothing; blocks of this size also stay with the allocator."""

Reference = Literal["none", "labels", "vocabulary"]
"""What a loss compares with of the original model: nothing, the log-probability of each answer token (`[tokens]`), or
those of the whole vocabulary (`[tokens, vocabulary]`)."""


@dataclass(frozen=True)
class Totals:
    """Counts over a whole optimiser step, by which losses are divided whatever the micro-batches are.

    Args:
        tokens: answer tokens, of both answers of a pair.
        kept_tokens: those outside the target phrases.
        forget_tokens: those of samples to be forgotten.
        retain_tokens: those of samples to be retained.
        forget_samples: samples to be forgotten; a pair is one.
    """

    tokens: int
    kept_tokens: int
    forget_tokens: int
    retain_tokens: int
    forget_samples: int


@dataclass(frozen=True)
class Answers:
    """Answer tokens of one role, on the device of the logits. All of a sample's tokens are in it.

    Args:
        logits: `[tokens, vocabulary]`, at the positions that predict them; what `Method.read` gives, where a method
            reads something else.
        labels: `[tokens]`, the answer tokens.
        sample: `[tokens]`, the number of the sample each token belongs to.
        rejected: `[tokens]` bool, True in the answer of a pair that is to become less likely.
        reference: the original's log-probabilities, `[tokens]` or `[tokens, vocabulary]`, where asked for.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    sample: torch.Tensor
    rejected: torch.Tensor
    reference: torch.Tensor | None


@dataclass
class Batch:
    """A micro-batch as a loss sees it: tensors, and what was recorded of the original model for it.

    Args:
        tensors: ids, labels, masks.
        roles: for each answer token, True where its sample is to be forgotten.
        sample: for each answer token, the number of its sample; a pair's two answers share it. A sample is never
            torn between micro-batches.
        rejected: for each answer token, True where it belongs to the rejected answer of a pair.
        reference: of the original, where the method asked for it: log-probabilities `[tokens]`, or the states
            `[tokens, hidden]` of which `Encoded.compared` makes `[tokens, vocabulary]` for the part at hand.
        entering: `[rows, length, hidden]`, states that enter the first layer of W that training reaches; None:
            it reaches what comes before W.
    """

    tensors: PackBatch
    roles: torch.Tensor
    sample: torch.Tensor
    rejected: torch.Tensor
    reference: torch.Tensor | None
    entering: torch.Tensor | None = None

    def parts(self, vocabulary: int) -> Iterator[tuple[slice, Batch]]:
        """The answer tokens some at a time: which of them, and the batch as if they were all.

        Args:
            vocabulary: how many numbers a token's logits are; a part's take 8 MB, or what one sample needs.
        """
        ends = [*(self.sample.diff().nonzero()[:, 0] + 1).tolist(), len(self.sample)]
        begin = 0
        for end, further in itertools.zip_longest(ends, ends[1:]):
            if further is not None and (further - begin) * vocabulary <= PART:
                continue
            rows = slice(begin, end)
            found = {name: getattr(self.tensors, name)[rows] for name in ("predict", "labels", "target", "sample")}
            yield (
                rows,
                dataclasses.replace(
                    self,
                    tensors=dataclasses.replace(self.tensors, **found),
                    roles=self.roles[rows],
                    sample=self.sample[rows],
                    rejected=self.rejected[rows],
                    reference=None if self.reference is None else self.reference[rows],
                ),
            )
            begin = end

    def of(self, role: Literal["forget", "retain"], logits: torch.Tensor) -> Answers:
        """The answer tokens of one role; there may be none."""
        where = self.roles == (role == "forget")
        place = logits.device
        return Answers(
            logits[where.to(place)],
            self.tensors.labels[where].to(place),
            self.sample[where].to(place),
            self.rejected[where].to(place),
            None if self.reference is None else self.reference[where.to(self.reference.device)],
        )
