"""The commands as tests call them, and what a refusal looks like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import Ended

from unsee import cli


def as_a_process(*arguments: object) -> Ended:
    """The command, in a process of its own, as a user calls it."""
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, "-m", "unsee", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return Ended(done.returncode, done.stdout, done.stderr)


def arguments(folder: Path, files: Path, out: Path, **changes: object) -> list[object]:
    """`unsee forget` as a user would type it; a change to None leaves the option out."""
    options: dict[str, object] = {
        "model": folder,
        "concept": "circle",
        "image": files / "circle.png",
        "test-images": files / "test",
        "protected-images": files / "others",
        "out": out,
        "set": ["steps=24", "learning_rate=3e-3", "upper_layers=1", "decay=0", "forget_per_step=0"],
    } | {k.replace("_", "-"): v for k, v in changes.items()}
    said: list[object] = ["forget"]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            if one is True:
                said.append(f"--{name}")
            elif one is not None:
                said += [f"--{name}", one]
    return said


def one_line(ended: Ended, code: int, *words: str) -> None:
    """One clear line on stderr, nothing on stdout, a non-zero exit, no traceback."""
    assert ended.code == code, ended
    assert ended.out == ""
    assert ended.err.count("\n") == 1 and ended.err.startswith("error: "), ended.err
    for word in words:
        assert word in ended.err
