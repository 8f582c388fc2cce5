"""The whole V x t grid in one window: what every other plan is compared with, as long as the memory lasts."""

import torch

from hvg.parts.part import PartConfig
from hvg.parts.plan import Sampler
from hvg.values.grid import Window


class SingleWindow(Sampler[PartConfig]):
    """One window that covers everything."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        return [Window(tuple(range(views)), tuple(range(frames)), torch.ones(views, frames))]
