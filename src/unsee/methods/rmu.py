"""RMU: Representation Misdirection for Unlearning (Li et al., WMDP, ICML 2024, arXiv 2403.03218)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from unsee.data import Request
from unsee.errors import UnseeError
from unsee.losses import squared_distance
from unsee.methods.base import Data
from unsee.methods.batch import Answers, Batch, Totals
from unsee.methods.encoded import Encoded
from unsee.methods.forget_retain import ForgetRetain, ForgetRetainSettings
from unsee.methods.misdirection import distance, lengths, original_states
from unsee.methods.settings import Ranges
from unsee.models import VisionLanguageModel


@dataclass(frozen=True)
class RMUSettings(ForgetRetainSettings):
    """Settings of RMU.

    Args:
        depth: the states are those behind this share of W's layers (at least one); no layer above is run or trained.
        steering: length of the vector that forgotten states are pulled to, the paper's c, in units of the mean length
            of the original's own states there (the paper gives it in absolute numbers, chosen for each model).
    """

    ranges: ClassVar[Ranges] = {**ForgetRetainSettings.ranges, "depth": (0.01, 1), "steering": (0.2, 1000)}

    depth: float = 0.5
    steering: float = 2.0


class RMU(ForgetRetain[RMUSettings]):
    """Hidden states of one layer are pulled to a random direction on D_f and held where the original has them on D_r.

    `L = mean |h - c u|^2 / c^2 + retain_weight * mean |h - h_original|^2 / n^2`, over answer positions, with u a random
    unit vector, n the mean length of the original's states on D_f and `c = steering * n`. Dividing by the lengths is
    ours: it makes both terms shares, so that one weight suits models of any scale; the paper's alpha is
    `retain_weight * steering^2` here.
    """

    name: ClassVar[str] = "rmu"
    paper: ClassVar[str] = "RMU (WMDP), ICML 2024, arXiv 2403.03218"
    data: ClassVar[tuple[Data, ...]] = ("truth", "retain")
    settings_class: ClassVar[type[RMUSettings]] = RMUSettings

    def end_layer(self, vlm: VisionLanguageModel) -> int:
        return max(1, round(self.settings.depth * vlm.depth))

    def attach(self, vlm: VisionLanguageModel, seed: int) -> None:
        if self.first_layer(vlm) >= self.end_layer(vlm):
            s = self.settings
            raise UnseeError(
                f"upper_layers = {s.upper_layers:g}, depth = {s.depth:g}: the LoRA begins above the layer whose states "
                "are read, so nothing could be trained"
            )
        self._seed = seed
        super().attach(vlm, seed)

    def prepare(self, encoded: Encoded, request: Request) -> None:
        """Draw u, and record the original's states: `[answer tokens, hidden]` for each sample to be retained."""
        self._end = self.end_layer(encoded.vlm)
        states = original_states(self, encoded)
        self._held = {i: states[i] for i, s in enumerate(encoded.samples) if s.role == "retain"}
        self._length = float(lengths(states, encoded).mean())
        generator = torch.Generator().manual_seed(self._seed)
        # Uniform in [0, 1), as in the authors' code.
        direction = torch.rand(states[0].shape[1], generator=generator)
        self._target = (self.settings.steering * self._length * direction / direction.norm()).to(encoded.vlm.device)

    def read(self, vlm: VisionLanguageModel, batch: Batch, layer: int) -> torch.Tensor:
        """`[tokens, hidden]`: the states behind the layer; neither the layers above it nor the head are run."""
        return vlm.hidden(batch.tensors, batch.entering, layer, self._end).float()

    def output(self, vlm: VisionLanguageModel, states: torch.Tensor) -> torch.Tensor:
        """The states themselves."""
        return states

    def forget_term(self, answers: Answers, totals: Totals) -> torch.Tensor:
        far = squared_distance(answers.logits, self._target.expand_as(answers.logits), totals.forget_tokens)
        return far / (self.settings.steering * self._length) ** 2

    def retain_term(self, answers: Answers, totals: Totals) -> torch.Tensor:
        return distance(answers, self._held, totals.retain_tokens) / self._length**2
