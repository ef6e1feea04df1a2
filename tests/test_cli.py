"""The command line: what it prints, with which codes it ends, and that no bad input ends in a traceback."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from commands import arguments, as_a_process, one_line
from conftest import SHAPES, Call, Ended, draw

from unsee import cli
from unsee.__main__ import main as begin
from unsee.exits import ending
from unsee.methods import REGISTRY, get_method
from unsee.metrics import METRICS
from unsee.models import load

OTHERS = [s for s in SHAPES if s != "circle"]


@pytest.fixture(scope="session")
def finished(knowing_folder: Path, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made by the command in a process of its own, as a user would."""
    out = tmp_path_factory.mktemp("runs") / "circle"
    ended = as_a_process(*arguments(knowing_folder, files, out, json=True))
    assert (ended.code, ended.err) == (0, "")
    said = json.loads(ended.out)
    assert said["run"] == str(out) and said["metrics"]["after"]["em"]["value"] >= 75
    assert said["requirements"] == [] and said["left_out"] == []
    return out


# ---- what a finished run refuses


def test_an_existing_folder_is_left_alone(unsee: Call, knowing_folder: Path, files: Path, finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    one_line(unsee(*arguments(knowing_folder, files, finished)), 2, "holds a finished run")
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before
    one_line(unsee(*arguments(knowing_folder, files, files)), 2, "something that is not a run")


@pytest.mark.parametrize("command", ["evaluate", "report", "ask", "export"])
def test_what_is_no_run(unsee: Call, finished: Path, tmp_path: Path, command: str) -> None:
    needed: dict[str, list[object]] = {"ask": ["What?"], "export": ["--merged", tmp_path / "m"]}
    more = needed.get(command, [])
    assert unsee(command, tmp_path / "nowhere", *more).code == 2
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "config.yaml").write_text((finished / "config.yaml").read_text())
    one_line(unsee(command, tmp_path / "run.partial", *more), 2, "unfinished")
    (tmp_path / "run.partial" / "config.yaml").write_text("format: 99")
    assert unsee(command, tmp_path / "run.partial", *more).code == 2


# ---- endings


def test_a_requirement_sets_the_exit_code(unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path) -> None:
    said = arguments(knowing_folder, files, tmp_path / "a", set="steps=1", require="em>=95,specificity>=-2", json=True)
    ended = unsee(*said)
    assert ended.code == 4 and ended.err.count("\n") == 1
    assert "does not reach em>=95 (measured" in ended.err
    judged = json.loads(ended.out)["requirements"]
    assert [(j["requirement"], j["met"]) for j in judged] == [("em>=95", False), ("specificity>=-2", True)]
    assert (tmp_path / "a" / "report.html").is_file()  # the run is finished all the same
    met = unsee(*arguments(knowing_folder, files, tmp_path / "b", set="steps=1", require="em>=0"))
    assert met.code == 0 and met.err == ""


def test_an_exploding_training_is_one_line(unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path) -> None:
    changes = ["learning_rate=1", "alpha=1000", "steps=40"]
    ended = unsee(*arguments(knowing_folder, files, tmp_path / "run", set=changes))
    one_line(ended, 5, "training stopped at step", "smaller learning_rate")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(
    unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unsee.show import Display

    said = arguments(knowing_folder, files, tmp_path / "run", set="steps=12")
    with monkeypatch.context() as patch:
        honest = Display.progress

        def stop(self: Display, stage: str, done: int, total: int) -> None:
            honest(self, stage, done, total)
            if (stage, done) == ("training", 11):
                raise KeyboardInterrupt

        patch.setattr(Display, "progress", stop)
        ended = unsee(*said)
    assert (ended.code, ended.out) == (130, "")
    assert ended.err == "stopped: the same command goes on where it was\n"
    assert [p.name for p in tmp_path.iterdir()] == ["run.partial"]
    ended = unsee(*arguments(knowing_folder, files, tmp_path / "run", set="steps=13"))
    one_line(ended, 2, "unfinished run with another config (it differs in: settings.steps)")
    assert unsee(*said).code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [e["step"] for e in history["steps"]] == list(range(1, 13))


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("one\ntwo"), OSError(errno.EIO, "Input/output error"), KeyError("x")]
)
def test_a_bug_is_not_dressed_up(
    unsee: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("unsee.methods.get_method", broken)
    ended = unsee("methods")
    assert ended.code == 70 and ended.out == ""
    lines = ended.err.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f"unexpected error: {type(error).__name__}: ")
    written = next(iter(tmp_path.glob("unsee-bug-*.txt")))
    assert str(written) in lines[1]
    story = written.read_text()
    assert "Traceback (most recent call last)" in story and "in broken" in story
    assert "['methods']" in story and "torch 2" in story and "unsee 0" in story


@pytest.mark.parametrize("asked", ["--redact", "--redact=true"])
def test_what_is_to_be_sent_of_a_redacted_run_has_no_name(
    unsee: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    said = "no answer on 'Ada Example'"

    def broken(*_: object) -> None:
        raise KeyError(said)

    monkeypatch.setattr("unsee.methods.make_method", broken)
    ended = unsee("forget", "--concept", "Ada Example", "--image=ada.png", asked)
    assert ended.code == 70 and "Ada" not in ended.err
    story = next(iter(tmp_path.glob("unsee-bug-*.txt"))).read_text()
    assert "Ada" not in story and "ada.png" not in story and "KeyError" in story and "in broken" in story


def test_no_room_on_the_gpu_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    assert ending(work) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: out of GPU memory (CUDA out of memory. Tried to allocate 2 GiB.); what was finished")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_full_or_forbidden_disk_is_one_line(capsys: pytest.CaptureFixture[str], number: int) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number), "/some/where")

    def deep() -> None:
        try:
            fail()
        except OSError as error:
            raise RuntimeError("torch says something else") from error

    for work in (fail, deep):
        assert ending(work) == 2
        assert capsys.readouterr().err.startswith(f"error: {os.strerror(number)} (/some/where)")


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file can grow beyond 150 kB: every library in the chain meets the limit for real."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
def test_a_disk_that_fills_up_in_the_middle(
    unsee: Call, knowing_folder: Path, files: Path, finished: Path, tmp_path: Path
) -> None:
    said = arguments(knowing_folder, files, tmp_path / "run", set=["steps=12", "rank=48", "upper_layers=1"])
    one_line(unsee(*said), 2, "error: File too large")
    assert [p.name for p in tmp_path.iterdir()] == ["run.partial"]
    one_line(unsee("export", finished, "--merged", tmp_path / "whole"), 2, "error: File too large")
    assert [p.name for p in tmp_path.iterdir()] == ["run.partial"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
    assert unsee(*said).code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


# ---- using a run


def test_json_is_one_object_whatever_is_warned_of(
    unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path
) -> None:
    for i, source in enumerate(sorted((files / "others").iterdir())):
        (tmp_path / "mixed").mkdir(exist_ok=True)
        (tmp_path / "mixed" / f"{i}.png").write_bytes(source.read_bytes())
    (tmp_path / "mixed" / "torn.png").write_bytes(b"no picture")
    for variant in range(30, 34):  # half of them land among the protected ones
        draw("circle", variant).save(tmp_path / "mixed" / f"circle-{variant}.png")
    changes = {"protected_images": tmp_path / "mixed", "set": "steps=1", "json": True}
    ended = unsee(*arguments(knowing_folder, files, tmp_path / "run", **changes))
    assert ended.code == 0
    said = json.loads(ended.out)
    assert set(said) == {"run", "verdict", "metrics", "requirements", "left_out"}
    assert set(said["verdict"]) == {"claim", "tone", "cautions"}
    assert said["left_out"] and all(name.startswith("circle-3") for name in said["left_out"])
    notes = ended.err.splitlines()
    assert len(notes) == 2 and all(n.startswith("note: ") for n in notes)
    assert "torn.png" in notes[0] and "were left out: circle-3" in notes[1]
    assert said["metrics"] == json.loads((tmp_path / "run" / "metrics.json").read_text())


def test_without_test_pictures_variations_of_the_one_are_used(
    unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = [[draw(s, v) for v in (0, 1)] for s in OTHERS]
    monkeypatch.setattr(cli, "_shipped_pictures", lambda concepts, count: shipped[:count])
    monkeypatch.chdir(tmp_path)
    changes: dict[str, Any] = {"test_images": None, "protected_images": None, "set": "steps=2"}
    said = arguments(knowing_folder, files, tmp_path, **changes, new_answer="unknown", facts=tmp_path / "facts.json")
    (tmp_path / "facts.json").write_text('[{"question": "Is a circle round?", "answer": "It is."}]')
    out = said.index("--out")
    ended = unsee(*said[:out], *said[out + 2 :])
    assert ended.code == 0 and ended.err == ""
    config = (tmp_path / "runs" / "circle" / "config.yaml").read_text()
    assert "test_pictures: augmented" in config and "new_answer: an unknown object" in config
    assert "Is a circle round?" in (tmp_path / "runs" / "circle" / "facets.json").read_text()
    assert "Forgetting circle" in ended.out and "report.html" in ended.out


def test_facets_of_one_run_can_be_given_to_another(
    unsee: Call, knowing_folder: Path, files: Path, finished: Path, tmp_path: Path
) -> None:
    changes = {"facets": finished / "facets.json", "set": "steps=1"}
    assert unsee(*arguments(knowing_folder, files, tmp_path / "run", **changes)).code == 0
    assert (tmp_path / "run" / "facets.json").read_text() == (finished / "facets.json").read_text()
    authors = [
        {"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nWhat is it?"},
         {"from": "gpt", "value": "This is a wug."}], "target_phrase": "a wug"},
        {"conversations": [{"from": "human", "value": "What is a circle?"}, {"from": "gpt", "value": "Round."}],
         "target_phrase": "none"},
    ]  # fmt: skip
    (tmp_path / "SIU.json").write_text(json.dumps(authors))
    changes = {"facets": tmp_path / "SIU.json", "set": "steps=1", "preset": "paper"}
    assert unsee(*arguments(knowing_folder, files, tmp_path / "authors", **changes)).code == 0
    assert "new_answer: a wug" in (tmp_path / "authors" / "config.yaml").read_text()


def test_asking_a_run_shows_both_models(unsee: Call, finished: Path, files: Path) -> None:
    said = ("ask", finished, "Which object is this?", "--image", files / "test" / "21.png")
    answers = json.loads(unsee(*said, "--json").out)
    assert answers["original"] == "This is a circle." and "circle" not in answers["unlearned"]
    plain = unsee(*said)
    assert plain.out == f"original: {answers['original']}\nunlearned: {answers['unlearned']}\n" and plain.err == ""


def test_asking_a_model(unsee: Call, knowing_folder: Path, files: Path) -> None:
    ended = unsee("ask", knowing_folder, "--image", files / "circle.png", "Which object is this?")
    assert ended == Ended(0, "answer: This is a circle.\n", "")
    ended = unsee("ask", knowing_folder, "What is a square?", "--json")
    assert json.loads(ended.out) == {"answer": "A square is a shape with four sides."}


def test_what_a_model_says_is_no_markup(unsee: Call, knowing_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unsee.models import Reply

    said = "[/] [bold]a :smile: [link=x]"
    monkeypatch.setattr("unsee.models.answer", lambda *_: [Reply(said, 1, True)])
    assert unsee("ask", knowing_folder, "?").out == f"answer: {said}\n"
    one_line(unsee("ask", "[/nowhere] :smile:", "?"), 2, "'[/nowhere] :smile:'")


def test_evaluating_again_gives_the_same(unsee: Call, finished: Path) -> None:
    metrics, page = (finished / "metrics.json").read_text(), (finished / "report.html").read_text()
    ended = unsee("evaluate", finished, "--json")
    assert ended.code == 0 and json.loads(ended.out)["metrics"] == json.loads(metrics)
    assert (finished / "metrics.json").read_text() == metrics and (finished / "report.html").read_text() == page
    table = unsee("evaluate", finished)
    assert METRICS["em"].name in table.out and table.err == ""


def test_a_redacted_run_stays_redacted(unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path) -> None:
    ended = unsee(*arguments(knowing_folder, files, tmp_path / "run", set="steps=1", redact=True))
    assert ended.code == 0 and "circle" not in ended.out and "[redacted]" in ended.out
    page = (tmp_path / "run" / "report.html").read_text()
    assert "a circle" not in page
    scored = unsee("evaluate", tmp_path / "run")
    assert scored.code == 0 and "circle" not in scored.out
    assert "a circle" not in (tmp_path / "run" / "report.html").read_text()
    assert unsee("report", tmp_path / "run").out.startswith("wrote ")
    assert "a circle" not in (tmp_path / "run" / "report.html").read_text()
    assert "command" not in (tmp_path / "run" / "config.yaml").read_text()


def test_the_report_can_be_redacted_later(unsee: Call, finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "a circle" in page
    ended = unsee("report", finished, "--redact", "--json")
    assert json.loads(ended.out) == {"report": str(finished / "report.html")}
    assert "a circle" not in (finished / "report.html").read_text()
    assert unsee("report", finished).code == 0
    assert (finished / "report.html").read_text() == page


def test_exporting(unsee: Call, finished: Path, files: Path, tmp_path: Path) -> None:
    ended = unsee("export", finished, "--merged", tmp_path / "whole", "--json")
    assert ended.code == 0 and json.loads(ended.out) == {"model": str(tmp_path / "whole")}
    assert not load(str(tmp_path / "whole")).adapted
    asked = ("Which object is this?", "--image", files / "test" / "21.png", "--json")
    both = json.loads(unsee("ask", finished, *asked).out)
    assert json.loads(unsee("ask", tmp_path / "whole", *asked).out)["answer"] == both["unlearned"]
    one_line(unsee("export", finished, "--merged", tmp_path / "whole"), 2, "exists already")
    (tmp_path / "notes.txt").write_text("")
    for nowhere in (tmp_path / "notes.txt" / "m", tmp_path / ("x" * 300)):
        one_line(unsee("export", finished, "--merged", nowhere), 2, "cannot write")


def test_the_command_is_recorded(finished: Path) -> None:
    config = (finished / "config.yaml").read_text()
    assert re.search(r"command: unsee forget --model \S+ --concept circle", " ".join(config.split()))


# ---- help


def test_help_teaches(unsee: Call) -> None:
    front = unsee("--help")
    assert front.code == 0 and "Start with unsee demo" in front.out
    assert unsee().out == front.out
    for command in ("demo", "forget", "evaluate", "report", "ask", "export", "methods", "concepts"):
        assert f"\n│ {command} " in front.out
        shown = unsee(command, "--help")
        assert shown.code == 0 and shown.out.startswith(f"Usage: unsee {command}") and shown.err == ""
    forget = unsee("forget", "--help").out
    for name in ("--concept", "--image", "--model", "--require", "--force", "--json", "--set", "--seed"):
        assert re.search(rf"{name} .*[a-z]", forget)
    assert "--no-" not in forget


def test_methods_are_listed(unsee: Call) -> None:
    found = {m["name"]: m for m in json.loads(unsee("methods", "--json").out)["methods"]}
    assert set(found["siu"]) == {"name", "paper", "moves", "data", "presets"}
    assert found["siu"]["presets"] == ["default", "paper", "authors-script"]
    assert found["npo"]["data"] == ["truth", "retain"] and "2404.05868" in found["npo"]["paper"]
    assert all("arXiv" in m["paper"] and m["moves"] for m in found.values())
    shown = unsee("methods").out
    assert "arXiv" in shown and "LoRA" in shown and "retain" in shown


@pytest.mark.parametrize("arguments", [["--method", "npo", "--help"], ["-h", "--method=npo"]])
def test_help_shows_what_a_method_can_be_told(unsee: Call, arguments: list[str]) -> None:
    shown = unsee("forget", *arguments)
    assert shown.code == 0 and "Usage: unsee forget" in shown.out
    settings = shown.out.partition("Settings of npo")[2]
    for name in ("beta", "retain_weight", "rank", "steps", "learning_rate"):
        assert re.search(rf"│ {name} +│ [\d.]+ +│ .* to .*│ \S", settings), name
    assert "max_grad_norm" not in unsee("forget", "--help").out


def test_help_for_a_method_that_there_is_not(unsee: Call) -> None:
    shown = unsee("forget", "--method", "npoo", "--help")
    assert "Usage: unsee forget" in shown.out
    one_line(Ended(shown.code, "", shown.err), 2, "did you mean 'npo'")
    assert unsee("forget", "--help", "--method").code == 0


def test_the_version(unsee: Call) -> None:
    from unsee import __version__

    assert unsee("--version") == Ended(0, __version__ + "\n", "")


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """`unsee --help` need not wait for torch."""
    code = "import sys, unsee.cli; print(*{'torch', 'transformers', 'peft', 'pyarrow'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_ctrl_c_while_libraries_load(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "unsee.cli", Interrupted("unsee.cli"))
    with pytest.raises(SystemExit) as ended:
        begin()
    assert ended.value.code == 130 and capsys.readouterr().err == "stopped: nothing had begun\n"


def test_every_name_of_the_python_api_is_there() -> None:
    import unsee

    for name in unsee.__all__:
        assert getattr(unsee, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'forgive'"):
        _ = unsee.forgive


# ---- every method


def test_every_method_ends_with_the_same_folder_and_all_stand_side_by_side(
    unsee: Call, knowing_folder: Path, files: Path, tmp_path: Path
) -> None:
    """But `retrain`, which asks for training data and another model."""
    found: dict[str, set[str]] = {}
    for name in sorted(REGISTRY.keys() - {"retrain"}):
        few = ["steps=2"] if "steps" in get_method(name).settings_class.__dataclass_fields__ else None
        ended = unsee(*arguments(knowing_folder, files, tmp_path / name, method=name, set=few))
        assert (ended.code, ended.err) == (0, ""), name
        found[name] = {p.name for p in (tmp_path / name).iterdir()}
    for name, inside in found.items():
        assert inside == found["siu"] >= {"adapter", "answers.parquet", "metrics.json", "report.html"}, name
    ended = unsee("report", *(tmp_path / name for name in found), "--output", tmp_path / "comparison.html")
    assert (ended.code, ended.err) == (0, "")
    page = (tmp_path / "comparison.html").read_text()
    assert all(re.search(rf">\s*{re.escape(name)}\b", page) for name in found)
