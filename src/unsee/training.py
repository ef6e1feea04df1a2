"""The one trainer: a `transformers.Trainer` that runs every gradient method, step by planned step."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from unsee.data import Request, Sample
from unsee.errors import TrainingError, UnseeError
from unsee.methods.base import Method
from unsee.methods.encoded import Encoded
from unsee.methods.gradients import gradients
from unsee.methods.lora_start import aim
from unsee.methods.settings import LoraSettings, TrainingSettings
from unsee.models import VisionLanguageModel
from unsee.models.lora import settle_copies
from unsee.models.memory import peak_gib, reset_peak

EXPLODED = 50.0
"""A term of the loss further than this, in nats, from where it began is no longer learning anything."""


@dataclass
class History:
    """What training left behind: one entry a step, what it cost, and what the method found out about its data."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    peak_memory_gib: float = 0.0
    notes: dict[str, float] = field(default_factory=dict)


def plan(samples: Sequence[Sample], settings: TrainingSettings, seed: int) -> list[list[int]]:
    """Which samples each step sees, as indices. The same seed gives the same plan.

    With `samples_per_step` above 0 the samples are shuffled and dealt out, epoch after epoch (the papers' way).
    Otherwise a step sees some samples that forget, picture by picture, retained texts, and retained pictures with some
    of their questions, each in turn.
    """
    rng = random.Random(seed)

    def mixed(items: Sequence[Any]) -> list[Any]:
        return rng.sample(items, len(items))

    def in_turn(
        items: Sequence[Any], count: int, shuffled: Callable[..., list[Any]] = mixed
    ) -> Callable[[], list[Any]]:
        queue: list[Any] = []

        def take() -> list[Any]:
            taken: list[Any] = []
            while len(taken) < min(count, len(items)):
                if not queue:  # a new round; what this step has already comes last, so that no step sees it twice
                    queue.extend(sorted(shuffled(items), key=lambda item: item not in taken))
                taken.append(queue.pop())
            return taken

        return take

    everything = range(len(samples))
    if settings.samples_per_step:
        deal = in_turn(list(everything), settings.samples_per_step)
        return [deal() for _ in range(settings.steps)]
    forget = [i for i in everything if samples[i].role == "forget"]
    shown: dict[str, dict[str, list[int]]] = {}  # by facet and picture
    for i in everything:
        picture = samples[i].picture
        if samples[i].role == "retain" and picture is not None:
            facet = "variation" if samples[i].facet == "variation" else "protected"
            shown.setdefault(facet, {}).setdefault(picture.sha256, []).append(i)

    def by_picture(chosen: Sequence[int]) -> list[int]:
        """Shuffled, those on one picture after one another: in a step they then share its prefix."""
        groups: dict[str, list[int]] = {}
        for i in chosen:
            picture = samples[i].picture
            groups.setdefault(picture.sha256 if picture else "", []).append(i)
        return [i for about in mixed(list(groups.values())) for i in mixed(about)]

    forgetting = in_turn(forget, settings.forget_per_step or len(forget), by_picture)
    texts = in_turn([i for i in everything if samples[i].role == "retain" and samples[i].picture is None],
                    settings.texts_per_step)  # fmt: skip
    pictures = [
        in_turn(list(shown.get("protected", {}).values()), settings.protected_per_step),
        in_turn(list(shown.get("variation", {}).values()), settings.variations_per_step),
    ]

    def asked(about: list[int]) -> list[int]:
        count = settings.questions_per_picture or len(about)
        return sorted(rng.sample(about, min(count, len(about))))

    def step() -> list[int]:
        kept = [i for take in pictures for about in take() for i in asked(about)]
        return forgetting() + texts() + kept

    return [step() for _ in range(settings.steps)]


def exploded(begun: float, value: float) -> bool:
    """Whether a term has left where it began; a bounded one with a small beta begins high, and may fall to 0."""
    return value - begun > EXPLODED or begun - value > max(EXPLODED, 2 * abs(begun))


class _Arguments(TrainingArguments):
    """The model stays on the one device where its owner put it."""

    @property
    def place_model_on_device(self) -> bool:
        return False

    @property
    def n_gpu(self) -> int:
        return min(1, super().n_gpu)


class UnlearningTrainer(Trainer):
    """A Trainer whose dataset is the plan: one item is one optimiser step, of any number of micro-batches.

    The record of the steps is kept in the trainer's state, so that checkpoints carry it.
    """

    def __init__(self, method: Method[Any], encoded: Encoded, **kwargs: Any):
        super().__init__(**kwargs)
        self.method, self.encoded = method, encoded
        self.planned: list[list[int]] = kwargs["train_dataset"]
        self.remove_callback(PrinterCallback)  # stdout belongs to the caller

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        self.accelerator.device_placement = False

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            groups = self.method.parameter_groups(self.encoded.vlm)
            self.optimizer = torch.optim.Adam(groups, lr=self.method.settings.learning_rate)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            optimizer = optimizer or self.optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.method.settings.share_of_rate)
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(self.planned)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
        except RuntimeError as error:
            # torch's own writer does not say why it cannot write; a full disk is what it is in practice.
            if "inline_container" in str(error) or "PytorchStreamWriter" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.args.output_dir) from error
            raise

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # the estimate wants token ids; a plan has none

    @property
    def steps(self) -> list[dict[str, Any]]:
        """One entry a step, those of an interrupted training included."""
        return [e for e in self.state.log_history if "terms" in e]

    def _begun(self, term: str, now: float) -> float:
        """Where a term of the loss began: some wait for their turn, or for a sample."""
        history: list[dict[str, Any]] = self.state.log_history
        return next((e["terms"][term] for e in history if e.get("terms", {}).get(term)), now)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        begin = time.perf_counter()
        model.train()
        terms = gradients(self.method, self.encoded, inputs, self.state.global_step)
        loss = sum(terms.values())
        step = self.state.global_step + 1
        if not all(math.isfinite(v) and not exploded(self._begun(n, v), v) for n, v in terms.items()):
            said = ", ".join(f"{name} {value:.3g}" for name, value in terms.items())
            raise TrainingError(
                f"training stopped at step {step}: the loss is {loss:.3g} ({said}); try a smaller learning_rate"
            )
        entry: dict[str, Any] = {"step": step, "loss": loss, "terms": terms, "seconds": time.perf_counter() - begin}
        self.state.log_history.append(entry)
        return torch.tensor(loss, device=self.args.device)  # the Trainer's, which may be another than the model's


class _Tell(TrainerCallback):
    def __init__(self, progress: Callable[[int, int], None]):
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress(state.global_step, state.max_steps)


def train(
    vlm: VisionLanguageModel,
    method: Method[Any],
    samples: Sequence[Sample],
    request: Request,
    seed: int,
    scratch: Path,
    progress: Callable[[int, int], None] | None = None,
    save_steps: int = 0,
) -> History:
    """Run a method on its samples; the model given is trained (or edited, by one that does not train) in place.

    Args:
        vlm: with the method attached.
        method: which supplies the loss.
        samples: the data; see `plan`.
        request: whose samples they are.
        seed: of the plan.
        scratch: a folder for checkpoints; a whole one found there is gone on from.
        progress: called with (steps done, steps in all).
        save_steps: steps between checkpoints; 0: none.

    Raises:
        TrainingError: the loss is not finite, or exploded; the message says at which step.
        UnseeError: there is nothing to train on.
    """
    steps = plan(samples, method.settings, seed) if method.trains else []
    if not all(steps) or not samples:
        raise UnseeError("there is nothing to train on: no sample to forget, and none to retain")
    begin = time.perf_counter()
    reset_peak(vlm.device)
    read = {i for number, step in enumerate(steps) for i in step if samples[i].role in method.asks(number)}
    encoded = Encoded(vlm, samples, method.reference, method.pairs, read if method.trains else None)
    method.prepare(encoded, request)
    if not method.trains:
        with torch.no_grad():
            method.finish(vlm)
        vlm.model.eval()
        if progress:
            progress(1, 1)
        return History([], time.perf_counter() - begin, peak_gib(vlm.device), method.notes)
    if isinstance(method.settings, LoraSettings) and method.settings.lora_start == "aimed":
        aim(method, encoded)
    arguments = _Arguments(
        output_dir=str(scratch),
        max_steps=method.settings.steps,
        per_device_train_batch_size=1,
        max_grad_norm=method.settings.max_grad_norm,
        lr_scheduler_type="constant",
        learning_rate=method.settings.learning_rate,
        save_strategy="steps" if save_steps else "no",
        save_steps=save_steps or 500,
        save_total_limit=1,
        logging_strategy="no",
        label_names=[],
        report_to=[],
        remove_unused_columns=False,
        use_cpu=vlm.device.type == "cpu",
        seed=seed,
        data_seed=seed,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        skip_memory_metrics=True,
    )
    trainer = UnlearningTrainer(
        method,
        encoded,
        model=vlm.model,
        args=arguments,
        train_dataset=steps,
        data_collator=lambda items: items[0],
        callbacks=[_Tell(progress)] if progress else [],
    )
    checkpoint = _last_checkpoint(scratch)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        # A step's loss is that of the weights before it; of those that the last step leaves, nothing else would tell.
        if not all(p.isfinite().all() for p in vlm.model.parameters() if p.requires_grad):
            raise TrainingError(f"step {len(steps)} left a weight that is not finite; try a smaller learning_rate")
        settle_copies(vlm)
        with torch.no_grad():
            method.finish(vlm)
    finally:
        vlm.model.eval()
    earlier = sum(e["seconds"] for e in trainer.steps[: _step_of(checkpoint)])
    return History(trainer.steps, time.perf_counter() - begin + earlier, peak_gib(vlm.device), method.notes)


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; one whose writing was cut short is removed."""
    whole = []
    for found in folder.glob("checkpoint-*"):
        try:
            json.loads((found / "trainer_state.json").read_text())  # the Trainer writes it last
            whole.append(found)
        except (OSError, ValueError):
            shutil.rmtree(found)
    return max(whole, key=_step_of, default=None)
