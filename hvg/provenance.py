"""Where a result comes from: versions, commit, hardware, command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "lightning", "diffusers", "hydra-core", "torchmetrics", "anny", "warp-lang", "numpy")


def collect(seed: int | None = None) -> dict[str, Any]:
    """A JSON-ready record of what produces a run."""
    return {
        "hvg": _version("hvg"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": git_commit(),
        "command": command(),
        "hardware": hardware(),
        "seed": seed,
    }


def command() -> str:
    """The command line, as a user would type it."""
    return " ".join(["hvg", *sys.argv[1:]])


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def git_commit() -> str:
    """The commit of the source tree, with ``+changes`` where it has uncommitted ones; "unknown" outside git."""
    root = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--porcelain").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def hardware() -> str:
    """Processor, cores this process may use, memory, and accelerators."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    capability = torch.backends.cpu.get_cpu_capability()
    return ", ".join([f"{_processor()} ({capability})", f"{usable_cores()} cores", f"{memory:.0f} GiB memory", *gpus])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
