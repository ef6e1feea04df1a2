"""GA: gradient ascent (Jang et al., ACL 2023, arXiv 2210.01504), the simplest way to forget."""

from __future__ import annotations

from typing import ClassVar

import torch

from unsee.losses import answer_cross_entropy
from unsee.methods.base import Data, LoraMethod
from unsee.methods.batch import Batch, Totals
from unsee.methods.settings import LoraSettings


class GA(LoraMethod[LoraSettings]):
    """`L = -CE(D_f)`: what the original model says is made less likely, without any bound."""

    name: ClassVar[str] = "ga"
    paper: ClassVar[str] = "Knowledge Unlearning (gradient ascent), ACL 2023, arXiv 2210.01504"
    data: ClassVar[tuple[Data, ...]] = ("truth",)
    settings_class: ClassVar[type[LoraSettings]] = LoraSettings

    def loss(self, logits: torch.Tensor, batch: Batch, totals: Totals) -> dict[str, torch.Tensor]:
        answers = batch.of("forget", logits)
        return {"forget": -answer_cross_entropy(answers.logits, answers.labels, totals.forget_tokens)}
