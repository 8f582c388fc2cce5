"""HVG's progressive spatio-temporal sampling. Source: HVG (arXiv 2602.21188), section 3.3."""

from pydantic import Field

from hvg.parts.plan import Sampler
from hvg.values.grid import Window

from ..nn.windows import SpaceTimeConfig, merged


class ProgressiveConfig(SpaceTimeConfig):
    """Both kinds of windows at every step. The paper gives 24 frames, 6 views and the 72 images; the rest is ours."""

    mix: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Weight of the temporal windows' estimate; the view windows' has 1 - mix. At 0 and 1 one kind is left out.",
    )


class ProgressiveWindows(Sampler[ProgressiveConfig]):
    """At every step x0 = mix x (blend of temporal windows) + (1 - mix) x (blend of view windows)."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        shares = (self.config.mix, 1 - self.config.mix)
        return merged(
            Window(window.views, window.frames, share * window.weights)
            for share, family in zip(shares, self.config.families(views, frames), strict=True)
            if share > 0
            for window in family
        )
