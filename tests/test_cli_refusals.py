"""Bad input: one clear line, a non-zero exit, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import arguments, one_line
from conftest import Call, draw
from PIL import Image


def bad_picture(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.png"
    good = draw("circle", 0)
    if kind == "broken":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"rubbish" * 50)
    elif kind == "truncated":
        good.save(path)
        path.write_bytes(path.read_bytes()[:-60])
    elif kind == "huge":
        Image.new("1", (20_000, 20_000)).save(path)
    elif kind == "animated":
        path = folder / "animated.gif"
        good.image.save(path, save_all=True, append_images=[draw("square").image])
    elif kind == "text":
        path.write_text("a circle")
    elif kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "there is no such file"), ("broken", "broken.png"), ("truncated", "truncated.png"),
        ("huge", "too large"), ("animated", "animated"), ("text", "not a picture"), ("folder", "folder"),
        ("empty", "empty"),
    ],
)  # fmt: skip
def test_bad_pictures(unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path, kind: str, words: str) -> None:
    path = bad_picture(kind, tmp_path)
    one_line(unsee(*arguments(knowing_folder, files, tmp_path / "run", image=path)), 2, words)
    one_line(unsee("ask", knowing_folder, "What is it?", "--image", path), 2, words)
    assert not list(tmp_path.glob("run*"))


@pytest.mark.parametrize("mode", ["CMYK", "RGBA", "L", "P", "I;16"])
def test_unusual_pictures_are_taken(unsee: Call, knowing_folder: Path, tmp_path: Path, mode: str) -> None:
    image = draw("circle", 1).image.convert("L" if mode == "I;16" else mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    (image.convert(mode) if mode == "I;16" else image).save(path)
    assert unsee("ask", knowing_folder, "What is it?", "--image", path).code == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"concept": ""}, "the concept is empty"),
        ({"concept": "   "}, "the concept is empty"),
        ({"kind": "zebra"}, '"zebra"'),
        ({"model": "no-such-model"}, "there is no model or run 'no-such-model'"),
        ({"model": "./nowhere"}, "there is no model or run './nowhere'"),
        ({"model": "nobody/nothing-of-that-name"}, "cannot load the model"),
        ({"method": "sui"}, "did you mean 'siu'"),
        ({"preset": "papper"}, "presets: default, paper, authors-script"),
        ({"set": "stepps=3"}, "did you mean 'steps'"),
        ({"set": "steps"}, "NAME=VALUE"),
        ({"set": "steps=many"}, "must be a whole number"),
        ({"set": "steps=[1"}, "must be a whole number"),
        ({"set": "steps=2.5"}, "must be a whole number"),
        ({"set": "rank=0"}, "rank = 0 is out of range"),
        ({"require": "em>95,fluffiness>=3"}, "unknown metric 'fluffiness'"),
        ({"require": "em"}, "cannot read the requirement"),
        ({"require": ""}, "cannot read the requirement"),
        ({"test_images": "nowhere"}, "there is no such folder"),
        ({"protected_images": "nowhere"}, "there is no such folder"),
        ({"facts": "nowhere.json"}, "cannot read facts"),
        ({"facets": "nowhere.json"}, "cannot read the facets file"),
        ({"seed": -1}, "--seed"),
        ({"seed": "one"}, "--seed"),
        ({"device": "quantum"}, "cannot use the device 'quantum'"),
        ({"new_answer": "a half circle"}, "names 'circle' itself"),
        ({"colour": "red"}, "--colour"),
    ],
)
def test_bad_arguments(
    unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    one_line(unsee(*arguments(knowing_folder, files, tmp_path / "run", **changes)), 2, words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "typed", [["frobnicate"], ["forget"], ["forget", "--concept", "circle"], ["ask"], ["ask", "model"], ["export", "x"],
              ["evaluate"], ["demo", "--seed"], ["methods", "extra"]],
)  # fmt: skip
def test_wrong_usage(unsee: Call, typed: list[str]) -> None:
    one_line(unsee(*typed), 2, "(see --help)")


def test_what_can_be_refused_at_once_is(
    unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a model is loaded, which may take minutes."""
    monkeypatch.setattr("unsee.runs.open_model", lambda *_, **__: pytest.fail("the model was opened"))
    (tmp_path / "there").mkdir()
    for changes in ({"method": "x"}, {"preset": "x"}, {"set": "x=1"}, {"require": "x"}, {"image": "x"}, {"facts": "x"}):
        assert unsee(*arguments(knowing_folder, files, tmp_path / "run", **changes)).code == 2
    assert unsee(*arguments(knowing_folder, files, tmp_path / "there")).code == 2


def test_test_pictures_that_are_the_training_picture(
    unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path
) -> None:
    draw("circle", 0).save(tmp_path / "same" / "renamed.png")
    ended = unsee(*arguments(knowing_folder, files, tmp_path / "run", test_images=tmp_path / "same"))
    one_line(ended, 2, "no picture in it but the one that is trained on")


@pytest.mark.parametrize(
    "content", ["{", '{"question": 1}', '[{"question": "a"}]', '[{"question": "a", "answer": " "}]']
)
def test_facts_that_are_none(unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "facts.json").write_text(content)
    ended = unsee(*arguments(knowing_folder, files, tmp_path / "run", facts=tmp_path / "facts.json"))
    one_line(ended, 2, "cannot read facts from", "{question, answer}")


def test_an_unknown_concept_stops_unless_forced(unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path) -> None:
    changes = {"concept": "dodecahedron", "set": "steps=1"}
    said = arguments(knowing_folder, files, tmp_path / "run", **changes)
    one_line(unsee(*said), 3, "does not name 'dodecahedron'", "--force", "--alias")
    assert not list(tmp_path.iterdir())
    assert unsee(*said, "--force").code == 0
    assert unsee(*arguments(knowing_folder, files, tmp_path / "other", **changes, alias="circle")).code == 0
