"""The paths of the speed comparison forget a concept in the same way: the same steps lead to the same adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import BUILT, REQUEST

from speed import planned
from speed_parts.best_plain import BestPlain
from speed_parts.forgetting import Forgetting, train_plainly
from speed_parts.peer import Peer
from speed_parts.table import Table
from unsee.methods.siu import SIU, SIUSettings
from unsee.models import load
from unsee.training import train

STEPS = SIUSettings(steps=4, learning_rate=1e-3, decay=0.5, forget_per_step=1, rank=4, lora_alpha=8)


def world_of(folder: Path, **changes: Any) -> Forgetting:
    settings = SIUSettings(**{**STEPS.__dict__, **changes})
    return Forgetting(load(str(folder), dtype=torch.float32), REQUEST, BUILT, SIU(settings), seed=3)


def adapter(world: Forgetting) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in world.trained().items()}


@pytest.mark.parametrize("start", ["random", "aimed"])
@pytest.mark.parametrize("path", [Peer, lambda world: BestPlain(world, 2)], ids=["peer", "best plain"])
def test_a_plain_path_makes_the_same_adapter(tiny_folder: Path, tmp_path: Path, path: Any, start: str) -> None:
    ours = world_of(tiny_folder, lora_start=start)
    ours.method.attach(ours.vlm, ours.seed)
    begun = adapter(ours)
    history = train(ours.vlm, ours.method, ours.samples, REQUEST, ours.seed, tmp_path)
    other = world_of(tiny_folder, lora_start=start)
    losses = train_plainly(path(other), other)
    assert losses == pytest.approx([step["loss"] for step in history.steps], rel=1e-4)
    wanted, found = adapter(ours), adapter(other)
    assert found.keys() == wanted.keys()
    moved = sum((wanted[name] - begun[name]).norm() for name in wanted)
    apart = sum((wanted[name] - found[name]).norm() for name in wanted)
    assert apart < 1e-2 * moved  # Adam's first steps take the sign of gradients that are all but 0


def test_only_the_embedded_model_itself_forgets_a_concept() -> None:
    assert not [t for t in planned([256, 576], 1, "bfloat16", forgotten=["wolf"]) if t["do"] == "forget"]
    tasks = [t for t in planned([64, 576], 2, "bfloat16", forgotten=["wolf", "dove"]) if t["do"] == "forget"]
    assert [(t["concept"], t["path"]) for t in tasks] == [
        (c, p) for c in ("wolf", "dove") for p in ("peer", "best plain", "ours")
    ]
    assert {t["tokens"] for t in tasks} == {64}


def test_the_table_tells_time_and_what_came_of_it() -> None:
    before = {"em": 0.0, "degenerate_rate": 0.0, "specificity_naming": 100.0, "specificity_yes_no": 98.0,
              "neighbours": 100.0, "text_kept": 100.0}  # fmt: skip
    records = [
        {
            "task": {"do": "forget", "path": path, "tokens": 64, "repeat": repeat},
            "result": {"seconds": seconds + repeat, "samples": 351, "before": before,
                       "after": {**before, "em": 100.0 - repeat, "specificity_naming": 99.0}},
        }
        for path, seconds in (("peer", 200), ("ours", 50))
        for repeat in (0, 1)
    ]  # fmt: skip
    told = Table(records).text()
    assert "a concept forgotten: time of peer / ours" in told and "3.97 (3.94 to 4.00, n = 2)" in told
    assert "50 s, 351 samples, em 99.5 (99.0 to 100.0)" in told and "specificity_naming -1.0 (-1.0 to -1.0)" in told
    assert "best plain" not in told
