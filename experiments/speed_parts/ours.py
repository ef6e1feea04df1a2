"""This project's path: what `unsee forget` runs, called in the same way as the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from transformers import DynamicCache

from speed_parts.world import CONCEPT, World
from unsee.data import Request, Sample
from unsee.losses import answer_cross_entropy, dual_masked_kl
from unsee.methods.base import Method
from unsee.methods.batch import Batch, Reference, Totals
from unsee.methods.encoded import Encoded
from unsee.methods.gradients import gradients
from unsee.methods.siu import SIU
from unsee.methods.vkd import VKD, VKDSettings
from unsee.models import Question, VisionLanguageModel, answer
from unsee.models.lora_linear import LoraLinear
from unsee.models.packing import EncodedPack, collate

Form = Literal["slices", "mask", "cache"]
"""How the prefix is shared: one sequence attended to in slices (the library's way), one sequence under one 4-D mask
(the library's plain path), or suffixes as a batch on the prefix's differentiable KV cache (here only)."""


class CrossEntropyAlone(SIU):
    """SIU's loss without its DMK, so without a reference."""

    reference: ClassVar[Reference] = "none"

    def loss(self, logits: torch.Tensor, batch: Batch, totals: Totals) -> dict[str, torch.Tensor]:
        ce = answer_cross_entropy(logits, batch.tensors.labels.to(logits.device), totals.tokens)
        return {"ce": self.settings.alpha * ce}


class Ours:
    """One picture, many questions: one prefix. The reference is the same weights, adapter off, recorded once.

    Args:
        world: model and data.
        form: how the prefix is shared.
        method: whose loss is taken, and whose reference recorded; None: SIU's.
    """

    name, layers = "ours", LoraLinear

    def __init__(self, world: World, form: Form = "slices", method: Method[Any] | None = None):
        self.world, self.form, self.method = world, form, method or world.method
        world.vlm.sliced = form != "mask"
        world.attach(self.layers)
        self.seconds: dict[str, float] = {}

    def train(self, samples: Sequence[Sample]) -> float:
        """One pass. The picture is seen anew and the reference recorded anew, as at the begin of a run."""
        world, totals = self.world, self.world.totals(samples)
        world.vlm.forget_features()
        begin = time.perf_counter()
        if self.form == "cache":
            return self._on_cache(samples, totals)
        encoded = Encoded(world.vlm, samples, self.method.reference)
        self.method.prepare(encoded, Request(CONCEPT, (world.picture,)))
        synchronise(world.vlm)
        recorded = time.perf_counter()
        loss = self.step(encoded)
        synchronise(world.vlm)
        self.seconds = {"recording": recorded - begin, "step": time.perf_counter() - recorded}
        return loss

    def step(self, encoded: Encoded) -> float:
        """What every further step of a run costs."""
        return sum(gradients(self.method, encoded, range(len(encoded.samples))).values())

    def _on_cache(self, samples: Sequence[Sample], totals: tuple[int, int]) -> float:
        vlm, method = self.world.vlm, self.world.method
        pack = EncodedPack(samples[0].picture, tuple(vlm.prompter.suffix(s.question, s.answer, True) for s in samples))
        keep = torch.tensor([k for s in samples for k in self.world.keeps(s)], device=vlm.device)
        labels = torch.tensor([t for s in pack.suffixes for t in s.answer_ids], device=vlm.device)
        with torch.no_grad(), vlm.original():
            reference = F.log_softmax(logits_on_cache(vlm, pack), -1)
        logits = logits_on_cache(vlm, pack)
        ce = answer_cross_entropy(logits, labels, totals[0])
        dmk = dual_masked_kl(logits, reference, keep, method.keep_vocabulary, totals[1])
        total = method.settings.alpha * ce + method.settings.beta * dmk
        total.backward()
        return total.item()

    @torch.no_grad()
    def answers(self, questions: Sequence[str], limit: int) -> list[list[int]]:
        """Token ids of greedy answers: the library's own function, told to hand out ids for words."""
        vlm, prompter = self.world.vlm, cast(Any, self.world.vlm.prompter)
        vlm.forget_features()
        prompter.decode = lambda ids: " ".join(map(str, ids))
        try:
            replies = answer(vlm, [Question(q, self.world.picture) for q in questions], limit)
        finally:
            del prompter.decode
        return [[int(i) for i in r.text.split()] for r in replies]

    def modules(self) -> list[torch.nn.Module]:
        """The decoder that runs, for counting."""
        return [self.world.vlm.part(self.world.vlm.anatomy.language)]


class OursVKD:
    """VKD as `unsee forget --method vkd` runs it, with its default settings.

    Args:
        world: model and data.
        samples: what it trains on.
        whole: a step of all its terms; False: the distillation alone.
    """

    def __init__(self, world: World, samples: Sequence[Sample], whole: bool):
        self.world, self.whole = world, whole
        self.method = VKD(VKDSettings())
        self.method.attach(world.vlm, 0)
        self.encoded = Encoded(world.vlm, samples, self.method.reference)
        self.method.prepare(self.encoded, Request(CONCEPT, (world.picture,)))

    def train(self, samples: Sequence[Sample]) -> float:
        """The last step: all terms have begun."""
        step = self.method.settings.steps - 1
        if self.whole:
            return sum(gradients(self.method, self.encoded, range(len(samples)), step).values())
        total = torch.stack(list(self.method.step_terms(self.world.vlm, step).values())).sum()
        total.backward()
        return total.item()


def logits_on_cache(vlm: VisionLanguageModel, pack: EncodedPack) -> torch.Tensor:
    """Logits `[tokens, vocabulary]` at answer positions: suffixes as a batch on the prefix's KV cache, with gradients.

    The cost grows linearly with the suffixes; but they are padded to the longest, and every row of every layer holds
    a copy of the prefix's keys and values.
    """
    language, cache = vlm.part(vlm.anatomy.language), DynamicCache(config=vlm.base.config.get_text_config())
    before = collate([EncodedPack(pack.picture, ())], vlm.prompter)
    count, longest = len(pack.suffixes), max(len(s.ids) for s in pack.suffixes)
    ids = torch.zeros(count, longest, dtype=torch.long)
    predict: list[int] = []
    for row, suffix in enumerate(pack.suffixes):
        ids[row, : len(suffix.ids)] = torch.tensor(suffix.ids)
        predict += [row * longest + i - 1 for i in range(suffix.answer_start, len(suffix.ids))]
    with vlm.autocast():
        language(inputs_embeds=vlm.entering(before, 0), past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(count)
        states = language(
            inputs_embeds=vlm.base.get_input_embeddings()(ids.to(vlm.device)),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return vlm.part(vlm.anatomy.head)(states.flatten(0, 1)[torch.tensor(predict, device=vlm.device)]).float()


def synchronise(vlm: VisionLanguageModel) -> None:
    """Wait for the device."""
    if vlm.device.type == "cuda":
        torch.cuda.synchronize()
