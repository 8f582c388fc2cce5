"""Checks of what every sampler promises."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hvg.core.random_keys import generator
from hvg.model.sampling import sample
from hvg.parts.plan import Guidance, GuidedClips, Level, Sampler, Solver, SolverStep, Stage
from hvg.testing.building import make, require
from hvg.values.grid import Window

# (V, t): less than a window, more, and numbers that no window divides.
GRIDS = ((1, 1), (1, 30), (2, 2), (6, 24), (7, 5), (8, 100), (13, 1), (5, 49))
_LEVELS = torch.tensor([20.0, 8.0, 3.0, 1.0, 0.3, 0.05, 0.0])


def check_sampler(cls: type[Sampler], config: Any, grids: Sequence[tuple[int, int]] = GRIDS) -> None:
    """Runs every check below on every grid (V, t). Raises: AssertionError that says which promise is broken."""
    sampler = make(cls, config)
    for views, frames in grids:
        check_windows(sampler, 7, views, frames)
        check_determinism(sampler, 7, views, frames)
        check_cost(sampler, views, frames)
    check_batching(sampler, 7, 11)


def check_windows(sampler: Sampler, num_steps: int, views: int, frames: int) -> None:
    """Windows are parts of the grid and cover what goes down a level, their frames increasing, with positive weights; none comes
    twice.

    The last step's grid is the whole video, and every other's some of its frames. All cells go from the first level to the last.
    """
    levels = sampler.levels(num_steps, views, frames).expand(-1, views, frames)
    require(levels.dtype == torch.int64, f"levels are {levels.dtype}, not places in the schedule")
    require(
        bool((levels[0] == 0).all() and (levels[-1] == num_steps).all()), "a cell does not go from level 0 to the last"
    )
    require(bool((levels.diff(dim=0) >= 0).all()), "a cell becomes noisier")
    stages = [sampler.stage(step, num_steps, frames) for step in range(len(levels) - 1)]
    require(stages[-1] == Stage(tuple(range(frames))), f"the last step is on {stages[-1]}, not on the whole video")
    for step, stage in enumerate(stages):
        count = len(stage.frames)
        require(
            list(stage.frames) == sorted(set(stage.frames)) and set(stage.frames) <= set(range(frames)),
            f"the frames {stage.frames} of step {step} are no increasing indices below {frames}",
        )
        windows, where = sampler.windows(step, num_steps, views, count), f"step {step} of a {views} x {count} grid"
        _require_windows(windows, where)
        joining = sampler.known(step, num_steps, views, frames)
        require(joining is None or joining >= 0, f"{where}: {joining} known views join its windows")
        require(len({(w.views, w.frames) for w in windows}) == len(windows), f"{where} has a window twice")
        covered = (levels[step] == levels[step + 1])[:, list(stage.frames)]
        for w in windows:
            inside = set(w.views) <= set(range(views)) and set(w.frames) <= set(range(count))
            require(inside, f"{where}: {w.views} x {w.frames} leaves the grid")
            require(len(set(w.views)) == len(w.views), f"{where}: the views {w.views} repeat")
            # The network sees frames in the order of time.
            require(list(w.frames) == sorted(set(w.frames)), f"{where}: the frames {w.frames} do not increase")
            shape = (len(w.views), len(w.frames))
            require(tuple(w.weights.shape) == shape, f"{where}: weights are {tuple(w.weights.shape)}, not {shape}")
            require(bool((w.weights > 0).all()), f"{where}: a weight is not positive")
            covered[torch.tensor(w.views)[:, None], torch.tensor(w.frames)] = True
        require(bool(covered.all()), f"{where} leaves out (view, frame) {(~covered).nonzero().tolist()[:5]}")


def _require_windows(windows: Any, where: str) -> None:
    """``windows`` gives a list of windows, whose views and frames are tuples."""
    kind = type(windows).__name__
    require(isinstance(windows, Sequence), f"{where}: windows has to give a list, not a {kind}")
    for w in windows:
        require(isinstance(w, Window), f"{where}: windows gives a {type(w).__name__} where a Window belongs")
        for name in ("views", "frames"):
            kind = type(getattr(w, name)).__name__
            require(kind == "tuple", f"{where}: views and frames have to be tuples; {name} is a {kind}")
        kind = type(w.weights).__name__
        require(isinstance(w.weights, Tensor), f"{where}: weights have to be a tensor, not a {kind}")


def check_determinism(sampler: Sampler, num_steps: int, views: int, frames: int) -> None:
    """A plan is the same whenever it is asked for, in any order of steps."""
    passes = sampler.passes(num_steps, views, frames)
    for step in (passes - 2, 0, passes // 2):
        count = len(sampler.stage(step, num_steps, frames).frames)
        first, again = (sampler.windows(step, num_steps, views, count) for _ in range(2))
        same = [(w.views, w.frames) for w in first] == [(w.views, w.frames) for w in again]
        weights = same and all(torch.equal(a.weights, b.weights) for a, b in zip(first, again, strict=True))
        require(weights, f"the windows of step {step} differ when they are asked for again")


def check_cost(sampler: Sampler, views: int, frames: int) -> None:
    """``cost`` is what the engine denoises, in passes over the whole grid."""
    seen: list[int] = []

    def denoise(x: Tensor, sigma: Level, windows: Sequence[Window], scales: Tensor) -> Tensor:
        seen.append(x[:, :, :, 0].numel())
        return x

    start = torch.zeros(1, views, frames, 1, 8, 8)
    _run(sampler, start, denoise)
    declared, spent = sampler.cost(len(_LEVELS) - 1, views, frames), sum(seen) / start.numel()
    require(abs(declared - spent) <= 1e-6 * spent, f"cost says {declared} passes, the engine makes {spent}")


def check_batching(sampler: Sampler, views: int, frames: int) -> None:
    """The result does not depend on how many windows are denoised together, and has the shape of the noise."""
    start = torch.randn(2, views, frames, 2, 8, 8, generator=generator("noise"))

    def denoise(x: Tensor, sigma: Level, windows: Sequence[Window], scales: Tensor) -> Tensor:
        number = torch.tensor([sum(w.views) + 0.1 * sum(w.frames) for w in windows])
        number = number.repeat_interleave(len(x) // len(windows)).view(-1, 1, 1, 1, 1, 1)
        return torch.sin(x.mean(dim=(1, 2), keepdim=True) + 0.1 * x + number) / (1 + sigma)

    together = _run(sampler, start, denoise)
    require(together.shape == start.shape, f"the result is {tuple(together.shape)}, the noise {tuple(start.shape)}")
    for windows in (1, 3):
        apart = _run(sampler, start, denoise, windows_per_call=windows)
        close = torch.allclose(together, apart, rtol=0, atol=1e-6)
        require(close, f"with {windows} windows a call the result is another one")


class _Straight(Solver):
    """Euler's step, so that no registered part is needed."""

    def step(self, x: Tensor, x0: Tensor, at: SolverStep) -> Tensor:
        return x0 + at.sigma_next / at.sigma * (x - x0)


class _Unguided(Guidance):
    """1 everywhere."""

    def scales(self, clips: GuidedClips, sigma: float) -> Tensor:
        return torch.ones(1, *clips.grid)


def _run(sampler: Sampler, start: Tensor, denoise: Any, windows_per_call: int | None = None) -> Tensor:
    def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
        return interpolate(x.flatten(0, 2), size=size, mode="nearest").unflatten(0, x.shape[:3])

    return sample(
        denoise,
        start,
        _LEVELS,
        sampler,
        _Straight(),
        _Unguided(),
        windows_per_call=windows_per_call,
        resize=resize,
    )
