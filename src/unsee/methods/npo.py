"""NPO: Negative Preference Optimization (Zhang et al., COLM 2024, arXiv 2404.05868)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from unsee.losses import npo
from unsee.methods.base import Data
from unsee.methods.batch import Answers, Reference, Totals
from unsee.methods.forget_retain import ForgetRetain, ForgetRetainSettings
from unsee.methods.settings import Ranges


@dataclass(frozen=True)
class NPOSettings(ForgetRetainSettings):
    """Settings of NPO.

    Args:
        beta: inverse temperature: the smaller, the nearer to gradient ascent.
    """

    ranges: ClassVar[Ranges] = {**ForgetRetainSettings.ranges, "beta": (1e-3, 100)}

    beta: float = 0.1


class NPO(ForgetRetain[NPOSettings]):
    """What the original model says becomes less likely than it was to it: `L = NPO(D_f) + retain_weight * CE(D_r)`."""

    name: ClassVar[str] = "npo"
    paper: ClassVar[str] = "Negative Preference Optimization, COLM 2024, arXiv 2404.05868"
    data: ClassVar[tuple[Data, ...]] = ("truth", "retain")
    reference: ClassVar[Reference] = "labels"
    settings_class: ClassVar[type[NPOSettings]] = NPOSettings

    def forget_term(self, answers: Answers, totals: Totals) -> torch.Tensor:
        assert answers.reference is not None
        return npo(
            answers.logits,
            answers.labels,
            answers.reference,
            answers.sample,
            self.settings.beta,
            totals.forget_samples,
        )
