"""UNDIAL: self-distillation on adjusted logits (Dong et al., NAACL 2025, arXiv 2402.10052)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from unsee.losses import undial
from unsee.methods.base import Data
from unsee.methods.batch import Answers, Reference, Totals
from unsee.methods.forget_retain import ForgetRetain, ForgetRetainSettings
from unsee.methods.settings import Ranges


@dataclass(frozen=True)
class UNDIALSettings(ForgetRetainSettings):
    """Settings of UNDIAL. The paper trains on what is to be forgotten alone, hence no retain term by default.

    Args:
        beta: by how much the logit of what the original model says is lowered.
    """

    ranges: ClassVar[Ranges] = {**ForgetRetainSettings.ranges, "beta": (0, 1000)}

    beta: float = 10.0
    retain_weight: float = 0.0


class UNDIAL(ForgetRetain[UNDIALSettings]):
    """Distil the original with the truth's logits lowered: `L = CE(D_f, adjusted) + retain_weight * CE(D_r)`."""

    name: ClassVar[str] = "undial"
    paper: ClassVar[str] = "UNDIAL, NAACL 2025, arXiv 2402.10052"
    data: ClassVar[tuple[Data, ...]] = ("truth",)
    reference: ClassVar[Reference] = "vocabulary"
    settings_class: ClassVar[type[UNDIALSettings]] = UNDIALSettings

    def forget_term(self, answers: Answers, totals: Totals) -> torch.Tensor:
        assert answers.reference is not None
        return undial(answers.logits, answers.labels, answers.reference, self.settings.beta, totals.forget_tokens)
