"""PO, also called IDK: learn to refuse (TOFU, COLM 2024, arXiv 2401.06121; SIU's baseline PO)."""

from __future__ import annotations

from typing import ClassVar

import torch

from unsee.losses import answer_cross_entropy
from unsee.methods.base import Data
from unsee.methods.batch import Answers, Totals
from unsee.methods.forget_retain import ForgetRetain, ForgetRetainSettings


class PO(ForgetRetain[ForgetRetainSettings]):
    """`L = CE(refusals on D_f) + retain_weight * CE(D_r)`."""

    name: ClassVar[str] = "po"
    paper: ClassVar[str] = "Preference optimization (IDK), TOFU, COLM 2024, arXiv 2401.06121"
    data: ClassVar[tuple[Data, ...]] = ("refusals", "retain")
    settings_class: ClassVar[type[ForgetRetainSettings]] = ForgetRetainSettings

    def forget_term(self, answers: Answers, totals: Totals) -> torch.Tensor:
        return answer_cross_entropy(answers.logits, answers.labels, totals.forget_tokens)
