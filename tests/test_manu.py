"""MANU: what neurons do is measured rightly, and those chosen are gone from an ordinary PEFT adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import draw
from plain import plain_logits, reads_back, said
from small_runs import BUILT, REQUEST
from torch import nn

from unsee.errors import UnseeError
from unsee.methods import make_method
from unsee.methods.encoded import Encoded
from unsee.methods.manu import MANU
from unsee.models import Question, VisionLanguageModel, answer, load
from unsee.models.lora import merged, remove_adapter
from unsee.models.neurons import STATISTICS, highest, mlp_ends, recording, specificity, without
from unsee.training import History, train

PICTURE = draw("circle")


def run(vlm: VisionLanguageModel, scratch: Path, **changes: Any) -> tuple[MANU, History]:
    method = make_method("manu", "default", {"pruned_share": 0.1, **changes})
    assert isinstance(method, MANU)
    samples = method.samples(BUILT)
    method.attach(vlm, 0)
    return method, train(vlm, method, samples, REQUEST, 0, scratch)


def test_the_statistics_are_what_they_say() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(5, 2)
    parts = [torch.randn(2, n, 5, generator=generator) * 0.2 + 3 for n in (3, 4)]
    z = torch.cat([p.reshape(-1, 5) for p in parts]).double()
    wanted = {
        "absolute": z.abs().mean(0),
        "frequency": (z.abs() > 0.1).double().mean(0),
        "variance": z.std(0, correction=0),
        "rms": z.square().mean(0).sqrt(),
    }
    for statistic in STATISTICS:
        with recording({"end": layer}, statistic) as found:
            for part in parts:
                layer(part)
        assert torch.allclose(found["end"].double(), wanted[statistic], rtol=1e-5), statistic
    small = torch.tensor([[0.05, -0.2], [0.0, -0.01]])
    with recording({"end": nn.Linear(2, 1)} | {"other": (end := nn.Linear(2, 1))}, "frequency") as found:
        end(small)
    assert found.keys() == {"other"} and found["other"].tolist() == [0, 0.5]


def keeping(rows: list[torch.Tensor]) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
    def keep(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        rows.append(args[0][0].double())

    return keep


def plain_choice(vlm: VisionLanguageModel, share: float) -> dict[str, torch.Tensor]:
    """The neurons of W by all four ratios, each picture and text in a forward of its own, no packing."""
    ends = mlp_ends(vlm, vlm.anatomy.language)
    sums: dict[str, dict[str, list[torch.Tensor]]] = {}
    for role in ("forget", "retain"):
        heard: dict[str, list[torch.Tensor]] = {path: [] for path in ends}
        hooks = [linear.register_forward_pre_hook(keeping(heard[path])) for path, linear in ends.items()]
        prefixes: set[str] = set()
        for s in BUILT:
            if s.role == role:
                with torch.no_grad():
                    plain_logits(vlm, s.picture, s.question, s.truth or s.answer)
                if s.picture is not None:  # the prefix of a picture counts once
                    skip = len(vlm.prompter.prefix) if s.picture.sha256 in prefixes else 0
                    prefixes.add(s.picture.sha256)
                    for path in heard:
                        heard[path][-1] = heard[path][-1][skip:]
        for hook in hooks:
            hook.remove()
        for path, rows in heard.items():
            z = torch.cat(rows)
            sums.setdefault(path, {})[role] = [
                z.abs().mean(0), (z.abs() > 0.1).double().mean(0), z.std(0, correction=0), z.square().mean(0).sqrt()
            ]  # fmt: skip
    scores = {path: torch.zeros(len(v["forget"][0]), dtype=torch.double) for path, v in sums.items()}
    for k in range(4):
        floor = 0.01 * torch.cat([v["retain"][k] for v in sums.values()]).mean()
        for path, v in sums.items():
            scores[path] += v["forget"][k] / (v["retain"][k] + floor)
    bar = torch.cat(list(scores.values())).sort(descending=True).values[round(share * 192) - 1]
    return {path: score >= bar - 1e-6 for path, score in scores.items()}


def test_the_most_specific_neurons_of_the_language_model_are_chosen(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    wanted = plain_choice(tiny, 0.1)
    method, _ = run(tiny, tmp_path, parts="language")
    assert method._chosen.keys() == wanted.keys()
    assert all(torch.equal(method._chosen[p], wanted[p]) for p in wanted)
    assert sum(int(m.sum()) for m in wanted.values()) == 19


@pytest.mark.parametrize("parts", ["both", "vision", "language"])
def test_chosen_neurons_are_silent_and_all_else_is_as_it_was(
    tiny: VisionLanguageModel, tmp_path: Path, parts: str
) -> None:
    before, original = said(tiny), {n: p.clone() for n, p in tiny.model.named_parameters()}
    where = {"vision": tiny.anatomy.vision, "language": tiny.anatomy.language}
    ends = {k: v for part, path in where.items() if parts in (part, "both") for k, v in mlp_ends(tiny, path).items()}
    method, history = run(tiny, tmp_path, parts=parts)
    assert not history.steps and history.seconds > 0 and tiny.adapted
    assert not any(p.requires_grad for p in tiny.model.parameters())
    assert method._chosen.keys() == ends.keys()
    for path, mask in method._chosen.items():
        if mask.any():
            weight = tiny.part(path).get_parameter("modules_to_save.default.weight")
            assert not weight[:, mask].any()
            assert torch.equal(weight[:, ~mask], original[f"{path}.weight"][:, ~mask])
    pruned = said(tiny)
    with tiny.original():
        assert torch.equal(said(tiny), before)
    remove_adapter(tiny)
    assert torch.equal(said(tiny), before) and not torch.equal(pruned, before)
    with without(ends, method._chosen):
        assert torch.allclose(said(tiny), pruned, atol=1e-5)


def test_its_adapter_is_an_ordinary_one(tiny_folder: Path, tmp_path: Path) -> None:
    vlm = load(str(tiny_folder), dtype=torch.float32)
    run(vlm, tmp_path / "scratch")
    wanted = said(vlm)
    reads_back(vlm, tiny_folder, tmp_path / "adapter")
    merged(vlm)
    assert not vlm.adapted and torch.equal(said(vlm), wanted)


def test_in_half_precision(tiny_folder: Path, tmp_path: Path) -> None:
    vlm = load(str(tiny_folder), dtype=torch.bfloat16)
    before = said(vlm)
    run(vlm, tmp_path)
    after = said(vlm)  # through the model alone, with no autocast around it
    assert after.dtype == torch.bfloat16 and not torch.equal(after, before)
    assert answer(vlm, [Question("What is it?", PICTURE)], max_new_tokens=2)
    assert {p.dtype for p in vlm.model.parameters()} == {torch.bfloat16} and not vlm.model.training


def test_nothing_to_choose_by(tiny: VisionLanguageModel) -> None:
    """Neurons that are all alike: every one would be set to 0."""
    method = make_method("manu", "default", {"parts": "language"})
    encoded = Encoded(tiny, method.samples(BUILT))
    with torch.no_grad():
        for name, value in tiny.part(tiny.anatomy.language).named_parameters():
            if "up_proj" in name:
                value.zero_()  # no neuron ever fires
    with pytest.raises(UnseeError, match="manu would set every neuron of the language part to 0"):
        method.prepare(encoded, REQUEST)
    texts = [s for s in BUILT if s.picture is None]
    method = make_method("manu", "default", {"parts": "vision"})
    with pytest.raises(UnseeError, match="no picture is to be forgotten: parts = language"):
        method.prepare(Encoded(tiny, method.samples(texts)), REQUEST)


def test_ties_are_all_chosen_and_at_least_one_is() -> None:
    scores = {"a": torch.tensor([1.0, 5.0, 2.0]), "b": torch.tensor([5.0, 0.0])}
    assert {p: m.tolist() for p, m in highest(scores, 1e-6).items()} == {"a": [False, True, False], "b": [True, False]}
    ratio = specificity({"a": torch.tensor([1.0, 0.0])}, {"a": torch.tensor([1.0, 0.0])}, floor=1.0)
    assert ratio["a"].tolist() == [0.5, 0.0]
