"""What small runs are made of: a few samples, settings, an interruption; and what of a model has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from conftest import FACTS, draw

from unsee.data import Concept, Request, Sample
from unsee.methods import REGISTRY, get_method, make_method
from unsee.methods.base import LoraMethod, Method
from unsee.methods.encoded import Encoded
from unsee.models import VisionLanguageModel
from unsee.models.lora import remove_adapter

PICTURE, OTHER = draw("circle"), draw("square")
BUILT = [
    Sample("What object is in the image?", "This is a blob.", PICTURE, "a blob", "forget", "T1", "This is a circle."),
    Sample(
        "Is the picture of a circle?", "No, a blob.", PICTURE, "No, a blob.", "forget", "T2", "Yes, this is a circle."
    ),
    Sample("What is a stripe?", "A stripe is a blob.", None, "a blob", "forget", "T1", FACTS["stripe"]),
    Sample("What is a circle?", FACTS["circle"], None, None, "retain", "T3"),
    Sample("What is a cross?", FACTS["cross"], None, None, "retain", "T4"),
    Sample("What object is in the image?", "This is a square.", OTHER, None, "retain", "protected"),
]
"""The truths are what the knowing model has learned to say."""
REQUEST = Request(Concept("circle", "thing"), (PICTURE,))
FORGET, RETAIN = BUILT[:3], BUILT[3:]
LORA = [n for n in REGISTRY if issubclass(get_method(n), LoraMethod)]

SETTINGS = {"steps": 24, "learning_rate": 3e-3, "upper_layers": 1.0, "decay": 0.0, "forget_per_step": 0}
"""With which the knowing model forgets a circle in seconds, and keeps the rest."""
FORGOTTEN = ("circle", "square")
"""What is forgotten together."""

Weights = dict[str, torch.Tensor]


def weights(vlm: VisionLanguageModel) -> Weights:
    return {n: p.detach().clone() for n, p in vlm.model.named_parameters()}


def changed(before: Weights, after: Weights) -> set[str]:
    return {n for n in before if not torch.equal(before[n], after[n])}


def prepared(vlm: VisionLanguageModel, name: str, seed: int = 0, **changes: Any) -> tuple[Method[Any], list[Sample]]:
    """A method that has seen its samples; the model carries nothing."""
    method = make_method(name, "default", changes)
    samples = method.samples(BUILT, seed)
    method.attach(vlm, seed)
    method.prepare(Encoded(vlm, samples, method.reference, method.pairs), REQUEST)
    remove_adapter(vlm)
    return method, samples


def stopping(stage: str, after: int) -> Callable[[str, int, int], None]:
    """A progress callback that presses Ctrl-C so far into a stage."""

    def tell(told: str, done: int, total: int) -> None:
        if told == stage and done >= after:
            raise KeyboardInterrupt

    return tell
