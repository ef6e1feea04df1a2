"""Greedy answers in batches: a picture's prefix is encoded once and its KV cache serves all its questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from unsee.data.pictures import Picture
from unsee.models.vlm import VisionLanguageModel


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
    """

    text: str
    tokens: int
    ended: bool


@torch.no_grad()
def answer(
    vlm: VisionLanguageModel,
    questions: Sequence[Question],
    max_new_tokens: int = 40,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> list[Reply]:
    """Answer every question greedily, in the order given.

    Args:
        vlm: the model, with whatever adapter is active.
        questions: with and without pictures, mixed.
        max_new_tokens: where an answer is cut off.
        batch_size: questions per forward.
        progress: called with the number of questions done since the last call.
    """
    suffixes = [vlm.prompter.suffix(q.text, picture=q.picture is not None).ids for q in questions]
    replies: list[Reply | None] = [None] * len(questions)
    for shows in (True, False):
        of_form = [i for i, q in enumerate(questions) if (q.picture is not None) is shows]
        # Questions on one picture stay together, so that its prefix is encoded in one batch only.
        order = sorted(of_form, key=lambda i: (_key(questions[i]), len(suffixes[i])))
        for at in range(0, len(order), batch_size):
            group = order[at : at + batch_size]
            pictures = [questions[i].picture for i in group]
            for i, reply in zip(
                group, _batch(vlm, [suffixes[i] for i in group], pictures, max_new_tokens), strict=True
            ):
                replies[i] = reply
            if progress:
                progress(len(group))
    return [r for r in replies if r is not None]


def _key(question: Question) -> str:
    return question.picture.sha256 if question.picture is not None else ""


def _prefix_cache(vlm: VisionLanguageModel, pictures: Sequence[Picture]) -> tuple[Any, int]:
    """KV cache of the image prefix, one row for each question, each distinct picture encoded once."""
    cache = DynamicCache(config=vlm.base.config.get_text_config())
    distinct = list({p.sha256: p for p in pictures}.values())
    prefix = torch.tensor(vlm.prompter.prefix)
    ids = prefix[None].expand(len(distinct), -1)
    vlm.part(vlm.anatomy.language)(
        inputs_embeds=vlm.embed(ids, ids == vlm.prompter.image_token_id, distinct),
        past_key_values=cache,
        use_cache=True,
    )
    row = {p.sha256: i for i, p in enumerate(distinct)}
    cache.batch_select_indices(torch.tensor([row[p.sha256] for p in pictures], device=vlm.device))
    return cache, len(prefix)


def _batch(
    vlm: VisionLanguageModel,
    suffixes: Sequence[tuple[int, ...]],
    pictures: Sequence[Picture | None],
    max_new_tokens: int,
) -> list[Reply]:
    device = vlm.device
    language, head = vlm.part(vlm.anatomy.language), vlm.part(vlm.anatomy.head)
    rows, longest = len(suffixes), max(len(s) for s in suffixes)
    ends = torch.tensor(sorted(vlm.end_ids), device=device)
    with vlm.autocast():
        shown = [p for p in pictures if p is not None]
        cache, prefix = (
            _prefix_cache(vlm, shown) if shown else (DynamicCache(config=vlm.base.config.get_text_config()), 0)
        )
        ids = torch.zeros(rows, longest, dtype=torch.long, device=device)
        mask = torch.zeros(rows, prefix + longest, dtype=torch.long, device=device)
        mask[:, :prefix] = 1
        for row, suffix in enumerate(suffixes):  # padded on the left, so that all answers start together
            ids[row, longest - len(suffix) :] = torch.tensor(suffix, device=device)
            mask[row, prefix + longest - len(suffix) :] = 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, prefix:]
        generated: list[list[int]] = [[] for _ in range(rows)]
        ended = [False] * rows
        alive = torch.arange(rows, device=device)
        step_ids = ids
        for _ in range(max_new_tokens):
            states = language(
                inputs_embeds=vlm.base.get_input_embeddings()(step_ids),
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            chosen = head(states).float().argmax(-1)
            going = ~torch.isin(chosen, ends)
            for row, token, goes in zip(alive.tolist(), chosen.tolist(), going.tolist(), strict=True):
                if goes:
                    generated[row].append(token)
                else:
                    ended[row] = True
            if not going.any():
                break
            if not going.all():  # finished answers leave the batch
                keep = going.nonzero()[:, 0]
                cache.batch_select_indices(keep)
                alive, chosen, mask, positions = alive[keep], chosen[keep], mask[keep], positions[keep]
            step_ids = chosen[:, None]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            positions = positions[:, -1:] + 1
    return [Reply(vlm.prompter.decode(g), len(g), e) for g, e in zip(generated, ended, strict=True)]
