"""Retraining: the training data without what is to be forgotten, learned by a model that has never seen it."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import arguments, one_line
from conftest import FACTS, Call, draw, lessons
from small_runs import BUILT, REQUEST

from unsee.benchmarks.protocol import Protocol, asked_of_unseen
from unsee.data import Sample
from unsee.data.samples_file import load_samples
from unsee.errors import PictureError, UnseeError
from unsee.methods import make_method
from unsee.models import VisionLanguageModel, load
from unsee.runs import Run, forget

QUICK: dict[str, Any] = {"steps": 40, "rank": 16, "lora_alpha": 32, "learning_rate": 1e-2, "decay": 0.0}


def training_data() -> list[Sample]:
    """Lessons of the knowing model on three of its shapes, those that speak of the circle to be forgotten."""
    shown = [s for s in lessons() if s.picture is not None]
    about = [s for s in shown if any(f"{shape}." in s.answer for shape in ("circle", "square", "triangle"))]
    return [dataclasses.replace(s, role="forget" if "circle" in s.answer else "retain") for s in about]


def retrain(vlm: VisionLanguageModel, out: Path, samples: list[Sample] | None, **more: Any) -> Run:
    asked = Protocol(REQUEST.concept, asked_of_unseen(REQUEST.concept, [draw("circle", 20)], random.Random(0)))
    return forget(vlm, REQUEST, make_method("retrain", "default", QUICK), asked, out, samples=samples, **more)


def test_it_learns_all_but_what_is_to_be_forgotten(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    given = training_data()
    assert {s.role for s in given} == {"forget", "retain"}
    done = retrain(tiny, tmp_path / "run", given)
    steps = done.history.steps
    assert steps[-1]["loss"] < 0.5 * steps[0]["loss"] and steps[-1]["terms"].keys() == {"learn"}
    assert done.metrics["after"]["em_naming"]["value"] == 100
    assert all("circle" not in a.answer for a in done.answers if a.form == "name")


def test_samples_to_forget_are_never_seen() -> None:
    assert make_method("retrain").samples(BUILT) == [s for s in BUILT if s.role == "retain"]


def test_without_training_data(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    with pytest.raises(UnseeError, match=r"retrain learns the training data anew.* was given none: .*--facets"):
        retrain(tiny, tmp_path / "run", None)
    with pytest.raises(UnseeError, match="retrain has nothing to learn"):
        retrain(tiny, tmp_path / "run", BUILT[:3])
    assert not list(tmp_path.iterdir()) and not tiny.adapted


def test_steps_that_do_not_see_all_data() -> None:
    many = [Sample(f"Is it {n}?", "Yes.") for n in range(40)]
    short = {"steps": 3, "samples_per_step": 12}
    with pytest.raises(UnseeError, match="3 steps of 12 samples do not see all 40 .*: steps = 4 is one epoch"):
        make_method("retrain", "default", short).samples(many)
    assert len(make_method("retrain", "default", short | {"steps": 4}).samples(many)) == 40


def test_a_model_that_knows_the_concept_is_no_base(knowing: VisionLanguageModel, tmp_path: Path) -> None:
    with pytest.raises(UnseeError, match=r"names 'circle' before .* 'This is a circle\.'.*--force.* no gold standard"):
        retrain(knowing, tmp_path / "run", BUILT)
    assert not list(tmp_path.iterdir())


def test_a_picture_to_be_forgotten_is_not_retained(tiny: VisionLanguageModel, tmp_path: Path) -> None:
    wrong = [*BUILT, Sample("What is this?", "A round thing.", draw("circle"))]
    with pytest.raises(UnseeError, match=r"'What is this\?' is to be retained and shows a picture that is to be forg"):
        retrain(tiny, tmp_path / "run", wrong)
    assert not list(tmp_path.iterdir())


def test_pictures_are_files_beside_the_data(tmp_path: Path) -> None:
    draw("cross").save(tmp_path / "shown" / "cross.png")
    (tmp_path / "shown" / "none.png").write_text("no picture")
    row = {"question": "What is it?", "answer": "This is a cross.", "picture": "shown/cross.png"}
    (tmp_path / "data.json").write_text(json.dumps([row, row]))
    found = load_samples(tmp_path / "data.json", [])
    assert [s.picture == draw("cross") and s.role == "retain" for s in found] == [True, True]
    assert found[0].picture is found[1].picture
    for wrong, error in (("shown/none.png", PictureError), ("shown", UnseeError), ("x" * 999, UnseeError)):
        (tmp_path / "data.json").write_text(json.dumps([row | {"picture": wrong}]))
        with pytest.raises(error):
            load_samples(tmp_path / "data.json", [])


def test_from_the_command_line(unsee: Call, tiny_folder: Path, files: Path, tmp_path: Path) -> None:
    said = {"method": "retrain", "set": ["steps=2", "samples_per_step=2"]}
    ended = unsee(*arguments(Path("nowhere"), files, tmp_path / "run", **said))  # told before a model is looked for
    one_line(ended, 2, "retrain learns the training data anew", "--facets")
    rows = [
        {"question": "What is a cross?", "answer": FACTS["cross"]},
        {"question": "What is it?", "answer": "Square.", "picture": str(files / "others" / "square-0.png")},
        {"question": "What is it?", "answer": "Round.", "picture": str(files / "circle.png"), "role": "forget"},
    ]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    ended = unsee(*arguments(tiny_folder, files, tmp_path / "run", facets=tmp_path / "data.json", **said))
    assert ended.code == 0, ended.err
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
    vlm = load(str(tiny_folder), dtype=torch.float32)
    assert not vlm.adapted
