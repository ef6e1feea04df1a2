"""The task vector is what fine-tuning learned, taken away as often as asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_runs import BUILT, REQUEST

from unsee.methods import make_method
from unsee.methods.task_vector import TaskVector
from unsee.models import VisionLanguageModel
from unsee.models.lora import remove_adapter
from unsee.training import train


def test_what_was_learned_is_subtracted(
    tiny: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def updates(scale: float) -> dict[str, torch.Tensor]:
        """`W - W_original` of every layer with a LoRA, as PEFT would merge it."""
        method = make_method("task-vector", "default", {"scale": scale, "steps": 3, "learning_rate": 1e-2})
        samples = method.samples(BUILT)
        method.attach(tiny, 0)
        train(tiny, method, samples, REQUEST, 0, tmp_path)
        layers = {n: m for n, m in tiny.base.named_modules() if hasattr(m, "get_delta_weight")}
        found = {n: m.get_delta_weight("default").clone() for n, m in layers.items()}
        remove_adapter(tiny)
        return found

    once, thrice = updates(1.0), updates(3.0)
    monkeypatch.setattr(TaskVector, "finish", lambda *_: None)
    learned = updates(1.0)
    assert len(learned) == 14 and all(v.any() for v in learned.values())
    for name, value in learned.items():
        assert torch.equal(once[name], -value) and torch.allclose(thrice[name], -3 * value, atol=1e-6)
