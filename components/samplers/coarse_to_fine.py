"""First few frames of a small picture, then the whole video: high noise decides coarse motion, which needs neither.

Not HVG's: a summary of the paper describes it so, the paper does not. Source of the idea: cascades in time and space, as in
Imagen Video (arXiv 2210.02303), here with one model and on one path of noise levels.
"""

from pydantic import Field, model_validator

from hvg.core.bounds import FrameCount, FrameCountFromZero
from hvg.parts.part import PartConfig
from hvg.parts.plan import Sampler, Stage
from hvg.values.grid import Window

from ..nn.windows import WEIGHTING, Weighting, require_overlap_below, segments, weighted, whole, windows_of


class CoarseToFineConfig(PartConfig):
    """Coarseness of grids, and number of coarse steps. A model not trained on small pictures wants shrink=1."""

    coarse_fraction: float = Field(
        0.4, ge=0, lt=1, description="Part of the steps on coarse grids; the last step never is. 0: none, as `single`."
    )
    levels: int = Field(
        1,
        ge=1,
        le=8,
        description="Coarse grids, with equal shares of the steps: level k is frame_stride^k and shrink^k coarse.",
    )
    frame_stride: int = Field(
        2,
        ge=1,
        le=64,
        description="Every so many-th frame is in a coarse grid, and always the last one, so that filling in never "
        "goes beyond what was made.",
    )
    shrink: int = Field(
        2,
        ge=1,
        le=64,
        description="The picture's sides are divided by it; with several levels by its powers. 1: full size.",
    )
    frames: FrameCount | None = Field(None, description="Frames of its grid in a window; null: one window for all.")
    overlap: FrameCountFromZero = Field(0, description="Frames of its grid that neighbouring windows share, at least.")
    weights: Weighting = Field("tent", description=WEIGHTING)

    @model_validator(mode="after")
    def _moves_on(self) -> "CoarseToFineConfig":
        if self.frames is not None:
            require_overlap_below(self.frames, self.overlap, "frames", "overlap")
        return self


class CoarseToFineWindows(Sampler[CoarseToFineConfig]):
    """Coarse grids at the highest noise levels, the whole video after that; windows over time within each grid."""

    def stage(self, step: int, num_steps: int, frames: int) -> Stage:
        level = self._level(step, num_steps)
        kept = {*range(0, frames, self.config.frame_stride**level), frames - 1}
        return Stage(tuple(sorted(kept)), self.config.shrink**level)

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        spans = segments(frames, self.config.frames or frames, self.config.overlap)
        return windows_of(whole(views), weighted(spans, frames, self.config.weights))

    def _level(self, step: int, num_steps: int) -> int:
        """Level of coarseness of this step: ``levels`` at first, 0 at full size."""
        coarse = min(round(self.config.coarse_fraction * num_steps), num_steps - 1)
        return self.config.levels - step * self.config.levels // coarse if step < coarse else 0
