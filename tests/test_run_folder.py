"""The run folder: begun apart, gone on with, never mistaken for a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import draw
from PIL import Image

from unsee.errors import RunFolderError
from unsee.runs import RunFolder, is_run, read_config, read_finished, refuse_existing
from unsee.runs.folder import BEFORE, CHECKPOINTS, config_sha256, describe_pictures, write_text

CONFIG: dict[str, Any] = {
    "concept": {"name": "circle", "kind": "thing", "aliases": ("round one",)},
    "method": "siu",
    "settings": {"steps": 3, "alpha": 0.9},
    "seed": 0,
}


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_it_is_begun_apart_and_named_when_finished(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "deep" / "run", CONFIG)
    assert folder.work == tmp_path / "deep" / "run.partial" and not folder.path.exists() and not folder.resumed
    folder.write_json("metrics.json", {"é": 1})
    (folder.work / CHECKPOINTS / "checkpoint-10").mkdir(parents=True)
    (folder.work / BEFORE).write_bytes(b"x")
    (folder.work / ".answers.parquet.123.tmp").write_bytes(b"half")
    (folder.work / ".adapter.123.partial").mkdir()
    assert folder.finish() == tmp_path / "deep" / "run"
    assert names(tmp_path / "deep") == {"run"}
    assert names(tmp_path / "deep" / "run") == {"config.yaml", "metrics.json"}
    assert "é" in (tmp_path / "deep" / "run" / "metrics.json").read_text(encoding="utf-8")


def test_the_config_says_what_when_and_with_what(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", CONFIG).finish()
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["format"] == 1 and config["concept"]["aliases"] == ["round one"]
    assert set(config["versions"]) == {"unsee", "torch", "transformers", "peft", "python"}
    assert config["created"].endswith("+00:00") and len(config["config_sha256"]) == 64
    assert config["config_sha256"] == config_sha256(config)  # of what it is to do: time and versions left out


def test_the_same_config_goes_on(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "run", CONFIG)
    first.note(new_answer="a blob", left_out=["x.png"])
    (first.work / "facets.json").write_text("[]")
    again = RunFolder(tmp_path / "run", CONFIG)
    assert again.resumed and again.has("facets.json") and not again.has("metrics.json")
    assert again.config["new_answer"] == "a blob" and again.config["created"] == first.config["created"]


@pytest.mark.parametrize(
    ("change", "told"),
    [({"seed": 1}, "seed"), ({"settings": {"steps": 4, "alpha": 0.9}}, "settings.steps"),
     ({"method": "ga", "seed": 2}, "method, seed"), ({"extra": True}, "extra")],
)  # fmt: skip
def test_another_config_is_refused_and_says_where_it_differs(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    RunFolder(tmp_path / "run", CONFIG)
    with pytest.raises(RunFolderError, match=rf"unfinished run with another config \(it differs in: {told}\)"):
        RunFolder(tmp_path / "run", {**CONFIG, **change})


@pytest.mark.parametrize("same", [{"command": "unsee forget"}, {"redact": True}])
def test_how_it_was_called_is_not_the_config(tmp_path: Path, same: dict[str, Any]) -> None:
    RunFolder(tmp_path / "run", CONFIG)
    assert RunFolder(tmp_path / "run", {**CONFIG, **same}).resumed


def test_one_call_that_redacts_redacts_them_all(tmp_path: Path) -> None:
    opened = {"command": "unsee forget --concept France", "redact": False}
    first = RunFolder(tmp_path / "run", {**CONFIG, **opened})
    first.keep_pictures([draw("circle")])
    again = RunFolder(tmp_path / "run", {**CONFIG, "redact": True})
    with first.alone(), pytest.raises(RunFolderError, match="another process"), again.alone():
        pytest.fail("both were let in")
    assert first.has("pictures") and not again.config["redact"], "refused, it changes nothing"
    with again.alone():
        assert again.config["redact"] and "command" not in again.config and not again.has("pictures")
    for later in (RunFolder(tmp_path / "run", {**CONFIG, **opened}), again):
        said = yaml.safe_load((later.work / "config.yaml").read_text())
        assert later.config["redact"] and said["redact"] and "command" not in said


@pytest.mark.parametrize(
    ("name", "told"), [("run.partial", "to go on with it, give --out run"), ("x" * 300, "too long")]
)
def test_a_name_that_no_run_can_have(tmp_path: Path, name: str, told: str) -> None:
    RunFolder(tmp_path / "run", CONFIG)
    with pytest.raises(RunFolderError, match=told):
        RunFolder(tmp_path / name, CONFIG)
    assert (tmp_path / "run.partial" / "config.yaml").is_file()


def test_a_finished_run_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", CONFIG).finish()
    with pytest.raises(RunFolderError, match="holds a finished run; choose another --out"):
        RunFolder(tmp_path / "run", CONFIG)
    assert is_run(str(tmp_path / "run"))


def test_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_bytes(b"x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("holiday", "file", "link", "."):
        with pytest.raises(RunFolderError, match="something that is not a run"):
            RunFolder(tmp_path / name, CONFIG)
    with pytest.raises(RunFolderError, match="cannot make the folder"):
        RunFolder(tmp_path / "file" / "run", CONFIG)
    assert names(tmp_path / "holiday") == {"photo.jpg"}
    refuse_existing(tmp_path / "new")


def test_a_strangers_partial_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "thesis.txt").write_text("x")
    with pytest.raises(RunFolderError, match="in the way and is not an unfinished run"):
        RunFolder(tmp_path / "run", CONFIG)
    # One that was killed before it had a config is taken up.
    (tmp_path / "run.partial" / "thesis.txt").unlink()
    (tmp_path / "run.partial" / ".config.yaml.99.tmp").write_text("form")
    assert not RunFolder(tmp_path / "run", CONFIG).resumed


def test_two_at_once_do_not_work_in_one_folder(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run", CONFIG), RunFolder(tmp_path / "run", CONFIG)
    with (
        first.alone(),
        pytest.raises(RunFolderError, match=r"another process is writing .*run\.partial"),
        second.alone(),
    ):
        pytest.fail("both were let in")
    with second.alone():
        second.finish()
    with pytest.raises(RunFolderError, match="holds a finished run"), first.alone():
        pytest.fail("a finished run was begun again")
    assert names(tmp_path) == {"run"}
    assert names(tmp_path / "run") == {"config.yaml"}


def test_partial_state_is_never_taken_for_a_result(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", CONFIG)
    with pytest.raises(RunFolderError, match=r"run is not a run folder: .*run\.partial holds an unfinished one"):
        read_finished(tmp_path / "run")
    folder.write_json("metrics.json", {})
    with pytest.raises(RunFolderError, match=r"run\.partial is an unfinished run"):
        read_finished(folder.work)
    folder.finish()
    assert read_finished(tmp_path / "run")["seed"] == 0
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(RunFolderError, match="unfinished"):
        read_finished(tmp_path / "run")


@pytest.mark.parametrize("content", ["", "[1]", "format: 2", "a: [", "format: 1\n\x00", "\xff\xfe"])
def test_a_config_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunFolderError):
        read_config(tmp_path)


def test_pictures_are_kept_small_and_by_hash(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", CONFIG)
    large, small = draw("circle", side=900), draw("square")
    folder.keep_pictures([large, small, small])
    kept = {p.stem: Image.open(p) for p in (folder.work / "pictures").iterdir()}
    assert set(kept) == {large.sha256[:16], small.sha256[:16]}
    assert kept[large.sha256[:16]].size == (512, 512) and kept[small.sha256[:16]].size == (32, 32)
    assert large.width == 900  # the picture itself is as it was
    assert describe_pictures([small]) == [{"name": "square-0.png", "sha256": small.sha256, "width": 32, "height": 32}]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "two \ud800")
    assert (tmp_path / "a.txt").read_text() == "one" and names(tmp_path) == {"a.txt"}
