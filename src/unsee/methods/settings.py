"""What a method can be told: its settings, their ranges, and what each of them means."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import docstring_parser
import yaml

from unsee.errors import UnseeError

Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class MethodSettings:
    """What a method can be told; checked where it is made.

    Raises:
        UnseeError: a setting of another type, out of `ranges`, or not among its `choices`.
    """

    ranges: ClassVar[Ranges] = {}
    choices: ClassVar[dict[str, tuple[str, ...]]] = {}
    """What a setting that is a word may be."""

    def __post_init__(self) -> None:
        for name, words in self.choices.items():
            if getattr(self, name) not in words:
                raise UnseeError(f"{name} = {getattr(self, name)!r}: it must be one of {', '.join(words)}")
        for field in dataclasses.fields(self):
            if field.name not in self.choices:
                _check_type(field.name, str(field.type), getattr(self, field.name))
        for name, (low, high) in self.ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UnseeError(f"{name} = {value} is out of range: between {low:g} and {high:g}")


@dataclass(frozen=True)
class TrainingSettings(MethodSettings):
    """What every gradient method is told about training.

    Args:
        steps: optimiser steps.
        learning_rate: of the trained parameters.
        decay: share of the steps, the last ones, over which the learning rate falls to nothing; 0: it is constant.
        samples_per_step: samples drawn for a step (with the paper's plan), or 0: `forget_per_step`
            and the like say what a step sees.
        forget_per_step: samples to be forgotten, in turn; 0: all of them.
        protected_per_step: protected pictures, in turn.
        variations_per_step: varied pictures to be kept, in turn.
        questions_per_picture: questions drawn on each of those pictures; 0: all of them.
        texts_per_step: text samples to be kept, in turn.
        max_grad_norm: gradients are scaled down to this norm.
    """

    ranges: ClassVar[Ranges] = {
        "steps": (1, 100_000),
        "learning_rate": (1e-9, 1),
        "decay": (0, 1),
        "samples_per_step": (0, 10_000),
        "forget_per_step": (0, 10_000),
        "protected_per_step": (0, 10_000),
        "variations_per_step": (0, 10_000),
        "questions_per_picture": (0, 10_000),
        "texts_per_step": (0, 10_000),
        "max_grad_norm": (1e-9, 1e9),
    }

    steps: int = 30
    learning_rate: float = 3e-4
    decay: float = 0.5
    samples_per_step: int = 0
    forget_per_step: int = 6
    protected_per_step: int = 5
    variations_per_step: int = 10
    questions_per_picture: int = 2
    texts_per_step: int = 5
    max_grad_norm: float = 1.0

    def share_of_rate(self, step: int) -> float:
        """What the learning rate is multiplied with at a step, counted from 0."""
        falling = self.decay * self.steps
        return min(1.0, (self.steps - step) / falling) if falling else 1.0


@dataclass(frozen=True)
class LoraSettings(TrainingSettings):
    """Settings of a LoRA on the language model W.

    Args:
        rank: of the LoRA on the language model.
        lora_alpha: its scale; the update is `lora_alpha / rank * B A`.
        upper_layers: share of W's layers, counted from the last, that carry the LoRA; 1: all of them, as in the
            papers. What lies below stays as it is and is computed once.
        lora_start: where A begins: "random", as in the papers, or "aimed" at what forgetting pulls at and retained
            samples do not use (`unsee.methods.lora_start`).
    """

    ranges: ClassVar[Ranges] = {
        **TrainingSettings.ranges,
        "rank": (1, 4096),
        "lora_alpha": (1, 65536),
        "upper_layers": (0.01, 1),
    }
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"lora_start": ("random", "aimed")}

    rank: int = 32
    lora_alpha: int = 64
    upper_layers: float = 1.0
    lora_start: str = "random"


def _check_type(name: str, wanted: str, value: Any) -> None:
    """Settings come from command lines and files: `steps = 2.5` shall be told there, not in the middle of the work."""
    fits, said = {
        "int": (isinstance(value, int) and not isinstance(value, bool), "a whole number"),
        "float": (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value), "a number"),
        "bool": (isinstance(value, bool), "true or false"),
    }[wanted]
    if not fits:
        raise UnseeError(f"{name} = {value!r}: it must be {said}")


def read_changes(changes: Sequence[str]) -> dict[str, Any]:
    """`steps=30` to {"steps": 30}, `distance=cosine` to {"distance": "cosine"}; values are read as YAML scalars.

    Raises:
        UnseeError: a change is not NAME=VALUE.
    """
    found = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise UnseeError(f"--set takes NAME=VALUE, not {change!r}")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError:
            read = value
        if isinstance(read, str):
            with contextlib.suppress(ValueError):
                read = float(read)  # YAML 1.1 reads 1e-3 as text
        found[name.strip().replace("-", "_")] = read
    return found


@dataclass(frozen=True)
class Setting:
    """One setting, for a reader.

    Args:
        name: as `--set` takes it.
        default: its value where nothing is said.
        range: smallest and largest value; None where it has no such bounds.
        words: what it may be, where it is a word.
        meaning: what it does.
    """

    name: str
    default: Any
    range: tuple[float, float] | None
    words: tuple[str, ...]
    meaning: str


def describe(settings: type[MethodSettings]) -> list[Setting]:
    """The settings of a class with what its docstrings say of them: its own first, then those it inherits."""
    fields = {f.name: f for f in dataclasses.fields(settings)}
    meanings: dict[str, str] = {}
    for kind in settings.__mro__:
        said = docstring_parser.parse(kind.__doc__ or "").params
        own = {p.arg_name: " ".join((p.description or "").split()) for p in said}
        for name in [*inspect.get_annotations(kind), *own]:
            if name in fields:  # a subclass may change a default without saying again what it is
                meanings[name] = meanings.get(name) or own.get(name, "")
    ranges, words = settings.ranges, settings.choices
    return [Setting(n, fields[n].default, ranges.get(n), words.get(n, ()), m) for n, m in meanings.items()]
