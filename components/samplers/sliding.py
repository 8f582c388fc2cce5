"""Windows that slide around the views, then along time, then around the views again; every cell has a noise level of its own.

Source: Diffuman4D (arXiv 2507.13344), sliding iterative denoising, and its code: a window of 12 pictures denoises its cells by
one level and moves on by one, around a circle, so that every cell gets as many steps of a round; views of one moment in the first
and last of three rounds, moments of one view, beside the nearest captured camera, in the second. 36 steps, or 18 with a stride
of 2.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import FrameCount, ViewCount
from hvg.parts.part import PartConfig
from hvg.parts.plan import Sampler
from hvg.values.grid import Window

from ..nn.windows import blocks, weighted, windows_of

Axis = Literal["views", "frames"]


class SlidingConfig(PartConfig):
    """Sizes of the windows, and the rounds. The defaults are Diffuman4D's."""

    rounds: tuple[Axis, ...] = Field(
        ("views", "frames", "views"),
        min_length=1,
        max_length=64,
        description="Along what the windows of each round slide. The solver's steps are shared between the rounds, the first "
        "ones getting what is left over.",
    )
    views: ViewCount = Field(12, description="Views to be made in a window that slides around the views.")
    view_frames: FrameCount = Field(1, description="Latent frames of it, in blocks of time.")
    frames: FrameCount = Field(12, description="Latent frames in a window that slides along time.")
    temporal_views: ViewCount = Field(1, description="Views to be made of it, in groups.")
    known: int = Field(
        1,
        ge=0,
        le=1024,
        description="Known views in a window that slides along time, the nearest first; one that slides around views has all.",
    )


class SlidingWindows(Sampler[SlidingConfig]):
    """In each round a window's cells go down one level, and it moves on, around and around until every cell is as far down as
    the round goes; a cell that is there rests.

    The stride is the window's size by the round's steps, rounded down, so that a cell is in as many windows as it has steps.
    Windows that wrap around the end of time hold its beginning and end, in order. Such a plan needs a model that was trained with
    levels that differ (``training.noise_levels``).
    """

    def levels(self, num_steps: int, views: int, frames: int) -> Tensor:
        turns = self._turns(num_steps, views, frames)
        levels = torch.zeros(len(turns) + 1, views, frames, dtype=torch.int64)
        for step, turn in enumerate(turns):
            after = torch.tensor(turn.after)
            levels[step + 1] = after[:, None] if turn.axis == "views" else after
        return levels

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        config, turn = self.config, self._turns(num_steps, views, frames)[step]
        moving = weighted([turn.window], len(turn.after), "uniform")
        if turn.axis == "views":
            return windows_of(moving, weighted(blocks(frames, config.view_frames), frames, "uniform"))
        return windows_of(weighted(blocks(views, config.temporal_views), views, "uniform"), moving)

    def known(self, step: int, num_steps: int, views: int, frames: int) -> int | None:
        return None if self._turns(num_steps, views, frames)[step].axis == "views" else self.config.known

    def _turns(self, num_steps: int, views: int, frames: int) -> "Sequence[_Turn]":
        sizes = {"views": self.config.views, "frames": self.config.frames}
        return _turns(self.config.rounds, num_steps, (sizes["views"], views), (sizes["frames"], frames))


class _Turn(NamedTuple):
    """A step: the window along the round's axis, and the levels along it after the step."""

    axis: Axis
    window: tuple[int, ...]
    after: tuple[int, ...]


@lru_cache(maxsize=64)
def _turns(
    rounds: tuple[Axis, ...], num_steps: int, views: tuple[int, int], frames: tuple[int, int]
) -> tuple[_Turn, ...]:
    """All steps. views, frames: size of a window and length of the axis."""
    found, level = list[_Turn](), 0
    for number, axis in enumerate(rounds):
        steps = num_steps // len(rounds) + (number < num_steps % len(rounds))
        size, length = views if axis == "views" else frames
        found += [
            _Turn(axis, window, tuple(level + done for done in after)) for window, after in _slide(length, size, steps)
        ]
        level += steps
    return tuple(found)


def _slide(length: int, size: int, steps: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Windows that go around an axis until each of its cells was denoised ``steps`` times, and how often each was by then."""
    size, done, found, start = min(size, length), [0] * length, [], 0
    stride = max(1, size // steps) if steps else 1
    while min(done) < steps:
        window = sorted((start + i) % length for i in range(size))
        if any(done[i] < steps for i in window):
            done = [min(count + (i in window), steps) for i, count in enumerate(done)]
            found.append((tuple(window), tuple(done)))
        start += stride
    return found
