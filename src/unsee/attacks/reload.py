"""Reload: put original parts back into an unlearned model. What returns was hidden behind them, not erased.

Whoever has the original's files can do this without any training. It says where a method forgets: one that moves the
vision tower alone is undone by reloading it, one that moves the language model alone is untouched by it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch

from unsee.errors import UnseeError
from unsee.models import VisionLanguageModel

Weights = dict[str, torch.Tensor]
"""Parameters and buffers by their full path in the model."""


def weights_of(vlm: VisionLanguageModel, parts: Sequence[str]) -> Weights:
    """Copies of whole modules' weights, to be put back later: for LLaVA-1.5 0.6 GB of vision tower in bfloat16.

    Args:
        vlm: the original, before anything is attached to it.
        parts: module paths, such as `vlm.anatomy.projector`.

    Raises:
        UnseeError: the model carries an adapter: its modules are wrapped, and their names are others.
    """
    _refuse_adapter(vlm)
    return {
        f"{part}.{name}": value.detach().clone()
        for part in parts
        for name, value in vlm.part(part).state_dict().items()
    }


def moved(vlm: VisionLanguageModel, kept: Mapping[str, torch.Tensor]) -> list[str]:
    """Which of the kept weights are no longer what they were, bit for bit."""
    _refuse_adapter(vlm)
    now = vlm.base.state_dict()
    return [name for name, value in kept.items() if not torch.equal(now[name], value)]


@contextlib.contextmanager
def reloaded(vlm: VisionLanguageModel, kept: Mapping[str, torch.Tensor]) -> Iterator[list[str]]:
    """The model with kept weights put back, inside the `with`; behind it the model is what it was, bit for bit.

    Args:
        vlm: the unlearned model, merged.
        kept: of the original; see `weights_of`.

    Yields:
        The names of those that had moved. None: nothing is changed by this reload.

    Raises:
        UnseeError: the model carries an adapter.
    """
    names = moved(vlm, kept)
    now = vlm.base.state_dict()
    unlearned = {name: now[name].detach().clone() for name in names}
    _put(vlm, {name: kept[name] for name in names})
    try:
        yield names
    finally:
        _put(vlm, unlearned)


def _put(vlm: VisionLanguageModel, weights: Weights) -> None:
    now = vlm.base.state_dict()
    with torch.no_grad():
        for name, value in weights.items():
            now[name].copy_(value)
    vlm.forget_features()


def _refuse_adapter(vlm: VisionLanguageModel) -> None:
    if vlm.adapted:
        raise UnseeError("parts are reloaded into a merged model: merge the adapter first, or take it off")
