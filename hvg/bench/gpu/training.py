"""Rows of ``hvg bench gpu`` on training steps: images per second, utilisation, memory against its forecast."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from hvg.bench.gpu.sizes import GpuJob
from hvg.bench.gpu.tasks import Task
from hvg.core.required import required
from hvg.cost.forecast import divide

UTILISATION = (
    "utilisation: a share of the peak of a GPU's matrix units; of a CPU it is one of what its products reach here"
)


def base(job: GpuJob, **how: Any) -> dict[str, Any]:
    """Figures of a step: of one batch, blocks computed again in the backward pass, unless ``how`` says otherwise."""
    return step_figures(job, **{"clips": job.size.batches[0], "precision": job.fast, "checkpointing": "blocks", **how})


def step_figures(
    job: GpuJob, *, clips: int, precision: str, checkpointing: str, compiled: bool = False, channels_last: bool = False
) -> dict[str, Any]:
    """Seconds, images per second, TFLOP/s, utilisation and peak memory of a training step without its data."""
    batch, images = job.batch(job.size.training, clips), clips * job.size.training[0] * job.size.training[1]
    job.tidy()
    settings = {"checkpointing": checkpointing, "compile": "blocks" if compiled else "none"}
    with job.backbone(**settings), _layout(job, channels_last):
        step = job.step(precision)
        seconds = job.seconds(lambda: step(batch))
    flops = _flops(job) * clips / job.size.batches[0]
    tflops = flops / seconds / 1e12
    return {
        "seconds a step": seconds,
        "images/s": images / seconds,
        "TFLOP/s": tflops,
        "utilisation": tflops / job.peak.tflops if precision == job.fast else None,
        "memory, GB": _peak_memory(job),
    }


def _flops(job: GpuJob) -> int:
    """Model FLOPs of a step of the first batch size."""
    flops = job.counts.flops
    if flops is None:
        raise ValueError("the FLOPs of a step are counted at every size of this benchmark")
    return flops.model


def _peak_memory(job: GpuJob) -> float | None:
    """Most that was allocated since ``tidy``, GB; None on a CPU, whose allocator does not say."""
    return torch.cuda.max_memory_allocated(job.device) / 1e9 if job.device.type == "cuda" else None


@contextmanager
def _layout(job: GpuJob, channels_last: bool) -> Iterator[None]:
    """The backbone's two-dimensional convolutions with channels last in memory, inside."""

    def lay(form: torch.memory_format) -> None:
        for module in job.system.backbone.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data = module.weight.data.contiguous(memory_format=form)

    if channels_last:
        lay(torch.channels_last)
    try:
        yield
    finally:
        lay(torch.contiguous_format)


def memory(job: GpuJob) -> dict[str, Any]:
    """Peak memory of a step as forecast, and as it was: of a GPU its allocator's, of a CPU that of all tensors alive."""
    forecast = divide(job.counts, job.config, 1).total
    batch = job.batch(job.size.training, job.size.batches[0])
    checkpointing = getattr(job.config.backbone.config, "checkpointing", "none")
    job.tidy()
    with job.backbone(checkpointing=checkpointing):
        if job.device.type == "cuda":
            for _ in range(2):
                job.step()(batch)
            job.wait()
            found = torch.cuda.max_memory_allocated(job.device)
        else:
            found = job.alive(batch)
    if forecast is None:
        raise ValueError("the memory of a step is forecast at every size of this benchmark")
    return {"forecast, GB": forecast / 1e9, "found, GB": found / 1e9, "found / forecast": found / forecast}


def encoding(job: GpuJob) -> dict[str, Any]:
    """The codec's encoder, which training without cached latents runs at each step."""
    batch = job.batch(job.size.training, latents=False)
    frames, images = required(batch.frames, "frames"), job.size.training[0] * job.size.training[1]
    with torch.no_grad(), job.arithmetic(job.fast == "bf16"):
        seconds = job.seconds(lambda: job.system.codec.encode(frames))
    return {"seconds a step": seconds, "images/s": images / seconds}


def tasks(batches: tuple[int, ...]) -> dict[str, Task]:
    """Rows by name."""
    one = "bf16, blocks computed again, one process"
    found = [
        Task(
            name="training",
            what=f"a training step of {batches[0]} clip(s), {one}",
            seconds=70,
            run=base,
            gpu_only=(UTILISATION, "memory: a CPU's allocator does not say"),
        ),
        Task(
            name="memory",
            what="peak memory of that step against `hvg check`'s forecast; on a CPU by the tensors that are alive",
            seconds=20,
            run=memory,
            gpu_only=("gaps of the allocator, which a forecast leaves out",),
        ),
        Task(
            name="compile",
            what="the same, blocks compiled",
            seconds=150,
            run=partial(base, compiled=True),
            gpu_only=(UTILISATION,),
        ),
        Task(
            name="channels_last",
            what="the same, convolutions with channels last",
            seconds=15,
            run=partial(base, channels_last=True),
            gpu_only=("whether its convolutions are faster so",),
        ),
        Task(
            name="checkpointing none",
            what="the same, nothing computed again",
            seconds=15,
            run=partial(base, checkpointing="none"),
            gpu_only=("whether it fits",),
        ),
        Task(
            name="float32",
            what="the same, float32",
            seconds=20,
            run=partial(base, precision="32"),
            gpu_only=("what bf16 gains",),
        ),
        Task(
            name="encoding",
            what="encoding a step's frames, in bf16",
            seconds=12,
            run=encoding,
            gpu_only=("what cached latents gain",),
        ),
    ]
    for clips in batches[1:]:
        found.append(
            Task(
                name=f"batch {clips}",
                what=f"the same, {clips} clips",
                seconds=12 * clips,
                run=partial(base, clips=clips),
                gpu_only=(UTILISATION, "whether it fits"),
            )
        )
    return {task.name: task for task in found}
