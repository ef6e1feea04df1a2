"""What most methods share: a term on what is to be forgotten, and one on what is to be retained."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch

from unsee.losses import answer_cross_entropy
from unsee.methods.base import Data, LoraMethod
from unsee.methods.batch import Answers, Batch, Totals
from unsee.methods.settings import LoraSettings, Ranges


@dataclass(frozen=True)
class ForgetRetainSettings(LoraSettings):
    """Settings of a method of two terms. The loss is `forget + retain_weight * retain`.

    Args:
        retain_weight: weight of the term on what is to be retained; 0: retained samples are not used at all.
    """

    ranges: ClassVar[Ranges] = {**LoraSettings.ranges, "retain_weight": (0, 1000)}

    retain_weight: float = 1.0


Two = TypeVar("Two", bound=ForgetRetainSettings)


class ForgetRetain(LoraMethod[Two]):
    """A method whose loss is `forget + retain_weight * retain`, each a mean over its own tokens or samples.

    A subclass gives the forget term; the retain term is cross-entropy, unless it says otherwise.
    """

    @property
    def needs(self) -> frozenset[Data]:
        return frozenset(self.data) - {"retain"} | ({"retain"} if self.settings.retain_weight else set())

    @abstractmethod
    def forget_term(self, answers: Answers, totals: Totals) -> torch.Tensor:
        """The term on what is to be forgotten, a scalar, divided by the step's totals."""

    def retain_term(self, answers: Answers, totals: Totals) -> torch.Tensor:
        """The term on what is to be retained, likewise, without its weight."""
        return answer_cross_entropy(answers.logits, answers.labels, totals.retain_tokens)

    def loss(self, logits: torch.Tensor, batch: Batch, totals: Totals) -> dict[str, torch.Tensor]:
        terms = {"forget": self.forget_term(batch.of("forget", logits), totals)}
        if weight := self.settings.retain_weight:
            terms["retain"] = weight * self.retain_term(batch.of("retain", logits), totals)
        return terms
