"""Groups of views that do not overlap and whose membership moves on by one view a step.

Source: 4DAnyone's code (arXiv 2608.20335), whose groups hold 4 or 6 views and all frames. There is nothing to average, and
over the steps every view meets its neighbours on both sides. The blocks of time are ours.
"""

from pydantic import Field

from hvg.core.bounds import FrameCount, ViewCount
from hvg.parts.part import PartConfig
from hvg.parts.plan import Sampler
from hvg.values.grid import Window

from ..nn.windows import blocks, weighted, whole_blocks, windows_of


class ShiftingConfig(PartConfig):
    """Size of a group; where the views are no multiple of it, one group of each step is smaller."""

    views: ViewCount = Field(6, ge=2, description="Views in a group, neighbours on the circle of cameras.")
    frames: FrameCount | None = Field(
        None,
        ge=2,
        description="Latent frames in a block of time, whose cuts move by one a step as well; the blocks at the ends are as "
        "long and overlap their neighbours, with which they are averaged; null: all frames.",
    )


class ShiftingWindows(Sampler[ShiftingConfig]):
    """No seam that stays where it is; every cell once a step, but for the ends of a video that is cut in time."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        groups = blocks(views, self.config.views)
        if len(groups) > 1:
            groups = [tuple((view + step) % views for view in group) for group in groups]
        # Time has no circle. A shorter block at either end would be one that training had no reason to show.
        spans = whole_blocks(frames, self.config.frames or frames, step)
        return windows_of(weighted(groups, views, "uniform"), weighted(spans, frames, "uniform"))
