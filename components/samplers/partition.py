"""Blocks of views and frames that do not overlap: the rival that HVG's section 2 names, after Human4DiT (arXiv 2405.17405)."""

from pydantic import Field

from hvg.core.bounds import FrameCount, ViewCount
from hvg.parts.part import PartConfig
from hvg.parts.plan import Sampler
from hvg.values.grid import Window

from ..nn.windows import blocks, weighted, windows_of


class PartitionConfig(PartConfig):
    """Size of a block; the last ones may be smaller. The defaults hold the 72 images of HVG's training."""

    views: ViewCount = Field(6, description="Views in a block.")
    frames: FrameCount = Field(12, description="Latent frames in a block.")


class PartitionWindows(Sampler[PartitionConfig]):
    """The cheapest plan: every cell once a step, and nothing that joins the blocks."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        groups = weighted(blocks(views, self.config.views), views, "uniform")
        return windows_of(groups, weighted(blocks(frames, self.config.frames), frames, "uniform"))
