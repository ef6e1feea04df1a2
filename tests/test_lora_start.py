"""An aimed LoRA: its A holds the directions that the definition names, and nothing else of the model changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain import plain_logits
from small_runs import BUILT, REQUEST

from unsee.errors import UnseeError
from unsee.methods import make_method
from unsee.methods.base import Method
from unsee.methods.encoded import Encoded
from unsee.methods.gradients import gradients
from unsee.methods.lora_start import RIDGE, aim
from unsee.models import VisionLanguageModel
from unsee.models.lora import remove_adapter
from unsee.training import train

RANK = 3


def attached(vlm: VisionLanguageModel, name: str = "siu", **changes: Any) -> tuple[Method[Any], Encoded]:
    method = make_method(name, "default", {"rank": RANK, **changes})
    samples = method.samples(BUILT)
    method.attach(vlm, 0)
    encoded = Encoded(vlm, samples, method.reference, method.pairs)
    method.prepare(encoded, REQUEST)
    return method, encoded


def lora(vlm: VisionLanguageModel) -> dict[str, Any]:
    return {n: m for n, m in vlm.model.named_modules() if hasattr(m, "lora_A")}


def starts(vlm: VisionLanguageModel) -> dict[str, torch.Tensor]:
    return {n: m.lora_A["default"].weight.detach().clone() for n, m in lora(vlm).items()}


def gradient(vlm: VisionLanguageModel, method: Method[Any], encoded: Encoded, name: str) -> torch.Tensor:
    """Of the layer's weight, of one layer at a time."""
    layer = lora(vlm)[name].get_base_layer()
    layer.weight.requires_grad = True
    forget = [i for i, s in enumerate(encoded.samples) if s.role == "forget"]
    gradients(method, encoded, forget)
    found = layer.weight.grad.clone()
    layer.weight.requires_grad = False
    vlm.model.zero_grad()
    return found


def inputs(vlm: VisionLanguageModel, name: str) -> torch.Tensor:
    """Of the layer, for each retained sample in a forward of its own; those on one picture share its prefix once."""
    found: list[torch.Tensor] = []
    hook = lora(vlm)[name].register_forward_pre_hook(lambda _, args: found.append(args[0].flatten(0, -2)))
    with torch.no_grad():
        for sample in BUILT:
            if sample.role == "retain":
                plain_logits(vlm, sample.picture, sample.question, sample.answer)
    hook.remove()
    return torch.cat(found)


def whitening(vlm: VisionLanguageModel, name: str) -> torch.Tensor:
    """`(C + lambda I)^-1/2` of a layer; symmetric, unlike the code's root."""
    x = inputs(vlm, name).double()
    c = x.T @ x / len(x)
    share = torch.linalg.eigh(c + RIDGE * c.diagonal().mean() * torch.eye(len(c)))
    return (share.eigenvectors * share.eigenvalues.rsqrt()) @ share.eigenvectors.T


def test_the_rows_are_generalised_eigenvectors(tiny: VisionLanguageModel) -> None:
    """With a rank for which no gradient is mixed down."""
    method, encoded = attached(tiny, rank=32)
    assert all(m.out_features <= 4 * 32 for m in lora(tiny).values())
    wanted = {n: gradient(tiny, method, encoded, n).double() for n in lora(tiny)}
    aim(method, encoded)
    for name, a in starts(tiny).items():
        root = whitening(tiny, name)
        plain = root @ torch.linalg.svd(wanted[name] @ root).Vh[:RANK].T
        cosines = ((plain / plain.norm(dim=0)).T * a[:RANK].double()).sum(1).abs()
        assert (cosines > 1 - 1e-3).all(), (name, cosines)


def test_mixtures_of_a_large_gradient_hold_most_of_it(tiny: VisionLanguageModel) -> None:
    method, encoded = attached(tiny)
    wanted = {n: gradient(tiny, method, encoded, n).double() for n in lora(tiny)}
    aim(method, encoded)
    mixed = [n for n, m in lora(tiny).items() if m.out_features > 4 * RANK]
    assert mixed
    for name in mixed:
        root = whitening(tiny, name)
        spanned = torch.linalg.qr(torch.linalg.solve(root, starts(tiny)[name].T.double())).Q
        pull = wanted[name] @ root
        best = torch.linalg.svdvals(pull)[:RANK].square().sum()
        assert (pull @ spanned).square().sum() > 0.7 * best, name  # at random: a tenth


def test_what_forgetting_pulls_at_passes_and_what_is_retained_does_not(tiny: VisionLanguageModel) -> None:
    """The first step on B moves a retained input by `G A^T A x`, so the less of it the better, for the same pull."""
    method, encoded = attached(tiny)
    pulls = {n: gradient(tiny, method, encoded, n) for n in lora(tiny)}

    def moved(a: torch.Tensor, g: torch.Tensor, x: torch.Tensor) -> float:
        step = g @ a.T @ a
        return float((x @ step.T).square().sum(1).mean().sqrt() / (g * step).sum())

    before = starts(tiny)
    aim(method, encoded)
    after = starts(tiny)
    better = []
    for name in before:
        x = inputs(tiny, name)
        better.append(moved(after[name], pulls[name], x) < moved(before[name], pulls[name], x))
    assert sum(better) > 0.9 * len(better)


def test_the_model_is_the_original_until_the_first_step(tiny: VisionLanguageModel) -> None:
    sample = BUILT[0]
    before = plain_logits(tiny, sample.picture, sample.question, sample.answer)
    method, encoded = attached(tiny)
    trained = {n for n, p in tiny.model.named_parameters() if p.requires_grad}
    drawn = starts(tiny)
    aim(method, encoded)
    assert any(not torch.equal(drawn[n], a) for n, a in starts(tiny).items())
    assert {n for n, p in tiny.model.named_parameters() if p.requires_grad} == trained
    assert all(p.grad is None for p in tiny.model.parameters())
    assert torch.equal(plain_logits(tiny, sample.picture, sample.question, sample.answer), before)


def test_rows_without_a_direction_stay_as_drawn(tiny: VisionLanguageModel) -> None:
    method, encoded = attached(tiny, rank=40)
    drawn = starts(tiny)
    aim(method, encoded)
    narrow = [n for n, m in lora(tiny).items() if m.out_features < 40]
    assert 0 < len(narrow) < len(drawn)
    for name, a in starts(tiny).items():
        assert not torch.equal(a[0], drawn[name][0])
        assert name not in narrow or torch.equal(a[-1], drawn[name][-1])


@pytest.mark.parametrize("name", ["ga", "npo", "dpo", "rmu"])
def test_any_method_with_a_lora_may_start_so(name: str, tiny: VisionLanguageModel, tmp_path: Path) -> None:
    finals = []
    for start in ("random", "aimed"):
        method = make_method(name, "default", {"lora_start": start, "steps": 1})
        samples = method.samples(BUILT)
        method.attach(tiny, 0)
        train(tiny, method, samples, REQUEST, 0, tmp_path / start)
        finals.append(starts(tiny))
        remove_adapter(tiny)
    assert any(not torch.equal(finals[0][n], finals[1][n]) for n in finals[0])


@pytest.mark.parametrize("name", ["mmunlearner", "smfa"])
def test_a_method_whose_lora_must_stay_where_it_begins_says_so(name: str) -> None:
    with pytest.raises(UnseeError, match="lora_start = 'aimed': it must be one of random"):
        make_method(name, "default", {"lora_start": "aimed"})


def test_unseen_samples_aim_at_nothing(tiny: VisionLanguageModel) -> None:
    method = make_method("siu", "default", {"rank": RANK})
    method.attach(tiny, 0)
    drawn = starts(tiny)
    encoded = Encoded(tiny, BUILT, method.reference, seen=[i for i, s in enumerate(BUILT) if s.role == "retain"])
    method.prepare(encoded, REQUEST)
    aim(method, encoded)
    assert all(torch.equal(drawn[n], a) for n, a in starts(tiny).items())
