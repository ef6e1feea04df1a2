"""KL: gradient ascent held by the distance to the original on what is retained (TOFU, COLM 2024, arXiv 2401.06121)."""

from __future__ import annotations

from typing import ClassVar

import torch

from unsee.losses import kl_divergence
from unsee.methods.base import Data
from unsee.methods.batch import Answers, Reference, Totals
from unsee.methods.gd import GD


class KL(GD):
    """`L = -CE(D_f) + retain_weight * KL(original || trained)(D_r)`, the divergence over answer tokens alone."""

    name: ClassVar[str] = "kl"
    paper: ClassVar[str] = "KL minimisation, TOFU, COLM 2024, arXiv 2401.06121"
    data: ClassVar[tuple[Data, ...]] = ("truth", "retain")
    reference: ClassVar[Reference] = "vocabulary"

    def retain_term(self, answers: Answers, totals: Totals) -> torch.Tensor:
        assert answers.reference is not None
        return kl_divergence(answers.logits, answers.reference, totals.retain_tokens)
