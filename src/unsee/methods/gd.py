"""GD: gradient difference (Liu et al., CoLLAs 2022, arXiv 2203.12817), as TOFU uses it (arXiv 2401.06121)."""

from __future__ import annotations

from typing import ClassVar

import torch

from unsee.losses import answer_cross_entropy
from unsee.methods.base import Data
from unsee.methods.batch import Answers, Totals
from unsee.methods.forget_retain import ForgetRetain, ForgetRetainSettings


class GD(ForgetRetain[ForgetRetainSettings]):
    """`L = -CE(D_f) + retain_weight * CE(D_r)`."""

    name: ClassVar[str] = "gd"
    paper: ClassVar[str] = "Gradient difference, CoLLAs 2022, arXiv 2203.12817; TOFU, arXiv 2401.06121"
    data: ClassVar[tuple[Data, ...]] = ("truth", "retain")
    settings_class: ClassVar[type[ForgetRetainSettings]] = ForgetRetainSettings

    def forget_term(self, answers: Answers, totals: Totals) -> torch.Tensor:
        return -answer_cross_entropy(answers.logits, answers.labels, totals.forget_tokens)
