"""Runs: the folder a deletion request leaves behind, and what can be done with it."""

from unsee.report.read import read_config, read_finished
from unsee.runs.folder import RunFolder, refuse_existing
from unsee.runs.forgetting import Run, forget
from unsee.runs.using import evaluate, export_merged, is_run, open_model, open_run

__all__ = [
    "Run",
    "RunFolder",
    "evaluate",
    "export_merged",
    "forget",
    "is_run",
    "open_model",
    "open_run",
    "read_config",
    "read_finished",
    "refuse_existing",
]
