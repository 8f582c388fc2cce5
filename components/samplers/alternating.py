"""Temporal windows and view windows in turns: half the cost of ``progressive``.

Source: the alternation of Diffuman4D (arXiv 2507.13344), with HVG's windows, whole steps and no timestep per latent.
"""

from hvg.parts.plan import Sampler
from hvg.values.grid import Window

from ..nn.windows import SpaceTimeConfig


class AlternatingWindows(Sampler[SpaceTimeConfig]):
    """Temporal windows at even steps, view windows at odd ones."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        return self.config.families(views, frames)[step % 2]
