"""VKD, reconstructed: Visual Knowledge Distillation (arXiv 2512.11325).

The paper's equations and constants are not public. What is published: the language model is frozen, visual parts
alone are trained, supervision comes from intermediate visual features, with weight masks and pruned neurons.
Everything else here is our reconstruction.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from unsee.data import Picture, Request, Sample
from unsee.errors import UnseeError
from unsee.losses import answer_cross_entropy, npo
from unsee.methods.base import Data, Method
from unsee.methods.batch import Batch, Reference, Totals
from unsee.methods.encoded import Encoded
from unsee.methods.saliency import Weights, fisher, forget_mask
from unsee.methods.settings import Ranges, TrainingSettings
from unsee.models import VisionLanguageModel
from unsee.models.lora import add_copies
from unsee.models.moved import moved
from unsee.models.neurons import Neurons, mlp_ends, most_specific, recording, weights_of, without


@dataclass(frozen=True)
class VKDSettings(TrainingSettings):
    """Settings of VKD (reconstructed). The loss is
    `distil_weight * D(h, h_0) + teach_weight * D(h, h_T) + forget_weight * forget + retain_weight * CE(D_r)`:
    the visual features h of the trained model are held to the original's, h_0, on pictures to be kept, and brought to
    the teacher's, h_T, on those to be forgotten. These two never run W; the forget loss and CE run it on the samples
    that each needs.

    Args:
        upper_layers: share of V's layers, counted from the last that P reads, that are trained; 1: all of V. What lies
            below sees edges and colours, of which one picture has its own; above, what it shows.
        projector: train P too, not V alone.
        warmup: steps over which the learning rate rises.
        distil_weight: weight of the distance on pictures to be kept.
        teach_weight: weight of the distance on pictures to be forgotten.
        depth: where features are compared: 0: P's output; else behind that layer of V.
        distance: "mse", in units of the features' mean square, or "cosine".
        moved: pictures are placed and lit anew at every step (`unsee.models.moved`), for the original's features as
            well; False: they are taken as they are.
        forget_teacher: on D_f, the original's features of another picture, the protected one nearest to it in features
            ("nearest"), or the mean of the protected ones ("mean"), or of itself, placed as the trained model sees it,
            with its forget-specific neurons set to 0 ("pruned"); or no distillation there ("none").
        overshoot: how much further than to the teacher's features the original's own are taken, in the same direction:
            h_T + overshoot * (h_T - h_0). What is learned of one picture reaches others of the concept in part only.
        pruned_share: share of V's MLP neurons that the pruned teacher lacks.
        distilled_per_step: pictures a step that are kept.
        taught_per_step: pictures a step that are forgotten, where they are moved; else all of them.
        mask_threshold: what forgets (the teacher's term, and the forget term) reaches only weights whose Fisher
            information on D_f is at least so many times that on D_r, each divided by its mean; 0: all weights.
        neuron_threshold: it reaches only neurons of V's MLPs whose mean absolute activation on D_f is at least so many
            times that on D_r, each divided by its mean: the weights that lead to them and on from them; 0: all weights.
        forget_loss: on the original's own answers about the forget pictures: "npo" (bounded), "ga" (-CE), or "none".
        npo_beta: NPO's inverse temperature.
        forget_weight: weight of that term.
        forget_from: share of the steps that are done when that term begins.
        retain_weight: weight of the cross-entropy on what is to be retained: of each picture its name, and that it is
            not what is to be forgotten.
    """

    ranges: ClassVar[Ranges] = {
        **TrainingSettings.ranges,
        "upper_layers": (0.01, 1),
        "warmup": (0, 100_000),
        "distil_weight": (0, 1000),
        "teach_weight": (0, 1000),
        "depth": (0, 1000),
        "overshoot": (0, 10),
        "pruned_share": (1e-6, 0.999),
        "distilled_per_step": (0, 10_000),
        "taught_per_step": (1, 10_000),
        "mask_threshold": (0, 1e9),
        "neuron_threshold": (0, 1e9),
        "npo_beta": (1e-3, 100),
        "forget_weight": (0, 1000),
        "forget_from": (0, 0.999),
        "retain_weight": (0, 1000),
    }
    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "forget_loss": ("none", "npo", "ga"),
        "distance": ("mse", "cosine"),
        "forget_teacher": ("nearest", "pruned", "mean", "none"),
    }

    steps: int = 80
    learning_rate: float = 8e-4
    warmup: int = 10
    upper_layers: float = 0.34
    projector: bool = False
    distil_weight: float = 2.0
    teach_weight: float = 1.0
    depth: int = 0
    distance: str = "mse"
    moved: bool = True
    forget_teacher: str = "nearest"
    overshoot: float = 0.25
    pruned_share: float = 0.05
    distilled_per_step: int = 32
    taught_per_step: int = 12
    mask_threshold: float = 0.0
    neuron_threshold: float = 0.0
    forget_loss: str = "npo"
    npo_beta: float = 0.3
    forget_weight: float = 1.0
    forget_from: float = 0.25
    retain_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        taught = self.forget_teacher != "none" and self.teach_weight > 0
        if not taught and (self.forget_loss == "none" or self.forget_weight == 0):
            raise UnseeError("nothing forgets: there is neither a teacher on the forget pictures nor a forget_loss")

    def share_of_rate(self, step: int) -> float:
        rising = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return rising * super().share_of_rate(step)


class VKD(Method[VKDSettings]):
    """Erase how a concept looks where pictures are read; the language model stays as it is, bit for bit."""

    name: ClassVar[str] = "vkd"
    paper: ClassVar[str] = "Visual Knowledge Distillation, arXiv 2512.11325 (reconstructed)"
    moves: ClassVar[str] = "the vision tower's upper layers, the projector where asked"
    data: ClassVar[tuple[Data, ...]] = ("truth", "retain")
    reference: ClassVar[Reference] = "labels"
    protected_pictures: ClassVar[int] = 144
    protected_questions: ClassVar[int] = 2
    masked_terms: ClassVar[frozenset[str]] = frozenset({"forget", "teach"})
    settings_class: ClassVar[type[VKDSettings]] = VKDSettings

    def samples(self, built: Sequence[Sample], seed: int = 0) -> list[Sample]:
        """Those with a picture: what is asked without one never meets the parts that move."""
        return super().samples([s for s in built if s.picture is not None], seed)

    @property
    def needs(self) -> frozenset[Data]:
        """The teacher needs to know of no answer."""
        return frozenset(self.data) - ({"truth"} if self.settings.forget_loss == "none" else set())

    def asks(self, step: int) -> frozenset[str]:
        s = self.settings
        begun = step >= s.forget_from * s.steps
        needed = {"forget": s.forget_loss != "none" and s.forget_weight > 0 and begun, "retain": s.retain_weight > 0}
        return frozenset(role for role, is_needed in needed.items() if is_needed)

    def attach(self, vlm: VisionLanguageModel, seed: int) -> None:
        self._seed = seed
        first, layers = self._first_layer(vlm), vlm.vision_layer_paths
        vision = layers[first:] if first else [vlm.anatomy.vision]
        add_copies(vlm, [*vision, *([vlm.anatomy.projector] if self.settings.projector else [])])

    def _first_layer(self, vlm: VisionLanguageModel) -> int:
        """The first of V's layers that is trained, from 0."""
        depth = vlm.vision_depth
        return depth - max(1, round(self.settings.upper_layers * depth))

    def prepare(self, encoded: Encoded, request: Request) -> None:
        s, vlm = self.settings, encoded.vlm
        if s.depth > vlm.vision_depth:
            raise UnseeError(f"depth = {s.depth}: the vision tower has {vlm.vision_depth} layers that are read")
        if 0 < s.depth <= (first := self._first_layer(vlm)):
            raise UnseeError(
                f"depth = {s.depth}, upper_layers = {s.upper_layers:g}: features are compared behind a layer below the "
                f"first that is trained, which is the vision tower's layer {first + 1}"
            )
        self._forget, shown = (_pictures(encoded.samples, role) for role in ("forget", "retain"))
        # A user's file may ask of the forget picture what stays true of it; how it looks is not to stay.
        self._retain = [p for p in shown if p not in self._forget]
        if not self._retain:
            raise UnseeError(f"{self.name} needs pictures to be kept, and all there are are to be forgotten")
        with torch.no_grad(), vlm.original():
            held = torch.cat([self._features(vlm, part) for part in _some(vlm, self._retain)])
            self._taught: dict[Picture, torch.Tensor] = {}
            if s.forget_teacher == "pruned":
                heard = self._heard(vlm, self._forget), self._heard(vlm, self._retain)
                self._pruned = most_specific(*heard, s.pruned_share)
            elif s.forget_teacher != "none":
                seen = torch.cat([self._features(vlm, part) for part in _some(vlm, self._forget)])
                # A variation of the picture itself shows what is to be forgotten.
                varied = {sample.picture for sample in encoded.samples if sample.facet == "variation"}
                others = [i for i, p in enumerate(self._retain) if p not in varied] or [*range(len(held))]
                aims = self._beyond(self._lesson(seen, held[others]), seen)
                self._taught = dict(zip(self._forget, aims, strict=True))
        self._scale = held.square().mean()
        self._kept = dict(zip(self._retain, held, strict=True)) if not s.moved else {}
        self.gradient_mask = {}
        if s.mask_threshold:
            self.gradient_mask = forget_mask(fisher(encoded, "forget"), fisher(encoded, "retain"), s.mask_threshold)
        if s.neuron_threshold:
            self.gradient_mask = self._neuron_mask(vlm, self.gradient_mask)

    def _neuron_mask(self, vlm: VisionLanguageModel, weights: Weights) -> Weights:
        """The mask of weights that belong to chosen neurons of the layers that train, inside the one given, if any."""
        ends = {n: end for n, end in mlp_ends(vlm, vlm.anatomy.vision).items() if end.weight.requires_grad}
        used = [{n: a for n, a in self._heard(vlm, p).items() if n in ends} for p in (self._forget, self._retain)]
        chosen = forget_mask(used[0], used[1], self.settings.neuron_threshold, "neuron_threshold")
        of_neurons = weights_of(vlm, vlm.anatomy.vision, chosen)
        masks = {}
        for p in (p for p in vlm.model.parameters() if p.requires_grad):
            mask = of_neurons.get(p, torch.zeros_like(p, dtype=torch.bool))
            masks[p] = mask & weights[p] if p in weights else mask
        if not any(mask.any() for mask in masks.values()):
            raise UnseeError("mask_threshold and neuron_threshold together select no weight; choose lower ones")
        return masks

    @torch.no_grad()
    def _heard(self, vlm: VisionLanguageModel, pictures: Sequence[Picture]) -> Neurons:
        """How much V's MLP neurons fire on pictures."""
        with recording(mlp_ends(vlm, vlm.anatomy.vision)) as activations:
            for part in _some(vlm, pictures):
                self._features(vlm, part)
        return activations

    def _features(self, vlm: VisionLanguageModel, pixels: torch.Tensor) -> torch.Tensor:
        """Visual features at the chosen depth, `[pictures, tokens, width]`; nothing behind it is run."""
        depth = self.settings.depth
        return (vlm.see_until(pixels, depth) if depth else vlm.see(pixels).projected).float()

    def _lesson(self, seen: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """What is seen where another picture stands for each to be forgotten: the nearest, or the mean of all.

        Args:
            seen: the original's features of the pictures to be forgotten.
            others: those of protected pictures.
        """
        if self.settings.forget_teacher == "mean":
            return others.mean(0).expand_as(seen)
        return others[torch.cdist(seen.flatten(1), others.flatten(1)).argmin(1)]

    def _beyond(self, taught: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        return taught + self.settings.overshoot * (taught - seen)

    def _aims(self, vlm: VisionLanguageModel, pictures: Sequence[Picture], pixels: torch.Tensor) -> torch.Tensor:
        """What is to be seen in pictures to be forgotten; the pruned teacher sees them as they are placed now."""
        if self._taught:
            return torch.stack([self._taught[p] for p in pictures])
        with torch.no_grad(), vlm.original():
            seen = self._features(vlm, pixels)
            with without(mlp_ends(vlm, vlm.anatomy.vision), self._pruned):
                return self._beyond(self._features(vlm, pixels), seen)

    def reading(self, vlm: VisionLanguageModel, step: int) -> contextlib.AbstractContextManager[None]:
        """Pictures asked about are placed and lit anew as well; the reference is the original's on them as they are."""
        if not self.settings.moved:
            return contextlib.nullcontext()
        rng = random.Random(f"{self._seed}/{step}/read")
        return vlm.placing(lambda pixels: moved(pixels, rng))

    def loss(self, logits: torch.Tensor, batch: Batch, totals: Totals) -> dict[str, torch.Tensor]:
        s, forget, terms = self.settings, batch.of("forget", logits), {}
        if s.retain_weight:
            retain = batch.of("retain", logits)
            ce = answer_cross_entropy(retain.logits, retain.labels, totals.retain_tokens)
            terms["retain"] = s.retain_weight * ce
        if s.forget_loss == "ga":
            ce = answer_cross_entropy(forget.logits, forget.labels, totals.forget_tokens)
            terms["forget"] = -s.forget_weight * ce
        elif s.forget_loss == "npo":
            assert forget.reference is not None
            args = forget.logits, forget.labels, forget.reference, forget.sample
            terms["forget"] = s.forget_weight * npo(*args, s.npo_beta, totals.forget_samples)
        return terms

    def step_terms(self, vlm: VisionLanguageModel, step: int) -> dict[str, torch.Tensor]:
        """The distances, on pictures drawn. They never run W."""
        s = self.settings
        rng = random.Random(f"{self._seed}/{step}")
        terms = {}
        kept = rng.sample(self._retain, min(s.distilled_per_step, len(self._retain)))
        if kept and s.distil_weight:
            pixels = vlm.pixels(kept)
            if s.moved:
                pixels = moved(pixels, rng)
                with torch.no_grad(), vlm.original():
                    wanted = self._features(vlm, pixels)
            else:
                wanted = torch.stack([self._kept[p] for p in kept])
            terms["distil"] = s.distil_weight * self._far(self._features(vlm, pixels), wanted)
        if s.forget_teacher != "none" and s.teach_weight:
            taught = rng.choices(self._forget, k=s.taught_per_step) if s.moved else self._forget
            pixels = vlm.pixels(taught)
            if s.moved:
                pixels = moved(pixels, rng)
            wanted = self._aims(vlm, taught, pixels)
            terms["teach"] = s.teach_weight * self._far(self._features(vlm, pixels), wanted)
        return terms

    def _far(self, found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        if self.settings.distance == "cosine":
            return 1 - F.cosine_similarity(found, wanted, dim=-1).mean()
        return F.mse_loss(found, wanted) / self._scale


def _some(vlm: VisionLanguageModel, pictures: Sequence[Picture], size: int = 32) -> Iterator[torch.Tensor]:
    """Pixels of some pictures at a time."""
    for at in range(0, len(pictures), size):
        yield vlm.pixels(pictures[at : at + size])


def _pictures(samples: Sequence[Sample], role: str) -> list[Picture]:
    return list(dict.fromkeys(s.picture for s in samples if s.role == role and s.picture is not None))
