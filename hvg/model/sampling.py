"""The one engine that turns noise into clean latents: a sampler's windows, a solver's steps, a guidance schedule."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby

import torch
from torch import Tensor, distributed

from hvg.core.errors import HvgError
from hvg.core.ranks import rank_and_world
from hvg.core.required import required
from hvg.model.planned_steps import PlannedStep, nearness_of_views, planned_steps, scales_of_cells
from hvg.parts.plan import Guidance, GuidedClips, Level, Sampler, Solver, Stage
from hvg.parts.refiner import Refined, RefinedStep
from hvg.values.grid import Window, as_slice
from hvg.values.known import Known

# denoise(x, sigma, windows, scales) -> x0. For n windows of one shape and B clips, x and x0 are (n B, v, t, C, h, w), sigma is a
# number or (n B, v, t, 1, 1, 1), and scales, those of the guidance's N branches, are (N, n B, v, t). Rows i B to (i + 1) B belong
# to windows[i], whose frames are the video's.
Denoise = Callable[[Tensor, Level, Sequence[Window], Tensor], Tensor]


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
    clips: GuidedClips | None = None,
    step_noise: Callable[[int], Tensor] | None = None,
    resize: Callable[[Tensor, tuple[int, int]], Tensor] | None = None,
    share: bool = False,
    known: Known | None = None,
    refined: Refined | None = None,
    begin: Callable[[], None] = lambda: None,
) -> Tensor:
    """Clean latents (B, V, t, C, h, w).

    noise: (B, V, t, C, h, w), unit variance. sigmas: (S + 1), decreasing, the last one 0. windows_per_call: at most so
    many windows are denoised together, None for all of one shape. progress: called as ``progress(steps done, steps)``.
    clips: what the guidance is told of them; None: nothing but their shape. step_noise: ``step_noise(step)`` is fresh noise
    like ``noise``, for stochastic solvers. resize: latents at another (h, w), for plans that begin with a smaller picture.
    share: the ranks of torch.distributed each denoise some of the windows, and all return the whole; with
    ``windows_per_call=1`` the result is that of one process to the last bit. known: cells that are clean and stay.
    refined: frames of another model, at which sampling begins, and how they are held. begin: called before the grid is denoised,
    as often in a step as its solver asks for that.
    Raises: HvgError when the windows of a step leave a part of the grid out.
    """
    count, views, frames = noise.shape[:3]
    guided = clips or GuidedClips(grid=(count, views, frames))
    given = torch.zeros(views, frames, dtype=torch.bool) if known is None else known.cells
    steps = planned_steps(sampler, [float(sigma) for sigma in sigmas], frames, given, nearness_of_views(guided))
    _check_shrinks((step.stage for step in steps), noise)

    def noisy(clean: Tensor | float, step: PlannedStep) -> Tensor:
        x = clean + step.level * _on_stage(noise, step.stage)
        return x if known is None else _known_on_stage(known, step.stage, resize).laid_over(x)

    @cache
    def refined_on(stage: Stage) -> Tensor:
        return _clean_on_stage(required(refined, "what is refined").latents, stage, resize).to(noise)

    def adjusted(x0: Tensor, step: PlannedStep) -> Tensor:
        if refined is None:
            return x0
        given = refined_on(step.stage)
        # Cells that rest have no estimate, and count as they were given.
        at = RefinedStep(given=given, frames=step.stage.frames, done=step.done)
        return refined.refiner.estimate(step.moving(x0, given), at)

    start = 0.0 if refined is None or refined.strength == 1 else refined_on(steps[0].stage)
    x, state = noisy(start, steps[0].on(noise)), {}
    for number, step in enumerate(step.on(noise) for step in steps):

        def denoise_grid(point: Tensor, sigma: Level, step: PlannedStep = step, x: Tensor = x) -> Tensor:
            point, sigma = step.moving(point, x), step.moving(sigma, step.level)
            frames, scales = step.stage.frames, scales_of_cells(guidance, guided, step.stage.frames, sigma)
            begin()
            x0 = denoise_windows(
                denoise, point, sigma, step.windows, scales, windows_per_call, frames, share, step.needed
            )
            return step.moving(adjusted(x0, step), x)

        def fresh(number: int = number, stage: Stage = step.stage) -> Tensor:
            if step_noise is None:
                raise HvgError("this solver adds noise, and none was given")
            return _on_stage(step_noise(number), stage)

        x0 = denoise_grid(x, step.level)
        x = step.moving(solver.step(x, x0, step.for_solver(denoise_grid, fresh, state)), x)
        following = steps[min(number + 1, len(steps) - 1)]
        if following.stage != step.stage:
            x, state = noisy(_rise(x0, step.stage, following.stage, resize), following.on(noise)), {}
        if progress is not None:
            progress(number + 1, len(steps))
    return x


def _check_shrinks(stages: Iterable[Stage], noise: Tensor) -> None:
    wrong = {s.shrink for s in stages if noise.shape[-2] % s.shrink or noise.shape[-1] % s.shrink}
    if wrong:
        raise HvgError(
            f"the sampler shrinks the picture {max(wrong)} times, into which {tuple(noise.shape[-2:])} cells do not go"
        )


def _known_on_stage(known: Known, stage: Stage, resize: Callable | None) -> Known:
    frames = list(stage.frames)
    return Known(latents=_clean_on_stage(known.latents, stage, resize), cells=known.cells[:, frames])


def _clean_on_stage(latents: Tensor, stage: Stage, resize: Callable | None) -> Tensor:
    """Clean latents of the whole video on a stage's grid."""
    latents = latents[:, :, list(stage.frames)]
    if stage.shrink == 1:
        return latents
    height, width = (side // stage.shrink for side in latents.shape[-2:])
    return _resized(latents, (height, width), resize)


def _on_stage(noise: Tensor, stage: Stage) -> Tensor:
    """The part of the video's noise that a stage uses: cells are left out, so that it stays of unit variance."""
    if stage.shrink == 1 and len(stage.frames) == noise.shape[2]:
        return noise
    return noise[:, :, list(stage.frames), :, :: stage.shrink, :: stage.shrink]


def _rise(x0: Tensor, stage: Stage, following: Stage, resize: Callable | None) -> Tensor:
    """The estimate on the next stage's grid: linear in time between the frames that there were, then in space."""
    place = torch.bucketize(torch.tensor(following.frames), torch.tensor(stage.frames), right=True).clamp(1) - 1
    after = (place + 1).clamp_max(len(stage.frames) - 1)
    known = torch.tensor(stage.frames, dtype=torch.float32)
    span = (known[after] - known[place]).clamp_min(1)
    part = ((torch.tensor(following.frames) - known[place]) / span).clamp(0, 1)
    part = part.to(x0)[:, None, None, None]
    video = x0[:, :, place] * (1 - part) + x0[:, :, after] * part
    if stage.shrink == following.shrink:
        return video
    height, width = (side * stage.shrink // following.shrink for side in x0.shape[-2:])
    return _resized(video, (height, width), resize)


def _resized(latents: Tensor, size: tuple[int, int], resize: Callable | None) -> Tensor:
    if resize is None:
        raise HvgError("this sampler changes the size of the picture, and no way to do it was given")
    return resize(latents, size)


def denoise_windows(
    denoise: Denoise,
    x: Tensor,
    sigma: Level,
    windows: Sequence[Window],
    scales: Tensor,
    windows_per_call: int | None = None,
    frames: Sequence[int] | None = None,
    share: bool = False,
    needed: Tensor | None = None,
) -> Tensor:
    """x0 of the whole grid: every window's estimate, blended by the normalised weights in the order of the windows.

    scales: (N, B, V, t). frames: which latent frame of the video each of the grid's is; None: the same. share: as in ``sample``.
    needed: (V, t) bool, on the CPU, the cells that have to be in some window; None: all. Others are 0.
    """
    rank, world = rank_and_world() if share else (0, 1)
    weights, clips = normalised_weights(windows, x.shape[1], x.shape[2], needed), x.shape[0]
    level = sigma
    if isinstance(sigma, Tensor):
        sigma = sigma.expand(*x.shape[:3], 1, 1, 1)
    cells = [_cells(window) for window in windows]
    if frames is not None:
        windows = [replace(window, frames=tuple(frames[i] for i in window.frames)) for window in windows]
    estimates: dict[int, Tensor] = {}
    for batch in _batches(range(rank, len(windows), world), windows, windows_per_call):
        stacked = torch.cat([x[:, v, t] for v, t in (cells[i] for i in batch)])
        of_windows = torch.cat([scales[..., v, t] for v, t in (cells[i] for i in batch)], dim=1)
        if isinstance(sigma, Tensor):
            level = torch.cat([sigma[:, v, t] for v, t in (cells[i] for i in batch)])
        x0 = denoise(stacked, level, [windows[i] for i in batch], of_windows)
        estimates |= dict(zip(batch, x0.split(clips), strict=True))
    blended = torch.zeros_like(x)
    for i, (v, t) in enumerate(cells):
        part = estimates.pop(i).contiguous() if i in estimates else torch.empty_like(x[:, v, t])
        if world > 1:
            distributed.broadcast(part, src=i % world)
        blended[:, v, t] += weights[i].to(x)[..., None, None, None] * part
    return blended


def normalised_weights(
    windows: Sequence[Window], views: int, frames: int, needed: Tensor | None = None
) -> list[Tensor]:
    """Each window's weights (v, t), scaled so that over all windows they sum to 1 in every cell of the V x t grid.

    Raises: HvgError when a cell is in no window, of those that are ``needed``, (V, t) bool; None: of all.
    """
    total = torch.zeros(views, frames)
    for window in windows:
        total[_cells(window)] += window.weights
    missed = total <= 0 if needed is None else (total <= 0) & needed
    if missed.any():
        missing = [tuple(cell) for cell in missed.nonzero().tolist()]
        raise HvgError(f"the sampler's windows leave out (view, frame) {missing[:5]} of a {views} x {frames} grid")
    return [window.weights / total[_cells(window)] for window in windows]


def guided_estimate(whole: Tensor, branches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Guided estimate (B, V, t, C, h, w), as of ``Guidance``. whole: with everything that is told. branches: the estimate of
    each, made when it is asked for, and its scale (B, V, t).
    """
    before, total = whole, None
    for estimate, scale in branches:
        step = scale.to(before)[..., None, None, None] * (before - estimate)
        before, total = estimate, step if total is None else total + step
    return before if total is None else before + total


def _cells(window: Window) -> tuple[slice | Tensor, slice | Tensor]:
    """Indices that pick the window from two neighbouring axes (views, frames), as ``as_slice`` does from one."""
    views, frames = as_slice(window.views), as_slice(window.frames)
    if isinstance(views, Tensor) and isinstance(frames, Tensor):
        return views[:, None], frames[None]
    return views, frames


def _batches(order: Sequence[int], windows: Sequence[Window], limit: int | None) -> list[list[int]]:
    """Numbers of windows of one shape, at most ``limit`` together."""

    def shape(i: int) -> tuple[int, int]:
        return len(windows[i].views), len(windows[i].frames)

    same = [list(group) for _, group in groupby(sorted(order, key=shape), key=shape)]
    return [group[i : i + (limit or len(group))] for group in same for i in range(0, len(group), limit or len(group))]
