"""Row of ``hvg bench gpu``: attention over views at full size, and the two ways of attending to few tokens."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from hvg.bench.drawing import cameras_around
from hvg.bench.gpu.sizes import GpuJob
from hvg.bench.gpu.tasks import Task
from hvg.parts import registry
from hvg.parts.attention import fused_kernel, matrix_products
from hvg.values.grid import ViewGrid
from hvg.values.tensors import map_tensors

# Tokens to a group: the views of a window, of a clip, of HVG's first phase.
FEW = (6, 8, 16, 48)


def view_attention(job: GpuJob) -> dict[str, Any]:
    """Milliseconds of aligned and of full attention, forward, and forward and backward; and their TFLOP/s as declared."""
    views, side = job.size.attention
    width, heads, figures = job.size.width, job.size.heads, {}
    cameras = cameras_around(torch.arange(views) * (360.0 / views), side, torch.zeros(3))
    grid = ViewGrid.whole(map_tensors(cameras[None, :, None], lambda x: x.to(job.device)))
    for name in ("aligned_2d", "full_3d"):
        cls = registry.load("view_attention", name)
        module = cls(cls.Config(), width, heads).to(job.device)
        x = torch.rand(1, views, 1, side, side, width, device=job.device)
        flops = cls.flops(module.config, views, side, side, width)
        with job.arithmetic(job.fast == "bf16"):
            with torch.no_grad():
                forward = job.seconds(partial(module, x, grid))
            both = job.seconds(partial(_both, module, x, grid))
        figures |= {
            f"{name} forward, ms": 1e3 * forward,
            f"{name} forward, TFLOP/s": flops / forward / 1e12,
            f"{name} both passes, ms": 1e3 * both,
            f"{name} both passes, TFLOP/s": 3 * flops / both / 1e12,
        }
    return figures


def few_tokens(job: GpuJob) -> dict[str, Any]:
    """Milliseconds of both passes over all cells of groups of few tokens: as one batched product, and by the fused kernel."""
    _, side = job.size.attention
    width, heads, figures = job.size.width, job.size.heads, {}
    kind = torch.bfloat16 if job.fast == "bf16" else torch.float32
    for tokens in FEW:
        qkv = torch.rand(3, 1, tokens, side, side, heads, width // heads, device=job.device, dtype=kind)
        for name, attend in (("products", matrix_products), ("kernel", fused_kernel)):
            seconds = job.seconds(partial(_attended, attend, qkv.clone().requires_grad_()))
            figures[f"{tokens} tokens, {name}, ms"] = 1e3 * seconds
    return figures


def _both(module: torch.nn.Module, x: Tensor, grid: ViewGrid) -> None:
    x = x.detach().requires_grad_()
    out = module(x, grid)
    out.backward(x.detach())
    module.zero_grad(set_to_none=True)


def _attended(attend: Any, qkv: Tensor) -> None:
    out = attend(*qkv)
    torch.autograd.grad(out, qkv, out.detach())


def tasks() -> list[Task]:
    """Its rows."""
    return [
        Task(
            name="view_attention",
            what="attention over views of one moment, at the size of SVD's first level, bf16",
            seconds=20,
            run=view_attention,
            gpu_only=("what fused kernels reach",),
        ),
        Task(
            name="few tokens",
            what="attention among few tokens at every cell, bf16, both passes",
            seconds=30,
            run=few_tokens,
            gpu_only=("up to how many tokens products are faster (hvg/parts/attention.py)",),
        ),
    ]
