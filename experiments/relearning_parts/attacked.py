"""One model under all its attacks: made, merged, and for each arm changed, asked, and put back as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

import unsee
from relearning_parts.cases import Case, measured
from unsee.attacks.relearn import RelearnSettings, drawn, refuse_overlap, relearned, share_size, true_answers
from unsee.attacks.reload import reloaded, weights_of
from unsee.benchmarks.protocol import Protocol, asked_of_training
from unsee.data import Sample
from unsee.errors import TrainingError
from unsee.methods import make_method
from unsee.metrics import Answer
from unsee.models import VisionLanguageModel
from unsee.models.lora import merged
from unsee.training import History

Row = dict[str, Any]
Pools = dict[str, tuple[list[Sample], list[Sample]]]
"""By concept: samples to relearn from, and those of the control."""

ORIGINAL = "original"
PARTS = ("projector", "vision tower", "both")
KEPT = ("set", "form", "item", "subject", "kind", "picture", "question", "answer", "tokens")
"""What a line holds of each answer; `unsee.metrics.Answer` says what it is."""


@dataclass(frozen=True)
class Arm:
    """One thing done to a model before it is asked.

    Args:
        name: "as is"; "relearn" on the concept; "control", the same budget on other concepts; or "reload".
        share: per cent of the pool, for "relearn" and "control".
        part: one of `PARTS`, for "reload".
    """

    name: Literal["as is", "relearn", "control", "reload"]
    share: float | None = None
    part: str | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.part or ('' if self.share is None else f'{self.share:g} %')}".strip()


def arms_of(model: str, shares: Sequence[float]) -> list[Arm]:
    """All arms of a model. The original has nothing to reload."""
    arms = [Arm("as is")]
    for share in shares:
        arms += [Arm("relearn", share), Arm("control", share)]
    return arms + ([] if model == ORIGINAL else [Arm("reload", part=part) for part in PARTS])


def settings_of(
    case: Case, model: str, attack: RelearnSettings, changes: dict[str, Any], dtype: torch.dtype
) -> dict[str, Any]:
    """All that was set: lines made with other settings, data or questions are not mixed with these."""
    asked = [[i.picture.sha256 if i.picture else "", i.question] for i in case.items]
    shown = [[concept.name, p.sha256] for concept, p in (*case.pool, *case.control)]
    if model != ORIGINAL:
        request = case.request_of(model)
        shown += [[case.name, p.sha256] for p in (*request.pictures, *request.protected)]
    return {
        "attack": dataclasses.asdict(attack),
        "unlearning": {} if model == ORIGINAL else dataclasses.asdict(make_method(model, "default", changes).settings),
        "dtype": str(dtype).removeprefix("torch."),
        "data_sha256": hashlib.sha256(json.dumps([shown, asked]).encode()).hexdigest()[:16],
    }


def attacked(
    open_model: Callable[[], VisionLanguageModel],
    case: Case,
    model: str,
    seed: int,
    arms: Sequence[Arm],
    attack: RelearnSettings,
    changes: dict[str, Any],
    pools: Pools,
    spent: Callable[[str, float], None],
) -> Iterator[Row]:
    """A line for each arm, as it ends.

    Args:
        open_model: gives a fresh original model.
        case: what is attacked.
        model: "original", or the method that unlearns it.
        seed: of the unlearning, of which samples are drawn, and of the fine-tune.
        arms: those still to be run.
        attack: settings of the fine-tune, the same in all arms.
        changes: settings of the method where they are not the defaults.
        pools: of concepts already asked about; added to.
        spent: told the seconds that unlearning took.

    Raises:
        UnseeError: the pool and the test share a picture.
    """
    vlm = open_model()
    projector, vision = weights_of(vlm, [vlm.anatomy.projector]), weights_of(vlm, [vlm.anatomy.vision])
    eyes = dict(zip(PARTS, (projector, vision, projector | vision), strict=True))
    if case.name not in pools:
        pools[case.name] = true_answers(vlm, case.pool), true_answers(vlm, case.control)
    relearn, control = pools[case.name]
    for samples in (relearn, control):
        refuse_overlap(samples, [i.picture for i in case.items if i.picture is not None])
    if model != ORIGINAL:
        begin = time.perf_counter()
        unlearn(vlm, case, model, seed, changes)
        spent(f"unlearn {model}", time.perf_counter() - begin)
    asked: dict[str, list[Answer]] = {}
    for arm in arms:
        begin = time.perf_counter()
        count = share_size(len(relearn), arm.share) if arm.share else 0
        history, weights, names = History(), vlm.weights_sha256(), None
        answers: list[Answer] = []
        error = None
        if arm.share:
            samples = drawn(relearn if arm.name == "relearn" else control, count, seed)
            try:
                with relearned(vlm, samples, case.request, attack, seed) as history:
                    answers = measured(vlm, case)
            except TrainingError as exploded:  # it would happen again; the other arms go on
                error = str(exploded)
        else:
            with reloaded(vlm, eyes[arm.part]) if arm.part else contextlib.nullcontext() as names:
                weights = vlm.weights_sha256()
                if weights not in asked:  # a reload that changes nothing leaves nothing to be asked again
                    asked[weights] = measured(vlm, case)
                answers = asked[weights]
        yield {
            "concept": case.name,
            "kind": case.request.concept.kind,
            "model": model,
            "seed": seed,
            "arm": arm.name,
            "share": arm.share,
            "part": arm.part,
            "samples": count,
            "pool": len(relearn),
            "pool_pictures": len(case.pool),
            "moved": None if names is None else len(names),
            "weights": weights,
            "settings": settings_of(case, model, attack, changes, vlm.base.dtype),
            "loss": [step["loss"] for step in history.steps],
            "seconds": time.perf_counter() - begin,
            "error": error,
            "answers": [{name: getattr(a, name) for name in KEPT} | {"keywords": list(a.keywords)} for a in answers],
        }


def unlearn(vlm: VisionLanguageModel, case: Case, method: str, seed: int, changes: dict[str, Any]) -> None:
    """Make the model forget, as `unsee forget` does with its default preset, and merge what was learned into it."""
    request = case.request_of(method)
    # What is asked here goes nowhere: the arms ask their own questions, of the merged model.
    protocol = Protocol(request.concept, asked_of_training(request.concept, request.pictures))
    with tempfile.TemporaryDirectory() as folder:
        unsee.forget(vlm, request, make_method(method, "default", changes), protocol, Path(folder) / "run", seed=seed)
    merged(vlm)
