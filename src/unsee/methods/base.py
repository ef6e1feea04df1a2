"""The contract of a method, and the lazy registry. Adding a method is one file and one line below."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch

from unsee.data import Request, Sample
from unsee.errors import UnseeError, did_you_mean
from unsee.methods.answers import to_forget, to_retain, with_refusals, with_truth
from unsee.methods.batch import Batch, Reference, Totals
from unsee.methods.encoded import Encoded
from unsee.methods.settings import LoraSettings, MethodSettings
from unsee.models import VisionLanguageModel
from unsee.models.lora import add_lora

REGISTRY: dict[str, str] = {
    "siu": "unsee.methods.siu:SIU",
    "ga": "unsee.methods.ga:GA",
    "gd": "unsee.methods.gd:GD",
    "kl": "unsee.methods.kl:KL",
    "po": "unsee.methods.po:PO",
    "dpo": "unsee.methods.dpo:DPO",
    "npo": "unsee.methods.npo:NPO",
    "simnpo": "unsee.methods.simnpo:SimNPO",
    "undial": "unsee.methods.undial:UNDIAL",
    "rmu": "unsee.methods.rmu:RMU",
    "mmunlearner": "unsee.methods.mmunlearner:MMUnlearner",
    "manu": "unsee.methods.manu:MANU",
    "mip-editor": "unsee.methods.mip_editor:MIPEditor",
    "retrain": "unsee.methods.retrain:Retrain",
    "task-vector": "unsee.methods.task_vector:TaskVector",
    "smfa": "unsee.methods.smfa:SMFA",
    "vkd": "unsee.methods.vkd:VKD",
}
"""Name to `module:class`; imported only when asked for."""

Data = Literal["new answers", "truth", "refusals", "retain", "training data"]
"""What a method trains on. About what is to be forgotten: SIU's new answers, what the original model says ("truth"),
or refusals; and samples to "retain". "Training data" are those a model is made with: nobody but the user has them, and
they are learned anew by a model that has never seen what is to be forgotten."""

Settings = TypeVar("Settings", bound=MethodSettings)


class Method(ABC, Generic[Settings]):
    """A way to forget.

    A subclass states what it is (class attributes), what it trains on (`samples`), what it may move (`attach`),
    and its loss as named terms (`loss`), whose sum is minimised; where it differs from others, also what it reads of
    the model (`read`), and what happens when training is over (`finish`).
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    moves: ClassVar[str]
    """What it trains, in words: "LoRA on the language model", ..."""
    data: ClassVar[tuple[Data, ...]]
    """What it trains on."""
    reference: ClassVar[Reference] = "none"
    """What is recorded of the original before training."""
    masked_terms: ClassVar[frozenset[str]] = frozenset()
    """Terms of the loss whose gradient goes through `gradient_mask`."""
    trains: ClassVar[bool] = True
    """Whether there is anything to train. Without, `prepare` is followed by `finish`, there are no steps and no loss,
    and the settings need not be `TrainingSettings`."""
    pairs: ClassVar[bool] = False
    """Whether a sample to be forgotten is a pair: its `answer` is preferred, its `truth` rejected."""
    protected_pictures: ClassVar[int] = 48
    """How many pictures of others suit it, where it is not the user who gives them."""
    protected_questions: ClassVar[int] = 5
    """How many questions about each of those it has a use for; two are always asked, which say whether it is kept."""
    settings_class: ClassVar[type[Any]]
    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}

    @classmethod
    def check_data(cls, given: bool) -> None:
        """An error where the method needs training data and none are `given`."""
        if "training data" in cls.data and not given:
            raise UnseeError(
                f"{cls.name} learns the training data anew, without what is to be forgotten, and was given none: "
                "name the file of their samples (--facets)"
            )

    def __init__(self, settings: Settings):
        self.settings = settings
        self.preset = "default"
        """The name of its settings before any was changed, for the record."""
        self.gradient_mask: dict[torch.nn.Parameter, torch.Tensor] = {}
        """What the gradient of the masked terms is multiplied with, where it is; see `prepare`."""
        self.notes: dict[str, float] = {}
        """What `prepare` found out about the data, by what it is called in the run's history; never a name."""

    @property
    def needs(self) -> frozenset[Data]:
        """What of `data` it needs with its settings."""
        return frozenset(self.data)

    def samples(self, built: Sequence[Sample], seed: int = 0) -> list[Sample]:
        """What the method trains on, made of the samples built for a request as it `needs` them.

        First those to be forgotten, answered with the truth, with refusals (of a pair, the truth is the answer to be
        rejected), or as they are; then those to be retained.

        Args:
            built: see `unsee.facets`.
            seed: of whatever is chosen here.

        Raises:
            UnseeError: the method needs something that these samples do not have.
        """
        forget = to_forget(built, self.name)
        if "truth" in self.needs:
            forget = with_truth(forget, self.name)
        if "refusals" in self.needs:
            forget = with_refusals(forget, seed)
        return forget + (to_retain(built, self.name) if "retain" in self.needs else [])

    def asks(self, step: int) -> frozenset[str]:
        """Roles of the samples whose answers a step reads; none: it has `step_terms` alone, and W never runs."""
        return frozenset({"forget", "retain"})

    @abstractmethod
    def attach(self, vlm: VisionLanguageModel, seed: int) -> None:
        """Make trainable what the method may move, and nothing else."""

    def prepare(self, encoded: Encoded, request: Request) -> None:
        """What is computed once before training, from the samples it is to run on."""

    def reading(self, vlm: VisionLanguageModel, step: int) -> contextlib.AbstractContextManager[None]:
        """What holds while a step's samples are read: by default, nothing."""
        return contextlib.nullcontext()

    def read(self, vlm: VisionLanguageModel, batch: Batch, layer: int) -> torch.Tensor:
        """What training reads of the model: by default `[tokens, hidden]`, the states that the head would turn into the
        logits that predict answer tokens.

        Args:
            vlm: the model.
            batch: what is asked of it.
            layer: the layer of W that `batch.entering` enters; below it nothing is run.
        """
        return vlm.hidden(batch.tensors, batch.entering, layer)

    def output(self, vlm: VisionLanguageModel, states: torch.Tensor) -> torch.Tensor:
        """What `loss` gets, made of some of the states read: by default their logits, `[tokens, vocabulary]`."""
        return vlm.head(states)

    @abstractmethod
    def loss(self, logits: torch.Tensor, batch: Batch, totals: Totals) -> dict[str, torch.Tensor]:
        """Named terms of the loss of a micro-batch, already divided by the step's totals.

        Args:
            logits: `[tokens, vocabulary]`, float32, where answer tokens are predicted; or what `output` gives.
            batch: what the micro-batch holds, or a part of it with whole samples (see `Batch.parts`).
            totals: counts over the whole step.
        """

    def step_terms(self, vlm: VisionLanguageModel, step: int) -> dict[str, torch.Tensor]:
        """Terms of the loss that a step has once, whatever its micro-batches: those that ask no question.

        Args:
            vlm: the model.
            step: number of the step, by which anything random is drawn: a run that goes on draws the same.
        """
        return {}

    def finish(self, vlm: VisionLanguageModel) -> None:
        """What is done to the adapter once, after the last step and before it is saved; by default nothing."""

    def parameter_groups(self, vlm: VisionLanguageModel) -> list[dict[str, Any]]:
        """Optimiser groups; those without a "lr" take the settings' learning rate. By default all in one."""
        return [{"params": [p for p in vlm.model.parameters() if p.requires_grad]}]


Lora = TypeVar("Lora", bound=LoraSettings)


class LoraMethod(Method[Lora]):
    """A method that trains a LoRA on the linear layers of W."""

    moves: ClassVar[str] = "LoRA on the language model"

    @property
    def moves_projector(self) -> bool:
        """Whether a copy of the projector is trained too."""
        return False

    def first_layer(self, vlm: VisionLanguageModel) -> int:
        """The lowest layer of W that carries the LoRA."""
        return vlm.depth - math.ceil(self.settings.upper_layers * vlm.depth)

    def end_layer(self, vlm: VisionLanguageModel) -> int:
        """The layer of W before which the LoRA ends: by default it reaches to the last."""
        return vlm.depth

    def attach(self, vlm: VisionLanguageModel, seed: int) -> None:
        s, first, end = self.settings, self.first_layer(vlm), self.end_layer(vlm)
        add_lora(vlm, s.rank, s.lora_alpha, seed, projector=self.moves_projector, first_layer=first, end_layer=end)


def get_method(name: str) -> type[Method[Any]]:
    """The class of a method.

    Raises:
        UnseeError: no method has that name; the message suggests the nearest.
    """
    if name not in REGISTRY:
        raise UnseeError(f"no method {name!r}; {did_you_mean(name, REGISTRY)}there are: {', '.join(sorted(REGISTRY))}")
    module, _, attribute = REGISTRY[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def make_method(
    name: str, preset: str = "default", overrides: dict[str, Any] | None = None, concepts: int = 1
) -> Method[Any]:
    """A method with the settings of a preset, changed where `overrides` says so.

    Args:
        name: see `REGISTRY`.
        preset: named settings.
        overrides: settings by name.
        concepts: how many are forgotten together: a preset's steps are taken for each of them. Steps in `overrides` are
            all that are taken.

    Raises:
        UnseeError: unknown method, preset or setting, or a value out of range.
    """
    found = get_method(name)
    if preset not in found.presets:
        raise UnseeError(f"{name} has no preset {preset!r}; presets: {', '.join(found.presets)}")
    values = {**found.presets[preset], **(overrides or {})}
    known = {f.name for f in dataclasses.fields(found.settings_class)}
    for key in values.keys() - known:
        there = f"there are: {', '.join(sorted(known))}"
        raise UnseeError(f"{name} has no setting {key!r}; {did_you_mean(key, known)}{there}")
    settings = found.settings_class(**values)
    if concepts > 1 and "steps" in known - (overrides or {}).keys() and "training data" not in found.data:
        settings = dataclasses.replace(settings, steps=concepts * settings.steps)
    method = found(settings)
    method.preset = preset
    return method
