"""Gradients of a step: forward by forward, logits a part at a time, masked terms through the method's mask."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from unsee.methods.base import Method
from unsee.methods.batch import Batch, Totals
from unsee.methods.encoded import Encoded


def gradients(method: Method[Any], encoded: Encoded, chosen: Sequence[int], step: int = 0) -> dict[str, float]:
    """Give the weights that train, which have none yet, the gradients of a step's loss.

    Args:
        method: whose loss it is.
        encoded: its samples.
        chosen: those that the step sees, as indices.
        step: number of the step, from 0, by which methods do one thing or another.

    Returns:
        The terms of the loss, by name.
    """
    terms: dict[str, float] = defaultdict(float)
    scale = encoded.loss_scale
    asks = method.asks(step)
    read = [i for i in chosen if encoded.samples[i].role in asks]
    totals = encoded.totals(read)
    with method.reading(encoded.vlm, step):
        for batch, _ in encoded.micro_batches(read):
            _of_batch(method, encoded, batch, totals, terms, scale)
    for masked, total in _sides(method, method.step_terms(encoded.vlm, step), terms):
        _backward(method, scale * total, masked)
    if scale != 1:
        for value in encoded.vlm.model.parameters():
            if value.grad is not None:
                value.grad /= scale
    return dict(terms)


def _of_batch(
    method: Method[Any], encoded: Encoded, batch: Batch, totals: Totals, terms: dict[str, float], scale: float
) -> None:
    """By way of the states read: what is made of them (logits, mostly) is by far the largest tensor of a step."""
    vlm = encoded.vlm
    states = method.read(vlm, batch, encoded.layer)
    leaf = states.detach().requires_grad_()
    pulls: dict[bool, torch.Tensor] = {}
    for rows, part in batch.parts(vlm.vocabulary_size):
        found = method.loss(method.output(vlm, leaf[rows]), encoded.compared(part), totals)
        for masked, total in _sides(method, found, terms):
            _backward(method, scale * total, masked)
            if leaf.grad is not None:
                pulls[masked] = pulls[masked] + leaf.grad if masked in pulls else leaf.grad
                leaf.grad = None
    for masked, pull in pulls.items():
        _backward(method, states, masked, pull)


def _sides(
    method: Method[Any], found: dict[str, torch.Tensor], terms: dict[str, float]
) -> Iterator[tuple[bool, torch.Tensor]]:
    """Sums of the terms whose gradient goes through the mask, and of the rest; every term is noted."""
    for name, value in found.items():
        terms[name] += value.item()
    names = method.masked_terms if method.gradient_mask else frozenset()
    for masked in (True, False):
        if side := [v for n, v in found.items() if (n in names) == masked]:
            yield masked, torch.stack(side).sum()


def _backward(method: Method[Any], found: torch.Tensor, masked: bool, gradient: torch.Tensor | None = None) -> None:
    masks = method.gradient_mask if masked else {}
    hooks = [p.register_hook(functools.partial(torch.mul, mask)) for p, mask in masks.items()]
    try:
        found.backward(gradient, retain_graph=masked)  # the other side may follow on the same graph
    finally:
        for hook in hooks:
            hook.remove()
