"""Overlapping windows of views around the circle, each of all frames or some: HVG's view segments without its temporal ones
(the right half of the paper's figure 8)."""

from pydantic import Field, model_validator

from hvg.core.bounds import FrameCount, FrameCountFromZero, ViewCount
from hvg.parts.part import PartConfig
from hvg.parts.plan import Sampler
from hvg.values.grid import Window

from ..nn.windows import (
    WEIGHTING,
    Weighting,
    overlap_of_views,
    require_overlap_below,
    segments,
    weighted,
    windows_of,
)


class ViewWindowsConfig(PartConfig):
    """Windows over views."""

    views: ViewCount = Field(6, description="Views in a window.")
    overlap: FrameCountFromZero | None = Field(
        None, description="Views that neighbouring windows share, at least; null: a third of a window."
    )
    frames: FrameCount | None = Field(
        None, description="Latent frames in a window, without overlap if the numbers allow; null: all."
    )
    circular: bool = Field(
        True, description="Whether the cameras close a circle, so that the last is next to the first."
    )
    weights: Weighting = Field("tent", description=WEIGHTING)

    @model_validator(mode="after")
    def _moves_on(self) -> "ViewWindowsConfig":
        require_overlap_below(self.views, self.overlap, "views", "overlap")
        return self


class ViewWindows(Sampler[ViewWindowsConfig]):
    """Many cameras and short clips; by default every window sees all frames at once."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        config = self.config
        groups = segments(views, config.views, overlap_of_views(config.overlap, config.views), config.circular)
        spans = segments(frames, config.frames or frames, 0)
        return windows_of(weighted(groups, views, config.weights), weighted(spans, frames, config.weights))
