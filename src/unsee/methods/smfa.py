"""SMFA, reconstructed: Sculpted Memory Forgetting Adapter (Zeng et al., arXiv 2511.20196).

An adapter is fine-tuned to refuse, then a mask guided by a retaining anchor takes away what interferes with other
knowledge. The mask is that which others who built the method have published: a number goes where the anchor's has the
other sign and, both measured by the size of their matrices, is smaller. That the two are compared in the LoRA's B, over
a common A that does not move, is our reconstruction: B's numbers mean the same only as long as A does.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from peft.tuners.lora import LoraLayer

from unsee.errors import UnseeError
from unsee.losses import answer_cross_entropy
from unsee.methods.base import Data
from unsee.methods.batch import Answers, Batch, Totals
from unsee.methods.forget_retain import ForgetRetain, ForgetRetainSettings
from unsee.methods.settings import Ranges
from unsee.models import VisionLanguageModel

REFUSING, ANCHOR = "default", "anchor"
"""PEFT's names of the two adapters while they are trained; only the first is kept."""


@dataclass(frozen=True)
class SMFASettings(ForgetRetainSettings):
    """Settings of SMFA (reconstructed).

    Args:
        retain_weight: weight of the cross-entropy on what is to be retained, which trains the anchor alone; above 0.
        anchor_ratio: k; a number f of the refusing adapter is dropped where the anchor's, a, has the other sign and
            `k rho |a| < |f|`, with rho the Frobenius norm of f's matrix by that of a's; 0: wherever the signs differ.
    """

    # Both LoRAs have the same A; an aimed start would move one of them.
    choices: ClassVar[dict[str, tuple[str, ...]]] = {**ForgetRetainSettings.choices, "lora_start": ("random",)}
    ranges: ClassVar[Ranges] = {
        **ForgetRetainSettings.ranges,
        "retain_weight": (1e-6, 1000),
        "anchor_ratio": (0, 1000),
    }

    anchor_ratio: float = 1.0


class SMFA(ForgetRetain[SMFASettings]):
    """Two LoRAs are trained side by side, one by `CE(refusals on D_f)`, one, the anchor, by `CE(D_r)`; then what the
    first learned against the second is taken away, and the anchor is dropped.

    Both have the same A, and only B is trained, so that the two can be compared number by number.
    """

    name: ClassVar[str] = "smfa"
    paper: ClassVar[str] = "Sculpted Memory Forgetting Adapter, arXiv 2511.20196 (reconstructed)"
    moves: ClassVar[str] = "LoRA on the language model, its B alone"
    data: ClassVar[tuple[Data, ...]] = ("refusals", "retain")
    settings_class: ClassVar[type[SMFASettings]] = SMFASettings

    def attach(self, vlm: VisionLanguageModel, seed: int) -> None:
        super().attach(vlm, seed)
        vlm.model.add_adapter(ANCHOR, copy.deepcopy(vlm.model.peft_config[REFUSING]))
        for layer in _layers(vlm):
            layer.lora_A[ANCHOR].load_state_dict(layer.lora_A[REFUSING].state_dict())
        _use(vlm, REFUSING)

    def parameter_groups(self, vlm: VisionLanguageModel) -> list[dict[str, Any]]:
        _use(vlm, REFUSING)  # a checkpoint that was read, or the original asked, may have frozen the anchor
        return super().parameter_groups(vlm)

    def read(self, vlm: VisionLanguageModel, batch: Batch, layer: int) -> torch.Tensor:
        """`[tokens, hidden]`: states of what is to be forgotten by the one adapter, of all else by the other."""
        refusing = batch.roles.to(vlm.device)
        found: list[torch.Tensor] = []
        for name, asked in ((ANCHOR, ~refusing), (REFUSING, refusing)):
            if asked.any():
                _use(vlm, name)
                found.append(super().read(vlm, batch, layer))
        _use(vlm, REFUSING)
        return found[0] if len(found) == 1 else torch.where(refusing[:, None], found[1], found[0])

    def forget_term(self, answers: Answers, totals: Totals) -> torch.Tensor:
        return answer_cross_entropy(answers.logits, answers.labels, totals.forget_tokens)

    def finish(self, vlm: VisionLanguageModel) -> None:
        """Take away what conflicts, and the anchor.

        Raises:
            UnseeError: nothing would be left.
        """
        left = 0
        for layer in _layers(vlm):
            learned, anchor = (layer.lora_B.get_parameter(f"{name}.weight") for name in (REFUSING, ANCHOR))
            bound = self.settings.anchor_ratio * learned.norm() * anchor.abs()
            against = (learned * anchor < 0) & (bound < learned.abs() * anchor.norm())
            learned[against] = 0
            left += int(learned.count_nonzero())
        vlm.model.delete_adapter(ANCHOR)
        if not left:
            raise UnseeError(
                f"all that {self.name} learned conflicts with the anchor at anchor_ratio = "
                f"{self.settings.anchor_ratio:g}; choose a larger one"
            )


def _layers(vlm: VisionLanguageModel) -> list[LoraLayer]:
    return [m for m in vlm.base.modules() if isinstance(m, LoraLayer)]


def _use(vlm: VisionLanguageModel, name: str) -> None:
    """Run the model through one of the adapters; PEFT would take the other's gradients away."""
    vlm.model.set_adapter(name)
    for layer in _layers(vlm):
        layer.lora_A.requires_grad_(False)
        layer.lora_B.requires_grad_(True)
