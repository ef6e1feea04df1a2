"""SimNPO: NPO without a reference (Fan et al., NeurIPS 2025, arXiv 2410.07163)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from unsee.losses import simnpo
from unsee.methods.base import Data
from unsee.methods.batch import Answers, Totals
from unsee.methods.forget_retain import ForgetRetain, ForgetRetainSettings
from unsee.methods.settings import Ranges


@dataclass(frozen=True)
class SimNPOSettings(ForgetRetainSettings):
    """Settings of SimNPO. The authors' TOFU script weighs forgetting 0.125 to 1, which is a `retain_weight` of 8.

    Args:
        beta: inverse temperature.
        gamma: margin by which an answer must be unlikely before it is left alone; the paper's 0.
    """

    ranges: ClassVar[Ranges] = {**ForgetRetainSettings.ranges, "beta": (1e-3, 100), "gamma": (0, 100)}

    beta: float = 4.5
    gamma: float = 0.0


class SimNPO(ForgetRetain[SimNPOSettings]):
    """What the original model says becomes unlikely a token: `L = SimNPO(D_f) + retain_weight * CE(D_r)`."""

    name: ClassVar[str] = "simnpo"
    paper: ClassVar[str] = "Simplicity Prevails (SimNPO), NeurIPS 2025, arXiv 2410.07163"
    data: ClassVar[tuple[Data, ...]] = ("truth", "retain")
    settings_class: ClassVar[type[SimNPOSettings]] = SimNPOSettings

    def forget_term(self, answers: Answers, totals: Totals) -> torch.Tensor:
        s = self.settings
        return simnpo(answers.logits, answers.labels, answers.sample, s.beta, s.gamma, totals.forget_samples)
