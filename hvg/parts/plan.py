"""Interfaces of sampling: which windows are denoised, how a step goes, how strongly it is guided."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hvg.core.errors import HvgError, did_you_mean
from hvg.parts.part import ConfigT, Part
from hvg.values.cameras import Cameras, orbit
from hvg.values.grid import Window
from hvg.values.task import TASKS

# A noise level: of all cells of the grid; or of each, a tensor that broadcasts against latents (B, V, t, C, h, w), 0 where one is
# clean.
Level = float | Tensor


@dataclass(frozen=True)
class Stage:
    """The grid that a sampler works on at a step: which latent frames of the video, in a picture how much smaller.

    frames: indices into the video's latent frames, increasing. shrink: the picture's sides are divided by it.
    """

    frames: tuple[int, ...]
    shrink: int = 1


class Sampler(Part[ConfigT]):
    """A plan: what to denoise together at each step.

    It is of the views that are to be made. Views of which every frame is given (``known``) are in no plan, and join its windows.
    """

    def levels(self, num_steps: int, views: int, frames: int) -> Tensor:
        """Which of the schedule's levels every cell is at before each of the plan's P steps, and after the last.

        (P + 1, V, t) int64, V and t 1 where all are alike: 0 is the noisiest, ``num_steps`` is clean, where all end. A cell
        goes down at the steps at which some window of ``windows`` holds it, and rests where its level stays. Here all go down
        together, a level a step, so that P is ``num_steps``.
        """
        return torch.arange(num_steps + 1)[:, None, None]

    def passes(self, num_steps: int, views: int, frames: int) -> int:
        """P, how many steps the plan has."""
        return len(self.levels(num_steps, views, frames)) - 1

    def known(self, step: int, num_steps: int, views: int, frames: int) -> int | None:
        """How many of the known views join each window of a step, the nearest to its views first; None: all."""
        return None

    def stage(self, step: int, num_steps: int, frames: int) -> Stage:
        """The grid of this step; the last step's has to be the whole video. Most plans work on the whole video."""
        return Stage(tuple(range(frames)))

    @abstractmethod
    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        """The windows of this step; together they cover the V x t grid (of its stage, where there are stages), or what of it
        goes down a level.
        """

    def cost(self, num_steps: int, views: int, frames: int) -> float:
        """Cost of the plan with one denoising a step, in passes over the whole V x t grid at full size."""
        cells = 0.0
        for step in range(self.passes(num_steps, views, frames)):
            stage = self.stage(step, num_steps, frames)
            windows = self.windows(step, num_steps, views, len(stage.frames))
            cells += sum(len(window.views) * len(window.frames) for window in windows) / stage.shrink**2
        return cells / (views * frames)


@dataclass(frozen=True, kw_only=True)
class SolverStep:
    """A solver's step from one noise level to the next.

    denoise: ``denoise(x, sigma)`` gives x0 at another point (second-order solvers). noise: fresh noise like x, of unit
    variance, the same however the grid is split (stochastic solvers). state: lives as long as the grid stays the same.
    moves: where cells do not go down together, those that do, bool, broadcastable against x; None: all. What becomes of the
    others is not used, but for ``state``, which ``moved`` keeps for them; they have a level of 1 before and after.
    """

    sigma: Level
    sigma_next: Level
    denoise: Callable[[Tensor, Level], Tensor]
    noise: Callable[[], Tensor]
    state: dict[str, Any]
    moves: Tensor | None = None

    @property
    def ends(self) -> Tensor | bool:
        """Whether the step goes to level 0, for all cells or for each."""
        return self.sigma_next == 0

    def moved(self, after: Any, before: Any) -> Any:
        """``after`` for cells that go down, ``before`` for those that rest; numbers or tensors."""
        return after if self.moves is None else torch.where(self.moves, after, before)


class Solver(Part[ConfigT]):
    """Solver: steps from one noise level to the next.

    Levels are numbers where all cells go down together, as they do with most plans, and tensors where each has its own.
    """

    @abstractmethod
    def step(self, x: Tensor, x0: Tensor, at: SolverStep) -> Tensor:
        """x at ``at.sigma_next``, for x and the estimate x0 at ``at.sigma``; all (B, V, t, C, h, w)."""


@dataclass(frozen=True, kw_only=True)
class GuidedClips:
    """The clips that are sampled together, as a guidance knows them: with all of their views and latent frames; on the CPU.

    grid: (B, V, t). task: (B,), as of ``hvg.values.task``. cameras: (B, V, t). None where nobody knows.
    """

    grid: tuple[int, int, int]
    task: Tensor | None = None
    cameras: Cameras | None = None

    @classmethod
    def of_every_task(cls, views: int, frames: int) -> "GuidedClips":
        """A clip of each task, before cameras that stand evenly around the person."""
        grid = (len(TASKS), views, frames)
        around = orbit(
            torch.arange(views) * 360.0 / views,
            elevation_degrees=0.0,
            distance=3.0,
            target=torch.zeros(3),
            fov_degrees=40.0,
            image_size=(8, 8),
        )
        return cls(grid=grid, task=torch.arange(len(TASKS)), cameras=around[None, :, None].expand(*grid))


class Guidance(Part[ConfigT]):
    """Guidance: how strongly the conditioning guides each view and frame of a clip.

    What is denoised with everything that is told, estimate 0, is denoised again in each of N branches, with some slots left out
    (their ``null``). Guided: estimate_N + sum over n of scale_n (estimate_n-1 - estimate_n). With one branch this is
    classifier-free guidance (arXiv 2207.12598), with two InstructPix2Pix's (arXiv 2211.09800, equation 3).
    requires: names of the ClipBatch fields that it reads.
    """

    requires: ClassVar[frozenset[str]] = frozenset()

    def branches(self, droppable: Sequence[str]) -> tuple[frozenset[str], ...]:
        """The slots that each branch leaves out, of those that some clips train without; here one that leaves out all of them.

        Raises: HvgError where its settings name another slot.
        """
        return (frozenset(droppable),)

    @abstractmethod
    def scales(self, clips: GuidedClips, sigma: float) -> Tensor:
        """The scale of each branch at a noise level, (N, B, V, t) float32 on the CPU; what is 1 everywhere needs no branch."""


def known_slots(named: Iterable[str], droppable: Sequence[str]) -> list[str]:
    """The slots that a guidance's settings name, in their order. Raises: HvgError for one without which no clip trains."""
    for slot in named:
        if slot not in droppable:
            advice = did_you_mean(slot, droppable)
            raise HvgError(f"leaves out '{slot}', without which no clip trains: give it a dropout. {advice}".strip())
    return [*named]


def needed_branches(branches: Sequence[frozenset[str]], scales: Tensor) -> list[int]:
    """Numbers of the branches, counted from 0, without which the guided estimate would be another one.

    scales: (N, ...), for them in this order. A step denoises everything once, and once more for each of these.
    """
    before = [frozenset[str](), *branches]
    others = [n for n, branch in enumerate(branches) if branch != before[n]]
    needed, following = list[int](), torch.ones(())
    # An estimate counts as often as the scale behind it is more than its own.
    for n in reversed(others):
        if bool((scales[n] != following).any()):
            needed.insert(0, n)
            following = scales[n]
    return needed
