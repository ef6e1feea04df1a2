"""SIU: Single Image Unlearning (Li et al., NeurIPS 2024, arXiv 2405.12523)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from unsee.data import Concept, Request, Sample
from unsee.errors import UnseeError
from unsee.losses import answer_cross_entropy, dual_masked_kl
from unsee.methods.answers import to_forget
from unsee.methods.base import Data, LoraMethod
from unsee.methods.batch import Batch, Reference, Totals
from unsee.methods.encoded import Encoded
from unsee.methods.settings import LoraSettings, Ranges
from unsee.models import VisionLanguageModel


@dataclass(frozen=True)
class SIUSettings(LoraSettings):
    """Settings of SIU. The loss is `alpha * CE + beta * DMK` on every sample.

    Args:
        alpha: weight of the cross-entropy on the four targets.
        beta: weight of the Dual Masked KL to the original model.
        projector_learning_rate: trains the projector too where above 0 (the authors' script does).
        protected_pictures: whether protected pictures and variations extend the targets; the paper has neither.
    """

    ranges: ClassVar[Ranges] = {**LoraSettings.ranges, "projector_learning_rate": (0, 1)}

    steps: int = 9
    learning_rate: float = 5.5e-4
    decay: float = 0.45
    forget_per_step: int = 11
    variations_per_step: int = 5
    texts_per_step: int = 8
    upper_layers: float = 0.75
    lora_start: str = "aimed"
    alpha: float = 0.9
    beta: float = 0.75
    projector_learning_rate: float = 0.0
    protected_pictures: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha < 0 or self.beta < 0 or self.alpha + self.beta == 0:
            raise UnseeError(f"alpha = {self.alpha}, beta = {self.beta}: neither may be negative, and not both 0")


PAPER = {
    "steps": 6,
    "learning_rate": 3e-4,
    "decay": 0.0,
    "samples_per_step": 4,
    "protected_pictures": False,
    "upper_layers": 1.0,
    "lora_start": "random",
}


class SIU(LoraMethod[SIUSettings]):
    """Forget a concept's look from one picture: fine-tune on four targets under a Dual Masked KL."""

    name: ClassVar[str] = "siu"
    paper: ClassVar[str] = "Single Image Unlearning, NeurIPS 2024, arXiv 2405.12523"
    data: ClassVar[tuple[Data, ...]] = ("new answers", "retain")
    reference: ClassVar[Reference] = "vocabulary"
    settings_class: ClassVar[type[SIUSettings]] = SIUSettings
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "paper": PAPER,
        "authors-script": {
            **PAPER,
            "rank": 128,
            "lora_alpha": 256,
            "projector_learning_rate": 2e-5,
        },
    }

    def samples(self, built: Sequence[Sample], seed: int = 0) -> list[Sample]:
        to_forget(built, self.name)  # an error where there is nothing
        ours = ("protected", "variation")
        return [s for s in built if s.facet not in ours or self.settings.protected_pictures]

    @property
    def moves_projector(self) -> bool:
        return self.settings.projector_learning_rate > 0

    def prepare(self, encoded: Encoded, request: Request) -> None:
        vlm = encoded.vlm
        masked = name_tokens(vlm.tokenizer, request.concepts)
        self.keep_vocabulary = torch.ones(vlm.vocabulary_size, dtype=torch.bool, device=vlm.device)
        self.keep_vocabulary[sorted(masked)] = False
        self.notes = {
            f"masked by K_V in {facet}": mass for facet, mass in _masked_mass(encoded, ~self.keep_vocabulary).items()
        }

    def loss(self, logits: torch.Tensor, batch: Batch, totals: Totals) -> dict[str, torch.Tensor]:
        s, tensors = self.settings, batch.tensors
        assert batch.reference is not None
        keep_token = ~tensors.target.to(logits.device)
        ce = answer_cross_entropy(logits, tensors.labels.to(logits.device), totals.tokens)
        dmk = dual_masked_kl(logits, batch.reference, keep_token, self.keep_vocabulary, totals.kept_tokens)
        return {"ce": s.alpha * ce, "dmk": s.beta * dmk}

    def parameter_groups(self, vlm: VisionLanguageModel) -> list[dict[str, Any]]:
        trained = [(n, p) for n, p in vlm.model.named_parameters() if p.requires_grad]
        groups = [{"params": [p for n, p in trained if "lora_" in n], "lr": self.settings.learning_rate}]
        rest = [p for n, p in trained if "lora_" not in n]
        return groups + ([{"params": rest, "lr": self.settings.projector_learning_rate}] if rest else [])


def _masked_mass(encoded: Encoded, masked: torch.Tensor) -> dict[str, float]:
    """The share of the original's probability that K_V takes out of DMK, by facet: a mean over positions K_S keeps."""
    found: dict[str, list[torch.Tensor]] = {}
    for sample, numbers in zip(encoded.samples, encoded.of_sample, strict=True):
        for n in numbers:
            if n in encoded.reference:
                kept = ~torch.tensor(encoded.suffixes[n].target)
                whole = encoded.over_vocabulary(encoded.reference[n][kept])
                found.setdefault(sample.facet, []).append(whole[:, masked].exp().sum(-1))
    return {facet: float(mass.mean()) for facet, some in sorted(found.items()) if len(mass := torch.cat(some))}


def name_tokens(tokenizer: Any, concepts: Iterable[Concept]) -> set[int]:
    """K_V's zeros: tokens of the concepts' names, in all casings, with and without the leading space.

    Names and aliases are taken without articles and generic words ("flag of", "logo"); single letters and parts of a
    character are left alone, since they spell every other word too, and so are "of" and "the" inside a name. A single
    character of a script without letters is a word.
    """

    def spells_others(piece: str) -> bool:
        return (len(piece) < 2 and (piece.isascii() or piece == "\ufffd")) or piece.lower() in ("of", "the")

    def pieces(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    found: set[int] = set()
    bracket = len(pieces("("))  # behind one a name has no space, which Llama's tokenizer puts before any text
    for concept in concepts:
        for name in dict.fromkeys(replace(concept, name=n, aliases=()).core for n in concept.names):
            for form in {name, name.lower(), name.upper(), name.title(), name.capitalize()}:
                for ids in (pieces(form), pieces(f" {form}"), pieces(f"({form}")[bracket:]):
                    found |= {i for i in ids if len(ids) == 1 or not spells_others(tokenizer.decode([i]).strip())}
    return found
