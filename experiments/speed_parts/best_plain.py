"""What a careful engineer writes with `transformers` and PEFT alone; nothing of this project but the loss functions."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from peft.helpers import disable_input_dtype_casting
from peft.tuners.lora.layer import Linear
from transformers import DynamicCache

from speed_parts.peer import batches, collated, ended, generated
from speed_parts.world import World
from unsee.data import Sample
from unsee.losses import answer_cross_entropy, dual_masked_kl


class BestPlain:
    """Adapter off for the reference, logits at answer positions only, batches sorted by length and as large as pays.

    What `measure.search` finds fastest on the machine is taken:

    Args:
        world: model and data.
        batch: samples with a picture that a training batch holds; of texts, which are ten times shorter, it holds
            eight times as many.
        attention: how `transformers` computes it in training, "sdpa" or "eager".
        casting: whether PEFT makes a layer's input as precise as the LoRA's weights; autocast undoes it.
        answer_batch: questions a call of `generate` answers.
    """

    name, layers = "best plain", Linear

    def __init__(
        self, world: World, batch: int = 8, attention: str = "sdpa", casting: bool = True, answer_batch: int = 16
    ):
        self.world, self.batch, self.answer_batch = world, batch, answer_batch
        self.attention, self.casting = attention, casting
        world.attach(self.layers)

    def train(self, samples: Sequence[Sample]) -> float:
        """One pass; gradients are accumulated."""
        model = self.world.vlm.model
        totals, loss = self.world.totals(samples), 0.0
        in_order = sorted(samples, key=lambda s: len(s.question) + len(s.answer))
        model.set_attn_implementation(self.attention)
        with contextlib.nullcontext() if self.casting else disable_input_dtype_casting(model):
            for some in batches(in_order, self.batch, texts=8 * self.batch):
                loss += self._batch(some, totals)
        model.set_attn_implementation("sdpa")
        return loss

    def _batch(self, samples: Sequence[Sample], totals: tuple[int, int]) -> float:
        world, model, settings = self.world, self.world.vlm.model, self.world.method.settings
        inputs, labels = collated(world, samples)
        wanted = F.pad(labels[:, 1:], (0, 1), value=-100)
        at = wanted != -100  # `logits_to_keep` takes a mask of positions
        keep = torch.tensor([k for s in samples for k in world.keeps(s)], device=labels.device)
        with world.plain_autocast():
            with torch.no_grad(), model.disable_adapter():
                reference = model(**inputs, logits_to_keep=at).logits
            logits = model(**inputs, logits_to_keep=at).logits
        reference, logits = F.log_softmax(reference.float().flatten(0, -2), -1), logits.float().flatten(0, -2)
        ce = answer_cross_entropy(logits, wanted[at], totals[0])
        dmk = dual_masked_kl(logits, reference, keep, world.method.keep_vocabulary, totals[1])
        total = settings.alpha * ce + settings.beta * dmk
        total.backward()
        return total.item()

    @torch.no_grad()
    def answers(self, questions: Sequence[str], limit: int) -> list[list[int]]:
        """Token ids of greedy answers, in batches, questions of like length together."""
        order = sorted(range(len(questions)), key=lambda i: len(questions[i]))
        found: dict[int, list[int]] = {}
        begun = self.begun(questions)
        for at in range(0, len(order), self.answer_batch):
            some = order[at : at + self.answer_batch]
            found |= dict(zip(some, self.batch_of_answers([questions[i] for i in some], limit, begun), strict=True))
        return [found[i] for i in range(len(questions))]

    def begun(self, questions: Sequence[str]) -> Any:
        """What the batches of answers share: nothing."""

    def batch_of_answers(self, questions: Sequence[str], limit: int, begun: Any) -> list[list[int]]:
        """`generate` on whole prompts padded on the left: every question with its picture."""
        return generated(self.world, questions, limit)

    def modules(self) -> list[torch.nn.Module]:
        """The decoder that runs, for counting."""
        return [self.world.vlm.part(self.world.vlm.anatomy.language)]


class BestPlainOnCache(BestPlain):
    """As `BestPlain`; the beginning that all prompts share is run once, and every batch goes on from a copy of it.

    `transformers` documents this for prompts in text; it takes a mask with a hole between the beginning and the rest.
    """

    name = "best plain, prompt cached"

    def begun(self, questions: Sequence[str]) -> tuple[list[int], DynamicCache]:
        """Ids of the shared beginning, its picture in it, and their keys and values."""
        world, vlm = self.world, self.world.vlm
        one = vlm.processor(
            text=world.prompt(questions[0], True), images=[world.picture.image], return_tensors="pt"
        ).to(vlm.device)  # fmt: skip
        ids = one["input_ids"][0].tolist()
        shared = len(ids) - ids[::-1].index(vlm.base.config.image_token_id)  # behind the picture
        cache = DynamicCache(config=vlm.base.config.get_text_config())
        with world.plain_autocast():
            vlm.model(
                input_ids=one["input_ids"][:, :shared],
                pixel_values=one["pixel_values"].to(vlm.base.dtype),
                past_key_values=cache,
                logits_to_keep=1,
            )
        return ids[:shared], cache

    def batch_of_answers(
        self, questions: Sequence[str], limit: int, begun: tuple[list[int], DynamicCache]
    ) -> list[list[int]]:
        world, vlm = self.world, self.world.vlm
        ids, cache = begun[0], copy.deepcopy(begun[1])
        cache.batch_repeat_interleave(len(questions))
        before = world.prompt("", True).partition(vlm.processor.image_token)
        rests = [world.prompt(q, True)[len(before[0]) + len(before[1]) :] for q in questions]
        rest = vlm.tokenizer(
            rests, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt"
        ).to(vlm.device)  # fmt: skip
        shared = torch.tensor([ids], device=vlm.device).expand(len(questions), -1)
        with world.plain_autocast():
            out = vlm.model.generate(
                input_ids=torch.cat([shared, rest["input_ids"]], 1),
                attention_mask=torch.cat([torch.ones_like(shared), rest["attention_mask"]], 1),
                past_key_values=cache,
                do_sample=False,
                max_new_tokens=limit,
            )
        return ended(world, out[:, len(ids) + rest["input_ids"].shape[1] :])
