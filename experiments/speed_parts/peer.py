"""The usual way, as public unlearning code has it; each habit is named where it is followed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear

from speed_parts.world import World
from unsee.data import Sample

BATCH = 4
"""The batch size of the published scripts: `--batch_size 4` in the instructions of MLLMU-Bench's baselines."""


def collated(world: World, samples: Sequence[Sample]) -> tuple[dict[str, Any], torch.Tensor]:
    """A padded batch through the processor, and labels with -100 outside the answers.

    The processor is given every sample's picture, whether or not another sample of the batch shows the same one.
    """
    end = world.vlm.tokenizer.eos_token
    texts = [world.prompt(s.question, s.picture is not None) + s.answer + end for s in samples]
    images = [s.picture.image for s in samples if s.picture is not None]
    inputs = world.vlm.processor(
        text=texts, images=images or None, padding=True, padding_side="left", return_tensors="pt"
    )
    inputs = {k: v.to(world.vlm.device) for k, v in inputs.items()}
    if "pixel_values" in inputs:
        inputs["pixel_values"] = inputs["pixel_values"].to(world.vlm.base.dtype)
    labels = inputs["input_ids"].clone()  # padded on the left, so that answers end together
    for row, sample in enumerate(samples):
        labels[row, : -len(world.keeps(sample))] = -100
    return inputs, labels


def batches(samples: Sequence[Sample], size: int, texts: int | None = None) -> list[list[Sample]]:
    """Batches in the order of the data, those with pictures apart from those without.

    Args:
        samples: to be batched.
        size: samples a batch holds.
        texts: of those without a picture; None: as many.

    LLaVA's own training code groups so (`group_by_modality_length`), and the benchmarks' scripts have a loader for
    either; a text padded to the length of a picture would make the usual way look worse than it is.
    """
    forms = [([s for s in samples if s.picture is not None], size),
             ([s for s in samples if s.picture is None], texts or size)]  # fmt: skip
    return [form[at : at + held] for form, held in forms for at in range(0, len(form), held)]


class Peer:
    """Padded batches of 4, a second model as reference, logits at every position, one question at a time."""

    name, layers = "peer", Linear

    def __init__(self, world: World):
        self.world = world
        # The reference is the whole model once more: MLLMU-Bench's KL script loads it a second time, as `oracle_model`.
        self.reference = copy.deepcopy(world.vlm.model).eval().requires_grad_(False)
        world.attach(self.layers)

    def train(self, samples: Sequence[Sample]) -> float:
        """One pass; gradients are accumulated. `Trainer` runs it under autocast (`bf16=True`)."""
        world, loss = self.world, 0.0
        answer_tokens, kept = world.totals(samples)
        settings = world.method.settings
        for some in batches(samples, BATCH):
            inputs, labels = collated(world, some)
            with world.plain_autocast():
                out = world.vlm.model(**inputs, labels=labels, num_items_in_batch=answer_tokens)
                # The reference is run again at every step, though what it says never changes.
                with torch.no_grad():
                    wanted = F.log_softmax(self.reference(**inputs).logits.float(), -1)
                found = F.log_softmax(out.logits.float(), -1)
            # The divergence of all positions, as `F.kl_div` gives it, is masked afterwards.
            terms = F.kl_div(found, wanted, reduction="none", log_target=True)
            masked = terms * self._keep(some, labels)[..., None] * world.method.keep_vocabulary
            total = settings.alpha * out.loss + settings.beta * masked.sum() / max(1, kept)
            total.backward()
            loss += total.item()
        return loss

    def _keep(self, samples: Sequence[Sample], labels: torch.Tensor) -> torch.Tensor:
        """K_S at the positions that predict, 0 outside the answers."""
        keep = torch.zeros(labels.shape, device=labels.device)
        for row, sample in enumerate(samples):
            marks = torch.tensor(self.world.keeps(sample), dtype=keep.dtype, device=keep.device)
            keep[row, -len(marks) - 1 : -1] = marks
        return keep

    @torch.no_grad()
    def answers(self, questions: Sequence[str], limit: int) -> list[list[int]]:
        """Token ids of greedy answers: one question at a time, as the benchmarks' evaluation scripts do."""
        return [generated(self.world, [q], limit)[0] for q in questions]

    def modules(self) -> list[torch.nn.Module]:
        """The decoders that run, for counting."""
        path = self.world.vlm.anatomy.language
        return [self.world.vlm.part(path), self.reference.get_submodule(path)]


class FullGD:
    """Gradient difference on all weights.

    Args:
        world: model and data.
        batch: samples of a batch.
        everywhere: logits at every position, as the public scripts have it; False: at answer positions alone.
    """

    def __init__(self, world: World, batch: int = BATCH, everywhere: bool = True):
        self.world, self.batch, self.everywhere = world, batch, everywhere
        world.vlm.model.requires_grad_(True)

    def train(self, samples: Sequence[Sample]) -> float:
        """One pass; gradients are accumulated."""
        world, loss = self.world, 0.0
        for role, sign in (("forget", -1), ("retain", 1)):
            of_role = [s for s in samples if s.role == role]
            tokens, _ = world.totals(of_role)
            for some in batches(of_role, self.batch):
                inputs, labels = collated(world, some)
                with world.plain_autocast():
                    total = sign * self._cross_entropy(inputs, labels, tokens)
                total.backward()
                loss += total.item()
        return loss

    def _cross_entropy(self, inputs: dict[str, Any], labels: torch.Tensor, tokens: int) -> torch.Tensor:
        model = self.world.vlm.model
        if self.everywhere:
            return model(**inputs, labels=labels, num_items_in_batch=tokens).loss
        wanted = F.pad(labels[:, 1:], (0, 1), value=-100)
        at = wanted != -100
        logits = model(**inputs, logits_to_keep=at).logits.float().flatten(0, -2)
        return F.cross_entropy(logits, wanted[at], reduction="sum") / tokens


def generated(world: World, questions: Sequence[str], limit: int) -> list[list[int]]:
    """`generate` on a batch of questions about the picture, cut at the end token."""
    vlm = world.vlm
    texts = [world.prompt(q, True) for q in questions]
    inputs = vlm.processor(
        text=texts, images=[world.picture.image] * len(texts), padding=True, padding_side="left", return_tensors="pt"
    )
    inputs = {k: v.to(vlm.device) for k, v in inputs.items()}
    inputs["pixel_values"] = inputs["pixel_values"].to(vlm.base.dtype)
    with world.plain_autocast():
        out = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=limit)
    return ended(world, out[:, inputs["input_ids"].shape[1] :])


def ended(world: World, rows: torch.Tensor) -> list[list[int]]:
    """Rows of generated ids, each cut at its end token."""
    ends = world.vlm.end_ids
    return [row[: next((i for i, t in enumerate(row) if t in ends), len(row))] for row in rows.tolist()]
