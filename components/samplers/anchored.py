"""Windows in time that all hold the first frame. Source: MimicMotion's code (arXiv 2406.19680): frame 0, which is closest to
the photo, keeps the windows of a long video alike; its defaults are windows of 72 or 16 frames and an overlap of 6."""

from pydantic import Field, model_validator

from hvg.core.bounds import FrameCount, FrameCountFromZero
from hvg.parts.part import PartConfig
from hvg.parts.plan import Sampler
from hvg.values.grid import Window

from ..nn.windows import (
    WEIGHTING,
    ViewsTogether,
    Weighting,
    groups_of_views,
    overlap_in_time,
    require_overlap_below,
    segments,
    weighted,
    windows_of,
)


class AnchoredConfig(PartConfig):
    """Windows over time, of all views or of groups of them."""

    views: ViewsTogether = None
    frames: FrameCount = Field(
        24, ge=2, description="Latent frames in a window, the first frame of the video among them."
    )
    overlap: FrameCountFromZero | None = Field(
        None,
        description="Latent frames that neighbouring windows share, at least, besides the first; null: a quarter of a window.",
    )
    weights: Weighting = Field("tent", description=WEIGHTING)

    @model_validator(mode="after")
    def _moves_on(self) -> "AnchoredConfig":
        require_overlap_below(self.frames - 1, self.overlap, "frames - 1", "overlap")
        return self


class AnchoredWindows(Sampler[AnchoredConfig]):
    """``temporal`` with frame 0 in front of every window; there it is the plain mean of all windows."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        config = self.config
        rest = segments(frames - 1, config.frames - 1, overlap_in_time(config.overlap, config.frames))
        spans = [(0, *(i + 1 for i in span)) for span in rest]
        return windows_of(groups_of_views(views, config.views), weighted(spans, frames, config.weights))
