"""Rows of ``hvg bench gpu`` in the order in which they matter, and how they are fitted into the time that there is."""

import gc
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hvg.bench.gpu.sizes import GpuJob


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row. seconds: that it takes on an H100 at full size, about, compilation and counting included. run: gives its figures.

    gpu_only: those of its figures that a CPU cannot give, each with the reason.
    """

    name: str
    what: str
    seconds: float
    run: Callable[[GpuJob], dict[str, Any]]
    gpu_only: tuple[str, ...] = ()


def results(
    tasks: Sequence[Task], job: GpuJob, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[dict[str, Any]]:
    """What each row gives, in order; a row for which the time that is left is too short is cut, and shorter ones behind it run.

    A row that needs more memory than there is says so; one that fails says why, and the others still run: the time of such a
    machine is short. seconds: for all.
    """
    began = clock()
    for task in tasks:
        left = seconds - (clock() - began)
        about = {"name": task.name, "what": task.what, "gpu_only": list(task.gpu_only)}
        if job.device.type == "cuda" and task.seconds > left:
            yield about | {
                "state": "cut",
                "why": f"takes about {task.seconds:.0f} s, and {max(0.0, left):.0f} s were left",
            }
            continue
        started = clock()
        outcome = _outcome(task, job)
        yield about | outcome | {"seconds": clock() - started}
        gc.collect()
        job.tidy()


def _outcome(task: Task, job: GpuJob) -> dict[str, Any]:
    try:
        return {"state": "measured", "figures": task.run(job)}
    except torch.OutOfMemoryError as error:
        return {"state": "does not fit", "why": str(error).splitlines()[0]}
    except Exception as error:
        return {"state": "failed", "why": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
