"""What the sampling engine does at each step: a sampler's plan of the views to be made, laid on a grid with known ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.core.on_device import upload
from hvg.parts.plan import Guidance, GuidedClips, Level, Sampler, SolverStep, Stage
from hvg.values.grid import Window


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """A step on the grid of its stage, V x t cells with all views.

    windows: what is denoised together, known views in front. level, following: of the cells before and after the step; numbers
    where they go down together, else (1, V, t, 1, 1, 1). moves: the cells that go down, shaped as those; None: all. done: share
    of the schedule that lies behind these, in the mean.
    """

    stage: Stage
    windows: Sequence[Window]
    level: Level
    following: Level
    moves: Tensor | None
    done: float

    @property
    def needed(self) -> Tensor | None:
        """The cells (V, t) that go down, on the CPU; None: all."""
        return None if self.moves is None else self.moves[0, ..., 0, 0, 0].cpu()

    def on(self, x: Tensor) -> "PlannedStep":
        """The same step on the device and in the number type of latents."""
        if self.moves is None:
            return self
        level, following = (upload(torch.as_tensor(at), x.device).to(x) for at in (self.level, self.following))
        return replace(self, level=level, following=following, moves=upload(self.moves, x.device))

    def moving(self, value: Any, resting: Any) -> Any:
        """A value for the cells that go down and another for those that rest; numbers or tensors."""
        return value if self.moves is None else torch.where(self.moves, value, resting)

    def for_solver(
        self, denoise: Callable[[Tensor, Level], Tensor], noise: Callable[[], Tensor], state: dict[str, Any]
    ) -> SolverStep:
        """The step as a solver is told it; it leaves cells that go from 1 to 1 as they are."""
        return SolverStep(
            sigma=self.moving(self.level, 1.0),
            sigma_next=self.moving(self.following, 1.0),
            denoise=denoise,
            noise=noise,
            state=state,
            moves=self.moves,
        )


def planned_steps(
    sampler: Sampler, sigmas: Sequence[float], frames: int, known: Tensor, nearness: Tensor
) -> list[PlannedStep]:
    """The steps of a sampler's plan. known: (V, t) bool. nearness: (V, V), how near views are to each other.

    Raises: HvgError where nothing is left to be made, or a step is not on the whole video in the end.
    """
    asked = (~known.all(dim=1)).nonzero().flatten().tolist()
    given = known.all(dim=1).nonzero().flatten().tolist()
    if not asked:
        raise HvgError("every picture is known, so none is left to be made")
    num_steps = len(sigmas) - 1
    places = sampler.levels(num_steps, len(asked), frames)
    stages = [sampler.stage(step, num_steps, frames) for step in range(len(places) - 1)]
    if stages[-1] != Stage(tuple(range(frames))):
        raise HvgError(f"the sampler's last step has to be on all {frames} frames at full size, it is on {stages[-1]}")
    whole = places.new_full((len(places), *known.shape), num_steps)
    whole[:, asked] = places.expand(-1, len(asked), frames)
    whole[:, known] = num_steps
    low, high = whole.flatten(1).amin(dim=1).tolist(), whole.flatten(1).amax(dim=1).tolist()
    steps = []
    for step, stage in enumerate(stages):
        windows = sampler.windows(step, num_steps, len(asked), len(stage.frames))
        if given:
            joining = sampler.known(step, num_steps, len(asked), frames)
            windows = [_with_known(window, asked, given, joining, nearness) for window in windows]
        before, after = low[step], low[step + 1]
        level, following, moves = sigmas[before], sigmas[after], None
        if not before == high[step] < after == high[step + 1]:
            level, following, moves = _apart(sigmas, *whole[step : step + 2, :, list(stage.frames)])
        going = whole[step][whole[step] != whole[step + 1]].float()
        done = float(going.sum()) / (num_steps * max(1, len(going)))
        steps.append(
            PlannedStep(stage=stage, windows=windows, level=level, following=following, moves=moves, done=done)
        )
    return steps


def frames_by_shrink(sampler: Sampler, num_steps: int, views: int, frames: int) -> dict[int, list[int]]:
    """Shrink -> the latent frames that are denoised at that size, increasing. views: that are to be made."""
    found: dict[int, set[int]] = {}
    for step in range(sampler.passes(num_steps, views, frames)):
        stage = sampler.stage(step, num_steps, frames)
        found.setdefault(stage.shrink, set()).update(stage.frames)
    return {shrink: sorted(chosen) for shrink, chosen in found.items()}


def _apart(sigmas: Sequence[float], before: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Level, the one that follows, and which cells move, (1, V, t, 1, 1, 1), of levels (V, t) that cells have of their own."""
    levels = torch.tensor(sigmas, dtype=torch.float64)
    level, following, moves = (x[None, ..., None, None, None] for x in (levels[before], levels[after], before != after))
    return level, following, moves


def _with_known(
    window: Window, asked: Sequence[int], given: Sequence[int], joining: int | None, nearness: Tensor
) -> Window:
    """A window of the views that are asked for, with the known views that join it in front, of all its frames."""
    views = tuple(asked[view] for view in window.views)
    near = nearness[given][:, list(views)].amax(dim=1)
    chosen = near.sort(descending=True, stable=True).indices[:joining].sort().values.tolist()
    weights = torch.cat([torch.ones(len(chosen), len(window.frames)), window.weights])
    return Window((*(given[i] for i in chosen), *views), window.frames, weights)


def nearness_of_views(clips: GuidedClips) -> Tensor:
    """How near views are to each other (V, V): the cosine between their directions of view at the start of the first clip.

    Without cameras, fewer places between them are nearer.
    """
    if clips.cameras is None:
        places = torch.arange(clips.grid[1])
        return -(places[:, None] - places).abs().float()
    forward = clips.cameras.world_to_camera[0, :, 0, 2, :3].float()
    return forward @ forward.T


def scales_of_cells(guidance: Guidance, clips: GuidedClips, frames: Sequence[int], level: Level) -> Tensor:
    """The guidance's scales (N, B, V, t) of some of the clips' frames, whose cells are at one level or each at its own
    (1, V, t, 1, 1, 1); 1 where one is clean.
    """
    if not isinstance(level, Tensor):
        return guidance.scales(clips, level)[..., list(frames)]
    level = level[..., 0, 0, 0].cpu()
    found = torch.ones_like(guidance.scales(clips, float(level.max()))[..., list(frames)])
    for sigma in level[level > 0].unique().tolist():
        found = torch.where(level == sigma, guidance.scales(clips, sigma)[..., list(frames)], found)
    return found
