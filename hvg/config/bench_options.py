"""Options of ``hvg bench peers``, ``gpu`` and ``scale``: typed, documented, and read without importing what does the work."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from hvg.config.section import Section
from hvg.core.bounds import Count, ProcessCount


def _as_words(given: Any) -> Any:
    return tuple(filter(None, given.split(","))) if isinstance(given, str) else given


# GPUs of a job.
RankCount = Annotated[int, Field(ge=1, le=65_536)]
# One or several, as a list or with commas.
Words = Annotated[tuple[str, ...], BeforeValidator(_as_words)]


class PeersOptions(Section):
    """Options of ``hvg bench peers``."""

    rows: Words = Field(
        (), description="Which groups of rows: unet, sampling, training, maps, shards, ssim, lpips, fvd; none: all."
    )
    threads: ProcessCount = Field(1, description="Threads of both sides.")
    precision: Literal["32", "bf16"] = Field("32", description="Arithmetic of both sides: float32, or bf16 autocast.")
    pairs: int = Field(11, ge=5, le=1000, description="Runs of each side, at most; they take turns.")
    seconds: float = Field(
        15.0, gt=0, le=3600, description="Seconds of a row, after which no more than 5 pairs are taken."
    )
    out: Path = Field(Path("bench_peers"), description="Folder that takes peers.json and peers.md, a table for a page.")
    recorded: Path | None = Field(
        None, description="A peers.json of another machine, for rows that cannot be measured here."
    )
    overwrite: bool = Field(False, description="Replace what an earlier one measured.")


class GpuBenchOptions(Section):
    """Options of ``hvg bench gpu``."""

    minutes: float = Field(
        8.0,
        gt=0,
        le=600,
        description="Time for all rows: those for which too little is left are cut, the last ones first, and said to be.",
    )
    size: Literal["auto", "whole", "tiny"] = Field(
        "auto",
        description="whole: HVG's, on SVD-xt with random weights. tiny: the same rows in seconds. auto: whole on a GPU.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one.")
    out: Path = Field(Path("bench_gpu"), description="Folder that takes gpu.json and gpu.html.")
    overwrite: bool = Field(False, description="Replace what an earlier one measured.")


class ScaleOptions(Section):
    """Options of ``hvg bench scale``, besides overrides."""

    gpus: RankCount = Field(8, description="GPUs at which views, frames, pixels and parameters grow.")
    batch: Count = Field(
        64, description="Clips of a step that all GPUs share, where the batch does not grow with them."
    )
    tflops: float = Field(
        989.0, gt=0, le=1e6, description="Peak of a GPU in the arithmetic of training, TFLOP/s: H100's."
    )
    utilisation: float = Field(0.4, gt=0, le=1, description="Share of that which a step reaches by itself.")
    memory: float = Field(80.0, gt=0, le=1e6, description="Memory of a GPU in GB, 10^9 bytes.")
    per_node: ProcessCount = Field(8, description="GPUs of a machine.")
    inside: float = Field(
        450.0, gt=0, le=1e6, description="GB/s at which a GPU sends to one of its machine: NVLink's of an H100."
    )
    between: float = Field(
        50.0, gt=0, le=1e6, description="GB/s at which a GPU sends to another machine: a 400 Gbit/s adapter for each."
    )
    latency: float = Field(10.0, ge=0, le=1e6, description="Microseconds of a hop of a collective.")
    measure: Literal["all", "steps", "none"] = Field(
        "all",
        description="What of it is measured here, at scale=cpu and the same other words: steps along each axis (steps), and what "
        "ranks of a few send, on shapes (all).",
    )
    out: Path = Field(Path("bench_scale"), description="Folder that takes scale.json and scale.html.")
    overwrite: bool = Field(False, description="Replace what an earlier one counted.")
