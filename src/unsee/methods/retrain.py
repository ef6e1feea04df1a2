"""Retraining without what is to be forgotten: the gold standard, where the training data are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from unsee.data import Sample
from unsee.errors import UnseeError
from unsee.losses import answer_cross_entropy
from unsee.methods.base import Data, LoraMethod
from unsee.methods.batch import Batch, Totals
from unsee.methods.settings import LoraSettings, Ranges


@dataclass(frozen=True)
class RetrainSettings(LoraSettings):
    """Settings of retraining: those with which the model in use was trained, as far as they are known.

    Args:
        projector: train the projector too.
        samples_per_step: samples drawn for a step, shuffled and dealt out, epoch after epoch.
    """

    # An aimed start looks for what is to be forgotten, and here nothing is.
    choices: ClassVar[dict[str, tuple[str, ...]]] = {**LoraSettings.choices, "lora_start": ("random",)}
    ranges: ClassVar[Ranges] = {**LoraSettings.ranges, "samples_per_step": (1, 10_000)}

    steps: int = 300
    samples_per_step: int = 16
    projector: bool = False


class Retrain(LoraMethod[RetrainSettings]):
    """Learn the training data again, what is to be forgotten left out: `L = CE(D_r)`.

    The model given is the one *before* it learned those data. The result is exact, a model that never saw the concept,
    only if that one never saw it, if the data given are all that it learned afterwards, and if it learned them as
    here: by a LoRA on W (and P). Otherwise it is an approximation; a base that can name the concept is refused.
    """

    name: ClassVar[str] = "retrain"
    paper: ClassVar[str] = "the gold standard of unlearning, e.g. TOFU's retain model, COLM 2024, arXiv 2401.06121"
    data: ClassVar[tuple[Data, ...]] = ("training data",)
    settings_class: ClassVar[type[RetrainSettings]] = RetrainSettings

    def samples(self, built: Sequence[Sample], seed: int = 0) -> list[Sample]:
        """Those to be retained.

        Raises:
            UnseeError: there are none, or the steps are too few to see each of them.
        """
        kept = [s for s in built if s.role == "retain"]
        if not kept:
            raise UnseeError(f"{self.name} has nothing to learn: no sample given has the role 'retain'")
        s = self.settings
        if s.steps * s.samples_per_step < len(kept):
            raise UnseeError(
                f"{s.steps} steps of {s.samples_per_step} samples do not see all {len(kept)} that are to be retained: "
                f"steps = {-(-len(kept) // s.samples_per_step)} is one epoch"
            )
        return kept

    @property
    def moves_projector(self) -> bool:
        return self.settings.projector

    def loss(self, logits: torch.Tensor, batch: Batch, totals: Totals) -> dict[str, torch.Tensor]:
        return {"learn": answer_cross_entropy(logits, batch.tensors.labels.to(logits.device), totals.tokens)}
