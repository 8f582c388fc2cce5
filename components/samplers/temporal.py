"""Overlapping windows in time, each of all views. Source: MultiDiffusion (arXiv 2302.08113) along time, as in
AnimateAnyone, Champ and MimicMotion (arXiv 2406.19680); they fuse predicted noise, which comes to the same."""

from hvg.parts.plan import Sampler
from hvg.values.grid import Window

from ..nn.windows import TimeWindowsConfig, groups_of_views, overlap_in_time, segments, weighted, windows_of


class TemporalWindows(Sampler[TimeWindowsConfig]):
    """Long videos; every window sees all views at once, or a group of them."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        config = self.config
        spans = segments(frames, config.frames, overlap_in_time(config.overlap, config.frames))
        return windows_of(groups_of_views(views, config.views), weighted(spans, frames, config.weights))
