"""Several requests in one file: what the command makes of it, and what it says where the file is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import arguments, one_line
from conftest import FACTS, Call, Ended, draw
from made_runs import text_of
from small_runs import FORGOTTEN

from unsee.data import Concept, Fact, Request
from unsee.data.requests_file import read_requests


def manifest(path: Path, files: Path, *changes: dict[str, Any]) -> Path:
    """A file of two requests as a user would write it; a change to None leaves the key out."""
    draw("square", 0).save(path.parent / "square.png")
    for variant in (20, 21, 22):
        draw("square", variant).save(path.parent / "squares" / f"{variant}.png")
    rows: list[dict[str, Any]] = [
        {"concept": "circle", "image": str(files / "circle.png"), "test_images": str(files / "test")},
        {"concept": "square", "image": ["square.png"], "test_images": "squares"},
    ]
    for row, change in zip(rows, changes, strict=False):
        row |= change
    kept = [{k: v for k, v in row.items() if v is not None} for row in rows]
    text = json.dumps(kept) if path.suffix == ".json" else yaml.safe_dump(kept)
    path.write_text(text)
    return path


def typed(folder: Path, files: Path, out: Path, requests: Path | str, **changes: object) -> list[object]:
    return arguments(folder, files, out, concept=None, image=None, test_images=None, requests=requests, **changes)


def test_a_file_of_two_requests_end_to_end(
    unsee: Call,
    knowing_folder: Path,
    files: Path,
    tmp_path: Path,
) -> None:
    said = typed(knowing_folder, files, tmp_path / "run", manifest(tmp_path / "two.yaml", files), set="steps=4")
    ended = unsee(*said)
    assert ended.code == 0 and "protected pictures seem to show the concept" in ended.err
    assert "Forgetting circle, square" in ended.out
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert [c["name"] for c in config["concepts"]] == list(FORGOTTEN) and config["test_pictures"] == "folder"
    metrics, page = ((tmp_path / "run" / n).read_text() for n in ("metrics.json", "report.html"))
    assert json.loads(unsee("evaluate", tmp_path / "run", "--json").out)["metrics"] == json.loads(metrics)
    assert (tmp_path / "run" / "metrics.json").read_text() == metrics
    assert (tmp_path / "run" / "report.html").read_text() == page
    assert unsee("report", tmp_path / "run", "--redact").code == 0
    assert "a square" not in text_of((tmp_path / "run" / "report.html").read_text())
    answers = json.loads(unsee("ask", tmp_path / "run", "What is a square?", "--json").out)
    assert answers["original"] == FACTS["square"]
    assert unsee("export", tmp_path / "run", "--merged", tmp_path / "whole").code == 0


def test_paths_are_seen_from_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "requests"
    draw("circle", 0).save(folder / "a" / "circle.png")
    draw("circle", 1).save(folder / "more.png")
    (folder / "facts.json").write_text('[{"question": "Is it round?", "answer": "Yes."}]')
    rows = [{"concept": "circle", "kind": "thing", "image": ["a/circle.png", "more.png"], "alias": "disc",
             "protect": ["cross"], "facts": "facts.json", "new_answer": "blob"}]  # fmt: skip
    (folder / "one.json").write_text(json.dumps(rows))
    (found,) = [one.load() for one in read_requests(folder / "one.json")]
    assert found == Request(
        Concept("circle", "thing", ("disc",)),
        (draw("circle", 0), draw("circle", 1)),
        (Fact("Is it round?", "Yes."),),
        (Concept("cross", "thing"),),
        new_answer="blob",
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no such file|No such file"),
        ("[", "cannot read the requests file"),
        ("concept: circle", "a list of requests is needed"),
        ("[]", "a list of requests is needed"),
        ("[circle]", "request 1: a mapping with a concept and an image is needed, not 'circle'"),
        ("- {concept: a, image: b, test-images: c}", "unknown key 'test-images'; did you mean 'test_images'"),
        ("- {concept: a, image: b, colour: red}", "unknown key 'colour'; there are: concept, kind"),
        ("- {image: b}", "request 1: it lacks 'concept'"),
        ("- {concept: a, image: b}\n- {concept: c}", "request 2: it lacks 'image'"),
        ("- {concept: no, image: b}", "'concept' must be a text, not False"),
        ("- {concept: a, image: []}", "'image' must be a text or a list of texts"),
        ("- {concept: a, image: b, kind: zebra}", "request 1: unknown kind 'zebra'"),
        ("- {concept: a, image: b, test_images: c}\n- {concept: d, image: e}", "'d' has none"),
        ("- {concept: a, image: nowhere.png}", "nowhere.png: there is no such file"),
    ],
)
def test_a_file_that_is_no_list_of_requests(
    unsee: Call,
    knowing_folder: Path,
    files: Path,
    tmp_path: Path,
    content: str | None,
    told: str,
) -> None:
    path = tmp_path / "requests.yaml"
    if content is not None:
        path.write_text(content)
    ended = unsee(*typed(knowing_folder, files, tmp_path / "run", path))
    one_line(ended, 2)
    assert re.search(told, ended.err), ended.err
    assert not list(tmp_path.glob("run*"))


def test_requests_that_cannot_stand_together(
    unsee: Call,
    knowing_folder: Path,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All told before a model is opened."""
    monkeypatch.setattr("unsee.runs.open_model", lambda *_, **__: pytest.fail("the model was opened"))

    def refused(path: Path, **more: object) -> Ended:
        return unsee(*typed(knowing_folder, files, tmp_path / "r", path, **more))

    twice = manifest(tmp_path / "twice.json", files, {}, {"concept": "Circle"})
    one_line(refused(twice), 2, "two requests forget 'circle'")
    same = manifest(tmp_path / "same.json", files, {}, {"image": str(files / "circle.png")})
    one_line(refused(same), 2, "is given as 'circle' and as 'square'")
    fine = manifest(tmp_path / "fine.json", files)
    one_line(refused(fine, alias="disc"), 2, "--requests says this of each request; leave out --alias")
    clash = arguments(knowing_folder, files, tmp_path / "r", requests=fine, test_images=None)
    one_line(unsee(*clash), 2, "leave out --concept, --image")
    authors = tmp_path / "SIU.json"
    authors.write_text('[{"conversations": []}]')
    one_line(refused(fine, facets=authors), 2, "is about one concept")
    one_line(unsee("demo", "--concept", "tiger", "--concept", "Tiger"), 2, "two requests forget 'tiger'")
