"""Relearning: fine-tune an unlearned model on a little of what it forgot, and see whether the rest comes back.

What is learned from a few samples comes back in answers to other questions on other pictures where the knowledge was
hidden rather than erased (Hu et al., "Jogging the Memory of Unlearned LLMs", ICLR 2025, arXiv 2406.13356). A model that
never knew can be taught too: a number means something only beside the same attack on other models, and beside a
control that spends the same steps and samples on other concepts.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from unsee.data import Concept, Picture, Request, Sample
from unsee.data.wording import CONFIRMING, naming_questions
from unsee.errors import UnseeError
from unsee.losses import answer_cross_entropy
from unsee.methods.base import Data, LoraMethod
from unsee.methods.batch import Batch, Totals
from unsee.methods.settings import LoraSettings
from unsee.metrics.text import yes_or_no
from unsee.models import Question, VisionLanguageModel, answer
from unsee.models.lora import add_copies, remove_adapter
from unsee.training import History, train

ANSWER_TOKENS = 32
"""Where the original's own answers are cut, as in the facets."""


@dataclass(frozen=True)
class RelearnSettings(LoraSettings):
    """Settings of the attack. The loss is the cross-entropy on all samples.

    The steps are fixed and the same whatever the number of samples: few samples are gone through more often.

    Args:
        side: what is trained: "language", a LoRA on all of W; "vision", a copy of V. Methods that moved different parts
            are compared under both.
        projector: train a copy of the projector too, at the same learning rate.
    """

    choices: ClassVar[dict[str, tuple[str, ...]]] = {**LoraSettings.choices, "side": ("language", "vision")}

    side: str = "language"
    steps: int = 20
    decay: float = 0.0
    samples_per_step: int = 4
    projector: bool = True


class Relearn(LoraMethod[RelearnSettings]):
    """Fine-tuning on right answers: a fresh LoRA on all layers of W or a copy of V, and a copy of P where asked.

    It keeps the contract of a method, so that the one trainer runs it; since it forgets nothing it is not registered.
    """

    name: ClassVar[str] = "relearn"
    paper: ClassVar[str] = "Benign relearning, ICLR 2025, arXiv 2406.13356"
    moves: ClassVar[str] = "LoRA on the language model or the vision tower, the projector where asked"
    data: ClassVar[tuple[Data, ...]] = ("truth",)
    settings_class: ClassVar[type[RelearnSettings]] = RelearnSettings

    @property
    def moves_projector(self) -> bool:
        return self.settings.projector

    def attach(self, vlm: VisionLanguageModel, seed: int) -> None:
        if self.settings.side == "language":
            super().attach(vlm, seed)
        else:
            add_copies(vlm, [vlm.anatomy.vision, *([vlm.anatomy.projector] if self.settings.projector else [])])

    def loss(self, logits: torch.Tensor, batch: Batch, totals: Totals) -> dict[str, torch.Tensor]:
        return {"learn": answer_cross_entropy(logits, batch.tensors.labels.to(logits.device), totals.tokens)}


def true_answers(vlm: VisionLanguageModel, shown: Sequence[tuple[Concept, Picture]]) -> list[Sample]:
    """The attacker's pool: every naming and confirming question on every picture, with the original's right answers.

    The questions are those of `unsee.data.wording`, which no benchmark asks.

    Args:
        vlm: the original model.
        shown: pictures with what they show.

    Returns:
        Samples by picture. Where the original does not name the concept, or does not say yes to it, there is none:
        its answer would teach something else; nor where its answer was cut off.

    Raises:
        UnseeError: the model carries an adapter, so it is not the original.
    """
    if vlm.adapted:
        raise UnseeError("the true answers are the original's: take the adapter off first")
    asked: list[tuple[Concept, Question, bool]] = []
    for concept, picture in shown:
        asked += [(concept, Question(q, picture), False) for q in naming_questions(concept.kind)]
        asked += [(concept, Question(q.format(phrase=concept.phrase), picture), True) for q in CONFIRMING]
    replies = answer(vlm, [question for _, question, _ in asked], ANSWER_TOKENS)
    pool = []
    for (concept, question, confirms), reply in zip(asked, replies, strict=True):
        right = yes_or_no(reply.text) == "yes" if confirms else concept.mentioned_in(reply.text)
        if right and reply.ended:  # one that was cut off would teach to stop there
            pool.append(Sample(question.text, reply.text, question.picture))
    return pool


def share_size(pool: int, percent: float) -> int:
    """How many of a pool's samples a share of it is: rounded, at least one.

    Args:
        pool: its size.
        percent: 0 to 100, 0 left out.

    Raises:
        UnseeError: the pool is empty, or the share out of range.
    """
    if not pool:
        raise UnseeError("the pool is empty: the original answers no question on these pictures rightly")
    if not 0 < percent <= 100:
        raise UnseeError(f"a share of {percent} %: it must be above 0 and at most 100")
    return max(1, round(pool * percent / 100))


def drawn(pool: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """Some of a pool's samples. Of one seed, more of them always hold the fewer: a curve then differs by what is added.

    Raises:
        UnseeError: the pool does not have as many.
    """
    if count > len(pool):
        raise UnseeError(f"{count} samples are wanted of a pool of {len(pool)}")
    return random.Random(seed).sample(list(pool), len(pool))[:count]


def refuse_overlap(samples: Iterable[Sample], tested: Iterable[Picture]) -> None:
    """An error where a sample shows a picture that is tested on, by the hash of its pixels.

    Raises:
        UnseeError: names the picture.
    """
    hashes = {picture.sha256 for picture in tested}
    for sample in samples:
        if sample.picture is not None and sample.picture.sha256 in hashes:
            raise UnseeError(f"{sample.picture.name} is tested on, and in the samples to relearn from as well")


@contextlib.contextmanager
def relearned(
    vlm: VisionLanguageModel, samples: Sequence[Sample], request: Request, settings: RelearnSettings, seed: int
) -> Iterator[History]:
    """The model fine-tuned on samples, inside the `with`; behind it the model is what it was, bit for bit.

    Args:
        vlm: the unlearned model, merged: what was unlearned cannot be taken off, the attacker's LoRA comes on top.
        samples: questions with right answers; see `drawn`.
        request: whose concept is attacked.
        settings: of the fine-tune.
        seed: of the LoRA's start and of the order of samples.

    Raises:
        UnseeError: the model carries an adapter, or there is no sample.
        TrainingError: the loss exploded.
    """
    if vlm.adapted:
        raise UnseeError("the attack goes on top of a merged model: merge the adapter first, or take it off")
    method = Relearn(settings)
    method.attach(vlm, seed)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            history = train(vlm, method, samples, request, seed, Path(scratch))
        yield history
    finally:
        remove_adapter(vlm)
