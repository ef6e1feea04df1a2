"""DPO: Direct Preference Optimization (Rafailov et al., NeurIPS 2023, arXiv 2305.18290), turned to forgetting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from unsee.losses import dpo
from unsee.methods.base import Data
from unsee.methods.batch import Answers, Reference, Totals
from unsee.methods.forget_retain import ForgetRetain, ForgetRetainSettings
from unsee.methods.settings import Ranges


@dataclass(frozen=True)
class DPOSettings(ForgetRetainSettings):
    """Settings of DPO.

    Args:
        beta: inverse temperature: the smaller, the further a pair is driven apart.
    """

    ranges: ClassVar[Ranges] = {**ForgetRetainSettings.ranges, "beta": (1e-3, 100)}

    beta: float = 0.1


class DPO(ForgetRetain[DPOSettings]):
    """A refusal is preferred to what the original model says: `L = DPO(D_f) + retain_weight * CE(D_r)`."""

    name: ClassVar[str] = "dpo"
    paper: ClassVar[str] = "Direct Preference Optimization, NeurIPS 2023, arXiv 2305.18290; for forgetting: 2404.05868"
    data: ClassVar[tuple[Data, ...]] = ("truth", "refusals", "retain")
    reference: ClassVar[Reference] = "labels"
    pairs: ClassVar[bool] = True
    settings_class: ClassVar[type[DPOSettings]] = DPOSettings

    def forget_term(self, answers: Answers, totals: Totals) -> torch.Tensor:
        assert answers.reference is not None
        return dpo(
            answers.logits,
            answers.labels,
            answers.reference,
            answers.sample,
            answers.rejected,
            self.settings.beta,
            totals.forget_samples,
        )
