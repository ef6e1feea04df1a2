"""Task vector: learn what is to be forgotten, then subtract what was learned (Ilharco et al., arXiv 2212.04089)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from unsee.losses import answer_cross_entropy
from unsee.methods.base import Data, LoraMethod
from unsee.methods.batch import Batch, Totals
from unsee.methods.settings import LoraSettings, Ranges
from unsee.models import VisionLanguageModel


@dataclass(frozen=True)
class TaskVectorSettings(LoraSettings):
    """Settings of the task vector.

    Args:
        scale: how many times what was learned is subtracted, the paper's lambda.
    """

    ranges: ClassVar[Ranges] = {**LoraSettings.ranges, "scale": (1e-3, 1000)}

    scale: float = 1.0


class TaskVector(LoraMethod[TaskVectorSettings]):
    """Fine-tune on D_f, `L = CE(D_f)`, then `W = W_original - scale * (W_tuned - W_original)`.

    The difference is the LoRA's product `B A`; its B is multiplied by -scale.
    """

    name: ClassVar[str] = "task-vector"
    paper: ClassVar[str] = "Task arithmetic (negation), ICLR 2023, arXiv 2212.04089"
    data: ClassVar[tuple[Data, ...]] = ("truth",)
    settings_class: ClassVar[type[TaskVectorSettings]] = TaskVectorSettings

    def loss(self, logits: torch.Tensor, batch: Batch, totals: Totals) -> dict[str, torch.Tensor]:
        answers = batch.of("forget", logits)
        return {"learn": answer_cross_entropy(answers.logits, answers.labels, totals.forget_tokens)}

    def finish(self, vlm: VisionLanguageModel) -> None:
        for name, value in vlm.model.named_parameters():
            if "lora_B." in name:
                value.mul_(-self.settings.scale)
