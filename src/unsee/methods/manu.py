"""MANU: Modality Aware Neuron Unlearning (Liu et al., ACL 2025, arXiv 2502.15910)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from unsee.data import Request
from unsee.errors import UnseeError
from unsee.methods.base import Data, Method
from unsee.methods.batch import Batch, Totals
from unsee.methods.encoded import Encoded
from unsee.methods.settings import MethodSettings, Ranges
from unsee.models import VisionLanguageModel
from unsee.models.lora import add_copies
from unsee.models.neurons import STATISTICS, Neurons, Statistic, highest, mlp_ends, recording, specificity

FLOOR = 0.01
"""Added to what a neuron does on D_r, in units of the mean over all neurons: one that hardly fires shall not win."""


@dataclass(frozen=True)
class MANUSettings(MethodSettings):
    """Settings of MANU.

    Args:
        pruned_share: share of the MLP neurons of each part that are set to 0, the paper's alpha.
        parts: where: in the "vision" tower, in the "language" model, or "both", each by its own ranking.
        importance: how much a neuron fires: "absolute", "frequency", "variance", "rms", or "all", the sum of the four
            ratios.
    """

    ranges: ClassVar[Ranges] = {"pruned_share": (1e-6, 0.999)}
    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "parts": ("both", "vision", "language"),
        "importance": ("all", *STATISTICS),
    }

    pruned_share: float = 0.02
    parts: str = "both"
    importance: str = "all"


class MANU(Method[MANUSettings]):
    """Neurons that fire more on D_f than on D_r are set to 0; nothing is trained.

    The score of a neuron is `sum_k I_k(D_f) / (I_k(D_r) + eps)` over the four importance functions (mean absolute
    activation, how often it is above 0.1, its standard deviation, its root mean square), the highest share over all
    layers of a part is pruned.

    Our reading: a neuron is what enters the layer that ends an MLP; it is heard at all positions of questions and true
    answers, pictures included, each picture once; V and W are ranked apart; eps is a hundredth of the importance's
    mean over all neurons. The authors' code prunes outputs of any linear layer of an MLP.
    """

    name: ClassVar[str] = "manu"
    paper: ClassVar[str] = "Modality Aware Neuron Unlearning, ACL 2025, arXiv 2502.15910"
    moves: ClassVar[str] = "columns of the linear layers that end the MLPs of V and W"
    data: ClassVar[tuple[Data, ...]] = ("truth", "retain")
    trains: ClassVar[bool] = False
    settings_class: ClassVar[type[MANUSettings]] = MANUSettings

    def _ends(self, vlm: VisionLanguageModel) -> dict[str, dict[str, nn.Linear]]:
        """By part, the layers that may lose neurons."""
        where = {"vision": vlm.anatomy.vision, "language": vlm.anatomy.language}
        return {p: mlp_ends(vlm, path) for p, path in where.items() if self.settings.parts in (p, "both")}

    def attach(self, vlm: VisionLanguageModel, seed: int) -> None:
        """Nothing yet: which layers lose neurons is known only once all of them have been heard; see `finish`."""

    def prepare(self, encoded: Encoded, request: Request) -> None:
        """Choose the neurons.

        Raises:
            UnseeError: all neurons of a part are alike, so that every one would be chosen.
        """
        self._chosen: Neurons = {}
        vlm = encoded.vlm
        with torch.no_grad():
            for part, ends in self._ends(vlm).items():
                forget, retain = (self._heard(encoded, part, ends, role) for role in ("forget", "retain"))
                scores: Neurons = {}
                for f, r in zip(forget, retain, strict=True):
                    floor = max(FLOOR * float(torch.cat(list(r.values())).mean()), 1e-30)
                    for path, ratio in specificity(f, r, floor).items():
                        scores[path] = scores.get(path, 0) + ratio
                chosen = highest(scores, self.settings.pruned_share)
                if all(bool(mask.all()) for mask in chosen.values()):
                    raise UnseeError(
                        f"{self.name} would set every neuron of the {part} part to 0 at pruned_share = "
                        f"{self.settings.pruned_share:g}: what is to be forgotten excites none more than another"
                    )
                self._chosen |= chosen

    def _heard(
        self, encoded: Encoded, part: str, ends: dict[str, nn.Linear], role: Literal["forget", "retain"]
    ) -> list[Neurons]:
        """How much the neurons fire on samples of one role, by each of the importance functions asked for."""
        vlm, asked = encoded.vlm, self.settings.importance
        statistics: list[Statistic] = [s for s in STATISTICS if asked in (s, "all")]
        samples = [s for s in encoded.samples if s.role == role]
        pictures = {s.picture.sha256: s.picture for s in samples if s.picture is not None}
        if part == "vision" and not pictures:
            done = "forgotten" if role == "forget" else "retained"
            raise UnseeError(f"{self.name} prunes the vision tower, and no picture is to be {done}: parts = language")
        with contextlib.ExitStack() as listening:
            found = [listening.enter_context(recording(ends, s)) for s in statistics]
            if part == "vision":
                for picture in pictures.values():
                    vlm.see(vlm.pixels([picture]))
            else:
                for members in encoded.by_input(role):  # one row a forward: padding would be heard as well
                    for batch, _ in encoded.micro_batches(members):
                        vlm.hidden(batch.tensors)
        return found

    def loss(self, logits: torch.Tensor, batch: Batch, totals: Totals) -> dict[str, torch.Tensor]:
        return {}

    def finish(self, vlm: VisionLanguageModel) -> None:
        """Put copies in the place of the layers that lose neurons, with the columns of those neurons set to 0."""
        cut = {path: mask for path, mask in self._chosen.items() if mask.any()}
        add_copies(vlm, list(cut))
        for path, mask in cut.items():
            # Trained copies are float32; these hold the original's numbers, or 0, in the original's precision.
            dtype = vlm.part(f"{path}.original_module").get_parameter("weight").dtype
            weight = vlm.part(f"{path}.modules_to_save.default").to(dtype).get_parameter("weight")
            weight[:, mask.to(weight.device)] = 0
        vlm.model.requires_grad_(False)  # it stays as it is: pictures need be looked at only once
        vlm.forget_features()
