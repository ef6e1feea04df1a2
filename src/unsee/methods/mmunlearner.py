"""MMUnlearner: gradient difference through a saliency mask (Huo et al., ACL 2025, arXiv 2502.11051)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unsee.data import Request
from unsee.methods.encoded import Encoded
from unsee.methods.forget_retain import ForgetRetainSettings
from unsee.methods.gd import GD
from unsee.methods.saliency import fisher, forget_mask
from unsee.methods.settings import Ranges


@dataclass(frozen=True)
class MMUnlearnerSettings(ForgetRetainSettings):
    """Settings of MMUnlearner. The loss is that of GD.

    Args:
        retain_weight: weight of the cross-entropy on what is to be retained; above 0, for the mask needs it too.
        mask_threshold: the forget term's gradient reaches only weights whose Fisher information on D_f is at least
            so many times that on D_r, each divided by its mean.
    """

    # The mask is found where the LoRA begins; an aimed start would move it away from there.
    choices: ClassVar[dict[str, tuple[str, ...]]] = {**ForgetRetainSettings.choices, "lora_start": ("random",)}
    ranges: ClassVar[Ranges] = {
        **ForgetRetainSettings.ranges,
        "retain_weight": (1e-6, 1000),
        "mask_threshold": (1e-6, 1e6),
    }

    mask_threshold: float = 1.0


class MMUnlearner(GD):
    """`L = -CE(D_f) + retain_weight * CE(D_r)`; the gradient of its first term reaches only the weights that matter
    more for D_f than for D_r, of which what the model knows of the concept in text is a part.

    Weights are those of the LoRA. Where training begins its B is 0, so that its A has no gradient and no Fisher
    information yet: the mask selects in B, and A moves by the retain term alone.
    """

    name: ClassVar[str] = "mmunlearner"
    paper: ClassVar[str] = "MMUnlearner, ACL 2025 Findings, arXiv 2502.11051"
    masked_terms: ClassVar[frozenset[str]] = frozenset({"forget"})
    settings_class: ClassVar[type[MMUnlearnerSettings]] = MMUnlearnerSettings
    settings: MMUnlearnerSettings

    def prepare(self, encoded: Encoded, request: Request) -> None:
        threshold = self.settings.mask_threshold
        self.gradient_mask = forget_mask(fisher(encoded, "forget"), fisher(encoded, "retain"), threshold)
