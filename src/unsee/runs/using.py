"""Using what a run left: open its model, score it again, export it for deployment."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from unsee import report
from unsee.errors import RunFolderError, UnseeError
from unsee.files import whole
from unsee.metrics import read_answers, summarise_run
from unsee.mini.assembly import Progress as AssemblyProgress
from unsee.mini.assembly import mini_path
from unsee.models import MINI, VisionLanguageModel, fitting_dtype, load
from unsee.models.lora import load_adapter, merged
from unsee.report.read import read_finished
from unsee.runs.folder import write_text

EMBEDDED = "unsee-mini"
"""How reports call the embedded model."""


def open_model(
    name: str, device: str = "cpu", dtype: torch.dtype | None = None, progress: AssemblyProgress | None = None
) -> VisionLanguageModel:
    """A model by name: "mini" for the embedded one (assembled on first use), a folder, or a hub name.

    Args:
        name: of the model.
        device: where it is put.
        dtype: of its weights; None: what is fast on the device, `unsee.models.fitting_dtype`.
        progress: told of the assembly of the embedded one.
    """
    if name == MINI:
        vlm = load(str(mini_path(progress)), device, dtype)
        vlm.name = EMBEDDED
        return vlm
    return load(name, device, dtype)


def open_run(run: Path, device: str = "cpu", progress: AssemblyProgress | None = None) -> VisionLanguageModel:
    """The model of a run, its adapter on; `original()` switches it off.

    It is in the precision it was made with, but for bfloat16 where the processor cannot: there the same weights are
    computed with in float32.

    Raises:
        RunFolderError: not a finished run, or its model is not the one it was made with.
    """
    vlm = _as_made(run, device, progress)
    if vlm.base.dtype == torch.bfloat16 and fitting_dtype(device) == torch.float32:
        vlm.model.float()
    return vlm


def _as_made(run: Path, device: str, progress: AssemblyProgress | None) -> VisionLanguageModel:
    run = Path(run)
    config = read_finished(run)
    said = config["model"]
    # A user's own folder may be called so; that of the embedded model has a version behind its name.
    embedded = said["name"] == EMBEDDED and Path(said["path"] or "").name != EMBEDDED
    name = MINI if embedded else said["path"]
    if name is None:
        raise RunFolderError(f"{run} was made with a model that was in memory only: {said['name']}")
    vlm = open_model(name, device, getattr(torch, said.get("dtype", "bfloat16")), progress)
    if vlm.weights_sha256() != said["sha256"]:
        raise RunFolderError(f"{run} was made with other weights of {said['name']} than are there now")
    load_adapter(vlm, run / "adapter")
    return vlm


def evaluate(run: Path) -> dict[str, Any]:
    """Score a finished run again from its recorded answers, and write its `metrics.json` and report anew.

    Returns:
        The scores, as `metrics.json` has them.

    Raises:
        RunFolderError: not a finished run, or a file in it is damaged.
    """
    run = Path(run)
    config = read_finished(run)
    metrics = summarise_run(read_answers(run / "answers.parquet"), seed=config["seed"])
    write_text(run / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    report.write(run)
    return metrics


def is_run(path: str) -> bool:
    return (Path(path) / "config.yaml").is_file()


def export_merged(run: Path, folder: Path, progress: AssemblyProgress | None = None) -> Path:
    """Write the unlearned model as one ordinary folder, the adapter folded in.

    An adapter can be taken off again; merged weights cannot. The folder is complete or not there at all.

    Raises:
        UnseeError: the folder exists, or cannot be written there.
        RunFolderError: as `open_run`.
        OSError: the disk is full.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise UnseeError(f"{folder} exists already; choose another folder")
    with contextlib.ExitStack() as stack:
        try:  # before a model is opened for it
            folder.parent.mkdir(parents=True, exist_ok=True)
            written = stack.enter_context(whole(folder))
            written.mkdir()
        except OSError as error:
            raise UnseeError(f"cannot write {folder}: {error.strerror}") from None
        vlm = merged(_as_made(run, "cpu", progress))
        vlm.model.save_pretrained(written)
        vlm.processor.save_pretrained(written)
    return folder
