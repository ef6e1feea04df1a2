"""The run folder: begun apart as `NAME.partial`, gone on with after an interruption, given its name when complete."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from unsee import __version__
from unsee.data import Picture
from unsee.errors import RunFolderError
from unsee.files import whole
from unsee.report.read import FORMAT, read_config

FACETS = "facets.json"
BEFORE, CHECKPOINTS = "before.parquet", "checkpoints"
"""What only an interrupted run needs: the original's answers, and the state of the training."""
_LOCK = ".lock"
_NOT_CONFIG = ("created", "versions", "command", "redact", "config_sha256", "new_answer", "left_out")
"""Entries of config.yaml that say when, with what and what came of it, not what is to be done."""


class RunFolder:
    """A run on disk. `path` is where it will lie when finished, `work` where it lies until then.

    Raises:
        RunFolderError: the path holds a finished run, something else, or an unfinished run of another config.
    """

    def __init__(self, path: Path, config: dict[str, Any]):
        self.path = Path(path)
        refuse_existing(self.path)
        self.work = self.path.with_name(self.path.name + ".partial")
        self.config = _plain({"format": FORMAT, **config})
        self.config["config_sha256"] = config_sha256(self.config)
        self._redact = bool(config.get("redact"))
        self.resumed = self._begin()

    def _begin(self) -> bool:
        """Make the folder, or find what an interrupted run of the same config has left in it; whether that was there.

        Nothing that is there is changed: another process may be writing it.
        """
        if (self.work / "config.yaml").exists():
            found = read_config(self.work)
            if found.get("config_sha256") != self.config["config_sha256"]:
                raise RunFolderError(
                    f"{self.work} holds an unfinished run with another config (it differs in: "
                    f"{', '.join(_differences(found, self.config)) or 'its format'}); "
                    "repeat that command to finish it, choose another --out, or remove the folder"
                )
            self.config = found
            return True
        if self.work.exists() and any(not p.name.startswith((".config.yaml.", _LOCK)) for p in self.work.iterdir()):
            raise RunFolderError(f"{self.work} is in the way and is not an unfinished run; remove it first")
        _make(self.work)
        self.note(created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), versions=versions())
        return False

    def _keep_out(self) -> None:
        """Whichever call asked that the concept be kept out, all do: a page written open cannot be called back."""
        if self._redact and not self.config.get("redact"):
            self.config.pop("command", None)
            shutil.rmtree(self.work / "pictures", ignore_errors=True)
            self.note(redact=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Work in the folder that no other process may do beside this one: it would take what this one is writing for
        what an interrupted run has left.

        Raises:
            RunFolderError: another process works in it.
        """
        lock = FileLock(self.work / _LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise RunFolderError(
                f"another process is writing {self.work}; wait for it, or choose another --out"
            ) from None
        try:
            if self.path.exists() and not self.has("config.yaml"):  # another process has finished it since
                shutil.rmtree(self.work)  # all there is in it is the lock
            refuse_existing(self.path)
            self._begin()
            self._keep_out()
            yield
        finally:
            lock.release()

    def note(self, **more: Any) -> None:
        """Write down in config.yaml what is known by now; only entries that do not make another config."""
        assert set(more) <= set(_NOT_CONFIG)
        self.config |= _plain(more)
        write_text(self.work / "config.yaml", yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True))

    def has(self, name: str) -> bool:
        return (self.work / name).exists()

    def write_json(self, name: str, value: Any) -> None:
        write_text(self.work / name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def keep_pictures(self, pictures: Sequence[Picture]) -> None:
        """Small copies of pictures for the report, named by hash."""
        folder = self.work / "pictures"
        _make(folder)
        for picture in pictures:
            target = folder / f"{picture.sha256[:16]}.png"
            if not target.exists():
                small = picture.image.copy()
                small.thumbnail((512, 512))
                with whole(target) as temporary:
                    small.save(temporary, "PNG")

    def discard(self) -> None:
        """Remove what was begun: nothing in it is worth going on with."""
        shutil.rmtree(self.work)

    def finish(self) -> Path:
        """Drop what only a resumed run needs, and give the folder its name."""
        (self.work / BEFORE).unlink(missing_ok=True)
        shutil.rmtree(self.work / CHECKPOINTS, ignore_errors=True)
        for left in [*self.work.rglob(".*")]:  # half-written files of an interrupted process
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        self.work.replace(self.path)
        return self.path


def refuse_existing(path: Path) -> None:
    """An error where a run folder shall be written and something is there already, or nothing can be.

    Raises:
        RunFolderError: says whether it is a finished run.
    """
    if path.name.endswith(".partial"):
        raise RunFolderError(f"{path}: an unfinished run is called so; to go on with it, give --out {path.stem}")
    if os.path.lexists(path):
        what = "a finished run" if (path / "config.yaml").is_file() else "something that is not a run"
        raise RunFolderError(f"{path} holds {what}; choose another --out, or remove it first")
    try:
        os.stat(path.with_name(path.name + ".partial"))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise RunFolderError(f"cannot write the run to {path}: {error.strerror}") from None


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Where two configs differ, as `settings.steps`."""
    names = []
    for key in sorted({*found, *wanted} - {*_NOT_CONFIG}):
        old, new = found.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            names += [f"{key}.{k}" for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
        elif old != new:
            names.append(key)
    return names


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot make the folder {folder}: {error.strerror}") from None


def _plain(value: Any) -> Any:
    """What YAML gives back for it: tuples become lists."""
    return json.loads(json.dumps(value))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def config_sha256(config: dict[str, Any]) -> str:
    """Hash of what a run is to do; when, by which command and with which versions is left out."""
    said = {k: v for k, v in config.items() if k not in _NOT_CONFIG}
    return hashlib.sha256(json.dumps(_plain(said), sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """What a run was made with."""
    others = {name: version(name) for name in ("torch", "transformers", "peft")}
    return {"unsee": __version__, **others, "python": platform.python_version()}


def describe_pictures(pictures: Sequence[Picture], **more: Any) -> list[dict[str, Any]]:
    return [{"name": p.name, "sha256": p.sha256, "width": p.width, "height": p.height, **more} for p in pictures]
