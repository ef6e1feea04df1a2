"""Attention for packed questions, as functions that `transformers` models call by name.

One mask over a whole pack compares every token with every other, most of them in vain: with many questions behind
a picture, a suffix sees none of the other suffixes. Both functions here compute only what is seen, so that the cost
of a further question does not depend on how many there are. The keys of the prefix are read, never copied per row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface

from unsee.models.packing import Slices

SLICED = "unsee-sliced"
STEP = "unsee-step"

Prefix = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of image prefixes: for each layer of W, `[pictures, key heads, prefix, size]`."""


def sliced_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    slices: Slices,
    prefix: Prefix | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Whole packs: slice by slice, each looking at the prefix and at itself.

    Args:
        module: the attention layer.
        query: `[rows, heads, length, size]`.
        key: `[rows, key heads, length, size]`; query heads share key heads in groups.
        value: likewise.
        attention_mask: unused; the slices say what is seen.
        scaling: of the scores.
        dropout: of the weights.
        slices: how the length is cut.
        prefix: keys and values that all slices see, computed earlier, one row of it a row of this batch; None: the
            first slice is the prefix, where the slices have one.
        **kwargs: what other attention functions read.

    Returns:
        `[rows, length, heads, size]`.
    """
    rows, heads, _, size = query.shape
    key_heads = key.shape[1]
    groups = heads // key_heads
    seen = prefix[module.layer_idx] if prefix is not None else None
    written_out = query.device.type == "cpu" and not dropout
    found = []
    # Split once, so that the gradients of the parts are joined once.
    cut = zip(*(x.split(slices.widths, dim=2) for x in (query, key, value)), strict=True)
    for (q, k, v), mask, bias in zip(cut, slices.masks, slices.biases(groups, query), strict=True):
        if mask is None and not written_out:
            out = F.scaled_dot_product_attention(
                q,
                k.repeat_interleave(groups, 1),
                v.repeat_interleave(groups, 1),
                is_causal=True,
                scale=scaling,
                dropout_p=dropout,
            )
        else:
            if seen is not None:
                k, v = torch.cat([seen[0], k], 2), torch.cat([seen[1], v], 2)
            # The queries of a group stand below one another: no key is copied for them.
            folded = q.reshape(rows, key_heads, -1, size)
            if written_out:
                out = _written_out(folded, k, v, bias, size**-0.5 if scaling is None else scaling)
            else:
                out = F.scaled_dot_product_attention(folded, k, v, attn_mask=bias, scale=scaling, dropout_p=dropout)
            out = out.reshape(rows, heads, -1, size)
        if mask is None:
            seen = k, v
        found.append(out.transpose(1, 2))
    return torch.cat(found, 1), None


def _written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor, scale: float) -> torch.Tensor:
    """Attention as two products and a softmax: on a CPU, forwards and backwards, a third of the fused kernel's time.

    The weights are kept for the backward pass, in the type of the queries: for slices they are small.
    """
    with torch.autocast(q.device.type, enabled=False):
        return ((q * scale) @ k.transpose(2, 3) + bias).softmax(-1) @ v


def step_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    own: torch.Tensor,
    prefix: Prefix | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """One more token of every answer: the prefix of a picture serves all rows that ask about it.

    Args:
        module: the attention layer.
        query: `[rows, heads, 1, size]`; the rows of a picture follow one another, the same number for each.
        key: `[rows, key heads, own length, size]`, of the question and the answer so far.
        value: likewise.
        attention_mask: unused.
        scaling: of the scores.
        dropout: unused; answers are not trained on here.
        own: `[rows, 1, 1, own length]`, True where there is a token.
        prefix: of the pictures; None: there are none.
        **kwargs: what other attention functions read.

    Returns:
        `[rows, 1, heads, size]`.
    """
    rows, heads, _, size = query.shape
    key_heads = key.shape[1]
    groups = heads // key_heads
    q = (query * (size**-0.5 if scaling is None else scaling)).reshape(rows, key_heads, groups, size)
    near = (q @ key.transpose(2, 3)).float().masked_fill(~own, -torch.inf)
    out = near.softmax(-1).to(value.dtype) @ value
    if prefix is not None:
        keys, values = prefix[module.layer_idx]
        pictures = len(keys)
        together = q.view(pictures, -1, key_heads, groups, size).transpose(1, 2)
        far = (together.reshape(pictures, key_heads, -1, size) @ keys.transpose(2, 3)).float()

        def by_row(x: torch.Tensor) -> torch.Tensor:
            x = x.view(pictures, key_heads, -1, groups, x.shape[-1]).transpose(1, 2)
            return x.reshape(rows, key_heads, groups, x.shape[-1])

        # Two softmaxes joined by their normalisers are one softmax over both.
        share = torch.sigmoid(by_row(far.logsumexp(-1, keepdim=True)) - near.logsumexp(-1, keepdim=True))
        out = torch.lerp(out.float(), by_row(far.softmax(-1).to(values.dtype) @ values).float(), share).to(query.dtype)
    return out.view(rows, 1, heads, size), None


AttentionInterface.register(SLICED, sliced_attention)
AttentionInterface.register(STEP, step_attention)


@contextlib.contextmanager
def attending(language: nn.Module, name: str) -> Iterator[None]:
    """The decoder calls another attention function; its own masks are not made meanwhile."""
    config: Any = language.config
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
