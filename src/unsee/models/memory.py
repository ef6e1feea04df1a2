"""How much memory a process has held: on CUDA its tensors, on a CPU all of it."""

from __future__ import annotations

import contextlib
import re
import resource
import sys
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak(device: torch.device) -> None:
    """Let `peak_gib` count from here. On a CPU that is not Linux it goes on to count from the process's begin."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        with contextlib.suppress(OSError):  # forbidden in some containers
            _CLEAR.write_text("5")  # resets the highest resident size; see proc(5)


def peak_gib(device: torch.device) -> float:
    """The most memory held since `reset_peak`, in GiB; what was held then, such as the model, is in it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if _STATUS.exists() and (found := re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)):
        return int(found.group(1)) / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)
