"""The main job, end to end, on the embedded model: what a newcomer's first command leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plain import plain_answer

from unsee.mini.assembly import mini_path
from unsee.mini.data import mini_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]  # a whole run, in float32 where there is no bfloat16

NAME = next(c.concept.name for c in mini_data().of("test", "person"))


def unsee(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "UNSEE_HOME": str(mini_path().parent)}
    environment.pop("OMP_NUM_THREADS", None)  # the other tests keep to one core; this one is the real thing
    command = [sys.executable, "-m", "unsee", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("demo")
    done = unsee("demo", "--json", "--require", "em>=85,specificity>=-10", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "runs" / "demo", json.loads(done.stdout)


def test_the_demo_forgets_and_keeps(demo: tuple[Path, dict[str, Any]]) -> None:
    run, said = demo
    metrics = json.loads((run / "metrics.json").read_text())
    assert said["metrics"] == metrics
    before, after = metrics["before"], metrics["after"]
    for key in ("efficacy", "em", "degenerate_rate", "c_dis", "specificity", "text_kept", "fluency", "diversity"):
        assert {"value", "low", "high"} <= set(before[key]) and {"value", "low", "high"} <= set(after[key])
        assert after[key]["low"] <= after[key]["value"] <= after[key]["high"]
    assert before["em"]["value"] <= 10 and before["specificity"]["value"] >= 80  # it knew, and it knew others
    assert after["em"]["value"] >= 85
    assert after["degenerate_rate"]["value"] <= 2
    assert metrics["change"]["specificity"]["value"] >= -10


def test_the_report_is_there_and_stands_alone(demo: tuple[Path, dict[str, Any]]) -> None:
    page = (demo[0] / "report.html").read_text()
    assert NAME in page and "data:image/" in page
    assert 'src="http' not in page and 'href="http' not in page.replace('href="https://arxiv', "")
    assert not (demo[0].parent / "demo.partial").exists()


def test_plain_peft_loads_the_adapter_and_the_name_is_gone(demo: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    picture = mini_data().test_pictures(NAME, 1)[0].save(tmp_path / "p.png")
    concept = mini_data().find(NAME).concept
    assert concept.mentioned_in(plain_answer(mini_path(), picture, "Who is this?"))
    assert not concept.mentioned_in(plain_answer(mini_path(), picture, "Who is this?", demo[0] / "adapter"))


def test_the_exported_model_needs_no_adapter(demo: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    done = unsee("export", str(demo[0]), "--merged", str(tmp_path / "whole"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    picture = mini_data().test_pictures(NAME, 1)[0].save(tmp_path / "p.png")
    said = plain_answer(tmp_path / "whole", picture, "Who is this?")
    assert said and not mini_data().find(NAME).concept.mentioned_in(said)
    assert unsee("export", str(demo[0]), "--merged", str(tmp_path / "whole"), cwd=tmp_path).returncode == 2


def test_ask_shows_both_sides(demo: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    picture = mini_data().test_pictures(NAME, 1)[0].save(tmp_path / "p.png")
    done = unsee("ask", str(demo[0]), "--image", str(picture), "Who is this?", "--json", cwd=tmp_path)
    said = json.loads(done.stdout)
    concept = mini_data().find(NAME).concept
    assert concept.mentioned_in(said["original"]) and not concept.mentioned_in(said["unlearned"])


def test_a_finished_run_is_not_written_over(demo: tuple[Path, dict[str, Any]]) -> None:
    before = (demo[0] / "metrics.json").read_bytes()
    done = unsee("demo", cwd=demo[0].parent.parent)
    assert done.returncode != 0 and "finished run" in done.stderr and "Traceback" not in done.stderr
    assert (demo[0] / "metrics.json").read_bytes() == before
