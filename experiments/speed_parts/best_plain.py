"""What a careful engineer writes with `transformers` and PEFT alone; nothing of this project but the loss functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear

from speed_parts.peer import batches, collated, generated
from speed_parts.world import World
from unsee.data import Sample
from unsee.losses import answer_cross_entropy, dual_masked_kl


class BestPlain:
    """Adapter off for the reference, logits at answer positions only, batches sorted by length and as large as pays.

    Args:
        world: model and data.
        batch: samples a training batch holds; found by a search, see `measure.search`.
        answer_batch: questions a call of `generate` answers; likewise.
    """

    name, layers = "best plain", Linear

    def __init__(self, world: World, batch: int = 8, answer_batch: int = 16):
        self.world, self.batch, self.answer_batch = world, batch, answer_batch
        world.attach(self.layers)

    def train(self, samples: Sequence[Sample]) -> float:
        """One pass; gradients are accumulated."""
        world, loss = self.world, 0.0
        answer_tokens, kept = world.totals(samples)
        settings, model = world.method.settings, world.vlm.model
        for some in batches(sorted(samples, key=lambda s: len(s.question) + len(s.answer)), self.batch):
            inputs, labels = collated(world, some)
            wanted = F.pad(labels[:, 1:], (0, 1), value=-100)
            at = wanted != -100  # `logits_to_keep` takes a mask of positions
            keep = torch.tensor([k for s in some for k in world.keeps(s)], device=labels.device)
            with world.plain_autocast():
                with torch.no_grad(), model.disable_adapter():
                    reference = model(**inputs, logits_to_keep=at).logits
                logits = model(**inputs, logits_to_keep=at).logits
            reference, logits = F.log_softmax(reference.float().flatten(0, -2), -1), logits.float().flatten(0, -2)
            ce = answer_cross_entropy(logits, wanted[at], answer_tokens)
            dmk = dual_masked_kl(logits, reference, keep, world.method.keep_vocabulary, kept)
            total = settings.alpha * ce + settings.beta * dmk
            total.backward()
            loss += total.item()
        return loss

    @torch.no_grad()
    def answers(self, questions: Sequence[str], limit: int) -> list[list[int]]:
        """Token ids of greedy answers, in batches padded on the left, questions of like length together."""
        order = sorted(range(len(questions)), key=lambda i: len(questions[i]))
        found: dict[int, list[int]] = {}
        for at in range(0, len(order), self.answer_batch):
            some = order[at : at + self.answer_batch]
            found |= dict(zip(some, generated(self.world, [questions[i] for i in some], limit), strict=True))
        return [found[i] for i in range(len(questions))]

    def modules(self) -> list[torch.nn.Module]:
        """The decoder that runs, for counting."""
        return [self.world.vlm.part(self.world.vlm.anatomy.language)]
