"""RMU: it reads one layer and no further, and pulls states where it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import BUILT, REQUEST

from unsee.errors import UnseeError
from unsee.methods import make_method
from unsee.methods.encoded import Encoded
from unsee.methods.rmu import RMU
from unsee.models import VisionLanguageModel, load
from unsee.models.lora import remove_adapter
from unsee.training import train


def made(vlm: VisionLanguageModel, **changes: Any) -> tuple[RMU, Encoded]:
    method = make_method("rmu", "default", changes)
    assert isinstance(method, RMU)
    samples = method.samples(BUILT)
    method.attach(vlm, 0)
    encoded = Encoded(vlm, samples, method.reference)
    method.prepare(encoded, REQUEST)
    return method, encoded


def test_layers_above_and_the_head_never_run(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    method = make_method("rmu", "default", {"depth": 0.5, "steps": 3})
    samples = method.samples(BUILT)
    method.attach(tiny, 0)
    anatomy = tiny.anatomy
    inside = {"below": "layers.0", "above": "layers.1", "norm": "norm"}
    watched = {name: tiny.part(f"{anatomy.language}.{path}") for name, path in inside.items()}
    watched["head"] = tiny.part(anatomy.head)
    ran = dict.fromkeys(watched, 0)

    def count(name: str) -> Any:
        def ran_once(*_: Any) -> None:
            ran[name] += 1

        return ran_once

    for name, module in watched.items():
        module.register_forward_hook(count(name))
    train(tiny, method, samples, REQUEST, 0, tmp_path)
    assert ran["below"] >= 4  # once to prepare, and three steps
    assert ran["above"] == ran["norm"] == ran["head"] == 0


@pytest.mark.parametrize(("depth", "layers"), [(0.01, {0}), (0.5, {0}), (1.0, {0, 1})])
def test_the_lora_ends_where_states_are_read(tiny: VisionLanguageModel, depth: float, layers: set[int]) -> None:
    method, encoded = made(tiny, depth=depth)
    trained = [n for n, p in tiny.base.named_parameters() if p.requires_grad]
    assert {tiny.anatomy.layer_of(n) for n in trained} == layers
    batch, _ = next(encoded.micro_batches([0]))
    states = method.read(tiny, batch, encoded.layer)
    assert states.shape == (len(batch.tensors.labels), tiny.base.config.text_config.hidden_size)


def test_forgotten_states_go_to_the_target_and_others_stay(tiny_folder: Path, tmp_path: Path) -> None:
    vlm = load(str(tiny_folder), dtype=torch.float32)
    changes = {"steps": 60, "learning_rate": 2e-2, "rank": 8, "lora_alpha": 16, "steering": 1.0}
    method = make_method("rmu", "default", changes)
    assert isinstance(method, RMU)
    samples = method.samples(BUILT)
    method.attach(vlm, 0)
    terms = [e["terms"] for e in train(vlm, method, samples, REQUEST, 0, tmp_path).steps]
    assert terms[0]["retain"] == 0 and terms[0]["forget"] > 1.5
    assert terms[-1]["forget"] < 0.5 * terms[0]["forget"] and terms[-1]["retain"] < 0.3


def test_the_direction_comes_from_the_seed(tiny: VisionLanguageModel) -> None:
    targets = []
    for seed in (0, 0, 1):
        method = make_method("rmu", "default", {"steering": 3.0})
        assert isinstance(method, RMU)
        method.attach(tiny, seed)
        method.prepare(Encoded(tiny, method.samples(BUILT)), REQUEST)
        remove_adapter(tiny)
        targets.append(method._target)
        assert float(method._target.norm()) == pytest.approx(3.0 * method._length, rel=1e-5)
    assert torch.equal(targets[0], targets[1]) and not torch.equal(targets[0], targets[2])


def test_a_lora_above_the_states_is_an_error(tiny: VisionLanguageModel) -> None:
    with pytest.raises(UnseeError, match="upper_layers = 0.5, depth = 0.5: .* nothing could be trained"):
        made(tiny, upper_layers=0.5, depth=0.5)
    assert not tiny.adapted


def test_without_a_retain_term(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    method = make_method("rmu", "default", {"retain_weight": 0.0, "steps": 2})
    samples = method.samples(BUILT)
    method.attach(tiny, 0)
    history = train(tiny, method, samples, REQUEST, 0, tmp_path)
    assert all(e["terms"].keys() == {"forget"} for e in history.steps)
    remove_adapter(tiny)
