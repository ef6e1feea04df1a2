"""SMFA, reconstructed: two adapters that do not meet until one is cut by the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_losses import ce, packed_terms, told
from small_runs import BUILT, REQUEST

from unsee.data import Sample
from unsee.errors import UnseeError
from unsee.methods import make_method
from unsee.methods.answers import REFUSALS
from unsee.methods.encoded import Encoded
from unsee.methods.smfa import SMFA
from unsee.models import VisionLanguageModel
from unsee.models.lora import remove_adapter, save_adapter
from unsee.training import train


def made(vlm: VisionLanguageModel, **changes: Any) -> tuple[SMFA, list[Sample]]:
    quick = {"rank": 4, "lora_alpha": 8, "steps": 4, "learning_rate": 1e-2}
    method = make_method("smfa", "default", {**quick, **changes})
    assert isinstance(method, SMFA)
    samples = method.samples(BUILT)
    method.attach(vlm, 0)
    return method, samples


def numbers(vlm: VisionLanguageModel, what: str = "lora_") -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in vlm.model.named_parameters() if what in n}


@pytest.mark.parametrize("parts", [[[0, 1, 2, 3, 4, 5]], [[5, 0], [1, 2, 3], [4]]])
def test_each_adapter_has_its_own_loss_and_gradients(tiny: VisionLanguageModel, parts: list[list[int]]) -> None:
    method, samples = made(tiny)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for name, value in tiny.model.named_parameters():
            if "lora_B" in name:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.2)
    found = packed_terms(tiny, method, Encoded(tiny, samples), parts)
    torch.stack(list(found.values())).sum().backward()
    got = {n: p.grad.clone() for n, p in tiny.model.named_parameters() if p.grad is not None}
    assert {".default." in n for n in got} == {".anchor." in n for n in got} == {True, False}
    assert all("lora_B" in n for n in got)
    for adapter, term, role in (("default", "forget", "forget"), ("anchor", "retain", "retain")):
        tiny.model.zero_grad()
        tiny.model.set_adapter(adapter)
        wanted = ce([told(tiny, s, s.answer) for s in samples if s.role == role])
        assert found[term].item() == pytest.approx(wanted.item(), rel=1e-4)
        wanted.backward()
        for name, value in tiny.model.named_parameters():
            if f"lora_B.{adapter}." in name:
                assert value.grad is not None and torch.allclose(got[name], value.grad, rtol=1e-3, atol=1e-6), name


def test_what_conflicts_is_taken_away(
    tiny: VisionLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(**changes: Any) -> dict[str, torch.Tensor]:
        method, samples = made(tiny, **changes)
        begin = numbers(tiny, "lora_A")
        assert all(torch.equal(v, begin[n.replace(".anchor.", ".default.")]) for n, v in begin.items())
        train(tiny, method, samples, REQUEST, 0, tmp_path)
        # B's numbers are compared one by one: over an A that moved, they would not mean the same.
        assert all(torch.equal(v, begin[n]) for n, v in numbers(tiny, "lora_A").items())
        found = numbers(tiny, "lora_B")
        remove_adapter(tiny)
        return found

    cut, cut_more = trained(anchor_ratio=1.0), trained(anchor_ratio=0.0)
    assert not any(".anchor." in n for n in cut)
    monkeypatch.setattr(SMFA, "finish", lambda *_: None)
    whole = trained()
    dropped = 0
    for name, value in cut.items():
        learned, anchor = whole[name], whole[name.replace(".default.", ".anchor.")]
        for ratio, found in ((1.0, value), (0.0, cut_more[name])):
            f, a = learned.double().numpy(), anchor.double().numpy()
            rho = np.linalg.norm(f) / np.linalg.norm(a)
            against = torch.from_numpy((np.sign(f) == -np.sign(a)) & (ratio * rho * abs(a) < abs(f)) & (a != 0))
            assert torch.equal(found, learned.masked_fill(against, 0))
            dropped += int(against.sum())
    assert 0 < dropped < sum(v.numel() for v in cut.values())


def test_its_adapter_is_one_lora(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    method, samples = made(tiny)
    assert {s.answer for s in samples if s.role == "forget"} <= set(REFUSALS)
    history = train(tiny, method, samples, REQUEST, 0, tmp_path / "scratch")
    assert history.steps[-1]["terms"]["forget"] < history.steps[0]["terms"]["forget"]
    save_adapter(tiny, tmp_path / "adapter")
    assert {p.name for p in (tmp_path / "adapter").iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert not (tmp_path / "adapter" / "anchor").exists()


def test_an_interrupted_training_goes_on(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    method, samples = made(tiny)
    train(tiny, method, samples, REQUEST, 0, tmp_path / "whole")
    wanted = numbers(tiny)
    remove_adapter(tiny)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    method, samples = made(tiny)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, method, samples, REQUEST, 0, tmp_path / "cut", progress=stop, save_steps=2)
    remove_adapter(tiny)
    method, samples = made(tiny)
    history = train(tiny, method, samples, REQUEST, 0, tmp_path / "cut", save_steps=2)
    assert [e["step"] for e in history.steps] == [1, 2, 3, 4]
    found = numbers(tiny)
    assert found.keys() == wanted.keys() and all(torch.allclose(found[n], wanted[n], atol=1e-6) for n in wanted)


def test_nothing_left_is_told(tiny: VisionLanguageModel) -> None:
    method, _ = made(tiny, anchor_ratio=0.5)
    with torch.no_grad():
        for name, value in tiny.model.named_parameters():
            if "lora_B" in name:
                value.fill_(1.0 if ".default." in name else -2.0)
        with pytest.raises(UnseeError, match="all that smfa learned conflicts with the anchor at anchor_ratio = 0.5;"):
            method.finish(tiny)
