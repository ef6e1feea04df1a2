"""Samples as tensors: ids, and what stays the same while training goes on, recorded once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from unsee.data import Sample
from unsee.data.concept import by_picture
from unsee.errors import UnseeError
from unsee.methods.batch import Batch, Reference, Totals
from unsee.models import VisionLanguageModel
from unsee.models.packing import EncodedPack, batches, collate
from unsee.models.prompting import Suffix, spans_of


class Encoded:
    """Samples as ids, with what stays the same while training goes on.

    Recorded once, before anything is trained, in one pass over the samples that training will see, and kept as long as
    it does (no second model), one entry a suffix, and one a picture's prefix:

    - what a method compares with of the original: log-probabilities (`answer tokens`), or, for those of the whole
      vocabulary, the states they are made of (`answer tokens x hidden`);
    - the states that enter the first layer of W that training reaches (`tokens x hidden`).

    Args:
        vlm: the model; the adapter, where it has one, is switched off for what is recorded.
        samples: the data.
        reference: which log-probabilities of the original a loss will ask for.
        pairs: whether a sample to be forgotten is a pair of answers, its `answer` and its `truth`. The two stay
            together, behind one picture or side by side in a pack of their own, so that every forward has both.
        seen: indices of the samples that training will see; None: all. Nothing is recorded of the others.
    """

    def __init__(
        self,
        vlm: VisionLanguageModel,
        samples: Sequence[Sample],
        reference: Reference = "none",
        pairs: bool = False,
        seen: Iterable[int] | None = None,
    ):
        self.vlm, self.samples = vlm, samples
        self.suffixes: list[Suffix] = []
        self.of_sample: list[list[int]] = []
        """For each sample the numbers of its suffixes: one, or a pair's two, the rejected one last."""
        for s in samples:
            said = [(s.answer, spans_of(s.target_phrase, s.answer))]
            if pairs and s.role == "forget":
                if s.truth is None:
                    raise UnseeError(f"the question {s.question!r} has no truth, so there is no pair of answers to it")
                said.append((s.truth, ()))
            self.of_sample.append([*range(len(self.suffixes), len(self.suffixes) + len(said))])
            self.suffixes += [vlm.prompter.suffix(s.question, a, s.picture is not None, spans) for a, spans in said]
        # Where nothing is trained, everything is to be read: by a method that edits, or none.
        trained = any(p.requires_grad for p in vlm.model.parameters())
        self.layer = vlm.untouched_layers() if trained else 0
        self.seen = set(range(len(samples)) if seen is None else seen)
        self.reference: dict[int, torch.Tensor] = {}
        """By suffix, `[tokens]` log-probabilities or `[tokens, hidden]` states, in the main memory."""
        self.entering: dict[int | str, torch.Tensor] = {}
        if reference != "none" or self.layer:
            with torch.no_grad(), vlm.original():
                self._record(reference, sorted(self.seen))

    def _record(self, reference: Reference, chosen: Sequence[int]) -> None:
        for packs, members in self._forwards(chosen):
            tensors = collate(packs, self.vlm.prompter)
            entering = self.vlm.entering(tensors, self.layer)
            if reference != "none":
                order = [i for inside in members for i in inside]
                sizes = [len(self.suffixes[i].answer_ids) for i in order]
                found = self.vlm.hidden(tensors, entering, self.layer)
                found = self.vlm.log_probs(found, tensors.labels) if reference == "labels" else found.cpu()
                self.reference |= dict(zip(order, found.split(sizes), strict=True))
            if self.layer:
                prefix = len(self.vlm.prompter.prefix)
                for row, pack, inside in zip(entering.cpu(), packs, members, strict=True):
                    parts = row[: pack.length(prefix)].split(pack.parts(prefix))
                    self.entering |= dict(zip(_keys(pack, inside), parts, strict=True))

    def compared(self, batch: Batch) -> Batch:
        """The batch with the log-probabilities that its loss compares with, where states of the original stand for
        them: made as the model's own are, by a head that no method trains."""
        if batch.reference is None or batch.reference.ndim == 1:
            return batch
        return dataclasses.replace(batch, reference=self.over_vocabulary(batch.reference))

    @torch.no_grad()
    def over_vocabulary(self, states: torch.Tensor) -> torch.Tensor:
        """The original's log-probabilities `[tokens, vocabulary]` at the states `[tokens, hidden]` recorded of it."""
        return F.log_softmax(self.vlm.head(states.to(self.vlm.device)), -1)

    def _forwards(self, chosen: Sequence[int]) -> list[tuple[list[EncodedPack], list[list[int]]]]:
        """The chosen samples packed by picture, some packs a forward; with each pack the numbers of its suffixes."""
        grouped = by_picture(self.samples, chosen)
        members = [[n for i in inside for n in self.of_sample[i]] for inside in grouped]
        encoded = [
            EncodedPack(self.samples[inside[0]].picture, tuple(self.suffixes[n] for n in numbers))
            for inside, numbers in zip(grouped, members, strict=True)
        ]
        groups = batches(encoded, len(self.vlm.prompter.prefix))
        return [([encoded[g] for g in group], [members[g] for g in group]) for group in groups]

    @property
    def loss_scale(self) -> float:
        """What a loss is multiplied with before its gradients are taken, which are divided by it.

        In float16 the share of one answer token in hundreds, over a vocabulary of thousands, would be 0.
        """
        return 4096.0 if self.vlm.base.dtype is torch.float16 else 1.0

    def by_input(self, role: Literal["forget", "retain"]) -> list[list[int]]:
        """The samples of one role, those on one picture together, each text by itself; each makes one unpadded row."""
        return by_picture(self.samples, (i for i, sample in enumerate(self.samples) if sample.role == role))

    def micro_batches(self, chosen: Sequence[int]) -> Iterator[tuple[Batch, list[int]]]:
        """The chosen samples laid out in forwards, one after the other, and with each the sample of each suffix."""
        device = self.vlm.device
        sample_of = {n: i for i in chosen for n in self.of_sample[i]}
        rejected = {n for i in chosen for n in self.of_sample[i][1:]}
        for packs, members in self._forwards(chosen):
            order = [i for inside in members for i in inside]
            tensors = collate(packs, self.vlm.prompter)
            owners = [sample_of[n] for n in order]
            forget = torch.tensor([self.samples[i].role == "forget" for i in owners])
            lost = torch.tensor([n in rejected for n in order])
            reference = entering = None
            if self.reference.keys() >= set(order):
                reference = torch.cat([self.reference[n] for n in order]).to(device)
            keys = [_keys(p, m) for p, m in zip(packs, members, strict=True)]
            if self.entering.keys() >= {k for row in keys for k in row}:
                entering = pad_sequence([torch.cat([self.entering[k] for k in row]) for row in keys], batch_first=True)
                entering = entering.to(device)
            of = tensors.sample
            batch = Batch(tensors, forget[of], torch.tensor(owners)[of], lost[of], reference, entering)
            yield batch, owners

    def totals(self, chosen: Sequence[int]) -> Totals:
        sizes = {i: sum(len(self.suffixes[n].answer_ids) for n in self.of_sample[i]) for i in chosen}
        masked = sum(sum(self.suffixes[n].target) for i in chosen for n in self.of_sample[i])
        forget = [i for i in chosen if self.samples[i].role == "forget"]
        tokens, forget_tokens = sum(sizes.values()), sum(sizes[i] for i in forget)
        return Totals(
            tokens=tokens,
            kept_tokens=tokens - masked,
            forget_tokens=forget_tokens,
            retain_tokens=tokens - forget_tokens,
            forget_samples=len(forget),
        )


def _keys(pack: EncodedPack, members: Sequence[int]) -> list[int | str]:
    """Under which keys the states of a pack's parts are kept: the picture for the prefix, a suffix by its number."""
    return [*([pack.picture.sha256] if pack.picture is not None else []), *members]
