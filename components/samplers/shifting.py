"""Groups of views that do not overlap and whose membership moves on by one view a step.

Source: 4DAnyone's code (arXiv 2608.20335), whose groups hold 4 or 6 views and all frames. There is nothing to average, and
over the steps every view meets its neighbours on both sides.
"""

from __future__ import annotations

from pydantic import Field

from components.nn.windows import blocks, weighted, windows_of
from hvg.protocols import PartConfig, Sampler
from hvg.types import Window


class ShiftingConfig(PartConfig):
    """Size of a group; one group of each step may be smaller."""

    views: int = Field(6, ge=2, description="Views in a group, neighbours on the circle of cameras.")
    frames: int | None = Field(
        None,
        ge=2,
        description="Latent frames in a block of time, whose cuts move by one a step as well; null: all frames.",
    )


class ShiftingWindows(Sampler):
    """Every cell once a step, and no seam that stays where it is."""

    Config = ShiftingConfig

    def __init__(self, config: ShiftingConfig, context: object = None) -> None:
        self.config = config

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        groups = blocks(views, self.config.views)
        if len(groups) > 1:
            groups = [tuple((view + step) % views for view in group) for group in groups]
        size = self.config.frames or frames
        # A video that fits into a block is not cut; time has no circle, so its first block may be short.
        spans = blocks(frames, size, step if size < frames else 0)
        return windows_of(weighted(groups, views, "uniform"), weighted(spans, frames, "uniform"))
