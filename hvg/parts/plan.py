"""Interfaces of sampling: which windows are denoised, how a step goes, how strongly it is guided."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hvg.parts.part import ConfigT, Part
from hvg.values.grid import Window


@dataclass(frozen=True)
class Stage:
    """The grid that a sampler works on at a step: which latent frames of the video, in a picture how much smaller.

    frames: indices into the video's latent frames, increasing. shrink: the picture's sides are divided by it.
    """

    frames: tuple[int, ...]
    shrink: int = 1


class Sampler(Part[ConfigT]):
    """A plan: what to denoise together at each step."""

    def stage(self, step: int, num_steps: int, frames: int) -> Stage:
        """The grid of this step; the last step's has to be the whole video. Most plans work on the whole video."""
        return Stage(tuple(range(frames)))

    @abstractmethod
    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        """The windows of this step; together they cover the V x t grid (of its stage, where there are stages)."""

    def cost(self, num_steps: int, views: int, frames: int) -> float:
        """Cost of the plan with one denoising a step, in passes over the whole V x t grid at full size."""
        cells = 0.0
        for step in range(num_steps):
            stage = self.stage(step, num_steps, frames)
            windows = self.windows(step, num_steps, views, len(stage.frames))
            cells += sum(len(window.views) * len(window.frames) for window in windows) / stage.shrink**2
        return cells / (views * frames)


@dataclass(frozen=True, kw_only=True)
class SolverStep:
    """A solver's step from one noise level to the next.

    denoise: ``denoise(x, sigma)`` gives x0 at another point (second-order solvers). noise: fresh noise like x, of unit
    variance, the same however the grid is split (stochastic solvers). state: lives as long as the grid stays the same.
    """

    sigma: float
    sigma_next: float
    denoise: Callable[[Tensor, float], Tensor]
    noise: Callable[[], Tensor]
    state: dict[str, Any]


class Solver(Part[ConfigT]):
    """Solver: steps from one noise level to the next."""

    @abstractmethod
    def step(self, x: Tensor, x0: Tensor, at: SolverStep) -> Tensor:
        """x at ``at.sigma_next``, for x and the estimate x0 at ``at.sigma``; all (B, V, t, C, h, w)."""


class Guidance(Part[ConfigT]):
    """Guidance: how strongly the conditioning guides each view and frame."""

    @abstractmethod
    def scale(self, views: int, frames: int, sigma: float) -> Tensor:
        """Classifier-free guidance scale, (V, t); 1 everywhere means that no unconditional pass is needed."""
