"""MMUnlearner: its mask is that of the adapter's own weights, and it is applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import BUILT, REQUEST

from unsee.errors import UnseeError
from unsee.losses import answer_cross_entropy
from unsee.methods import make_method
from unsee.methods.batch import Answers, Totals
from unsee.methods.encoded import Encoded
from unsee.methods.mmunlearner import MMUnlearner
from unsee.methods.saliency import fisher, forget_mask
from unsee.models import VisionLanguageModel
from unsee.models.lora import remove_lora
from unsee.training import train


def made(**changes: Any) -> MMUnlearner:
    method = make_method("mmunlearner", "default", {"rank": 4, "lora_alpha": 8, **changes})
    assert isinstance(method, MMUnlearner)
    return method


def prepared(vlm: VisionLanguageModel, **changes: Any) -> tuple[MMUnlearner, Encoded]:
    method = made(**changes)
    samples = method.samples(BUILT)
    method.attach(vlm, 0)
    encoded = Encoded(vlm, samples)
    method.prepare(encoded, REQUEST)
    return method, encoded


def test_the_mask_is_the_fisher_ratio_of_the_very_weights_that_train(tiny: VisionLanguageModel) -> None:
    """Peers look a mask up by the names of the plain model, which those of a LoRA never match."""
    method, encoded = prepared(tiny)
    trained = {p: n for n, p in tiny.model.named_parameters() if p.requires_grad}
    assert method.gradient_mask.keys() == trained.keys()
    wanted = forget_mask(fisher(encoded, "forget"), fisher(encoded, "retain"), 1.0)
    assert all(torch.equal(method.gradient_mask[p], wanted[p]) for p in trained)
    inside = {n: float(method.gradient_mask[p].float().mean()) for p, n in trained.items() if "lora_B" in n}
    assert 0.05 < sum(inside.values()) / len(inside) < 0.95
    # Where B is 0, A has no gradient, so nothing tells which of it matters.
    assert all(not method.gradient_mask[p].any() for p, n in trained.items() if "lora_A" in n)


def test_the_forget_gradient_moves_masked_weights_alone(
    tiny: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, _ = prepared(tiny)
    names = {p: n for n, p in tiny.model.named_parameters()}
    masks = {names[p]: m.bool() for p, m in method.gradient_mask.items()}
    remove_lora(tiny)

    def moved(steps: int) -> dict[str, torch.Tensor]:
        method = made(steps=steps, learning_rate=1e-2)
        samples = method.samples(BUILT)
        method.attach(tiny, 0)
        before = {n: p.detach().clone() for n, p in tiny.model.named_parameters()}
        train(tiny, method, samples, REQUEST, 0, tmp_path)
        after = {n: p.detach().clone() for n, p in tiny.model.named_parameters()}
        remove_lora(tiny)
        return {n: after[n] != before[n] for n in masks}

    both = moved(1)
    assert any((m & ~masks[n]).any() for n, m in both.items())

    def nothing(self: MMUnlearner, answers: Answers, totals: Totals) -> torch.Tensor:
        return 0 * answer_cross_entropy(answers.logits, answers.labels, totals.retain_tokens)

    monkeypatch.setattr(MMUnlearner, "retain_term", nothing)
    forgetting = moved(3)
    assert any(m.any() for m in forgetting.values())
    assert not any((m & ~masks[n]).any() for n, m in forgetting.items())


@pytest.mark.parametrize(("threshold", "which"), [(1e6, "nothing at all"), (1e-6, "everything")])
def test_a_mask_of_nothing_or_everything_is_told(
    tiny: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch, threshold: float, which: str
) -> None:
    alike = {torch.nn.Parameter(torch.zeros(3)): torch.ones(3)}
    monkeypatch.setattr("unsee.methods.mmunlearner.fisher", lambda *_: alike)
    with pytest.raises(UnseeError, match=f"the mask selects {which} at mask_threshold"):
        prepared(tiny, mask_threshold=threshold)


def test_it_cannot_do_without_samples_to_retain() -> None:
    with pytest.raises(UnseeError, match="retain_weight = 0.0 is out of range"):
        made(retain_weight=0.0)
