"""Greedy answers in batches: a picture's prefix is encoded once, and its keys and values serve all its questions, and
given answers that are to be scored beside the replies."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import DynamicCache

from unsee.data.pictures import Picture
from unsee.models.attention import SLICED, STEP, Prefix, attending
from unsee.models.packing import Slices, slices_of
from unsee.models.prompting import Suffix
from unsee.models.vlm import VisionLanguageModel

PREFIX_BYTES = 2 * 2**30
"""What the keys and values of the prefixes that are held at once may take; half a MiB a token in a model of 7B."""
FORWARD_TOKENS = 4096
"""Tokens of a forward in which given answers are scored, where there are several rows."""


@dataclass(frozen=True)
class Question:
    """A question, about a picture or about none."""

    text: str
    picture: Picture | None = None


@dataclass(frozen=True)
class Reply:
    """A greedy answer.

    Args:
        text: without special tokens, stripped.
        tokens: how many tokens were generated, the end token not counted.
        ended: whether the model ended by itself, before the limit.
        log_probs: of answers that were to be scored beside it, token by token.
    """

    text: str
    tokens: int
    ended: bool
    log_probs: dict[Suffix, list[float]] = field(default_factory=dict, compare=False, repr=False)


@torch.no_grad()
def answer(
    vlm: VisionLanguageModel,
    questions: Sequence[Question],
    max_new_tokens: int = 40,
    batch_size: int = 128,
    progress: Callable[[int], None] | None = None,
    to_score: Callable[[int, Reply], Sequence[Suffix]] | None = None,
) -> list[Reply]:
    """Answer every question greedily, in the order given.

    Args:
        vlm: the model, with whatever adapter is active.
        questions: with and without pictures, mixed.
        max_new_tokens: where an answer is cut off.
        batch_size: questions per forward.
        progress: called with the number of questions done since the last call.
        to_score: gives, for the number of a question and its reply, answers whose log-probabilities are wanted as
            well: behind the same picture, whose prefix is not encoded again for them.
    """
    suffixes = [vlm.prompter.suffix(q.text, picture=q.picture is not None).ids for q in questions]
    replies: dict[int, Reply] = {}
    held = max(1, PREFIX_BYTES // (len(vlm.prompter.prefix) * _bytes_a_token(vlm)))
    for pictures, chunks in _batches(questions, suffixes, batch_size, held):
        prefix = encode_prefix(vlm, pictures) if pictures else None
        for rows in chunks:
            found = _answer_rows(vlm, prefix, [[suffixes[i] for i in row] for row in rows], max_new_tokens)
            replies |= dict(zip((i for row in rows for i in row), found, strict=True))
            if to_score:
                wanted = {i: list(to_score(i, replies[i])) for row in rows for i in row}
                replies |= _scored(vlm, prefix, rows, wanted, replies)
            if progress:
                progress(len(found))
    return [replies[i] for i in range(len(questions))]


def _batches(
    questions: Sequence[Question], suffixes: Sequence[Sequence[int]], batch_size: int, held: int
) -> list[tuple[list[Picture], list[list[list[int]]]]]:
    """What is answered together: pictures, and for them one batch after another, a row of question numbers each.

    All rows of a batch are equally long. Texts are one row without a picture.

    Args:
        questions, suffixes: what is asked.
        batch_size: questions a forward.
        held: prefixes of pictures that are held at once.
    """
    asked: dict[str, list[int]] = {}
    shown: dict[str, Picture] = {}
    for i in sorted(range(len(questions)), key=lambda i: len(suffixes[i])):
        picture = questions[i].picture
        key = "" if picture is None else picture.sha256
        asked.setdefault(key, []).append(i)
        if picture is not None:
            shown[key] = picture
    found: list[tuple[list[Picture], list[list[list[int]]]]] = []
    if texts := asked.pop("", None):
        found.append(([], [[some] for some in _cut(texts, batch_size)]))
    by_count: dict[int, list[str]] = {}
    for key, numbers in asked.items():
        if len(numbers) > batch_size:
            found.append(([shown[key]], [[some] for some in _cut(numbers, batch_size)]))
        else:
            by_count.setdefault(len(numbers), []).append(key)
    for count, keys in by_count.items():
        keys.sort(key=lambda key: len(suffixes[asked[key][-1]]))
        for some in _cut(keys, min(batch_size // count, held)):
            found.append(([shown[k] for k in some], [[asked[k] for k in some]]))
    return found


def _bytes_a_token(vlm: VisionLanguageModel) -> int:
    """What W keeps of a token: keys and values in every layer."""
    text = vlm.base.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * heads * width * vlm.base.dtype.itemsize


def _cut(items: list[Any], most: int) -> list[list[Any]]:
    """Neighbouring items in as few parts as may be, about equally long."""
    parts = -(-len(items) // most)
    ends = [len(items) * n // parts for n in range(parts + 1)]
    return [items[a:b] for a, b in itertools.pairwise(ends)]


def encode_prefix(vlm: VisionLanguageModel, pictures: Sequence[Picture]) -> Prefix:
    """Keys and values of the prefix with each picture; they live as long as the caller holds them."""
    cache: Any = DynamicCache(config=vlm.base.config.get_text_config())
    ids = torch.tensor(vlm.prompter.prefix)[None].expand(len(pictures), -1)
    with vlm.autocast():
        vlm.part(vlm.anatomy.language)(
            inputs_embeds=vlm.embed(ids, ids == vlm.prompter.image_token_id, pictures),
            past_key_values=cache,
            use_cache=True,
        )
    return [(layer.keys, layer.values) for layer in cache.layers]


def _answer_rows(
    vlm: VisionLanguageModel, prefix: Prefix | None, rows: Sequence[Sequence[tuple[int, ...]]], max_new_tokens: int
) -> list[Reply]:
    """Replies to rows of equally many questions, row after row; each row has its prefix."""
    device, count = vlm.device, len(rows[0])
    language, head = vlm.part(vlm.anatomy.language), vlm.part(vlm.anatomy.head)
    before = prefix[0][0].shape[2] if prefix is not None else 0
    ends = torch.tensor(sorted(vlm.end_ids), device=device)
    generated: list[list[int]] = [[] for _ in range(len(rows) * count)]
    ended = [False] * len(generated)
    with vlm.autocast():
        states, cache, own = _read(vlm, prefix, rows)
        positions = before + own.sum(1, keepdim=True)
        alive = torch.arange(len(generated), device=device)
        going = torch.ones_like(alive, dtype=torch.bool)
        for step in range(max_new_tokens):
            chosen = head(states).float().argmax(-1)
            spoke, going = going, going & ~torch.isin(chosen, ends)
            for at, token, was, goes in zip(
                alive.tolist(), chosen.tolist(), spoke.tolist(), going.tolist(), strict=True
            ):
                if goes:
                    generated[at].append(token)
                elif was:
                    ended[at] = True
            if not going.any() or step == max_new_tokens - 1:
                break
            keep, pictures = _leaving(going.view(-1, count))
            if len(keep) < len(alive):
                cache.batch_select_indices(keep)
                alive, going, chosen, own, positions = (x[keep] for x in (alive, going, chosen, own, positions))
                count = len(keep) // len(pictures)
                if prefix is not None and len(pictures) < len(prefix[0][0]):
                    prefix = [(k[pictures], v[pictures]) for k, v in prefix]
            own = torch.cat([own, own.new_ones(len(own), 1)], 1)
            with attending(language, STEP):
                states = language(
                    inputs_embeds=vlm.base.get_input_embeddings()(chosen[:, None]),
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    own=own[:, None, None],
                    prefix=prefix,
                ).last_hidden_state[:, -1]
            positions = positions + 1
    return [Reply(vlm.prompter.decode(g), len(g), e) for g, e in zip(generated, ended, strict=True)]


def _leaving(going: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Who stays when some have ended: numbers of the answers, and of the rows they are in.

    Rows stay equally long, so that they can share their prefixes: an answer that has ended stays where others of
    its row, or of a longer one, go on.
    """
    pictures = going.any(1).nonzero()[:, 0]
    longest = int(going.sum(1).max())
    first = going[pictures].int().argsort(dim=1, descending=True, stable=True)[:, :longest].sort(1).values
    return (pictures[:, None] * going.shape[1] + first).flatten(), pictures


def _scored(
    vlm: VisionLanguageModel,
    prefix: Prefix | None,
    rows: Sequence[Sequence[int]],
    wanted: dict[int, list[Suffix]],
    replies: dict[int, Reply],
) -> dict[int, Reply]:
    """The replies of those rows for which answers are to be scored, with their log-probabilities."""
    asked = [row for row, some in enumerate(rows) if any(wanted[i] for i in some)]
    if not asked:
        return {}
    longest = max(sum(len(s.ids) for i in rows[row] for s in wanted[i]) for row in asked)
    found: dict[int, Reply] = {}
    for some in _cut(asked, max(1, FORWARD_TOKENS // longest)):
        own = prefix
        if prefix is not None and len(some) < len(rows):
            own = [(k[some], v[some]) for k, v in prefix]
        log_probs = iter(_log_probs(vlm, own, [[s for i in rows[row] for s in wanted[i]] for row in some]))
        for i in (i for row in some for i in rows[row]):
            found[i] = replace(replies[i], log_probs={suffix: next(log_probs) for suffix in wanted[i]})
    return found


def _log_probs(
    vlm: VisionLanguageModel, prefix: Prefix | None, rows: Sequence[Sequence[Suffix]]
) -> Iterator[list[float]]:
    """For each suffix, row after row, those of its answer's tokens: one forward."""
    laid_out = _lay_out([[s.ids for s in row] for row in rows], prefix[0][0].shape[2] if prefix is not None else 0)
    sizes = [len(s.answer_ids) for row in rows for s in row]
    row_of = [at for at, row in enumerate(rows) for s in row for _ in s.answer_ids]
    predict = [last - size + n for last, size in zip(laid_out.last, sizes, strict=True) for n in range(size)]
    labels = torch.tensor([token for row in rows for s in row for token in s.answer_ids])
    with vlm.autocast():
        states = _states(vlm, prefix, laid_out, None)[row_of, predict]
    return (part.tolist() for part in vlm.log_probs(states, labels).split(sizes))


@dataclass(frozen=True)
class _LaidOut:
    """Suffixes row by row, as tensors `[rows, length]`; `last`: of each suffix its last column."""

    ids: torch.Tensor
    positions: torch.Tensor
    slices: Slices
    last: list[int]


def _lay_out(rows: Sequence[Sequence[Sequence[int]]], before: int) -> _LaidOut:
    """Suffixes of each row one after another, behind `before` tokens of a prefix."""
    length = max(sum(map(len, row)) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    positions = torch.zeros(len(rows), length, dtype=torch.long)
    segment = torch.full((len(rows), length), -1)
    last: list[int] = []
    for row, suffixes in enumerate(rows):
        at = 0
        for number, suffix in enumerate(suffixes, 1):
            end = at + len(suffix)
            ids[row, at:end] = torch.tensor(suffix)
            positions[row, at:end] = torch.arange(before, before + len(suffix))
            segment[row, at:end] = number
            last.append(end - 1)
            at = end
    return _LaidOut(ids, positions, slices_of(segment, kept=before), last)


def _states(vlm: VisionLanguageModel, prefix: Prefix | None, laid_out: _LaidOut, cache: Any) -> torch.Tensor:
    """The language model's last states, `[rows, length, hidden]`; a cache takes up the keys and values read."""
    language = vlm.part(vlm.anatomy.language)
    with attending(language, SLICED):
        states: torch.Tensor = language(
            inputs_embeds=vlm.base.get_input_embeddings()(laid_out.ids.to(vlm.device)),
            position_ids=laid_out.positions.to(vlm.device),
            past_key_values=cache,
            use_cache=cache is not None,
            slices=laid_out.slices,
            prefix=prefix,
        ).last_hidden_state
    return states


def _read(
    vlm: VisionLanguageModel, prefix: Prefix | None, rows: Sequence[Sequence[tuple[int, ...]]]
) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """Read the questions, packed row by row.

    Returns:
        The last states `[questions, hidden]`; a cache of their own keys and values, one row a question, padded on
        the left; and `[questions, longest]`, True where there is a token.
    """
    device = vlm.device
    laid_out = _lay_out(rows, prefix[0][0].shape[2] if prefix is not None else 0)
    cache: Any = DynamicCache(config=vlm.base.config.get_text_config())
    states = _states(vlm, prefix, laid_out, cache)
    sizes = torch.tensor([len(suffix) for row in rows for suffix in row])
    longest = int(sizes.max())
    row_of = torch.arange(len(rows)).repeat_interleave(len(rows[0])).to(device)
    last = torch.tensor(laid_out.last)
    columns = (last[:, None] + torch.arange(1 - longest, 1)).clamp(min=0).to(device)
    own = (torch.arange(longest) >= longest - sizes[:, None]).to(device)
    for layer in cache.layers:
        layer.keys, layer.values = (
            x.transpose(1, 2)[row_of[:, None], columns].transpose(1, 2) for x in (layer.keys, layer.values)
        )
    return states[row_of, last.to(device)], cache, own
