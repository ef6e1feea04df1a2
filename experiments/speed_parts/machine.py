"""The machine and the code on it: what they are, how fast matrices are multiplied, how much memory a process took."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from unsee.models.memory import peak_gib

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16")
"""What decides how fast a CPU multiplies matrices."""


def described(device: str) -> dict[str, Any]:
    """Processor, flags, threads and versions: measurements of different machines are never mixed."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    said = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = said.get("flags", "").split()
    return {
        "processor": said.get("model name", platform.processor()),
        "flags": [f for f in FLAGS if f in flags],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device.startswith("cuda") else None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "peft")},
    }


def revision() -> str:
    """The commit the code is of, with "-dirty" where files are changed since; "unknown" outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def load() -> float:
    """How many processes wanted to run in the last minute: above the number of threads, times are not to be trusted."""
    return os.getloadavg()[0]


def resident_gib(device: torch.device) -> float:
    """Memory the process holds now (on CUDA: tensors on the device)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**30
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return peak_gib(device)
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30


def matmul_peak(dtype: torch.dtype, size: int, device: torch.device, seconds: float = 2.0) -> float:
    """FLOP/s of a square matrix product; the median over as many as fit into the time, and at least five."""
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    rates: list[float] = []
    a @ b
    end = time.perf_counter() + seconds
    while len(rates) < 5 or time.perf_counter() < end:
        if device.type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        rates.append(2 * size**3 / (time.perf_counter() - begin))
    return statistics.median(rates)
