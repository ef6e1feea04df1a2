"""Losses written down once more as the papers have them: plain numpy, or separate forwards without packing or masks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from plain import close, plain_logits, plain_states

from unsee.data import Sample
from unsee.methods.base import Method
from unsee.methods.encoded import Encoded
from unsee.models import VisionLanguageModel

Array = np.ndarray


def numpy_log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def numpy_dmk(logits: Array, reference: Array, keep_token: Array, keep_vocabulary: Array, count: int | None) -> float:
    """METHODS.md's sum, written as the loops that it is."""
    found, total = numpy_log_softmax(logits), 0.0
    for t in range(len(logits)):
        for v in range(logits.shape[1]):
            if keep_token[t] and keep_vocabulary[v]:
                total += math.exp(reference[t, v]) * (reference[t, v] - found[t, v])
    return total / max(1, int(keep_token.sum()) if count is None else count)


def example(tokens: int, vocabulary: int, seed: int, spread: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the trained model, log-probabilities of the original."""
    generator = torch.Generator().manual_seed(seed)
    logits, other = (torch.randn(tokens, vocabulary, generator=generator, dtype=torch.float64) * spread for _ in "ab")
    return logits, other.log_softmax(-1)


def mask(pattern: str) -> torch.Tensor:
    return torch.tensor([c == "1" for c in pattern])


@dataclasses.dataclass
class Told:
    """One answer, asked for in a forward of its own."""

    ids: list[int]
    found: torch.Tensor
    original: torch.Tensor

    @property
    def log_prob(self) -> torch.Tensor:
        return self.found[range(len(self.ids)), self.ids].sum()

    @property
    def original_log_prob(self) -> torch.Tensor:
        return self.original[range(len(self.ids)), self.ids].sum()

    @property
    def ratio(self) -> torch.Tensor:
        return self.log_prob - self.original_log_prob


def told(vlm: VisionLanguageModel, sample: Sample, text: str) -> Told:
    ids = [*vlm.tokenizer(text, add_special_tokens=False)["input_ids"], vlm.prompter.end_id]
    found = plain_logits(vlm, sample.picture, sample.question, text).log_softmax(-1)
    with torch.no_grad(), vlm.original():
        original = plain_logits(vlm, sample.picture, sample.question, text).log_softmax(-1)
    return Told(ids, found, original)


def tokens(answers: Sequence[Told]) -> int:
    return sum(len(a.ids) for a in answers)


def ce(answers: Sequence[Told]) -> torch.Tensor:
    return -sum((a.log_prob for a in answers), torch.zeros(())) / tokens(answers)


def kl(answers: Sequence[Told]) -> torch.Tensor:
    total = sum(((a.original.exp() * (a.original - a.found)).sum() for a in answers), torch.zeros(()))
    return total / tokens(answers)


def preferring(margins: Sequence[torch.Tensor], beta: float) -> torch.Tensor:
    return sum((2 / beta * torch.log1p(torch.exp(-beta * m)) for m in margins), torch.zeros(())) / len(margins)


def lowered(answers: Sequence[Told], beta: float) -> torch.Tensor:
    total = torch.zeros(())
    for a in answers:
        for t, token in enumerate(a.ids):
            wanted = a.original[t].clone()
            wanted[token] -= beta
            total = total - (wanted.exp() / wanted.exp().sum() * a.found[t]).sum()
    return total / tokens(answers)


def plain_rmu(
    vlm: VisionLanguageModel, settings: Any, forget: Sequence[Sample], retain: Sequence[Sample]
) -> dict[str, torch.Tensor]:
    """Every position of every layer through the whole model; u is seeded with 0."""
    layer = max(1, round(settings.depth * vlm.depth))

    def states(sample: Sample) -> torch.Tensor:
        return plain_states(vlm, sample, layer)

    with torch.no_grad(), vlm.original():
        held = torch.cat([states(x) for x in retain])
        length = torch.cat([states(x) for x in forget]).square().sum(-1).sqrt().mean()
    u = torch.rand(held.shape[1], generator=torch.Generator().manual_seed(0))
    u = u / u.square().sum().sqrt()
    c = settings.steering * length
    far = (torch.cat([states(x) for x in forget]) - c * u).square().sum(-1).mean()
    moved = (torch.cat([states(x) for x in retain]) - held).square().sum(-1).mean()
    return {"forget": far / c**2, "retain": settings.retain_weight * moved / length**2}


def plain_terms(vlm: VisionLanguageModel, method: Method[Any], samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    """The papers' formulas over separate forwards: no packing, no padding, no masks."""
    s = method.settings
    forget = [x for x in samples if x.role == "forget"]
    said = [told(vlm, x, x.answer) for x in forget]
    held = [told(vlm, x, x.answer) for x in samples if x.role == "retain"]
    if method.name == "rmu":
        return plain_rmu(vlm, s, forget, [x for x in samples if x.role == "retain"])
    if method.name in ("task-vector", "retrain"):
        return {"learn": ce(said or held)}
    if method.name in ("ga", "gd", "kl", "mmunlearner"):
        terms = {"forget": -ce(said)}
    elif method.name == "po":
        terms = {"forget": ce(said)}
    elif method.name == "dpo":
        rejected = [told(vlm, x, x.truth or "") for x in forget]
        margins = [a.ratio - b.ratio for a, b in zip(said, rejected, strict=True)]
        terms = {"forget": preferring(margins, s.beta)}
    elif method.name == "npo":
        terms = {"forget": preferring([-a.ratio for a in said], s.beta)}
    elif method.name == "simnpo":
        terms = {"forget": preferring([-a.log_prob / len(a.ids) - s.gamma / s.beta for a in said], s.beta)}
    else:
        assert method.name == "undial"
        terms = {"forget": lowered(said, s.beta)}
    if held:
        terms["retain"] = s.retain_weight * (kl(held) if method.name == "kl" else ce(held))
    return terms


def packed_terms(
    vlm: VisionLanguageModel, method: Method[Any], encoded: Encoded, parts: Sequence[Sequence[int]]
) -> dict[str, torch.Tensor]:
    """The trainer's way, the step's samples cut into the given micro-steps."""
    totals = encoded.totals([i for part in parts for i in part])
    terms: dict[str, torch.Tensor] = {}
    for part in parts:
        for batch, _ in encoded.micro_batches(part):
            states = method.read(vlm, batch, encoded.layer)
            for name, value in method.loss(method.output(vlm, states), encoded.compared(batch), totals).items():
                terms[name] = terms.get(name, torch.zeros(())) + value
    return terms


def gradients(vlm: VisionLanguageModel, terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    vlm.model.zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    return {n: p.grad.clone() for n, p in vlm.model.named_parameters() if p.grad is not None}


def both(vlm: VisionLanguageModel, terms: dict[str, torch.Tensor]) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """The terms and the gradients of their sum."""
    return {n: v.item() for n, v in terms.items()}, gradients(vlm, terms)


def same(
    found: tuple[dict[str, float], dict[str, torch.Tensor]], wanted: tuple[dict[str, float], dict[str, torch.Tensor]]
) -> None:
    (terms, got), (expected_terms, expected) = found, wanted
    assert terms == pytest.approx(expected_terms, rel=1e-4)
    assert got.keys() == expected.keys() and any("lora_A" in n for n in got)
    scale = max(float(v.abs().max()) for v in expected.values())
    for name, value in expected.items():
        assert close(got[name], value) or float((got[name] - value).abs().max()) < 1e-5 * scale, name
