"""Row of ``hvg bench gpu``: the time of a long video of many views, worked out from that of its windows, and of its decoding."""

from typing import Any

import torch

from hvg.bench.gpu.sizes import GpuJob
from hvg.bench.gpu.tasks import Task
from hvg.bench.job import Grid
from hvg.cost.passes import sampling_calls


def sampling(job: GpuJob, bf16: bool = True) -> dict[str, Any]:
    """Minutes of the whole video: calls of every form of window times their measured seconds, and decoding frame by frame."""
    views, frames = job.size.sampled
    calls = sampling_calls(job.config, views, frames)
    spent, figures = 0.0, dict[str, float]({"calls of the denoiser": sum(calls.values())})
    for (v, t, shrink), times in sorted(calls.items()):
        if shrink != 1:
            raise ValueError("this benchmark's sampler keeps the size of the pictures")
        seconds = _window(job, (v, t), bf16)
        figures[f"{v} views x {t} frames, s a call"] = seconds
        spent += times * seconds
    chunk, decoding = _decoding(job, bf16)
    decoded = views * frames * decoding / chunk
    figures |= {
        "decoding, s a frame": decoding / chunk,
        "denoising, min": spent / 60,
        "decoding, min": decoded / 60,
        f"{frames} frames x {views} views, min": (spent + decoded) / 60,
    }
    return figures


@torch.no_grad()
def _window(job: GpuJob, grid: Grid, bf16: bool) -> float:
    """Seconds of one call of the denoiser for a window, whose conditioning is made before."""
    system, batch = job.system.eval(), job.batch(grid)
    latents = batch.latents
    if latents is None:
        raise ValueError("a clip of the benchmark carries latents")
    with job.arithmetic(bf16 and job.fast == "bf16"):
        conditioning = system.condition(batch)
        level = latents.new_full((*latents.shape[:3], 1, 1, 1), 1.0)
        return job.seconds(lambda: system.denoise(latents, level, conditioning, *system.places(batch)))


@torch.no_grad()
def _decoding(job: GpuJob, bf16: bool) -> tuple[int, float]:
    """How many frames are decoded at once, and the seconds that it takes."""
    codec = job.system.codec
    chunk = min(codec.decode_chunk, job.size.sampled[1])
    latents = job.batch((1, chunk)).latents
    if latents is None:
        raise ValueError("a clip of the benchmark carries latents")
    with job.arithmetic(bf16 and job.fast == "bf16"):
        return chunk, job.seconds(lambda: codec.decode(latents))


def tasks(size: Grid) -> list[Task]:
    """Its rows, in bf16, and in float32 as `hvg sample` computes."""
    views, frames = size
    only = ("minutes of this video on such a card",)
    about = f"{frames} frames x {views} views, progressive, worked out from timed windows, with the codec's decoder"
    return [
        Task(name="sampling bf16", what=f"{about}; bf16 autocast", seconds=45, run=sampling, gpu_only=only),
        Task(
            name="sampling float32",
            what=f"{about}; float32, as `hvg sample` computes",
            seconds=90,
            run=lambda job: sampling(job, bf16=False),
            gpu_only=only,
        ),
    ]
