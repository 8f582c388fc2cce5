"""Row of ``hvg bench gpu``: where the time of a training step goes, by kind of kernel, from torch's profiler."""

import time
from collections import Counter
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from hvg.bench.gpu.sizes import GpuJob
from hvg.bench.gpu.tasks import Task

# A kernel is of the first kind one of whose words is in its name; a CPU's operations have names alike.
KINDS: dict[str, tuple[str, ...]] = {
    "attention": ("flash", "fmha", "attention", "sdpa", "mem_eff"),
    "optimiser and averages": ("adam", "multi_tensor", "lerp", "_foreach", "l2norm", "clip"),
    "norms": ("norm", "welford", "rowwisemoments"),
    "convolutions": ("conv", "cudnn", "wgrad", "dgrad", "fprop", "implicit_gemm"),
    "matrix products": ("gemm", "cutlass", "nvjet", "cublas", "bmm", "addmm", "mm", "linear", "dot"),
    "copies": ("copy", "memcpy", "memset", "cat", "transpose", "contiguous", "fill", "zero"),
    "point by point": (
        "elementwise",
        "vectorized",
        "reduce",
        "triton",
        "softmax",
        "gelu",
        "silu",
        "add",
        "mul",
        "sub",
        "div",
    ),
}
OTHER = "other"


def kind_of(name: str) -> str:
    """Kind of a kernel, or of an operation of a CPU, by its name."""
    lower = name.lower()
    return next((kind for kind, words in KINDS.items() if any(word in lower for word in words)), OTHER)


def kernels(job: GpuJob) -> dict[str, Any]:
    """Shares of the device's busy time by kind, that busy time, and its share of the time on the wall."""
    step, batch = job.step(), job.batch(job.size.training, job.size.batches[0])
    with job.backbone(checkpointing="blocks"):
        for _ in range(2):
            step(batch)
        job.wait()
        on_gpu = job.device.type == "cuda"
        with profile(activities=[ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]) as found:
            started = time.perf_counter()
            step(batch)
            job.wait()
            wall = time.perf_counter() - started
    spent: Counter[str] = Counter()
    for event in found.events() or ():
        if on_gpu and event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False):
            spent[kind_of(event.name)] += event.time_range.elapsed_us()
        if not on_gpu:
            spent[kind_of(event.name)] += event.self_cpu_time_total
    busy = sum(spent.values())
    if not busy:
        raise RuntimeError("the profiler saw no kernel")
    shares = {kind: spent[kind] / busy for kind in [*KINDS, OTHER]}
    return {**shares, "busy, ms": busy / 1e3, "busy, of the time on the wall": busy / 1e6 / wall}


def task() -> Task:
    """Its row."""
    return Task(
        name="kernels",
        what="time of kernels in a training step, by kind",
        seconds=15,
        run=kernels,
        gpu_only=("kernels are a GPU's; of a CPU its operations", "idle time between kernels"),
    )
