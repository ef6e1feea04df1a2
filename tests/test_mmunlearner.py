"""MMUnlearner: its mask is that of the adapter's own weights, and it is applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_losses import ce, told
from small_runs import BUILT, REQUEST

from unsee.errors import UnseeError
from unsee.losses import answer_cross_entropy
from unsee.methods import gradients as library
from unsee.methods import make_method
from unsee.methods.batch import Answers, Totals
from unsee.methods.encoded import Encoded
from unsee.methods.mmunlearner import MMUnlearner
from unsee.methods.saliency import fisher, forget_mask
from unsee.models import VisionLanguageModel
from unsee.models.lora import remove_adapter
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


def test_a_part_at_a_time_the_forget_gradient_alone_is_masked(
    tiny: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unsee.methods.batch.PART", 1)
    method = made(retain_weight=0.5)
    samples = method.samples(BUILT)
    method.attach(tiny, 0)
    with torch.no_grad():  # where B is 0, A has no gradient
        for name, value in tiny.model.named_parameters():
            if "lora_B" in name:
                value.copy_(0.2 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
    encoded = Encoded(tiny, samples)
    method.prepare(encoded, REQUEST)
    library.gradients(method, encoded, range(len(samples)))
    trained = {p: n for n, p in tiny.model.named_parameters() if p.requires_grad}
    found = {p: p.grad.clone() for p in trained if p.grad is not None}
    wanted = {p: torch.zeros_like(p) for p in trained}
    for role, weight in (("forget", -1.0), ("retain", 0.5)):
        tiny.model.zero_grad()
        (weight * ce([told(tiny, s, s.answer) for s in samples if s.role == role])).backward()
        for p in trained:
            assert p.grad is not None
            wanted[p] += p.grad * (method.gradient_mask[p] if role == "forget" else 1)
    for p, name in trained.items():
        assert (found[p] - wanted[p]).abs().max() <= 1e-4 * wanted[p].abs().max(), name


def test_the_forget_gradient_moves_masked_weights_alone(
    tiny: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, _ = prepared(tiny)
    names = {p: n for n, p in tiny.model.named_parameters()}
    masks = {names[p]: m.bool() for p, m in method.gradient_mask.items()}
    remove_adapter(tiny)

    def moved(steps: int) -> dict[str, torch.Tensor]:
        method = made(steps=steps, learning_rate=1e-2)
        samples = method.samples(BUILT)
        method.attach(tiny, 0)
        before = {n: p.detach().clone() for n, p in tiny.model.named_parameters()}
        train(tiny, method, samples, REQUEST, 0, tmp_path)
        after = {n: p.detach().clone() for n, p in tiny.model.named_parameters()}
        remove_adapter(tiny)
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
