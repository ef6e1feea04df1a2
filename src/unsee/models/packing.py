"""One picture, many questions: samples packed behind one image prefix.

`[prefix][suffix 1][suffix 2]...` with a mask in which each suffix sees the prefix and itself, and positions
that restart after the prefix. The result equals separate forwards (a test holds it to that), and the prefix,
by far the longest part, is computed once. Attention is computed in slices (`Slices`), so that the cost of a further
question does not grow with their number; the whole mask (`PackBatch.mask`) is the plain path beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from unsee.data.pictures import Picture
from unsee.models.prompting import Prompter, Suffix


@dataclass(frozen=True)
class EncodedPack:
    """Suffixes behind one picture; `picture` None: text questions side by side, with no prefix at all."""

    picture: Picture | None
    suffixes: tuple[Suffix, ...]

    def parts(self, prefix: int) -> list[int]:
        """Lengths of what follows one another in the row: the prefix, where there is one, and the suffixes."""
        return [*([prefix] if self.picture is not None else []), *(len(s.ids) for s in self.suffixes)]

    def length(self, prefix: int) -> int:
        return sum(self.parts(prefix))


SLICE = 160
"""Columns a slice takes at least, where it can: fewer read the prefix more often, more compare suffixes in vain."""


@dataclass(frozen=True)
class Slices:
    """Neighbouring columns of a batch that attention treats together: they see the prefix and one another.

    Args:
        widths: columns of each slice; together the length of the batch.
        masks: for each slice, `[rows, 1, width, prefix + width]`, True where a position may look; None: it is the
            prefix itself, seen causally.
    """

    widths: list[int]
    masks: list[torch.Tensor | None]
    _kept: dict[tuple[int, torch.dtype, torch.device], list[torch.Tensor]] = field(default_factory=dict)

    def biases(self, groups: int, like: torch.Tensor) -> list[torch.Tensor]:
        """The masks as numbers to add, `[rows or 1, 1, groups * width, prefix + width]`; made once for all layers."""
        key = (groups, like.dtype, like.device)
        if key not in self._kept:
            sights = [
                torch.ones(1, 1, width, width, dtype=torch.bool).tril() if mask is None else mask
                for width, mask in zip(self.widths, self.masks, strict=True)
            ]
            self._kept[key] = [
                torch.zeros(sight.shape, dtype=like.dtype)
                .masked_fill(~sight, -torch.inf)
                .repeat(1, 1, groups, 1)
                .to(like.device)
                for sight in sights
            ]
        return self._kept[key]


def _sight(asking: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """`[rows, asking, seen]`: who may look at whom, if it comes earlier; both by segment."""
    asking, seen = asking[:, :, None], seen[:, None, :]
    return (seen == asking) | ((seen == 0) & (asking > 0))


def slices_of(segment: torch.Tensor, prefix: int = 0, kept: int = 0) -> Slices:
    """Cut a batch where no suffix is cut in two, in any row.

    Args:
        segment: `[rows, length]`, as in `PackBatch`.
        prefix: columns at the begin that are the prefix in every row; 0: there is none, or not in every row.
        kept: columns of a prefix computed earlier that is not in the batch; all suffixes see it.
    """
    length = segment.shape[1]
    widths = [prefix] if prefix else []
    masks: list[torch.Tensor | None] = [None] * len(widths)
    before = torch.zeros(len(segment), kept or prefix, dtype=torch.long)
    # Rows with a prefix beside rows without one are not cut: the first would have to be seen by the second's slices.
    whole = not prefix and bool((segment == 0).any())
    free = ((segment[:, 1:] != segment[:, :-1]) | (segment[:, 1:] < 0)).all(0)
    at = prefix
    for end in [] if whole else (free.nonzero()[:, 0] + 1).tolist():
        if end - at >= SLICE and length - end >= SLICE // 2:
            widths.append(end - at)
            at = end
    if length > at:
        widths.append(length - at)
    at = prefix
    for size in widths[len(masks) :]:
        part = segment[:, at : at + size]
        masks.append(torch.cat([_sight(part, before), _sight(part, part).tril()], 2)[:, None])
        at += size
    return Slices(widths, masks)


@dataclass(frozen=True)
class PackBatch:
    """Tensors of several packs, ready for the decoder.

    Args:
        pictures: the picture of each row that has one, in row order.
        ids: `[rows, length]`, image tokens in place, padded with 0.
        is_image: `[rows, length]`, where image features go.
        positions: `[rows, length]`, restarting after the prefix for every suffix.
        segment: `[rows, length]`, what a position belongs to: 0 the prefix, 1 and on the suffixes, -1 padding.
        slices: how attention may be computed piece by piece.
        predict: `[tokens]`, flat indices into `rows * length` of the positions that predict answer tokens.
        labels: `[tokens]`, the answer tokens themselves.
        target: `[tokens]`, True where the token lies in the target phrase.
        sample: `[tokens]`, the number of the sample (over all packs, in order) the token belongs to.
    """

    pictures: tuple[Picture, ...]
    ids: torch.Tensor
    is_image: torch.Tensor
    positions: torch.Tensor
    segment: torch.Tensor
    slices: Slices
    predict: torch.Tensor
    labels: torch.Tensor
    target: torch.Tensor
    sample: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """`[rows, 1, length, length]`, True where a position may look; made anew at every call."""
        return _sight(self.segment, self.segment)[:, None].tril()


def collate(packs: Sequence[EncodedPack], prompter: Prompter) -> PackBatch:
    """Lay packs out as rows of one padded batch."""
    prefix = prompter.prefix
    length = max(p.length(len(prefix)) for p in packs)
    rows = len(packs)
    ids = torch.zeros(rows, length, dtype=torch.long)
    positions = torch.zeros(rows, length, dtype=torch.long)
    segment = torch.full((rows, length), -1)
    predict: list[int] = []
    labels: list[int] = []
    target: list[bool] = []
    sample: list[int] = []
    count = 0
    for row, pack in enumerate(packs):
        at = 0
        if pack.picture is not None:
            at = len(prefix)
            ids[row, :at] = torch.tensor(prefix)
            positions[row, :at] = torch.arange(at)
            segment[row, :at] = 0
        start = at
        for number, suffix in enumerate(pack.suffixes, 1):
            end = at + len(suffix.ids)
            ids[row, at:end] = torch.tensor(suffix.ids)
            positions[row, at:end] = torch.arange(start, start + end - at)
            segment[row, at:end] = number
            answers = range(at + suffix.answer_start, end)
            predict += [row * length + i - 1 for i in answers]
            labels += suffix.answer_ids
            target += suffix.target
            sample += [count] * len(answers)
            count += 1
            at = end
    shared = len(prefix) if all(p.picture is not None for p in packs) else 0
    return PackBatch(
        pictures=tuple(p.picture for p in packs if p.picture is not None),
        ids=ids,
        is_image=(ids == prompter.image_token_id) & (segment == 0),
        positions=positions,
        segment=segment,
        slices=slices_of(segment, shared),
        predict=torch.tensor(predict, dtype=torch.long),
        labels=torch.tensor(labels, dtype=torch.long),
        target=torch.tensor(target, dtype=torch.bool),
        sample=torch.tensor(sample, dtype=torch.long),
    )


def batches(
    packs: Sequence[EncodedPack], prefix: int, tokens: int = 2304, waste: float = 0.15, spare: int = 96
) -> list[list[int]]:
    """Indices of packs that go into one padded forward: similar lengths, at most `tokens` cells, little padding.

    Little is a share `waste` of the cells, or `spare` of them: what a forward of its own would cost.
    """
    order = sorted(range(len(packs)), key=lambda i: packs[i].length(prefix))
    groups: list[list[int]] = []
    used = 0
    for i in order:
        size = packs[i].length(prefix)
        cells = size * (len(groups[-1]) + 1) if groups else 0
        if not groups or cells > tokens or cells - used - size > max(waste * cells, spare):
            groups.append([])
            used = 0
        groups[-1].append(i)
        used += size
    return groups
