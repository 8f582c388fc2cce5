"""The one engine that turns noise into clean latents: a sampler's windows, a solver's steps, a guidance schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from hvg.errors import HvgError
from hvg.protocols import Guidance, Sampler, Solver
from hvg.types import Window

# denoise(x, sigma, windows, scale) -> x0. For n windows of one shape and B clips, x and x0 are (n B, v, t, C, h, w) and
# scale, the guidance scale, is (n B, v, t). Rows i B to (i + 1) B belong to windows[i].
Denoise = Callable[[Tensor, float, Sequence[Window], Tensor], Tensor]


@torch.no_grad()
def sample(
    denoise: Denoise,
    noise: Tensor,
    sigmas: Tensor,
    sampler: Sampler,
    solver: Solver,
    guidance: Guidance,
    progress: Callable[[int, int], None] | None = None,
    *,
    windows_per_call: int | None = None,
) -> Tensor:
    """Clean latents (B, V, t, C, h, w).

    noise: (B, V, t, C, h, w), unit variance. sigmas: (S + 1), decreasing, the last one 0. windows_per_call: at most so
    many windows are denoised together, None for all of one shape. progress: called as ``progress(steps done, S)``.
    Raises: HvgError when the windows of a step leave a part of the grid out.
    """
    levels = [float(sigma) for sigma in sigmas]
    num_steps, (views, frames) = len(levels) - 1, noise.shape[1:3]
    x, state = noise * levels[0], {}
    for step in range(num_steps):
        windows = sampler.windows(step, num_steps, views, frames)

        def denoise_grid(x: Tensor, sigma: float, windows: Sequence[Window] = windows) -> Tensor:
            scale = guidance.scale(views, frames, sigma).to(x)
            return denoise_windows(denoise, x, sigma, windows, scale, windows_per_call)

        sigma, sigma_next = levels[step], levels[step + 1]
        x = solver.step(x, denoise_grid(x, sigma), sigma, sigma_next, denoise_grid, state)
        if progress is not None:
            progress(step + 1, num_steps)
    return x


def denoise_windows(
    denoise: Denoise,
    x: Tensor,
    sigma: float,
    windows: Sequence[Window],
    scale: Tensor,
    windows_per_call: int | None = None,
) -> Tensor:
    """x0 of the whole grid: every window's estimate, blended by the normalised weights. scale: (V, t)."""
    blended, clips = torch.zeros_like(x), x.shape[0]
    weights = normalised_weights(windows, x.shape[1], x.shape[2])
    for batch in _batches(range(len(windows)), windows, windows_per_call):
        parts = [_cells(windows[i]) for i in batch]
        stacked = torch.cat([x[:, v, t] for v, t in parts])
        scales = torch.stack([scale[v, t] for v, t in parts]).repeat_interleave(clips, dim=0)
        x0 = denoise(stacked, sigma, [windows[i] for i in batch], scales)
        for i, (v, t), part in zip(batch, parts, x0.split(clips), strict=True):
            blended[:, v, t] += weights[i].to(x)[..., None, None, None] * part
    return blended


def normalised_weights(windows: Sequence[Window], views: int, frames: int) -> list[Tensor]:
    """Each window's weights (v, t), scaled so that over all windows they sum to 1 in every cell of the V x t grid.

    Raises: HvgError when a cell is in no window.
    """
    total = torch.zeros(views, frames)
    for window in windows:
        total[_cells(window)] += window.weights
    if (total <= 0).any():
        missing = [tuple(cell) for cell in (total <= 0).nonzero().tolist()]
        raise HvgError(f"the sampler's windows leave out (view, frame) {missing[:5]} of a {views} x {frames} grid")
    return [window.weights / total[_cells(window)] for window in windows]


def classifier_free_guidance(conditional: Tensor, unconditional: Tensor, scale: Tensor) -> Tensor:
    """Guided estimate, (B, V, t, C, h, w); scale (V, t) or (B, V, t). Source: arXiv 2207.12598."""
    return unconditional + scale.to(conditional)[..., None, None, None] * (conditional - unconditional)


def _cells(window: Window) -> tuple[Tensor, Tensor]:
    """Indices that pick the window from two neighbouring axes (views, frames)."""
    return torch.tensor(window.views)[:, None], torch.tensor(window.frames)[None]


def _batches(order: Sequence[int], windows: Sequence[Window], limit: int | None) -> list[list[int]]:
    """Numbers of windows of one shape, at most ``limit`` together."""

    def shape(i: int) -> tuple[int, int]:
        return len(windows[i].views), len(windows[i].frames)

    same = [list(group) for _, group in groupby(sorted(order, key=shape), key=shape)]
    return [group[i : i + (limit or len(group))] for group in same for i in range(0, len(group), limit or len(group))]
