"""A pose signal of a lab's own: a disc where the head is."""

import torch
from pydantic import Field

from hvg.plugin import PoseGuided, PoseGuidedConfig, project


class HeadDisc(PoseGuided):
    """One channel: 1 within ``radius`` (a fraction of the image height) of the projected head, 0 elsewhere."""

    class Config(PoseGuidedConfig):
        radius: float = Field(0.08, gt=0, description="Radius as a fraction of the image height.")

    @classmethod
    def signal_channels(cls, config):
        return 1

    def draw_map(self, batch):
        head = batch.body.joints[:, None, :, batch.body.joint_names.index("head")]
        pixels, _ = project(head[..., None, :], batch.cameras)
        height, width = batch.cameras.image_size
        rows, columns = (torch.arange(side, device=pixels.device) + 0.5 for side in (height, width))
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        distance = torch.stack([x, y], dim=-1) - pixels[..., 0, None, None, :]
        return (distance.norm(dim=-1) < self.config.radius * height).float()[..., None, :, :]
