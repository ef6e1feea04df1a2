"""The speed comparison runs, and its three paths do the same: loss, gradients and answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.utils.flop_counter import FlopCounterMode

from speed_parts.arithmetic import useful_flop
from speed_parts.measure import opened
from speed_parts.ours import Ours
from speed_parts.world import RANK, build, samples_on_picture
from unsee.methods.encoded import Encoded

SCRIPT = Path(__file__).parents[1] / "experiments" / "speed.py"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """What the script prints and writes for a tiny model."""
    file = tmp_path_factory.mktemp("speed") / "speed.jsonl"
    command = [sys.executable, str(SCRIPT), "--smoke", "--json", str(file), "--plots", str(file.parent)]
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1] / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (file.parent / "speed-growth.svg").stat().st_size > 1000
    return done.stdout, [json.loads(line) for line in file.read_text().splitlines()]


def results(records: list[dict[str, Any]], do: str) -> list[dict[str, Any]]:
    return [r["result"] for r in records if r["task"]["do"] == do]


def test_all_paths_give_the_same_loss_gradients_and_answers(smoke: tuple[str, list[dict[str, Any]]]) -> None:
    found = results(smoke[1], "agreement")[0]
    paths = {"peer", "best plain", "best plain, other ways", "slices", "mask"}
    for kind in ("loss", "gradients"):
        assert {k.rpartition(",")[0] for k in found[kind]} == paths | {"cache"}
        assert {k for k in found[kind] if k.endswith("mixed")} == {f"{p}, mixed" for p in paths}
        assert max(found[kind].values()) <= 1e-4, found[kind]
    # Every linear layer of W has an A and a B.
    assert set(found["compared"].values()) == {2 * 7 * 2}
    assert found["different_answers"] == {"best plain": 0, "best plain, prompt cached": 0, "slices": 0}
    assert found["distinct"] > 1


def test_ours_encodes_the_prefix_of_a_picture_once(smoke: tuple[str, list[dict[str, Any]]]) -> None:
    assert results(smoke[1], "agreement")[0]["prefixes_for_answers"] == 1
    counted = results(smoke[1], "counts")[0]
    # What the unlearned model says is judged by the original too: another model, another forward.
    for side, by_the_original in (("before", 0), ("after", 1)):
        assert counted[side] == {
            "prefixes": 1,
            "in_scoring": by_the_original,
            "generations": 1,
            "scoring_forwards": 1 + by_the_original,
        }
    tokens = {r["task"]["path"]: r["result"]["tokens"] for r in smoke[1] if r["task"]["do"] == "answers"}
    assert tokens["ours"] < tokens["peer"]


def test_every_row_is_told(smoke: tuple[str, list[dict[str, Any]]]) -> None:
    told, records = smoke
    assert {r["task"]["path"] for r in records if r["task"]["do"] == "train"} == {"peer", "best plain", "ours"}
    for row in (
        "pass over questions on one picture, 16 image tokens: time of peer / ours",
        "pass over questions on one picture, 16 image tokens: time of best plain / ours",
        "pass over the standard SIU set, 16 image tokens: time of peer / ours",
        "peak with a reference over peak without",
        "peak of kl over peak of gd, which needs no reference",
        "peak of npo over peak of simnpo, which needs no reference",
        "time of a full-model GD step (peer) / VKD's distillation alone",
        "time of a full-model GD step (best plain) / VKD's default step",
        "questions answered on one picture, 16 image tokens: time of peer / ours",
        "questions answered on one picture, 16 image tokens: time of best plain, prompt cached / ours",
        "useful arithmetic of step, share of the matmul peak",
        "growth to 4 questions, slices: further question / first",
        "growth to 4 questions, cache: further question / first",
    ):
        assert row in told, told


def test_the_step_of_vkd_that_is_timed_has_all_its_terms(smoke: tuple[str, list[dict[str, Any]]]) -> None:
    loss = {r["task"]["what"]: r["result"]["loss"] for r in smoke[1] if r["task"]["do"] == "vkd"}
    assert loss["step"] > loss["distillation"] + 1  # NPO on what is not forgotten yet: 2 / beta * log 2, about


def test_the_formula_counts_the_arithmetic_of_a_step(tmp_path: Path) -> None:
    """Beside what torch counts: more is done only above the diagonal of attention and by the reference's head."""
    build(tmp_path, "tiny", 64, "random")
    world = opened(tmp_path, "cpu", "float32")
    path, samples = Ours(world), samples_on_picture(12)
    encoded = Encoded(world.vlm, samples, path.method.reference)
    with FlopCounterMode(display=False) as counter:
        path.step(encoded)
    text = world.vlm.base.config.get_text_config()
    useful = useful_flop(text, len(world.vlm.prompter.prefix), encoded.suffixes, RANK)["step"]
    assert 0.9 < useful / counter.get_total_flops() < 1
