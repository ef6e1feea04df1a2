"""Forgetting a concept of the embedded benchmark, each path with settings of its own: how long, and how well?

The other paths get the same targets, loss, optimiser, schedule and start of the LoRA. What differs is how a pass is
computed, and where that pays what a step sees.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora.layer import Linear

import unsee
from speed_parts.best_plain import BestPlain
from speed_parts.peer import Peer
from speed_parts.world import World
from unsee import facets
from unsee.benchmarks.protocol import Recorder
from unsee.data import Request, Sample
from unsee.facets import FacetSettings
from unsee.methods.encoded import Encoded
from unsee.methods.lora_start import aim
from unsee.methods.siu import SIU, SIUSettings
from unsee.metrics import summarise
from unsee.models import VisionLanguageModel
from unsee.models.lora_linear import LoraLinear
from unsee.training import plan, train

SCORES = ("em", "degenerate_rate", "specificity_naming", "specificity_yes_no", "neighbours", "text_kept")


class Forgetting(World):
    """A request on a model that knows the concept, in place of what is drawn.

    Args:
        vlm: the original.
        request: what is to be forgotten.
        samples: its targets.
        method: SIU, with the settings of the path.
        seed: of the LoRA and of the plan.
    """

    def __init__(self, vlm: VisionLanguageModel, request: Request, samples: Sequence[Sample], method: SIU, seed: int):
        super().__init__(vlm, request.pictures[0])
        self.request, self.method, self.seed = request, method, seed
        self.samples = method.samples(samples, seed)

    def attach(self, layers: type[Linear]) -> None:
        """The method's own LoRA, where training begins: B is 0, A aimed where it is to be.

        The aim is computed by the library for the paths that share no prefix, too; `aimed_seconds` are on their clock,
        what it needs recorded is not.
        """
        method, vlm = self.method, self.vlm
        method.attach(vlm, self.seed)
        aimed = method.settings.lora_start == "aimed"
        encoded = Encoded(vlm, self.samples, method.reference, seen={i for s in self.steps for i in s} if aimed else ())
        method.prepare(encoded, self.request)
        begin = time.perf_counter()
        if aimed:
            aim(method, encoded)
        self.aimed_seconds = time.perf_counter() - begin
        self.compute_with(layers)

    @property
    def steps(self) -> list[list[int]]:
        """The samples of each step."""
        return plan(self.samples, self.method.settings, self.seed)


def train_plainly(path: Peer | BestPlain, world: Forgetting) -> list[float]:
    """What `unsee.training.train` does, each pass computed by a path; the loss of every step."""
    settings, trained = world.method.settings, list(world.trained().values())
    optimiser = torch.optim.Adam(world.method.parameter_groups(world.vlm))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, settings.share_of_rate)
    losses = []
    for chosen in world.steps:
        losses.append(path.train([world.samples[i] for i in chosen]))
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    return losses


def forgotten(
    vlm: VisionLanguageModel,
    path: str,
    concept: str,
    seed: int,
    changes: dict[str, Any],
    settings: dict[str, Any],
    asked: dict[str, Any],
) -> dict[str, Any]:
    """Seconds from targets given to the last step, and the scores before and after.

    Args:
        vlm: the original.
        path: "peer", "best plain" or "ours".
        concept: of the embedded benchmark.
        seed: of everything random.
        changes: what the path changes of SIU's default preset.
        settings: of the best plain path.
        asked: how much; see `unsee.benchmarks.mini.protocol`.
    """
    request = unsee.request_for(concept)
    built = facets.build(vlm, request, FacetSettings(), seed)
    protocol = unsee.protocol(concept, request.pictures, **asked)
    protocol.new_names |= built.new_names  # what is to be said is no odd word
    recorder = Recorder(vlm)
    answers = recorder.before(protocol)
    vlm.forget_features()
    world = Forgetting(vlm, request, built.samples, SIU(SIUSettings(**changes)), seed)
    if path == "ours":
        world.method.attach(vlm, seed)
        with tempfile.TemporaryDirectory() as scratch:
            begin = time.perf_counter()
            train(vlm, world.method, world.samples, request, seed, Path(scratch))
            seconds = time.perf_counter() - begin
    else:
        trained = Peer(world) if path == "peer" else BestPlain(world, **settings)
        begin = time.perf_counter()
        train_plainly(trained, world)
        seconds = time.perf_counter() - begin + world.aimed_seconds
        world.compute_with(LoraLinear)
    scores = summarise(answers + recorder.after(protocol))
    found = {side: {k: s["value"] for k in SCORES if (s := scores[side][k])} for side in ("before", "after")}
    return {
        "seconds": seconds,
        "samples": sum(map(len, world.steps)),
        "settings": asdict(world.method.settings),
        **found,
    }
